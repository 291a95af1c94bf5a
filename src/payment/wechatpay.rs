//! WeChat Pay, version 3: RSA with SHA-256 over time, nonce and body, and an AES-256-GCM envelope around what happened.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::HeaderMap;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use serde::Deserialize;

use super::rsa_key::{PublicKey, any_has_signed};
use super::{NotVerified, is_fresh, only, order_no, plausible, provider_id};
use crate::clock::UnixMs;
use crate::command::Object;
use crate::limits;
use crate::order::{Currency, Money, PaymentEvent, Provider, Report};

/// Verifies WeChat Pay's notifications.
pub struct Wechatpay {
    keys: Vec<(String, PublicKey)>,
    api_keys: Vec<LessSafeKey>,
    mchid: String,
    appid: Option<String>,
}

/// A list of APIv3 keys that cannot be used; the text does not repeat it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not {expected}", expected = Wechatpay::expected_api_keys())]
pub struct InvalidApiKey;

impl Wechatpay {
    /// Takes WeChat Pay's public keys by their serial numbers, the active APIv3 keys separated by commas, and the
    /// merchant and, if it matters, the app that payments must be of.
    pub fn new(
        keys: Vec<(String, PublicKey)>,
        api_keys: &str,
        mchid: String,
        appid: Option<String>,
    ) -> Result<Self, InvalidApiKey> {
        let api_keys = read_api_keys(api_keys)?;
        Ok(Wechatpay { keys, api_keys, mchid, appid })
    }

    /// What [`Wechatpay::new`] takes as APIv3 keys, in words.
    pub fn expected_api_keys() -> String {
        let (count, bytes) = (limits::ACTIVE_KEYS_MAX, AES_256_GCM.key_len());
        format!("1 to {count} APIv3 keys of {bytes} characters, separated by commas")
    }

    /// Whether [`Wechatpay::new`] would take these APIv3 keys.
    pub fn is_api_key_list(api_keys: &str) -> bool {
        read_api_keys(api_keys).is_ok()
    }

    pub(super) fn verify(&self, headers: &HeaderMap, body: &[u8], now_ms: UnixMs) -> Result<Report, NotVerified> {
        let unproven = NotVerified::Unproven;
        let need = |name, detail| only(headers, name).ok_or(unproven(detail));
        let timestamp = need("wechatpay-timestamp", "Wechatpay-Timestamp must be sent, once")?;
        let nonce = need("wechatpay-nonce", "Wechatpay-Nonce must be sent, once")?;
        let serial = need("wechatpay-serial", "Wechatpay-Serial must be sent, once")?;
        let signature = need("wechatpay-signature", "Wechatpay-Signature must be sent, once")?;
        if signature.starts_with("WECHATPAY/SIGNTEST/") {
            // WeChat Pay sends wrong signatures now and then, to check that the receiver verifies them.
            return Err(unproven("Wechatpay-Signature is a probe, which must fail"));
        }
        if !is_fresh(timestamp, now_ms) {
            return Err(unproven("Wechatpay-Timestamp must be in seconds and at most 300 s off"));
        }
        let keys = self.keys.iter().filter(|(of, _)| of.eq_ignore_ascii_case(serial)).map(|(_, key)| key);
        let mut keys = keys.peekable();
        if keys.peek().is_none() {
            return Err(unproven("Wechatpay-Serial is none of wechatpay_public_keys"));
        }
        let message = [timestamp.as_bytes(), nonce.as_bytes(), body].map(|line| [line, b"\n"].concat()).concat();
        let signature = STANDARD.decode(signature).unwrap_or_default();
        if !any_has_signed(keys, &message, &signature) {
            return Err(unproven("Wechatpay-Signature is not that of the key with this serial"));
        }
        self.read(body)
    }

    fn read(&self, body: &[u8]) -> Result<Report, NotVerified> {
        let notice: WechatpayEvent<'_> = parse(body)?;
        let event = match notice.event_type.as_ref() {
            "TRANSACTION.SUCCESS" => self.payment(&self.open(body)?)?,
            "REFUND.SUCCESS" => self.refund(&self.open(body)?)?,
            "REFUND.ABNORMAL" | "REFUND.CLOSED" => refund_failed(&self.open(body)?)?,
            _ => PaymentEvent::Unknown,
        };
        let (event_id, event_type) = (provider_id(&notice.id)?, provider_id(&notice.event_type)?);
        Ok(Report { provider: Provider::Wechatpay, event_id, event_type, event })
    }

    /// Decrypts what happened, with whichever of the active keys it was encrypted with.
    fn open(&self, body: &[u8]) -> Result<Vec<u8>, NotVerified> {
        let resource = parse::<Envelope<'_>>(body)?.resource.0;
        if resource.algorithm != "AEAD_AES_256_GCM" {
            return Err(NotVerified::Malformed("resource.algorithm must be AEAD_AES_256_GCM"));
        }
        let sealed = STANDARD.decode(resource.ciphertext.as_bytes());
        let sealed = sealed.map_err(|_| NotVerified::Malformed("resource.ciphertext must be base64"))?;
        let associated = resource.associated_data.unwrap_or_default();
        let malformed = |_| NotVerified::Malformed("resource.nonce must have 12 bytes");
        for key in &self.api_keys {
            let nonce = Nonce::try_assume_unique_for_key(resource.nonce.as_bytes()).map_err(malformed)?;
            let mut opened = sealed.clone();
            if let Ok(plain) = key.open_in_place(nonce, Aad::from(associated.as_bytes()), &mut opened) {
                return Ok(plain.to_vec());
            }
        }
        Err(NotVerified::Sealed("resource cannot be decrypted with any of wechatpay_api_v3_keys"))
    }

