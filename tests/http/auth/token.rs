//! Tokens as an identity provider makes them, and as a forger would.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::hmac;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

use crate::client::Request;

/// What the server of a test checks tokens with.
pub(super) const SECRET: &str = "canary-0123456789abcdef-canary-0123456789abcdef";

/// So many seconds from now.
#[allow(clippy::disallowed_methods, reason = "tokens are dated, and the server under test has the machine's clock")]
pub(super) fn in_s(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap() + seconds
}

/// What a good token says.
pub(super) fn claims(user: u64) -> Value {
    json!({"sub": user.to_string(), "exp": in_s(3600)})
}

/// A good token.
pub(super) fn of_user(user: u64) -> String {
    hs256(&json!({"alg": "HS256", "typ": "JWT"}), &claims(user), SECRET)
}

pub(super) fn unsigned(header: &Value, claims: &Value) -> String {
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()))
}

pub(super) fn hs256(header: &Value, claims: &Value, secret: &str) -> String {
    let unsigned = unsigned(header, claims);
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    format!("{unsigned}.{}", URL_SAFE_NO_PAD.encode(hmac::sign(&key, unsigned.as_bytes())))
}

/// Signed with the RSA key of tests.
pub(super) fn rs256(claims: &Value) -> String {
    let unsigned = unsigned(&json!({"alg": "RS256"}), claims);
    let signature = STANDARD.decode(crate::provider::rsa(unsigned.as_bytes())).unwrap();
    format!("{unsigned}.{}", URL_SAFE_NO_PAD.encode(signature))
}

pub(super) fn bearer(request: Request, token: &str) -> Request {
    request.header("Authorization", format!("Bearer {token}"))
}

/// Whoever signs with this.
pub(super) struct Ed25519(Ed25519KeyPair);

impl Ed25519 {
    pub(super) fn new(seed: u8) -> Self {
        Ed25519(Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap())
    }

    pub(super) fn token(&self, claims: &Value) -> String {
        let unsigned = unsigned(&json!({"alg": "EdDSA"}), claims);
        format!("{unsigned}.{}", URL_SAFE_NO_PAD.encode(self.0.sign(unsigned.as_bytes())))
    }

    /// The public key as `openssl pkey -pubout` writes it (RFC 8410).
    pub(super) fn pem(&self) -> String {
        let info =
            [&[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00], self.0.public_key().as_ref()];
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(info.concat()))
    }
}
