//! What payment providers send, signed as they sign it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use serde_json::{Value, json};

use crate::client::{Request, escaped, post};
use crate::server::Launch;

/// Where Standard Webhooks go.
pub const PATH: &str = "/v1/payments/callbacks/standard";
pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
pub const OTHER_SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
pub const API_KEY: &str = "0123456789abcdefGHIJKLMNOPQRSTUV";

/// Where the keys of tests are.
pub const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../payments");
const SERIAL: &str = "5157F09EFDC096DE15EBE81A47057A7232F1B8E1";
const APP_ID: &str = "2021000000000001";
const MCHID: &str = "1230000109";

/// A server that hears Standard Webhooks signed with [`SECRET`].
pub fn with_standard() -> Launch {
    Launch::new().env("RUSHGATE_PAYMENTS_STANDARD_SECRETS", SECRET)
}

/// A server that hears every provider.
pub fn with_all() -> Launch {
    with_standard()
        .env("RUSHGATE_PAYMENTS_WECHATPAY_API_V3_KEYS", API_KEY)
        .arg(&format!("--payments-wechatpay-public-keys={SERIAL}={FOLDER}/provider_certificate.pem"))
        .arg(&format!("--payments-wechatpay-mchid={MCHID}"))
        .arg(&format!("--payments-alipay-public-key-file={FOLDER}/provider_public.pem"))
        .arg(&format!("--payments-alipay-app-id={APP_ID}"))
}

/// Seconds since 1970, as signatures tell the time.
pub fn now_s() -> u64 {
    u64::try_from(crate::time::now_ms() / 1000).unwrap()
}

/// An event of Standard Webhooks.
#[derive(Clone)]
pub struct PaymentEvent {
    id: String,
    kind: String,
    data: Value,
    at_s: u64,
    secret: &'static str,
}

impl PaymentEvent {
    /// One unit of `sku-1` was paid, by the payment `pay-1`.
    pub fn paid(id: &str, order_no: &str) -> Self {
        let data = json!({"order_no": order_no, "payment_id": "pay-1", "amount": 1999, "currency": "CNY"});
        PaymentEvent { id: id.into(), kind: "payment.succeeded".into(), data, at_s: now_s(), secret: SECRET }
    }

    /// The money went back, as the refund `refund-1`.
    pub fn refunded(id: &str, order_no: &str) -> Self {
        Self::paid(id, order_no).of("payment.refunded").with(json!({"payment_id": "refund-1"}))
    }

    pub fn of(self, kind: &str) -> Self {
        PaymentEvent { kind: kind.into(), ..self }
    }

    /// Other members in `data`.
    pub fn with(self, members: Value) -> Self {
        PaymentEvent { data: crate::shop::with(self.data, members), ..self }
    }

    /// Signed at another time, in seconds.
    pub fn at(self, at_s: u64) -> Self {
        PaymentEvent { at_s, ..self }
    }

    pub fn signed_with(self, secret: &'static str) -> Self {
        PaymentEvent { secret, ..self }
    }

    pub fn request(&self) -> Request {
        let body = json!({"type": self.kind, "timestamp": "2026-11-20T12:00:00Z", "data": self.data}).to_string();
        let at_s = self.at_s.to_string();
        standard(&self.id, &at_s, &signature(self.secret, &self.id, &at_s, body.as_bytes()), body.as_bytes())
    }
}

/// `v1,` and the signature.
pub fn signature(secret: &str, id: &str, timestamp: &str, body: &[u8]) -> String {
    let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    let message = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat();
    format!("v1,{}", STANDARD.encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), &message)))
}

/// A request with exactly these headers and this body.
pub fn standard(id: &str, timestamp: &str, signature: &str, body: &[u8]) -> Request {
    let request = post(PATH).header("webhook-id", id).header("webhook-timestamp", timestamp);
    request.header("webhook-signature", signature).text(body)
}

/// A signature with the RSA key of tests.
pub fn rsa(message: &[u8]) -> String {
    let pem = std::fs::read_to_string(format!("{FOLDER}/provider.pem")).unwrap();
    let der: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let key = RsaKeyPair::from_pkcs8(&STANDARD.decode(der).unwrap()).unwrap();
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).unwrap();
    STANDARD.encode(signature)
}

