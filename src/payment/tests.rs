//! What the tests of all providers share, and time.

use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;

use super::*;

/// An order number that reads.
pub(super) const ORDER_NO: &str = "2EA1Y4G9MYGN66X8VTCCFH635K";
/// 2026-11-20T12:00:00Z, in seconds.
pub(super) const NOW_S: i64 = 1_795_176_000;
pub(super) const NOW_MS: i64 = NOW_S * 1000;

/// The public key of [`sign`].
pub(super) fn provider_key() -> PublicKey {
    PublicKey::read_all(include_bytes!("../../tests/payments/provider_public.pem")).unwrap().remove(0)
}

/// A key that nobody trusts.
pub(super) fn stranger_key() -> PublicKey {
    PublicKey::read_all(include_bytes!("../../tests/payments/stranger_public.pem")).unwrap().remove(0)
}

/// Signs as the provider of the tests, in base64.
pub(super) fn sign(message: &[u8]) -> String {
    use base64::Engine as _;
    let pem = include_bytes!("../../tests/payments/provider.pem");
    let key = RsaKeyPair::from_pkcs8(PrivatePkcs8KeyDer::from_pem_slice(pem).unwrap().secret_pkcs8_der()).unwrap();
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).unwrap();
    base64::engine::general_purpose::STANDARD.encode(signature)
}

pub(super) fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, value.parse().unwrap());
    }
    headers
}

/// Every text that differs from `text` in one bit.
pub(super) fn one_bit_off(text: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..text.len() * 8).map(|bit| {
        let mut other = text.to_vec();
        other[bit / 8] ^= 1 << (bit % 8);
        other
    })
}

pub(super) fn is_unproven<T>(result: &Result<T, NotVerified>) -> bool {
    matches!(result, Err(NotVerified::Unproven(_)))
}

#[test]
fn a_time_is_fresh_for_300_s_either_way() {
    let fresh = |text: String| is_fresh(&text, NOW_MS);
    for off_s in [-300, -1, 0, 1, 300] {
        assert!(fresh((NOW_S + off_s).to_string()), "{off_s}");
    }
    for off_s in [-301, 301, -NOW_S, NOW_S] {
        assert!(!fresh((NOW_S + off_s).to_string()), "{off_s}");
    }
    // To the millisecond, and from either side.
    assert!(is_fresh("1795176000", NOW_MS + 300_000) && !is_fresh("1795176000", NOW_MS + 300_001));
    assert!(is_fresh("1795176000", NOW_MS - 300_000) && !is_fresh("1795176000", NOW_MS - 300_001));
    let others = ["", "-1795176000", "+1795176000", "1795176000.0", "1795176000000", "0x6b", "9223372036854775807"];
    for other in others.into_iter().chain(["99999999999999999999", " 1795176000", "2026-11-20T12:00:00Z"]) {
        assert!(!fresh(other.to_owned()), "{other}");
    }
}

#[test]
fn what_is_not_set_up_verifies_nothing() {
    let none = Providers::default();
    for provider in Provider::ALL {
        assert!(!none.has(*provider));
        assert_eq!(none.verify(*provider, &HeaderMap::new(), b"{}", NOW_MS), Err(NotVerified::NotSetUp));
    }
}

#[test]
fn a_header_counts_only_alone() {
    let read = |lines: &[(&'static str, &str)]| only(&headers(lines), "x").map(str::to_owned);
    assert_eq!(read(&[("x", "1"), ("y", "2")]).as_deref(), Some("1"));
    assert_eq!(read(&[]), None);
    assert_eq!(read(&[("x", "")]), None);
    assert_eq!(read(&[("x", "1"), ("x", "1")]), None);
    assert_eq!(read(&[("x", "é")]), None);
}
