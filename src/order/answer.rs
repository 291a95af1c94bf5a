//! What the engine can say: an [`Outcome`] or a [`Refusal`]. Both are closed sets.

use std::borrow::Cow;
use std::sync::Arc;

use super::{InvalidKey, OrderNo, Sale, Sku, UserId};
use crate::clock::UnixMs;
use crate::limits;

/// The engine's "yes".
#[derive(Clone, Debug)]
pub enum Outcome {
    /// This request made the order.
    Created(Receipt),
    /// An earlier request made the order: the same answer again.
    Replayed(Receipt),
}

impl Outcome {
    /// Its word in the log.
    pub fn as_str(&self) -> &'static str {
        match self {
            Outcome::Created(_) => "created",
            Outcome::Replayed(_) => "replayed",
        }
    }
}

/// What the answer to an order is made of; the same for the first answer and for every replay.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// The derived number.
    pub order_no: OrderNo,
    /// The sale, whose rules fix the first state and the payment deadline.
    pub sale: Arc<Sale>,
    /// Position of the sku in [`Sale::skus`].
    pub sku: u16,
    /// The buyer.
    pub user: UserId,
    /// Units.
    pub quantity: u32,
    /// When the order was first reserved.
    pub created_at: UnixMs,
}

impl Receipt {
    /// The sku; `None` only for a receipt whose `sku` is not a position of its sale.
    pub fn sku(&self) -> Option<&Sku> {
        self.sale.skus.get(usize::from(self.sku))
    }

    /// When the order expires unless it is paid; `None` in a sale without a payment step.
    pub fn expires_at(&self) -> Option<UnixMs> {
        self.sale.rules.expires_at(self.created_at)
    }
}

/// The engine's "no", with what the client needs to act on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The stable code.
    pub code: Code,
    /// What exactly is wrong, for a person; never a secret and never another user's data.
    pub detail: Option<Cow<'static, str>>,
    /// When to come back, in whole seconds.
    pub retry_after_s: Option<u64>,
    /// The order that exists already (`idempotency_conflict`).
    pub order_no: Option<OrderNo>,
}

impl Refusal {
    /// A refusal that says why.
    pub fn because(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Refusal { detail: Some(detail.into()), ..code.into() }
    }

    /// The same, with a time to come back.
    #[must_use]
    pub fn retry_after(self, seconds: u64) -> Self {
        Refusal { retry_after_s: Some(seconds), ..self }
    }
}

impl From<Code> for Refusal {
    fn from(code: Code) -> Self {
        let retry_after_s = match code.retry() {
            Retry::After(seconds) => Some(seconds),
            Retry::Never | Retry::Later => None,
        };
        Refusal { code, detail: None, retry_after_s, order_no: None }
    }
}

impl From<InvalidKey> for Refusal {
    fn from(invalid: InvalidKey) -> Self {
        Refusal::because(Code::IdempotencyKeyInvalid, invalid.to_string())
    }
}

/// Whether the client should send the same request with the same key again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The answer stays the same: another request, or a person, has to change something first.
    Never,
    /// When the sale allows it. Only the refusal itself may know when that is.
    Later,
    /// After this many seconds: the refusal is about this moment only.
    After(u64),
}

macro_rules! codes {
    ($($variant:ident $text:literal $title:literal,)*) => {
        /// Every code that a public error can carry. The texts are part of the contract.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code { $(#[doc = $title] $variant,)* }

        impl Code {
            /// All of them.
            pub const ALL: &[Code] = &[$(Code::$variant,)*];

            /// The contract's word.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$variant => $text,)* }
            }

            /// The problem's title: one line for a person.
            pub fn title(self) -> &'static str {
                match self { $(Code::$variant => $title,)* }
            }
        }
    };
}

