//! Callbacks of payment providers: raw bytes and headers to a verified [`Report`], or why not. The room does no I/O, stores
//! nothing, and parses nothing before it has verified the signature over the raw bytes. The callback route calls it; the
//! settings make the [`Providers`].
//!
//! No type here shows a key or a secret, and no reason repeats content of the callback.

mod alipay;
mod rsa_key;
mod standard;
mod wechatpay;

pub use alipay::Alipay;
pub use rsa_key::{InvalidPublicKey, PublicKey};
pub use standard::{InvalidSecret, Standard};
pub use wechatpay::{InvalidApiKey, Wechatpay};

use http::header::HeaderMap;

use crate::clock::UnixMs;
use crate::http::single;
use crate::limits;
use crate::order::{Money, OrderNo, Provider, ProviderId, Report};

/// The configured providers; the others do not exist to the outside.
#[derive(Default)]
pub struct Providers {
    /// Any sender that signs as Standard Webhooks do.
    pub standard: Option<Standard>,
    /// Alipay's asynchronous notifications.
    pub alipay: Option<Alipay>,
    /// WeChat Pay, version 3.
    pub wechatpay: Option<Wechatpay>,
}

/// Why a callback is refused. The texts are for the operator who sets a provider up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotVerified {
    /// The provider is not configured.
    NotSetUp,
    /// The signature or its time stamp does not verify.
    Unproven(&'static str),
    /// The provider sent it, but no configured key opens its envelope.
    Sealed(&'static str),
    /// The provider sent it, but it does not have the form of its events.
    Malformed(&'static str),
    /// It is about an order of another system: this engine makes no such number.
    OtherOrder,
}

impl Providers {
    /// Whether `provider` is configured.
    pub fn has(&self, provider: Provider) -> bool {
        match provider {
            Provider::Standard => self.standard.is_some(),
            Provider::Alipay => self.alipay.is_some(),
            Provider::Wechatpay => self.wechatpay.is_some(),
        }
    }

    /// Verifies a callback that arrived at `now_ms`, and reads it.
    pub fn verify(
        &self,
        provider: Provider,
        headers: &HeaderMap,
        body: &[u8],
        now_ms: UnixMs,
    ) -> Result<Report, NotVerified> {
        let missing = NotVerified::NotSetUp;
        match provider {
            Provider::Standard => self.standard.as_ref().ok_or(missing)?.verify(headers, body, now_ms),
            Provider::Alipay => self.alipay.as_ref().ok_or(missing)?.verify(body),
            Provider::Wechatpay => self.wechatpay.as_ref().ok_or(missing)?.verify(headers, body, now_ms),
        }
    }
}

/// The value of a header that was sent exactly once, in visible ASCII.
fn only<'h>(headers: &'h HeaderMap, name: &'static str) -> Option<&'h str> {
    single(headers, name).ok()??.to_str().ok().filter(|value| !value.is_empty())
}

/// Whether `timestamp`, in seconds since 1970, is at most [`limits::CALLBACK_SKEW_MS`] off `now_ms`. Digits only.
fn is_fresh(timestamp: &str, now_ms: UnixMs) -> bool {
    let is_plain = timestamp.bytes().all(|byte| byte.is_ascii_digit());
    let sent_s = timestamp.parse::<i64>().ok().filter(|_| is_plain);
    let sent_ms = sent_s.and_then(|sent_s| sent_s.checked_mul(1000));
    sent_ms.is_some_and(|sent_ms| now_ms.abs_diff(sent_ms) <= limits::CALLBACK_SKEW_MS)
}

/// A provider's id, which the ledger must be able to store.
fn provider_id(text: &str) -> Result<ProviderId, NotVerified> {
    const { assert!(limits::PROVIDER_ID_BYTES_MAX == 128, "the text below names it") };
    let detail = "an id or the name of the event is empty, longer than 128 bytes or holds a control character";
    ProviderId::parse(text).map_err(|_| NotVerified::Malformed(detail))
}

/// An order number of this engine. Any other is an order of another system that shares the provider's account.
fn order_no(text: &str) -> Result<OrderNo, NotVerified> {
    OrderNo::parse(text).ok_or(NotVerified::OtherOrder)
}

/// Money is never negative.
fn plausible(money: Money) -> Result<Money, NotVerified> {
    if money.amount >= 0 { Ok(money) } else { Err(NotVerified::Malformed("the amount is negative")) }
}

#[cfg(test)]
mod tests;
