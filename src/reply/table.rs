//! What each code is on every wire: one row a code, held to the contract by the tests below. HTTP reads its column here, and
//! each further transport reads its own.

use http::StatusCode;

use crate::order::Code;

/// A code in the words of each transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// HTTP's status.
    pub status: StatusCode,
    /// gRPC's code.
    pub grpc: GrpcCode,
    /// What a consumer of a broker does with the message.
    pub message: Disposal,
}

/// The gRPC codes that refusals have, with the numbers of the gRPC specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrpcCode {
    /// The request cannot be accepted as it is, whatever the state.
    InvalidArgument = 3,
    /// What the request names does not exist.
    NotFound = 5,
    /// Something with this identity exists.
    AlreadyExists = 6,
    /// The principal is known, and may not do this.
    PermissionDenied = 7,
    /// The principal sends too much.
    ResourceExhausted = 8,
    /// The state does not allow the operation.
    FailedPrecondition = 9,
    /// Another request of the same operation is in progress.
    Aborted = 10,
    /// The server does not have this operation.
    Unimplemented = 12,
    /// The server cannot answer now.
    Unavailable = 14,
    /// The principal is not known.
    Unauthenticated = 16,
}

/// What a consumer of a broker does with a message after a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposal {
    /// Acknowledges it: the refusal is the outcome.
    Ack,
    /// Leaves it to the broker, which delivers it again: the outcome is not final.
    Redeliver,
    /// Moves it to the dead letters: no delivery of it can have an outcome.
    DeadLetter,
}

/// The row of a code.
pub const fn row(code: Code) -> Row {
    use Disposal::{Ack, DeadLetter, Redeliver};
    use GrpcCode::*;
    let (status, grpc, message) = match code {
        Code::MalformedRequest | Code::IdempotencyKeyMissing | Code::IdempotencyKeyInvalid => {
            (StatusCode::BAD_REQUEST, InvalidArgument, DeadLetter)
        }
        Code::Unauthenticated => (StatusCode::UNAUTHORIZED, Unauthenticated, DeadLetter),
        Code::Forbidden => (StatusCode::FORBIDDEN, PermissionDenied, DeadLetter),
        Code::TokenInvalid | Code::TokenRequired => (StatusCode::FORBIDDEN, PermissionDenied, Ack),
        Code::NotFound | Code::SaleNotFound | Code::SkuNotFound => (StatusCode::NOT_FOUND, NotFound, DeadLetter),
        Code::OrderNotFound => (StatusCode::NOT_FOUND, NotFound, Ack),
        Code::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, Unimplemented, DeadLetter),
        Code::IdempotencyInProgress => (StatusCode::CONFLICT, Aborted, Redeliver),
        Code::IdempotencyConflict | Code::SaleExists | Code::ChangeExists => (StatusCode::CONFLICT, AlreadyExists, Ack),
        Code::SaleNotOpen | Code::SalePaused => (StatusCode::CONFLICT, FailedPrecondition, Redeliver),
        Code::SoldOut | Code::LimitReached | Code::InvalidTransition | Code::NotEnoughStock => {
            (StatusCode::CONFLICT, FailedPrecondition, Ack)
        }
        Code::SaleEnded => (StatusCode::GONE, FailedPrecondition, Ack),
        Code::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, InvalidArgument, DeadLetter),
        Code::UnsupportedMediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, InvalidArgument, DeadLetter),
        Code::IdempotencyKeyReused => (StatusCode::UNPROCESSABLE_ENTITY, InvalidArgument, Ack),
        Code::RateLimited => (StatusCode::TOO_MANY_REQUESTS, ResourceExhausted, Redeliver),
        Code::Overloaded | Code::GateUnavailable | Code::LedgerUnavailable | Code::UnknownOutcome => {
            (StatusCode::SERVICE_UNAVAILABLE, Unavailable, Redeliver)
        }
    };
    Row { status, grpc, message }
}

/// HTTP's status of a code.
pub const fn status(code: Code) -> StatusCode {
    row(code).status
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::Retry;

    /// The table once more, drawn by hand: status, gRPC number, what a consumer does, codes.
    const CONTRACT: &str = "
        400  3 DeadLetter malformed_request idempotency_key_missing idempotency_key_invalid
        401 16 DeadLetter unauthenticated
        403  7 DeadLetter forbidden
        403  7 Ack        token_invalid token_required
        404  5 DeadLetter not_found sale_not_found sku_not_found
        404  5 Ack        order_not_found
        405 12 DeadLetter method_not_allowed
        409 10 Redeliver  idempotency_in_progress
        409  6 Ack        idempotency_conflict sale_exists change_exists
        409  9 Ack        sold_out limit_reached invalid_transition not_enough_stock
        409  9 Redeliver  sale_not_open sale_paused
        410  9 Ack        sale_ended
        413  3 DeadLetter body_too_large
        415  3 DeadLetter unsupported_media_type
        422  3 Ack        idempotency_key_reused
        429  8 Redeliver  rate_limited
        503 14 Redeliver  overloaded gate_unavailable ledger_unavailable unknown_outcome";

    #[test]
    fn every_code_has_its_row_as_the_contract_says() {
        let mut seen = 0;
        for line in CONTRACT.lines().skip(1) {
            let mut cells = line.split_whitespace();
            let (status, grpc, message) = (cells.next().unwrap(), cells.next().unwrap(), cells.next().unwrap());
            for text in cells {
                let code = Code::ALL.iter().find(|code| code.as_str() == text).unwrap();
                let row = row(*code);
                assert_eq!(row.status.as_str(), status, "{text}");
                assert_eq!((row.grpc as u8).to_string(), grpc, "{text}");
                assert_eq!(format!("{:?}", row.message), message, "{text}");
                seen += 1;
            }
        }
        assert_eq!(seen, Code::ALL.len());
    }

    #[test]
    fn a_message_comes_again_exactly_where_a_retry_is_worth_it() {
        for code in Code::ALL {
            assert_eq!(row(*code).message == Disposal::Redeliver, code.retry() != Retry::Never, "{code:?}");
        }
    }
}
