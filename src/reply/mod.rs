//! Answers on the wire: the only place that makes status codes, headers and bodies. A leaf: it knows outcomes,
//! refusals and views, and nothing of how they came about.

mod callbacks;
mod history;
mod json;
mod pages;

pub use callbacks::{acknowledge, reject};
pub use history::history;
pub use json::{created, order, orders, public_sale, purchase_token, sale, sales};
pub use pages::problem_page;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::Full;

use crate::order::{Code, OrderView, Outcome, Refusal};

/// A whole answer.
pub type Answer = Response<Full<Bytes>>;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The status of each code: the table of the contract.
pub fn status(code: Code) -> StatusCode {
    match code {
        Code::MalformedRequest | Code::IdempotencyKeyMissing | Code::IdempotencyKeyInvalid => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::Forbidden | Code::TokenInvalid | Code::TokenRequired => StatusCode::FORBIDDEN,
        Code::NotFound | Code::SaleNotFound | Code::SkuNotFound | Code::OrderNotFound => StatusCode::NOT_FOUND,
        Code::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Code::IdempotencyInProgress
        | Code::IdempotencyConflict
        | Code::SoldOut
        | Code::LimitReached
        | Code::SaleNotOpen
        | Code::SalePaused
        | Code::InvalidTransition
        | Code::SaleExists
        | Code::ChangeExists
        | Code::NotEnoughStock => StatusCode::CONFLICT,
        Code::SaleEnded => StatusCode::GONE,
        Code::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Code::IdempotencyKeyReused => StatusCode::UNPROCESSABLE_ENTITY,
        Code::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Code::Overloaded | Code::GateUnavailable | Code::LedgerUnavailable | Code::UnknownOutcome => {
            StatusCode::SERVICE_UNAVAILABLE
        }
    }
}

/// The answer to an order that exists now: 201, the same bytes for the first answer and every replay.
pub fn outcome(outcome: &Outcome) -> Answer {
    let (receipt, replayed) = match outcome {
        Outcome::Created(receipt) => (receipt, false),
        Outcome::Replayed(receipt) => (receipt, true),
    };
    let mut answer = body(StatusCode::CREATED, JSON, created(receipt));
    let headers = answer.headers_mut();
    headers.insert(header::CACHE_CONTROL, NO_STORE);
    let mut location = Vec::with_capacity(37);
    location.extend_from_slice(b"/v1/orders/");
    location.extend_from_slice(&receipt.order_no.to_ascii());
    if let Ok(location) = HeaderValue::from_maybe_shared(Bytes::from(location)) {
        headers.insert(header::LOCATION, location);
    }
    if replayed {
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
    }
    answer
}

/// The answer to a step of an order: 200, the same bytes for the first answer and every replay.
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

/// The same answer as the last one of its connection: what is left of the request's body is not read.
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

/// 200 with a JSON document that is true at this moment only.
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

/// 200 with a JSON document that may be kept for a while.
pub fn cached_json(document: Vec<u8>, max_age: &'static str) -> Answer {
    let mut answer = body(StatusCode::OK, JSON, document);
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(max_age));
    answer
}

/// 200 with a document of another kind.
pub fn ok_document(content_type: &'static str, document: impl Into<Bytes>) -> Answer {
    body(StatusCode::OK, HeaderValue::from_static(content_type), document)
}

/// The dashboard: a page that may load and send to nothing but this listener.
pub fn dashboard(page: &'static str) -> Answer {
    let mut answer = ok_document("text/html; charset=utf-8", page);
    let policy = "default-src 'none'; connect-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                  base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    answer.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    answer
}

/// A probe's answer: 200 or 503 with one word.
pub fn probe(well: bool, word: &'static str) -> Answer {
    let status = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
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

    #[test]
    fn every_code_has_its_status_as_the_contract_says() {
        let drawn = "
            400 malformed_request idempotency_key_missing idempotency_key_invalid
            401 unauthenticated
            403 forbidden token_invalid token_required
            404 not_found sale_not_found sku_not_found order_not_found
            405 method_not_allowed
            409 idempotency_in_progress idempotency_conflict sold_out limit_reached sale_not_open sale_paused
            409 invalid_transition sale_exists change_exists not_enough_stock
            410 sale_ended
            413 body_too_large
            415 unsupported_media_type
            422 idempotency_key_reused
            429 rate_limited
            503 overloaded gate_unavailable ledger_unavailable unknown_outcome";
        let mut seen = 0;
        for line in drawn.lines().skip(1) {
            let (number, codes) = line.trim().split_once(' ').unwrap();
            for text in codes.split(' ') {
                let code = Code::ALL.iter().find(|code| code.as_str() == text).unwrap();
                assert_eq!(status(*code).as_str(), number, "{text}");
                seen += 1;
            }
        }
        assert_eq!(seen, Code::ALL.len());
    }

    #[test]
    fn whatever_passes_says_when_to_come_back() {
        for code in Code::ALL {
            let answer = refusal(&Refusal::from(*code));
            let busy = [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS].contains(&answer.status());
            if busy || *code == Code::IdempotencyInProgress {
                assert_eq!(answer.headers()[header::RETRY_AFTER], "1", "{code:?}");
            }
            assert!(!busy || code.retryable(), "{code:?}");
        }
    }
}
