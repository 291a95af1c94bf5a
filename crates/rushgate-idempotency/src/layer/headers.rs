//! The key of a request, in either of its headers.

use http::HeaderMap;

use crate::{InvalidKey, Key};

const NAMES: [&str; 2] = ["idempotency-key", "x-idempotency-key"];

/// The key in `Idempotency-Key` or `X-Idempotency-Key`, quoted (RFC 9651) or bare; `None` if there is none. A client that
/// sends both sends one key in them, each in one line.
///
/// # Errors
///
/// The rule that the key breaks, or that the headers disagree.
pub fn key_of(headers: &HeaderMap) -> Result<Option<Key>, InvalidKey> {
    let mut found: Option<Key> = None;
    for line in NAMES.iter().flat_map(|name| headers.get_all(*name)) {
        let key = Key::parse(line.as_bytes())?;
        if found.as_ref().is_some_and(|other| *other != key) {
            return Err(InvalidKey::Ambiguous);
        }
        found = Some(key);
    }
    let is_repeated = NAMES.iter().any(|name| headers.get_all(*name).iter().count() > 1);
    if is_repeated { Err(InvalidKey::Ambiguous) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_headers_are_read_and_must_agree() {
        let key = |lines: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(*name, value.parse().unwrap());
            }
            key_of(&headers).map(|key| key.map(|key| key.as_str().to_owned()))
        };
        let k = Ok(Some("k".to_owned()));
        assert_eq!(key(&[]), Ok(None));
        assert_eq!(key(&[("idempotency-key", "k")]), k);
        assert_eq!(key(&[("x-idempotency-key", "\"k\"")]), k);
        assert_eq!(key(&[("idempotency-key", "\"k\""), ("x-idempotency-key", "k")]), k);
        assert_eq!(key(&[("idempotency-key", "k"), ("x-idempotency-key", "K")]), Err(InvalidKey::Ambiguous));
        assert_eq!(key(&[("idempotency-key", "k"), ("idempotency-key", "k")]), Err(InvalidKey::Ambiguous));
        assert_eq!(key(&[("idempotency-key", "")]), Err(InvalidKey::Empty));
        assert_eq!(key(&[("idempotency-key", "a,b")]), Err(InvalidKey::Character));
    }
}
