//! The answer that is stored under a key, as bytes.

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode, response};
use http_body::Body;

use super::LayerBody;
use super::refusal::Refusal;
use crate::limits;

/// The header that marks a replayed answer.
pub const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// An answer to be replayed: its status, `Content-Type`, chosen headers and body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredAnswer {
    status: StatusCode,
    headers: HeaderMap,
    /// `None`: it was too large, or broke off.
    body: Option<Bytes>,
}

/// The first byte of a stored answer: with its body, or without.
const WHOLE: u8 = 1;
const WITHOUT_BODY: u8 = 2;

impl StoredAnswer {
    /// What the layer stores of the handler's answer `response`, whose body is `body`. A handler that completes its claim
    /// itself makes it from the answer that it is about to give.
    pub fn new<B>(response: &Response<B>, stored_headers: &[HeaderName], body: Bytes) -> Self {
        StoredAnswer::with(response.status(), response.headers(), stored_headers, Some(body))
    }

    pub(super) fn of(head: &response::Parts, stored_headers: &[HeaderName], body: Option<&Bytes>) -> Self {
        StoredAnswer::with(head.status, &head.headers, stored_headers, body.cloned())
    }

    fn with(status: StatusCode, all: &HeaderMap, chosen: &[HeaderName], body: Option<Bytes>) -> Self {
        let mut headers = HeaderMap::new();
        // Without them nobody can read the body.
        let needed = [CONTENT_TYPE, CONTENT_ENCODING];
        for name in needed.iter().chain(chosen.iter().filter(|name| !needed.contains(name))) {
            for value in all.get_all(name) {
                headers.append(name, value.clone());
            }
        }
        StoredAnswer { status, headers, body }
    }

    pub(super) fn is_success(&self) -> bool {
        !self.status.is_client_error()
    }

    /// The bytes to store: at most [`limits::ANSWER_BYTES_MAX`]. An answer that does not fit is stored without its body, so
    /// that its operation is not done again; a repeat is then told so with 409.
    pub fn encode(&self) -> Vec<u8> {
        let without_body = || [&[WITHOUT_BODY][..], &self.status.as_u16().to_be_bytes()].concat();
        let whole = self.body.as_ref().and_then(|body| self.encode_whole(body));
        whole.filter(|bytes| bytes.len() <= limits::ANSWER_BYTES_MAX).unwrap_or_else(without_body)
    }

    /// Kind, status, number of headers, each header behind the lengths of its name and value, and the body. `None`: there
    /// are more or longer headers than the numbers hold.
    fn encode_whole(&self, body: &[u8]) -> Option<Vec<u8>> {
        let mut bytes = vec![WHOLE];
        bytes.extend_from_slice(&self.status.as_u16().to_be_bytes());
        bytes.push(u8::try_from(self.headers.len()).ok()?);
        for (name, value) in &self.headers {
            bytes.push(u8::try_from(name.as_str().len()).ok()?);
            bytes.extend_from_slice(name.as_str().as_bytes());
            bytes.extend_from_slice(&u16::try_from(value.len()).ok()?.to_be_bytes());
            bytes.extend_from_slice(value.as_bytes());
        }
        bytes.extend_from_slice(body);
        Some(bytes)
    }

    /// Reads [`StoredAnswer::encode`]; `None` for any other bytes.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (kind, bytes) = bytes.split_first()?;
        let (status, mut bytes) = bytes.split_first_chunk()?;
        let status = StatusCode::from_u16(u16::from_be_bytes(*status)).ok()?;
        let mut headers = HeaderMap::new();
        if *kind != WHOLE {
            let is_ours = *kind == WITHOUT_BODY && bytes.is_empty();
            return is_ours.then_some(StoredAnswer { status, headers, body: None });
        }
        let count;
        (count, bytes) = bytes.split_first()?;
        for _ in 0..*count {
            let (length, rest) = bytes.split_first()?;
            let (name, rest) = rest.split_at_checked(usize::from(*length))?;
            let (length, rest) = rest.split_first_chunk()?;
            let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
            headers.append(HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?);
            bytes = rest;
        }
        Some(StoredAnswer { status, headers, body: Some(Bytes::copy_from_slice(bytes)) })
    }

    /// The answer to a repeat.
    pub(super) fn replay<B: Body>(self) -> Response<LayerBody<B>> {
        let mut response = match self.body {
            Some(body) => {
                let mut response = Response::new(LayerBody::whole(body));
                *response.status_mut() = self.status;
                *response.headers_mut() = self.headers;
                response
            }
            None => Refusal::AnswerNotStored.response(),
        };
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(body: Vec<u8>) -> StoredAnswer {
        let response = Response::builder()
            .status(201)
            .header("content-type", "application/json")
            .header("location", "/orders/1")
            .header("link", "<a>")
            .header("link", "<b>")
            .header("set-cookie", "secret=1")
            .body(())
            .unwrap();
        let chosen = ["location", "link", "etag"].map(HeaderName::from_static);
        StoredAnswer::new(&response, &chosen, Bytes::from(body))
    }

    #[test]
    fn the_coding_of_a_body_is_stored_with_it() {
        let coded = Response::builder().header("content-encoding", "gzip").body(()).unwrap();
        let stored = StoredAnswer::new(&coded, &[CONTENT_ENCODING], Bytes::from_static(b"\x1f\x8b"));
        let coding: Vec<_> = stored.headers.get_all(CONTENT_ENCODING).iter().collect();
        assert_eq!(coding, ["gzip"], "once, also where it is chosen");
        assert!(StoredAnswer::new(&coded, &[], Bytes::new()).headers.contains_key(CONTENT_ENCODING));
    }

    #[test]
    fn an_answer_is_read_back_as_it_was_with_the_chosen_headers_only() {
        for body in [vec![], b"{}".to_vec(), (0..=255).collect()] {
            let stored = answer(body);
            let read = StoredAnswer::decode(&stored.encode()).unwrap();
            assert_eq!(read, stored);
            assert_eq!(read.headers.len(), 4);
            assert!(!read.headers.contains_key("set-cookie"));
        }
    }

    #[test]
    fn an_answer_that_does_not_fit_is_stored_without_its_body() {
        let fits = limits::ANSWER_BYTES_MAX - answer(vec![]).encode().len();
        assert_eq!(answer(vec![0; fits]).encode().len(), limits::ANSWER_BYTES_MAX);
        for not_fitting in [answer(vec![0; fits + 1]), StoredAnswer { body: None, ..answer(vec![]) }] {
            let bytes = not_fitting.encode();
            assert_eq!(bytes, [WITHOUT_BODY, 0, 201]);
            let read = StoredAnswer::decode(&bytes).unwrap();
            assert_eq!((read.status.as_u16(), read.body), (201, None));
        }
    }

    #[test]
    fn other_bytes_are_no_answer() {
        let whole = answer(b"body".to_vec()).encode();
        let head = whole.len() - 4;
        for cut in 0..head {
            assert_eq!(StoredAnswer::decode(whole.get(..cut).unwrap()), None, "{cut}");
        }
        for other in [&[0, 0, 201][..], &[WITHOUT_BODY, 0, 201, 0], &[WHOLE, 0, 9, 0], b"{}"] {
            assert_eq!(StoredAnswer::decode(other), None, "{other:?}");
        }
    }
}