    fn payment(&self, plain: &[u8]) -> Result<PaymentEvent, NotVerified> {
        let paid: Payment<'_> = parse(plain)?;
        if paid.trade_state != "SUCCESS" {
            return Ok(PaymentEvent::Unknown);
        }
        let is_app = self.appid.as_deref().is_none_or(|appid| paid.appid.as_deref() == Some(appid));
        let Object(sum) = &paid.amount;
        let money = plausible(Money {
            payment_id: provider_id(&paid.transaction_id)?,
            amount: sum.total,
            currency: currency(sum.currency.as_deref())?,
            // The number last: what is malformed is so whatever the order.
            order_no: order_no(&paid.out_trade_no)?,
            is_total: false,
            is_ours: is_app && self.is_merchant(paid.mchid.as_deref()),
        });
        money.map(PaymentEvent::Succeeded)
    }

    fn refund(&self, plain: &[u8]) -> Result<PaymentEvent, NotVerified> {
        let back: Refund<'_> = parse(plain)?;
        match back.refund_status.as_ref() {
            "SUCCESS" => {}
            "ABNORMAL" | "CLOSED" => return refund_failed(plain),
            _ => return Ok(PaymentEvent::Unknown),
        }
        let Object(sum) = &back.amount;
        let money = plausible(Money {
            payment_id: provider_id(&back.refund_id)?,
            amount: sum.refund,
            currency: currency(sum.currency.as_deref())?,
            // The number last: what is malformed is so whatever the order.
            order_no: order_no(&back.out_trade_no)?,
            is_total: false,
            is_ours: self.is_merchant(back.mchid.as_deref()),
        });
        money.map(PaymentEvent::Refunded)
    }

    fn is_merchant(&self, mchid: Option<&str>) -> bool {
        mchid == Some(&self.mchid)
    }
}

/// The money of a refund did not reach the buyer, or was never sent: an operator has to act.
fn refund_failed(plain: &[u8]) -> Result<PaymentEvent, NotVerified> {
    let back: RefundFailed<'_> = parse(plain)?;
    order_no(&back.out_trade_no).map(PaymentEvent::RefundFailed)
}

/// What every event has.
#[derive(Deserialize)]
struct WechatpayEvent<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    event_type: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    resource: Object<Resource<'a>>,
}

#[derive(Deserialize)]
struct Resource<'a> {
    #[serde(borrow)]
    algorithm: Cow<'a, str>,
    #[serde(borrow)]
    ciphertext: Cow<'a, str>,
    #[serde(borrow, default)]
    associated_data: Option<Cow<'a, str>>,
    #[serde(borrow)]
    nonce: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Payment<'a> {
    #[serde(borrow, default)]
    mchid: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    appid: Option<Cow<'a, str>>,
    #[serde(borrow)]
    out_trade_no: Cow<'a, str>,
    #[serde(borrow)]
    transaction_id: Cow<'a, str>,
    #[serde(borrow)]
    trade_state: Cow<'a, str>,
    #[serde(borrow)]
    amount: Object<Paid<'a>>,
}

#[derive(Deserialize)]
struct Paid<'a> {
    total: i64,
    #[serde(borrow, default)]
    currency: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Refund<'a> {
    #[serde(borrow, default)]
    mchid: Option<Cow<'a, str>>,
    #[serde(borrow)]
    out_trade_no: Cow<'a, str>,
    #[serde(borrow)]
    refund_id: Cow<'a, str>,
    #[serde(borrow)]
    refund_status: Cow<'a, str>,
    #[serde(borrow)]
    amount: Object<Back<'a>>,
}

#[derive(Deserialize)]
struct RefundFailed<'a> {
    #[serde(borrow)]
    out_trade_no: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Back<'a> {
    refund: i64,
    #[serde(borrow, default)]
    currency: Option<Cow<'a, str>>,
}

fn read_api_keys(list: &str) -> Result<Vec<LessSafeKey>, InvalidApiKey> {
    let key = |text: &str| {
        let key = text.trim();
        let is_plain = key.bytes().all(|byte| byte.is_ascii_graphic());
        let key = UnboundKey::new(&AES_256_GCM, key.as_bytes()).ok().filter(|_| is_plain)?;
        Some(LessSafeKey::new(key))
    };
    let keys: Option<Vec<LessSafeKey>> = list.split(',').map(key).collect();
    keys.filter(|keys| keys.len() <= limits::ACTIVE_KEYS_MAX).ok_or(InvalidApiKey)
}

/// Refunds do not say their currency: it is the merchant's.
fn currency(text: Option<&str>) -> Result<Currency, NotVerified> {
    let malformed = |_| NotVerified::Malformed("amount.currency must be three capital letters");
    Currency::parse(text.unwrap_or("CNY")).map_err(malformed)
}

fn parse<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, NotVerified> {
    let detail = "the body must be a notification of version 3, and its resource a transaction or a refund";
    serde_json::from_slice(json).map(|Object(value)| value).map_err(|_| NotVerified::Malformed(detail))
}

#[cfg(test)]
mod tests;
