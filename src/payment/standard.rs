//! Standard Webhooks 1.0: HMAC-SHA256 over `{webhook-id}.{webhook-timestamp}.{body}`.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::HeaderMap;
use ring::hmac;
use serde::Deserialize;
use subtle::{Choice, ConstantTimeEq};

use super::{NotVerified, is_fresh, only, order_no, plausible, provider_id};
use crate::clock::UnixMs;
use crate::command::Object;
use crate::limits;
use crate::order::{Currency, Money, PaymentEvent, Provider, Report};

/// Verifies callbacks that are signed as Standard Webhooks are.
pub struct Standard {
    keys: Vec<hmac::Key>,
}

/// A list of secrets that cannot be used; the text does not repeat it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not {expected}", expected = Standard::expected())]
pub struct InvalidSecret;

impl Standard {
    /// What [`Standard::new`] takes, in words.
    pub fn expected() -> String {
        let (least, most) = limits::WEBHOOK_SECRET_BYTES.into_inner();
        let count = limits::ACTIVE_KEYS_MAX;
        format!("1 to {count} secrets, each whsec_ and the base64 of {least} to {most} bytes, separated by commas")
    }

    /// Takes the active secrets, separated by commas: a callback signed with any of them is good.
    pub fn new(secrets: &str) -> Result<Self, InvalidSecret> {
        let key = |secret: &str| {
            let bytes = STANDARD.decode(secret.trim().strip_prefix("whsec_")?).ok()?;
            limits::WEBHOOK_SECRET_BYTES.contains(&bytes.len()).then(|| hmac::Key::new(hmac::HMAC_SHA256, &bytes))
        };
        let keys: Option<Vec<hmac::Key>> = secrets.split(',').map(key).collect();
        let keys = keys.filter(|keys| keys.len() <= limits::ACTIVE_KEYS_MAX);
        keys.map(|keys| Standard { keys }).ok_or(InvalidSecret)
    }

    pub(super) fn verify(&self, headers: &HeaderMap, body: &[u8], now_ms: UnixMs) -> Result<Report, NotVerified> {
        let unproven = |detail| NotVerified::Unproven(detail);
        let id = only(headers, "webhook-id").ok_or(unproven("webhook-id must be sent, once"))?;
        let timestamp = only(headers, "webhook-timestamp").ok_or(unproven("webhook-timestamp must be sent, once"))?;
        let signatures = only(headers, "webhook-signature").ok_or(unproven("webhook-signature must be sent, once"))?;
        if !is_fresh(timestamp, now_ms) {
            return Err(unproven("webhook-timestamp must be in seconds and at most 300 s off"));
        }
        if !self.has_signed(id, timestamp, body, signatures) {
            return Err(unproven("no v1 signature in webhook-signature is that of an active secret"));
        }
        read(id, body)
    }

    /// Whether one of the listed signatures is that of an active secret. Compares every signature with every secret, so
    /// that the time it takes reveals nothing about them.
    fn has_signed(&self, id: &str, timestamp: &str, body: &[u8], signatures: &str) -> bool {
        let listed = signatures.split(' ').filter_map(|one| STANDARD.decode(one.strip_prefix("v1,")?).ok());
        let listed: Vec<Vec<u8>> = listed.take(limits::WEBHOOK_SIGNATURES_MAX).collect();
        let mut found = Choice::from(0);
        for key in &self.keys {
            let mut signed = hmac::Context::with_key(key);
            for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
                signed.update(part);
            }
            let tag = signed.sign();
            for signature in &listed {
                found |= tag.as_ref().ct_eq(signature.as_slice());
            }
        }
        found.into()
    }
}

/// What every event has.
#[derive(Deserialize)]
struct StandardEvent<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Moved<'a> {
    #[serde(borrow)]
    data: Object<MovedData<'a>>,
}

#[derive(Deserialize)]
struct MovedData<'a> {
    #[serde(borrow)]
    order_no: Cow<'a, str>,
    #[serde(borrow)]
    payment_id: Cow<'a, str>,
    amount: i64,
    #[serde(borrow)]
    currency: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Failed<'a> {
    #[serde(borrow)]
    data: Object<FailedData<'a>>,
}

#[derive(Deserialize)]
struct FailedData<'a> {
    #[serde(borrow)]
    order_no: Cow<'a, str>,
}

/// Reads a body whose signature is good. Members that we do not know are ignored; one that we know and that stands
/// twice is not, because it would be unclear which of the two counts.
fn read(id: &str, body: &[u8]) -> Result<Report, NotVerified> {
    let message: StandardEvent<'_> = parse(body)?;
    let event = match message.r#type.as_ref() {
        "payment.succeeded" => PaymentEvent::Succeeded(money(body)?),
        "payment.refunded" => PaymentEvent::Refunded(money(body)?),
        "payment.failed" => PaymentEvent::Failed(order_no(&parse::<Failed<'_>>(body)?.data.0.order_no)?),
        _ => PaymentEvent::Unknown,
    };
    let (event_id, event_type) = (provider_id(id)?, provider_id(&message.r#type)?);
    Ok(Report { provider: Provider::Standard, event_id, event_type, event })
}

fn money(body: &[u8]) -> Result<Money, NotVerified> {
    let data = parse::<Moved<'_>>(body)?.data.0;
    let malformed = |_| NotVerified::Malformed("currency must be three capital letters");
    plausible(Money {
        payment_id: provider_id(&data.payment_id)?,
        amount: data.amount,
        currency: Currency::parse(&data.currency).map_err(malformed)?,
        // The number last: what is malformed is so whatever the order.
        order_no: order_no(&data.order_no)?,
        is_total: false,
        is_ours: true,
    })
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, NotVerified> {
    let detail = "the body must be a JSON object with a type and, for payments, data with order_no, payment_id, an integer amount \
                  and currency, each once";
    serde_json::from_slice(body).map(|Object(value)| value).map_err(|_| NotVerified::Malformed(detail))
}

#[cfg(test)]
mod tests;
