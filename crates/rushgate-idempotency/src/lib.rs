//! Each operation once, for any service that keeps its books in SQLite or PostgreSQL.
//!
//! A *scope* (who does what to which thing) and a *key* that the client drew name an operation. The worker that gets the
//! key with `acquire` of [`sqlite`] or [`postgres`] does the work and, in the transaction of its effect, completes the
//! claim with the answer; every other worker gets that answer, or learns that the work is under way. A claim is a lease:
//! when it has run out, another worker takes an interrupted operation over, and then the completion of the first worker
//! fails, which rolls its effect back. So an operation has its effect once, however often a client tries it, and the
//! promise trusts no clock and no lock: a lease that is too short costs work, never a second effect. The promise holds as
//! long as the answer is kept. The `now_ms` of a sweep says which answers have expired: a clock that is far ahead removes
//! live ones, and then the operation runs again.
//!
//! | feature | brings |
//! |---|---|
//! | `sqlite` | the functions on a `rusqlite::Connection` |
//! | `postgres` | the same functions on a `sqlx::PgConnection` |
//! | `http` | a layer that gives every mutating route of a tower service a key, with no line in its handler |
//!
//! # Example
//!
//! Claim, effect and answer in one transaction:
//!
//! ```
//! # #[cfg(feature = "sqlite")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use rusqlite::{Connection, TransactionBehavior};
//! use rushgate_idempotency::{Acquired, Fingerprint, Key, Operation, Scope, sqlite};
//!
//! let mut connection = Connection::open_in_memory()?;
//! connection.execute_batch(sqlite::SCHEMA)?;
//! connection.execute_batch("CREATE TABLE wallets (user INTEGER PRIMARY KEY, cents INTEGER NOT NULL)")?;
//! connection.execute_batch("INSERT INTO wallets VALUES (42, 0)")?;
//!
//! let (now_ms, lease_ms, day_ms) = (1_795_176_000_000, 30_000, 86_400_000);
//! let operation = Operation {
//!     scope: Scope::new(&["top-up", "42"])?,
//!     key: Key::parse(b"monday")?,
//!     fingerprint: Fingerprint::of_fields("top-up", &[&500_i64.to_le_bytes()]),
//! };
//! for _attempt in 0..3 {
//!     let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
//!     match sqlite::acquire(&transaction, &operation, now_ms, lease_ms, now_ms + day_ms)? {
//!         Acquired::Claimed(claim) => {
//!             transaction.execute("UPDATE wallets SET cents = cents + 500 WHERE user = 42", [])?;
//!             sqlite::complete(&transaction, &claim, b"topped up", now_ms + day_ms)??;
//!             transaction.commit()?;
//!         }
//!         Acquired::Done(answer) => assert_eq!(answer.body, b"topped up"),
//!         Acquired::InProgress(_) | Acquired::OtherContent => unreachable!("no other worker, no other amount"),
//!     }
//! }
//! let cents: i64 = connection.query_row("SELECT cents FROM wallets", [], |row| row.get(0))?;
//! assert_eq!(cents, 500);
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "sqlite"))]
//! # fn main() {}
//! ```

mod fingerprint;
mod key;
pub mod limits;

#[cfg(feature = "http")]
pub mod layer;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "sqlite")]
pub mod sqlite;

pub use fingerprint::Fingerprint;
pub use key::{InvalidKey, Key};

/// Milliseconds since the Unix epoch, UTC.
pub type UnixMs = i64;

/// Who does what to which thing: what a key is unique in. 1..=[`limits::SCOPE_BYTES_MAX`] bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scope(Box<str>);

/// The parts of a scope are empty, hold a `/` or a control character, or are too long together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid scope")]
pub struct InvalidScope;

impl Scope {
    /// Joins the parts, of which none may be empty or hold a `/`: `["cancel", "42", "01J…"]`.
    pub fn new(parts: &[&str]) -> Result<Self, InvalidScope> {
        let is_plain = |part: &&str| !part.is_empty() && !part.contains('/') && !part.contains(char::is_control);
        let joined = parts.join("/");
        if parts.is_empty() || !parts.iter().all(is_plain) || joined.len() > limits::SCOPE_BYTES_MAX {
            return Err(InvalidScope);
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

/// The right to do an operation. A worker keeps it until it completes, fails or releases it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    operation: Operation,
    /// Drawn for this claim: a worker that takes the operation over draws another.
    token: [u8; 16],
}

impl Claim {
    /// What is to be done.
    pub fn operation(&self) -> &Operation {
        &self.operation
    }

    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    fn new(operation: &Operation) -> Result<Self, getrandom::Error> {
        let mut token = [0; 16];
        getrandom::fill(&mut token)?;
        Ok(Claim { operation: operation.clone(), token })
    }
}

/// What `acquire` answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acquired {
    /// The caller does it. Another worker may have begun before and been interrupted before it committed its effect.
    Claimed(Claim),
    /// It was done, or failed for good: the answer that was stored.
    Done(Answer),
    /// Another worker does it, under a lease until then.
    InProgress(UnixMs),
    /// The key was used for another command.
    OtherContent,
}

/// The stored answer of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether it had its effect; if not, it failed for good.
    pub is_success: bool,
    /// What the service answered, 0..=[`limits::ANSWER_BYTES_MAX`] bytes.
    pub body: Vec<u8>,
}

/// The claim was taken over after its lease, or swept: the worker that gets this must roll back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the claim is lost: another worker does this operation")]
pub struct Lost;

/// Why an answer is not stored, in words; `None` if it fits.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
fn too_large(body: &[u8]) -> Option<String> {
    let (bytes, max) = (body.len(), limits::ANSWER_BYTES_MAX);
    (bytes > max).then(|| {
        format!("an answer of {bytes} bytes is not stored, at most {max}: store less, such as the id of the result")
    })
}
