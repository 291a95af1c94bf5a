//! Alipay's asynchronous notifications: a form, signed with RSA and SHA-256 over its sorted and decoded parameters.
//!
//! A notification carries no time of signature, and the same one, with the same `notify_id`, is sent again for about a day. So there
//! is no age at which one is refused: an old one that is played back has the `notify_id` of one that was kept.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::rsa_key::{PublicKey, any_has_signed};
use super::{NotVerified, order_no, plausible, provider_id};
use crate::limits;
use crate::order::{Currency, Money, PaymentEvent, Provider, Report};

/// Verifies Alipay's notifications.
pub struct Alipay {
    /// Alipay's public keys of the app; any of them is good.
    pub keys: Vec<PublicKey>,
    /// The app that payments must be of.
    pub app_id: String,
    /// The seller that payments must go to; `None`: any.
    pub seller_id: Option<String>,
}

impl Alipay {
    pub(super) fn verify(&self, body: &[u8]) -> Result<Report, NotVerified> {
        let form = Form::parse(body)?;
        let unproven = NotVerified::Unproven;
        if form.get("sign_type") != Some("RSA2") {
            return Err(unproven("sign_type must be RSA2"));
        }
        if !form.get("charset").is_none_or(|charset| charset.eq_ignore_ascii_case("utf-8")) {
            return Err(unproven("charset must be utf-8"));
        }
        let signature = form.get("sign").and_then(|sign| STANDARD.decode(sign).ok());
        let signature = signature.ok_or(unproven("sign must be sent, in base64"))?;
        if !any_has_signed(&self.keys, form.signed().as_bytes(), &signature) {
            return Err(unproven("sign is not that of alipay_public_key_file"));
        }
        self.read(&form)
    }

    fn read(&self, form: &Form) -> Result<Report, NotVerified> {
        let status = form.get("trade_status").unwrap_or_default();
        let event = match (status, form.refunded()?) {
            ("TRADE_SUCCESS" | "TRADE_FINISHED" | "TRADE_CLOSED", Some(amount)) => {
                // Every request for a refund has its own number; `amount` is what all of them come to.
                let refund = form.get("out_biz_no").or_else(|| form.get("trade_no"));
                PaymentEvent::Refunded(self.money(form, refund, amount)?)
            }
            ("TRADE_SUCCESS" | "TRADE_FINISHED", None) => {
                let amount = form.amount("total_amount")?;
                let amount = amount.ok_or(NotVerified::Malformed("total_amount is missing"))?;
                PaymentEvent::Succeeded(self.money(form, form.get("trade_no"), amount)?)
            }
            ("TRADE_CLOSED", None) => PaymentEvent::Closed(order_no(form.need_order()?)?),
            _ => PaymentEvent::Unknown,
        };
        let event_id = form.get("notify_id").ok_or(NotVerified::Malformed("notify_id is missing"))?;
        let event_type = form.get("trade_status").or_else(|| form.get("notify_type")).unwrap_or("notification");
        let (event_id, event_type) = (provider_id(event_id)?, provider_id(event_type)?);
        Ok(Report { provider: Provider::Alipay, event_id, event_type, event })
    }

    fn money(&self, form: &Form, payment: Option<&str>, amount: i64) -> Result<Money, NotVerified> {
        let is_seller = self.seller_id.as_deref().is_none_or(|seller_id| form.get("seller_id") == Some(seller_id));
        let currency = Currency::parse(form.get("trans_currency").unwrap_or("CNY"));
        plausible(Money {
            payment_id: provider_id(payment.ok_or(NotVerified::Malformed("trade_no is missing"))?)?,
            amount,
            currency: currency.map_err(|_| NotVerified::Malformed("trans_currency must be three capital letters"))?,
            // The number last: what is malformed is so whatever the order.
            order_no: order_no(form.need_order()?)?,
            is_total: true,
            is_ours: is_seller && form.get("app_id") == Some(&self.app_id),
        })
    }
}

/// The parameters, decoded, by name; in the order in which they are signed.
struct Form(BTreeMap<String, String>);

/// The parameters that are read here.
const READ: [&str; 11] = [
    "app_id",
    "gmt_refund",
    "notify_id",
    "out_biz_no",
    "out_trade_no",
    "refund_fee",
    "seller_id",
    "total_amount",
    "trade_no",
    "trade_status",
    "trans_currency",
];

