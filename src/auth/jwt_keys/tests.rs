//! Keys that can be used, and what is said of those that cannot.

use super::super::jwt::tests::{ed_pem, pem, rfc_ed_pem, rfc_rsa_pem, rsa_pem};
use super::*;

fn refusal(keys: Result<Keys, InvalidKeys>) -> InvalidKeys {
    keys.map(|_| "taken").unwrap_err()
}

#[test]
fn a_secret_is_long_enough() {
    let secret = |n: usize| "s".repeat(n);
    for good in [secret(32), secret(1024), format!("{},{}", secret(32), secret(33)), vec![secret(32); 8].join(",")] {
        assert_eq!(Keys::from_secrets(&good).unwrap().algorithm(), Algorithm::Hs256);
    }
    assert_eq!(refusal(Keys::from_secrets("")), InvalidKeys::None);
    for bad in [secret(31), secret(1025), format!("{},", secret(32)), format!("{},{}", secret(32), secret(31))] {
        assert_eq!(refusal(Keys::from_secrets(&bad)), InvalidKeys::Secret);
    }
    assert_eq!(refusal(Keys::from_secrets(&vec![secret(32); 9].join(","))), InvalidKeys::TooMany);
}

#[test]
fn a_file_holds_public_keys_of_the_kind_that_is_set() {
    use Algorithm::{EdDsa, Hs256, Rs256};
    let keys = |algorithm, pem: &str| Keys::from_pem(algorithm, pem.as_bytes());
    let (rsa, ed) = (rfc_rsa_pem(), rfc_ed_pem());
    assert_eq!(keys(Rs256, &rsa).unwrap().algorithm(), Rs256);
    assert_eq!(keys(EdDsa, &ed).unwrap().algorithm(), EdDsa);
    assert!(keys(EdDsa, &ed.replace('\n', "\r\n")).is_ok());
    assert!(keys(Rs256, &rsa_pem(&[0x80; 256])).is_ok());
    assert!(keys(Rs256, &rsa_pem(&[0x80; 1024])).is_ok());

    let private = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n\
                   -----END PRIVATE KEY-----\n";
    let certificate = private.replace("PRIVATE KEY", "CERTIFICATE");
    let table = [
        (Rs256, ed.clone(), InvalidKeys::Kind),
        (EdDsa, rsa.clone(), InvalidKeys::Kind),
        (Hs256, ed.clone(), InvalidKeys::Kind),
        (EdDsa, format!("{ed}{rsa}"), InvalidKeys::Kind),
        (EdDsa, ed_pem(&[1; 31]), InvalidKeys::Kind),
        (EdDsa, ed_pem(&[1; 33]), InvalidKeys::Kind),
        (EdDsa, String::new(), InvalidKeys::None),
        (EdDsa, "a key".to_owned(), InvalidKeys::None),
        (EdDsa, ed.repeat(9), InvalidKeys::TooMany),
        (EdDsa, format!("{ed}{private}"), InvalidKeys::Section),
        (EdDsa, certificate, InvalidKeys::Section),
        (EdDsa, ed.replace("-----END", "----END"), InvalidKeys::Pem),
        (EdDsa, ed.replacen('M', "*", 1), InvalidKeys::Pem),
        (Rs256, rsa_pem(&[0x7f; 256]), InvalidKeys::RsaBits),
        (Rs256, rsa_pem(&[0x80; 1025]), InvalidKeys::RsaBits),
        (Rs256, rsa_pem(&[]), InvalidKeys::Pem),
        (Rs256, pem(IS_RSA, b"no key"), InvalidKeys::Pem),
    ];
    for (algorithm, text, want) in table {
        assert_eq!(refusal(keys(algorithm, &text)), want, "{algorithm:?} {text}");
    }
}

#[test]
fn a_broken_key_is_refused_and_never_a_panic() {
    for algorithm in [Algorithm::EdDsa, Algorithm::Rs256] {
        let text = if algorithm == Algorithm::EdDsa { rfc_ed_pem() } else { rfc_rsa_pem() };
        let sections: Vec<(SectionKind, Vec<u8>)> =
            <(SectionKind, Vec<u8>)>::pem_slice_iter(text.as_bytes()).map(Result::unwrap).collect();
        let der = &sections[0].1;
        assert!(public_key(algorithm, der).is_ok());
        for length in 0..der.len() {
            assert!(public_key(algorithm, &der[..length]).is_err(), "cut to {length}");
        }
        assert!(public_key(algorithm, &[der.as_slice(), &[0]].concat()).is_err());
        for at in 0..der.len() {
            let mut other = der.clone();
            other[at] ^= 0x80;
            // Which of them are keys of somebody is not ours to say; that each is answered is.
            let _answered = public_key(algorithm, &other);
        }
    }
}
