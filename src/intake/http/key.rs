//! The idempotency key of an HTTP request.

use http::header::{HeaderMap, HeaderValue};

use crate::command::agreed;
use crate::http::{Repeated, single};
use crate::order::{InvalidKey, Key};

/// The key in either header or in the body's `member`; `None` if the request has none.
pub(crate) fn key_of(headers: &HeaderMap, member: Option<&str>) -> Result<Option<Key>, InvalidKey> {
    let line = |name| match single(headers, name) {
        Ok(value) => Ok(value.map(HeaderValue::as_bytes)),
        Err(Repeated) => Err(InvalidKey::Ambiguous),
    };
    agreed([line("idempotency-key")?, line("x-idempotency-key")?, member.map(str::as_bytes)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stands_in_either_header_or_in_the_body() {
        let key = |lines: &[(&'static str, &str)], member| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(*name, value.parse().unwrap());
            }
            key_of(&headers, member).map(|key| key.map(|key| key.as_str().to_owned()))
        };
        assert_eq!(key(&[], None), Ok(None));
        for one in [&[("idempotency-key", "k")], &[("x-idempotency-key", "\"k\"")]] {
            assert_eq!(key(one, None), Ok(Some("k".to_owned())));
        }
        let both = [("idempotency-key", "\"k\""), ("x-idempotency-key", "k")];
        assert_eq!(key(&both, Some("k")), Ok(Some("k".to_owned())));
        assert_eq!(key(&both, Some("K")), Err(InvalidKey::Ambiguous));
        assert_eq!(key(&[("idempotency-key", "k"), ("idempotency-key", "k")], None), Err(InvalidKey::Ambiguous));
        assert_eq!(key(&[("idempotency-key", "")], None), Err(InvalidKey::Empty));
    }
}
