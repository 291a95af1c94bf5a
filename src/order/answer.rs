//! What the engine can say: an [`Outcome`] or a [`Refusal`]. Both are closed sets.

use std::borrow::Cow;
use std::sync::Arc;

use super::{OrderNo, Sale, Sku, UserId};
use crate::clock::UnixMs;
use crate::limits;

/// The engine's "yes".
#[derive(Clone, Debug)]
pub enum Outcome {
    /// This request made the order.
    Created(Receipt),
    /// An earlier request made it: the same answer again.
    Replayed(Receipt),
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
    /// The sku; `None` only for a receipt put together wrongly.
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
        let retry_after_s = code.is_passing().then_some(limits::RETRY_AFTER_S);
        Refusal { code, detail: None, retry_after_s, order_no: None }
    }
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

            /// One line for a person.
            pub fn title(self) -> &'static str {
                match self { $(Code::$variant => $title,)* }
            }
        }
    };
}

codes! {
    MalformedRequest "malformed_request" "The request is not what this call takes",
    IdempotencyKeyMissing "idempotency_key_missing" "An idempotency key is needed here",
    IdempotencyKeyInvalid "idempotency_key_invalid" "The idempotency key breaks the rules for keys",
    Unauthenticated "unauthenticated" "It is not known who is asking",
    Forbidden "forbidden" "This user may not do that",
    TokenInvalid "token_invalid" "The purchase token is not valid",
    TokenRequired "token_required" "This sale sells by purchase token only",
    NotFound "not_found" "There is nothing at this path",
    SaleNotFound "sale_not_found" "There is no such sale",
    SkuNotFound "sku_not_found" "The sale has no such sku",
    OrderNotFound "order_not_found" "There is no such order",
    MethodNotAllowed "method_not_allowed" "This path does not take that method",
    IdempotencyInProgress "idempotency_in_progress" "The first request with this key is still running",
    IdempotencyConflict "idempotency_conflict" "This operation has made its order already",
    SoldOut "sold_out" "Fewer units are left than were asked for",
    LimitReached "limit_reached" "The user's limit for this sku is reached",
    SaleNotOpen "sale_not_open" "The sale has not opened yet",
    SalePaused "sale_paused" "The sale is paused",
    InvalidTransition "invalid_transition" "Its state does not allow that step",
    SaleExists "sale_exists" "A sale with this id and other content exists",
    ChangeExists "change_exists" "A change with this id and other content exists",
    NotEnoughStock "not_enough_stock" "Fewer unsold units are left than were to be taken away",
    SaleEnded "sale_ended" "The sale has ended",
    BodyTooLarge "body_too_large" "The body is larger than 64 KiB",
    UnsupportedMediaType "unsupported_media_type" "The body must be application/json",
    IdempotencyKeyReused "idempotency_key_reused" "This key was used for another request",
    RateLimited "rate_limited" "Too many requests",
    Overloaded "overloaded" "More orders are on their way than the engine takes at once",
    GateUnavailable "gate_unavailable" "The gate cannot be reached",
    LedgerUnavailable "ledger_unavailable" "The ledger cannot be written",
    UnknownOutcome "unknown_outcome" "It is not known yet whether the order was recorded",
}

impl Code {
    /// Whether the same request with the same key is worth repeating after `Retry-After`.
    pub fn retryable(self) -> bool {
        matches!(self, Code::SaleNotOpen | Code::SalePaused) || self.is_passing()
    }

    /// Whether the refusal is about this moment only, so that `Retry-After` is always known.
    fn is_passing(self) -> bool {
        matches!(
            self,
            Code::IdempotencyInProgress
                | Code::RateLimited
                | Code::Overloaded
                | Code::GateUnavailable
                | Code::LedgerUnavailable
                | Code::UnknownOutcome
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_retryable_as_the_contract_says() {
        let texts: std::collections::HashSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(texts.len(), Code::ALL.len());
        let retryable: Vec<_> = Code::ALL.iter().filter(|code| code.retryable()).map(|code| code.as_str()).collect();
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
