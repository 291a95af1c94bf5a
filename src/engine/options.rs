//! What an operator chooses for an engine.

use crate::limits;
use crate::token::PurchaseTokens;

/// The choices of an operator that the engine keeps to.
#[derive(Clone, Debug)]
pub struct Options {
    /// What becomes of orders whose gate cannot be used.
    pub on_gate_failure: OnGateFailure,
    /// Signs and recognises purchase tokens. Every engine of a ledger must be given the same secrets.
    pub tokens: PurchaseTokens,
    /// How long a purchase token is good for new orders, in ms; see [`limits::PURCHASE_TOKEN_TTL_S`].
    pub token_ttl_ms: i64,
}

impl Default for Options {
    fn default() -> Self {
        let ttl_s = i64::try_from(limits::PURCHASE_TOKEN_TTL_S_DEFAULT).unwrap_or(0);
        Options {
            on_gate_failure: OnGateFailure::Ledger,
            tokens: PurchaseTokens::default(),
            token_ttl_ms: 1000 * ttl_s,
        }
    }
}

/// What becomes of orders whose gate cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnGateFailure {
    /// They go straight to the ledger, up to [`limits::BYPASS_IN_FLIGHT_MAX`] at a time.
    Ledger,
    /// They are refused with [`crate::order::Code::GateUnavailable`].
    Shed,
}
