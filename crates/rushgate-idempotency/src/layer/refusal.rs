//! What the layer answers instead of the handler: problem documents (RFC 9457) with a code.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use http_body::Body;

use super::LayerBody;
use crate::{InvalidKey, limits};

/// Why the layer does not answer with the handler's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    KeyMissing,
    KeyInvalid(InvalidKey),
    ScopeMissing,
    BodyTooLarge,
    BodyBroken,
    InProgress,
    KeyReused,
    AnswerNotStored,
    AnswerUnreadable,
    HandlerPanicked,
    StoreUnavailable,
}

impl Refusal {
    /// Status, code, and what they mean.
    fn row(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Refusal::KeyMissing => {
                (StatusCode::BAD_REQUEST, "idempotency_key_missing", "The request needs an idempotency key")
            }
            Refusal::KeyInvalid(_) => {
                (StatusCode::BAD_REQUEST, "idempotency_key_invalid", "The idempotency key breaks the rules for keys")
            }
            Refusal::ScopeMissing => (StatusCode::UNAUTHORIZED, "unauthenticated", "Authentication is required"),
            Refusal::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "The body is too large"),
            Refusal::BodyBroken => (StatusCode::BAD_REQUEST, "malformed_request", "The body broke off"),
            Refusal::InProgress => {
                (StatusCode::CONFLICT, "idempotency_in_progress", "The first request with this key is still running")
            }
            Refusal::KeyReused => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency_key_reused",
                "Another request has used this idempotency key",
            ),
            Refusal::AnswerNotStored => (
                StatusCode::CONFLICT,
                "idempotency_answer_not_stored",
                "The operation was done, and its answer was too large to be stored",
            ),
            Refusal::AnswerUnreadable => {
                (StatusCode::INTERNAL_SERVER_ERROR, "internal_error", "The stored answer cannot be read")
            }
            Refusal::HandlerPanicked => (StatusCode::INTERNAL_SERVER_ERROR, "internal_error", "The service failed"),
            Refusal::StoreUnavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "idempotency_unavailable",
                "The store of idempotency keys is unavailable",
            ),
        }
    }

    /// Whether the same request, sent again, may get another answer.
    fn is_passing(self) -> bool {
        match self {
            Refusal::InProgress | Refusal::StoreUnavailable | Refusal::HandlerPanicked => true,
            Refusal::KeyMissing
            | Refusal::KeyInvalid(_)
            | Refusal::ScopeMissing
            | Refusal::BodyTooLarge
            | Refusal::BodyBroken
            | Refusal::KeyReused
            | Refusal::AnswerNotStored
            | Refusal::AnswerUnreadable => false,
        }
    }

    pub(super) fn response<B: Body>(self) -> Response<LayerBody<B>> {
        let (status, code, title) = self.row();
        // Fixed words and a number: nothing needs an escape.
        let detail = match self {
            Refusal::KeyInvalid(invalid) => format!(r#","detail":"{invalid}""#),
            _ => String::new(),
        };
        let number = status.as_u16();
        let body = format!(r#"{{"type":"about:blank","title":"{title}","status":{number},"code":"{code}"{detail}}}"#);
        let mut response = Response::new(LayerBody::whole(Bytes::from(body)));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.is_passing() {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(limits::RETRY_AFTER_S));
        }
        response
    }
}
