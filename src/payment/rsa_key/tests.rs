//! Keys as operators find them.

use super::*;
use crate::payment::tests::sign;

const PUBLIC: &[u8] = include_bytes!("../../../tests/payments/provider_public.pem");
const CERTIFICATE: &[u8] = include_bytes!("../../../tests/payments/provider_certificate.pem");

fn refused(text: &[u8]) -> InvalidPublicKey {
    PublicKey::read_all(text).err().unwrap()
}

/// The base64 of a PEM text alone, as Alipay's web pages show keys.
fn bare(pem: &[u8]) -> String {
    std::str::from_utf8(pem).unwrap().lines().filter(|line| !line.starts_with("-----")).collect()
}

#[test]
fn a_key_is_the_same_in_every_clothing() {
    let signature = STANDARD.decode(sign(b"message")).unwrap();
    let bare = bare(PUBLIC);
    let broken = format!("\n{}\n{}\r\n", &bare[..100], &bare[100..]);
    for text in [PUBLIC, CERTIFICATE, bare.as_bytes(), broken.as_bytes()] {
        let keys = PublicKey::read_all(text).unwrap();
        assert_eq!(keys.len(), 1);
        assert!(any_has_signed(&keys, b"message", &signature));
        assert!(!any_has_signed(&keys, b"Message", &signature));
        assert!(!any_has_signed(&keys, b"message", &signature[1..]));
        assert!(!any_has_signed(&keys, b"message", b""));
    }
    let serial = |text| PublicKey::read_all(text).unwrap()[0].serial().map(str::to_owned);
    assert_eq!(serial(CERTIFICATE).as_deref(), Some("5157F09EFDC096DE15EBE81A47057A7232F1B8E1"));
    assert_eq!(serial(PUBLIC), None);
    // A serial number with its highest bit set, which DER writes with a zero in front.
    let published = include_bytes!("../../../tests/payments/published_wechatpay.pem");
    assert_eq!(serial(published).as_deref(), Some("D7CE59D1F522D701"));
}

#[test]
fn a_file_may_hold_several() {
    let stranger = include_bytes!("../../../tests/payments/stranger_public.pem");
    let keys = PublicKey::read_all(&[stranger.as_slice(), b"\nnew:\n", CERTIFICATE].concat()).unwrap();
    assert_eq!(keys.len(), 2);
    assert!(any_has_signed(&keys, b"m", &STANDARD.decode(sign(b"m")).unwrap()));
    assert_eq!(PublicKey::read_all(&PUBLIC.repeat(16)).unwrap().len(), 16);
    assert_eq!(refused(&PUBLIC.repeat(17)), InvalidPublicKey::TooMany);
}

#[test]
fn what_is_no_safe_rsa_key_is_refused_by_what_it_is() {
    assert_eq!(refused(include_bytes!("../../../tests/payments/short_public.pem")), InvalidPublicKey::Size(1024));
    assert_eq!(refused(include_bytes!("../../../tests/payments/curve_public.pem")), InvalidPublicKey::NotRsa);
    assert_eq!(refused(include_bytes!("../../../tests/payments/provider.pem")), InvalidPublicKey::Private);
    let bare = bare(PUBLIC);
    for bad in ["", "\n", "MIIB", "not base64!", "-----BEGIN PUBLIC KEY-----", &bare[..bare.len() - 4], &bare[4..]] {
        assert_eq!(refused(bad.as_bytes()), InvalidPublicKey::Unreadable, "{bad}");
    }
}

#[test]
fn no_damage_of_a_key_goes_unseen_or_panics() {
    let spki = STANDARD.decode(bare(PUBLIC)).unwrap();
    let signature = STANDARD.decode(sign(b"m")).unwrap();
    for length in 0..spki.len() {
        assert!(PublicKey::of_spki(&spki[..length], None).is_err(), "{length}");
    }
    for damaged in crate::payment::tests::one_bit_off(&spki) {
        if let Ok(key) = PublicKey::of_spki(&damaged, None) {
            assert!(!key.has_signed(b"m", &signature));
        }
    }
}
