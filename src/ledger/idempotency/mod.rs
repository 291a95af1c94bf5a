//! Each operation once, for any service that keeps its books in SQLite or PostgreSQL.
//!
//! An operation is named by a *scope* (who does what to which thing) and a *key* that its client drew. Whoever gets the key
//! with [`postgres::acquire`] or [`sqlite::acquire`] does the work and, in the transaction of its effect, completes the claim
//! with the answer; everybody else gets that answer, or hears that the work is under way. A claim is a lease: what was
//! interrupted may be taken over when it has run out, and then the first owner's completion fails, which rolls its effect
//! back. So an operation has its effect once, however often it is tried, and no clock and no lock is trusted for that: a lease
//! that is too short costs work, never a second effect. That holds for as long as the answer is kept. Whoever sweeps says by
//! `now_ms` which answers are kept no longer: a clock that is far ahead removes live ones, and then the operation runs again.
//!
//! rushgate keeps its own cancellations, shipments and refunds with these functions, in the ledger's table
//! `idempotency_keys`. `docs/LIBRARY.md` tells how another service uses them; `examples/wallet.rs` is one.

pub mod postgres;
pub mod sqlite;

use crate::clock::UnixMs;
use crate::limits;
use crate::order::{Fingerprint, InvalidId, Key};

/// Who does what to which thing: what a key is unique in. 1..=[`limits::SCOPE_BYTES_MAX`] bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scope(Box<str>);

impl Scope {
    /// Joins the parts, of which none may be empty or hold a `/`: `["cancel", "42", "01J…"]`.
    pub fn new(parts: &[&str]) -> Result<Self, InvalidId> {
        let is_plain = |part: &&str| !part.is_empty() && !part.contains('/') && !part.contains(char::is_control);
        let joined = parts.join("/");
        if parts.is_empty() || !parts.iter().all(is_plain) || joined.len() > limits::SCOPE_BYTES_MAX {
            return Err(InvalidId);
        }
        Ok(Scope(joined.into()))
    }

    /// The parts, with a `/` between them.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An operation that is to be done once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// What the key is unique in.
    pub scope: Scope,
    /// What the client sent.
    pub key: Key,
    /// Hash of the command, as [`Fingerprint::of_fields`] makes it: the same key with another one is a misuse.
    pub fingerprint: Fingerprint,
}

/// The right to do an operation. To be kept until it is completed, failed or released.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    operation: Operation,
    /// Drawn for this claim: whoever takes the operation over draws another.
    token: [u8; 16],
}

impl Claim {
    /// What is to be done.
    pub fn operation(&self) -> &Operation {
        &self.operation
    }
}

/// What came of asking for an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acquired {
    /// It is the caller's to do. Perhaps somebody else has begun it and was interrupted before the transaction of its effect
    /// was committed.
    Claimed(Claim),
    /// It was done, or failed for good: the answer that was kept.
    Done(Answer),
    /// Somebody is doing it, under a lease until then.
    InProgress(UnixMs),
    /// The key was used for another command.
    OtherContent,
}

/// What is kept of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether it had its effect; if not, it failed for good.
    pub is_success: bool,
    /// Whatever the service answers with, 0..=[`limits::ANSWER_BYTES_MAX`] bytes.
    pub body: Vec<u8>,
}

/// The claim was taken over after its lease, or swept: whoever gets this must roll back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the claim is lost: somebody else does this operation")]
pub struct Lost;
