//! The idempotency key of a request, wherever the client sends it.

use crate::order::{Code, InvalidKey, Key, Refusal};

/// The one key in all places that may hold it; `None` if none does. All that are sent must be the same key.
pub fn agreed<'a>(places: impl IntoIterator<Item = Option<&'a [u8]>>) -> Result<Option<Key>, InvalidKey> {
    let mut agreed: Option<Key> = None;
    for text in places.into_iter().flatten() {
        let key = Key::parse(text)?;
        if agreed.as_ref().is_some_and(|other| *other != key) {
            return Err(InvalidKey::Ambiguous);
        }
        agreed = Some(key);
    }
    Ok(agreed)
}

/// The key of a command that requires one.
pub fn required(key: Result<Option<Key>, InvalidKey>) -> Result<Key, Refusal> {
    key?.ok_or(Code::IdempotencyKeyMissing.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_counts_and_all_must_agree() {
        let key = |places: [Option<&str>; 3]| {
            agreed(places.map(|text| text.map(str::as_bytes))).map(|key| key.map(|key| key.as_str().to_owned()))
        };
        let k = || Ok(Some("k".to_owned()));
        assert_eq!(key([None, None, None]), Ok(None));
        assert_eq!(key([Some("k"), None, None]), k());
        assert_eq!(key([None, Some("\"k\""), None]), k());
        assert_eq!(key([None, None, Some("k")]), k());
        assert_eq!(key([Some("\"k\""), Some("k"), Some("k")]), k());
        assert_eq!(key([Some("\"k\""), Some("k"), Some("K")]), Err(InvalidKey::Ambiguous));
        assert_eq!(key([Some("k"), None, Some("")]), Err(InvalidKey::Empty));
        assert_eq!(key([Some(""), None, None]), Err(InvalidKey::Empty));
    }

    #[test]
    fn a_required_key_is_missing_or_invalid() {
        assert_eq!(required(Ok(None)).unwrap_err().code, Code::IdempotencyKeyMissing);
        assert_eq!(required(Err(InvalidKey::Empty)).unwrap_err().code, Code::IdempotencyKeyInvalid);
        assert_eq!(required(Ok(Some(Key::parse(b"k").unwrap()))).unwrap().as_str(), "k");
    }
}