impl Form {
    fn parse(body: &[u8]) -> Result<Self, NotVerified> {
        let unproven = NotVerified::Unproven;
        let mut form = BTreeMap::new();
        for pair in body.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
            if form.len() == limits::FORM_PARAMETERS_MAX {
                return Err(unproven("the form has more than 128 parameters"));
            }
            let mut parts = pair.splitn(2, |byte| *byte == b'=');
            let mut part = || decoded(parts.next().unwrap_or_default());
            let not_text = unproven("the form must be in UTF-8");
            let (name, value) = (part().ok_or(not_text)?, part().ok_or(not_text)?);
            if is_ambiguous(&name, &value) {
                return Err(unproven("the text of a parameter holds another parameter"));
            }
            if form.insert(name, value).is_some() {
                return Err(unproven("a parameter stands twice in the form"));
            }
        }
        Ok(Form(form))
    }

    /// The value of `name`; an empty one is none.
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// What is signed.
    fn signed(&self) -> String {
        let signed = self.0.iter().filter(|(name, _)| !matches!(name.as_str(), "sign" | "sign_type"));
        let pairs: Vec<String> = signed.map(|(name, value)| format!("{name}={value}")).collect();
        pairs.join("&")
    }

    fn need_order(&self) -> Result<&str, NotVerified> {
        self.get("out_trade_no").ok_or(NotVerified::Malformed("out_trade_no is missing"))
    }

    /// The whole refund so far, if the notification is about a refund. Notifications of payments may carry a refund of zero.
    fn refunded(&self) -> Result<Option<i64>, NotVerified> {
        match self.amount("refund_fee")? {
            None if self.get("gmt_refund").is_some() => Err(NotVerified::Malformed("refund_fee is missing")),
            amount => Ok(amount.filter(|amount| *amount > 0)),
        }
    }

    fn amount(&self, name: &str) -> Result<Option<i64>, NotVerified> {
        let detail = "an amount must have digits, and behind a point no more than its currency has";
        let digits = self.digits();
        let minor = |text| minor_units(text, digits).ok_or(NotVerified::Malformed(detail));
        self.get(name).map(minor).transpose()
    }

    /// The digits behind the point that the currency has (ISO 4217). Alipay sends amounts in major units.
    fn digits(&self) -> u32 {
        match self.get("trans_currency").unwrap_or("CNY") {
            "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX" | "UYI" | "VND"
            | "VUV" | "XAF" | "XOF" | "XPF" => 0,
            "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
            "CLF" | "UYW" => 4,
            _ => 2,
        }
    }
}

/// Parameters are signed in one text, with nothing escaped: a buyer's words in one of them could be cut out of it and sent
/// as another, and the true one be hidden in the text of a third.
fn is_ambiguous(name: &str, value: &str) -> bool {
    let signed = format!("{name}={value}");
    READ.iter().any(|read| signed.contains(&format!("&{read}=")))
}

/// A name or a value as it was before it was put into the form; `None`: it is not in UTF-8. Nothing is replaced in it, or
/// two texts could be taken for one.
fn decoded(text: &[u8]) -> Option<String> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        rest = after;
        let byte = match (first, after) {
            (b'%', [high, low, behind @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => {
                    rest = behind;
                    high * 16 + low
                }
                _ => b'%',
            },
            (b'+', _) => b' ',
            _ => *first,
        };
        bytes.push(byte);
    }
    String::from_utf8(bytes).ok()
}

/// `12.3` is 1230, if there are two digits behind the point: exact, as no smaller fraction is taken and nothing is rounded.
fn minor_units(text: &str, digits: u32) -> Option<i64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(part) {
        return None;
    }
    // `2000.00` yen are 2000.
    let part = part.trim_end_matches('0');
    let missing = digits.checked_sub(u32::try_from(part.len()).ok()?)?;
    let part = if part.is_empty() { 0 } else { part.parse::<i64>().ok()?.checked_mul(10_i64.checked_pow(missing)?)? };
    whole.parse::<i64>().ok()?.checked_mul(10_i64.checked_pow(digits)?)?.checked_add(part)
}

#[cfg(test)]
mod tests;