/// A notification of Alipay; members over those of a payment of one unit of `sku-1`.
pub fn alipay(notify_id: &str, order_no: &str, members: &[(&str, &str)]) -> Request {
    let mut all = vec![
        ("app_id", APP_ID),
        ("charset", "utf-8"),
        ("notify_id", notify_id),
        ("notify_time", "2026-11-20 20:00:10"),
        ("out_trade_no", order_no),
        ("seller_id", "2088000000000001"),
        ("subject", "球鞋 & 1+1=2"),
        ("total_amount", "19.99"),
        ("trade_no", "2026112022001400000000000001"),
        ("trade_status", "TRADE_SUCCESS"),
    ];
    all.retain(|(name, _)| !members.iter().any(|(other, _)| other == name));
    all.extend(members);
    all.sort_unstable();
    let join = |escape: &dyn Fn(&str) -> String| {
        all.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect::<Vec<_>>().join("&")
    };
    let sign = rsa(join(&str::to_owned).as_bytes());
    let form = format!("{}&sign_type=RSA2&sign={}", join(&escaped), escaped(&sign));
    let request = post("/v1/payments/callbacks/alipay");
    request.header("Content-Type", "application/x-www-form-urlencoded; charset=utf-8").body(form)
}

/// A notification of WeChat Pay.
#[derive(Clone)]
pub struct WechatpayEvent {
    kind: &'static str,
    id: String,
    plain: Value,
    api_key: &'static str,
}

impl WechatpayEvent {
    /// One unit of `sku-1` was paid.
    pub fn paid(id: &str, order_no: &str) -> Self {
        let plain = json!({
            "mchid": MCHID, "appid": "wx1", "out_trade_no": order_no, "transaction_id": "4200000001", "trade_state": "SUCCESS",
            "amount": {"total": 1999, "payer_total": 1999, "currency": "CNY", "payer_currency": "CNY"},
        });
        WechatpayEvent { kind: "TRANSACTION.SUCCESS", id: id.into(), plain, api_key: API_KEY }
    }

    /// The money went back.
    pub fn refunded(id: &str, order_no: &str) -> Self {
        let plain = json!({
            "mchid": MCHID, "out_trade_no": order_no, "transaction_id": "4200000001", "refund_id": "5000000001",
            "out_refund_no": "r-1", "refund_status": "SUCCESS", "amount": {"total": 1999, "refund": 1999},
        });
        WechatpayEvent { kind: "REFUND.SUCCESS", id: id.into(), plain, api_key: API_KEY }
    }

    /// The same as another event.
    pub fn of(self, kind: &'static str) -> Self {
        WechatpayEvent { kind, ..self }
    }

    /// Encrypted with another APIv3 key.
    pub fn sealed_with(self, api_key: &'static str) -> Self {
        WechatpayEvent { api_key, ..self }
    }

    /// Other members in what is encrypted.
    pub fn with(self, members: Value) -> Self {
        WechatpayEvent { plain: crate::shop::with(self.plain, members), ..self }
    }

    pub fn request(&self) -> Request {
        let body = self.body();
        let at_s = now_s().to_string();
        let signature = rsa(format!("{at_s}\nnonce\n{body}\n").as_bytes());
        self.signed(&at_s, &signature, body)
    }

    /// With a signature that is none.
    pub fn forged(&self, signature: &str) -> Request {
        self.signed(&now_s().to_string(), signature, self.body())
    }

    fn signed(&self, at_s: &str, signature: &str, body: String) -> Request {
        let request = post("/v1/payments/callbacks/wechatpay").header("Wechatpay-Timestamp", at_s);
        let request = request.header("Wechatpay-Nonce", "nonce").header("Wechatpay-Serial", SERIAL);
        request.header("Wechatpay-Signature", signature).text(body)
    }

    fn body(&self) -> String {
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, self.api_key.as_bytes()).unwrap());
        let nonce = Nonce::try_assume_unique_for_key(b"fdasflkja484").unwrap();
        let mut sealed = self.plain.to_string().into_bytes();
        key.seal_in_place_append_tag(nonce, Aad::from(b"transaction"), &mut sealed).unwrap();
        let resource = json!({
            "original_type": "transaction", "algorithm": "AEAD_AES_256_GCM", "ciphertext": STANDARD.encode(sealed),
            "associated_data": "transaction", "nonce": "fdasflkja484",
        });
        json!({"id": self.id, "event_type": self.kind, "resource_type": "encrypt-resource", "resource": resource})
            .to_string()
    }
}
