//! Answers on the wire: the only room that makes status codes, headers and bodies. It knows outcomes, refusals and views, and
//! nothing of how the engine came to them. `table.rs` has the codes of every transport; the rest is HTTP's.

mod callbacks;
mod history;
mod json;
mod pages;
mod table;

pub use callbacks::{acknowledge, reject};
pub use history::history;
pub use json::{created, order, orders, public_sale, purchase_token, sale, sales};
pub use pages::problem_page;
pub use table::{Disposal, GrpcCode, Row, row, status};

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::Full;

use crate::bug;
use crate::http::Answer;
use crate::order::{Code, OrderView, Outcome, Refusal};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// 201 for an order that exists now, the same bytes for the first answer and every replay.
pub fn outcome(outcome: &Outcome) -> Answer {
    let (receipt, is_replay) = match outcome {
        Outcome::Created(receipt) => (receipt, false),
        Outcome::Replayed(receipt) => (receipt, true),
    };
    let Some(document) = created(receipt) else {
        bug!("order {} has sku {}, which its sale does not have", receipt.order_no, receipt.sku);
        return refusal(&Code::UnknownOutcome.into());
    };
    let mut answer = body(StatusCode::CREATED, JSON, document);
    let headers = answer.headers_mut();
    headers.insert(header::CACHE_CONTROL, NO_STORE);
    let mut location = Vec::with_capacity(37);
    location.extend_from_slice(b"/v1/orders/");
    location.extend_from_slice(&receipt.order_no.to_ascii());
    if let Ok(location) = HeaderValue::from_maybe_shared(Bytes::from(location)) {
        headers.insert(header::LOCATION, location);
    }
    if is_replay {
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
    }
    answer
}

/// 200 for a step of an order, the same bytes for the first answer and every replay.
pub fn step_taken(view: &OrderView, is_replay: bool) -> Answer {
    let mut answer = ok_json(order(view));
    if is_replay {
        answer.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    answer
}

/// A refusal as a problem document (RFC 9457).
pub fn refusal(refusal: &Refusal) -> Answer {
    let mut answer = body(status(refusal.code), PROBLEM, json::problem(refusal, status(refusal.code)));
    let headers = answer.headers_mut();
    headers.insert(header::CACHE_CONTROL, NO_STORE);
    if let Some(seconds) = refusal.retry_after_s {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if refusal.code == Code::Unauthenticated {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if refusal.code == Code::BodyTooLarge {
        return closing(answer);
    }
    answer
}

/// The same answer as the last one of its connection: the server does not read the rest of the request's body.
pub fn closing(mut answer: Answer) -> Answer {
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    answer
}

/// 405 with the methods that the path takes.
pub fn method_not_allowed(allow: &str) -> Answer {
    let mut answer = refusal(&Refusal::because(Code::MethodNotAllowed, format!("this path takes {allow}")));
    if let Ok(allow) = HeaderValue::from_str(allow) {
        answer.headers_mut().insert(header::ALLOW, allow);
    }
    answer
}

/// 200 with a JSON document that no cache may store.
pub fn ok_json(document: Vec<u8>) -> Answer {
    let mut answer = body(StatusCode::OK, JSON, document);
    answer.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
    answer
}

/// 201 with a JSON document.
pub fn created_json(document: Vec<u8>) -> Answer {
    let mut answer = ok_json(document);
    *answer.status_mut() = StatusCode::CREATED;
    answer
}

/// 200 with a JSON document that caches may store for a while.
pub fn cached_json(document: Vec<u8>, max_age: &'static str) -> Answer {
    let mut answer = body(StatusCode::OK, JSON, document);
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(max_age));
    answer
}

/// 200 with a document of another kind.
pub fn ok_document(content_type: &'static str, document: impl Into<Bytes>) -> Answer {
    body(StatusCode::OK, HeaderValue::from_static(content_type), document)
}

/// The dashboard: a page that may load from and send to this listener only.
pub fn dashboard(page: &'static str) -> Answer {
    let mut answer = ok_document("text/html; charset=utf-8", page);
    let policy = "default-src 'none'; connect-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                  base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    answer.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    answer
}

/// A probe's answer: 200 or 503 with one word.
pub fn probe(is_well: bool, word: &'static str) -> Answer {
    let status = if is_well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    body(status, HeaderValue::from_static("text/plain; charset=utf-8"), Bytes::from_static(word.as_bytes()))
}

fn body(status: StatusCode, content_type: HeaderValue, document: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(document.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, content_type);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::Retry;

    #[test]
    fn a_refusal_of_the_moment_says_when_to_come_back() {
        for code in Code::ALL {
            let answer = refusal(&Refusal::from(*code));
            let busy = [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS].contains(&answer.status());
            if busy || *code == Code::IdempotencyInProgress {
                assert_eq!(answer.headers()[header::RETRY_AFTER], "1", "{code:?}");
            }
            assert!(!busy || code.retry() != Retry::Never, "{code:?}");
        }
    }
}
