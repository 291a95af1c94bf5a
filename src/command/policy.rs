//! Why a repeat of a call does no harm. Each transport's table of calls names the policy of every call.

/// What makes a repeat of a call harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdempotencyPolicy {
    /// The call changes nothing.
    Read,
    /// The order number is derived from the request: the same request finds the order that it made.
    DerivedId,
    /// The call carries an idempotency key. The ledger stores its answer in the transaction of its effect.
    Key,
    /// The call carries an id of its own, in this member or in its path, and its effect is unique by that id.
    BusinessId(&'static str),
    /// The call says what is to be so, and not what is to be done.
    Declarative,
}