codes! {
    MalformedRequest "malformed_request" "The request does not fit this call",
    IdempotencyKeyMissing "idempotency_key_missing" "An idempotency key is required",
    IdempotencyKeyInvalid "idempotency_key_invalid" "The idempotency key is not valid",
    Unauthenticated "unauthenticated" "Authentication is required",
    Forbidden "forbidden" "The request is not allowed",
    TokenInvalid "token_invalid" "The purchase token is not valid",
    TokenRequired "token_required" "A purchase token is required for this sale",
    NotFound "not_found" "There is no resource at this path",
    SaleNotFound "sale_not_found" "The sale does not exist",
    SkuNotFound "sku_not_found" "The sale does not have this sku",
    OrderNotFound "order_not_found" "The order does not exist",
    MethodNotAllowed "method_not_allowed" "The path does not support this method",
    IdempotencyInProgress "idempotency_in_progress" "The first request with this key is still in progress",
    IdempotencyConflict "idempotency_conflict" "An earlier request has already created this order",
    SoldOut "sold_out" "Fewer units are left than the order asks for",
    LimitReached "limit_reached" "The order exceeds the user's limit for this sku",
    SaleNotOpen "sale_not_open" "The sale is not open yet",
    SalePaused "sale_paused" "The sale is paused",
    InvalidTransition "invalid_transition" "The current state does not allow this step",
    SaleExists "sale_exists" "A sale with this id and other content already exists",
    ChangeExists "change_exists" "A change with this id and other content already exists",
    NotEnoughStock "not_enough_stock" "Fewer unsold units are left than the change takes away",
    SaleEnded "sale_ended" "The sale has ended",
    BodyTooLarge "body_too_large" "The body is too large",
    UnsupportedMediaType "unsupported_media_type" "The body must be sent as application/json",
    IdempotencyKeyReused "idempotency_key_reused" "The key was used for a request with other content",
    RateLimited "rate_limited" "Too many requests",
    Overloaded "overloaded" "The engine is at its limit of orders in flight",
    GateUnavailable "gate_unavailable" "The gate is unavailable",
    LedgerUnavailable "ledger_unavailable" "The ledger is unavailable",
    UnknownOutcome "unknown_outcome" "The outcome of the request is not known yet",
}

impl Code {
    /// Whether the same request with the same key is worth sending again.
    pub fn retry(self) -> Retry {
        match self {
            Code::IdempotencyInProgress
            | Code::RateLimited
            | Code::Overloaded
            | Code::GateUnavailable
            | Code::LedgerUnavailable
            | Code::UnknownOutcome => Retry::After(limits::RETRY_AFTER_S),
            Code::SaleNotOpen | Code::SalePaused => Retry::Later,
            Code::MalformedRequest
            | Code::IdempotencyKeyMissing
            | Code::IdempotencyKeyInvalid
            | Code::Unauthenticated
            | Code::Forbidden
            | Code::TokenInvalid
            | Code::TokenRequired
            | Code::NotFound
            | Code::SaleNotFound
            | Code::SkuNotFound
            | Code::OrderNotFound
            | Code::MethodNotAllowed
            | Code::IdempotencyConflict
            | Code::SoldOut
            | Code::LimitReached
            | Code::InvalidTransition
            | Code::SaleExists
            | Code::ChangeExists
            | Code::NotEnoughStock
            | Code::SaleEnded
            | Code::BodyTooLarge
            | Code::UnsupportedMediaType
            | Code::IdempotencyKeyReused => Retry::Never,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_worth_a_retry_as_the_contract_says() {
        let texts: std::collections::HashSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(texts.len(), Code::ALL.len());
        let retryable: Vec<_> =
            Code::ALL.iter().filter(|code| code.retry() != Retry::Never).map(|code| code.as_str()).collect();
        assert_eq!(
            retryable,
            [
                "idempotency_in_progress",
                "sale_not_open",
                "sale_paused",
                "rate_limited",
                "overloaded",
                "gate_unavailable",
                "ledger_unavailable",
                "unknown_outcome"
            ]
        );
    }
}
