//! The idempotency key of a request, wherever it was sent.

use http::header::HeaderMap;

use crate::order::{Code, InvalidKey, Key, Refusal};

const HEADERS: [&str; 2] = ["idempotency-key", "x-idempotency-key"];

/// The key in either header or in `member`; `None` if there is none. All that are sent must be one key.
pub fn key_of(headers: &HeaderMap, member: Option<&str>) -> Result<Option<Key>, InvalidKey> {
    let mut found: Option<Key> = None;
    for name in HEADERS {
        let mut lines = headers.get_all(name).iter();
        if let Some(line) = lines.next() {
            if lines.next().is_some() {
                return Err(InvalidKey::Ambiguous);
            }
            agree(&mut found, Key::parse(line.as_bytes())?)?;
        }
    }
    if let Some(member) = member {
        agree(&mut found, Key::parse(member.as_bytes())?)?;
    }
    Ok(found)
}

/// The key of a call that needs one.
pub fn need_key(headers: &HeaderMap, member: Option<&str>) -> Result<Key, Refusal> {
    match key_of(headers, member) {
        Ok(Some(key)) => Ok(key),
        Ok(None) => Err(Code::IdempotencyKeyMissing.into()),
        Err(invalid) => Err(Refusal::because(Code::IdempotencyKeyInvalid, invalid.to_string())),
    }
}

fn agree(found: &mut Option<Key>, key: Key) -> Result<(), InvalidKey> {
    match found {
        Some(other) if *other != key => Err(InvalidKey::Ambiguous),
        _ => {
            *found = Some(key);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_is_taken_and_all_must_agree() {
        let headers = |lines: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(*name, value.parse().unwrap());
            }
            headers
        };
        let key = |lines: &[(&'static str, &str)], member| {
            key_of(&headers(lines), member).map(|key| key.map(|key| key.as_str().to_owned()))
        };
        assert_eq!(key(&[], None), Ok(None));
        for one in [&[("idempotency-key", "k")], &[("x-idempotency-key", "\"k\"")]] {
            assert_eq!(key(one, None), Ok(Some("k".to_owned())));
        }
        assert_eq!(key(&[], Some("k")), Ok(Some("k".to_owned())));
        let both = [("idempotency-key", "\"k\""), ("x-idempotency-key", "k")];
        assert_eq!(key(&both, Some("k")), Ok(Some("k".to_owned())));
        assert_eq!(key(&both, Some("K")), Err(InvalidKey::Ambiguous));
        assert_eq!(key(&[("idempotency-key", "k"), ("idempotency-key", "k")], None), Err(InvalidKey::Ambiguous));
        assert_eq!(key(&[("idempotency-key", "k")], Some("")), Err(InvalidKey::Empty));
        assert_eq!(key(&[("idempotency-key", "")], None), Err(InvalidKey::Empty));
    }
}
