//! Header lines that a request may send once.

use http::header::{AsHeaderName, HeaderMap, HeaderValue};

/// A header that was sent in more than one line, so that two readers could take two different values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeated;

/// The value of a header that is sent in one line; `None` if it is not sent.
pub fn single(headers: &HeaderMap, name: impl AsHeaderName) -> Result<Option<&HeaderValue>, Repeated> {
    let mut lines = headers.get_all(name).iter();
    let line = lines.next();
    if lines.next().is_some() { Err(Repeated) } else { Ok(line) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_absent_single_or_repeated() {
        let mut headers = HeaderMap::new();
        assert_eq!(single(&headers, "x-user-id"), Ok(None));
        headers.append("x-user-id", HeaderValue::from_static("1"));
        assert_eq!(single(&headers, "X-User-Id"), Ok(Some(&HeaderValue::from_static("1"))));
        headers.append("x-user-id", HeaderValue::from_static("1"));
        assert_eq!(single(&headers, "x-user-id"), Err(Repeated));
    }
}
