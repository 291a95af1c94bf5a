//! Idempotency in a SQLite database, over a [`rusqlite::Connection`] of the caller's. See [`super`].
//!
//! The table is [`SCHEMA`]; the service makes it once, in its own migrations. A transaction around any of these functions
//! begins with `BEGIN IMMEDIATE` ([`rusqlite::TransactionBehavior::Immediate`]): SQLite can refuse one half-way that reads
//! first and writes later. An error of the database means that nothing was done, unless it comes from the commit: then the
//! same call again finds out.

use rusqlite::types::Type;
use rusqlite::{Connection, Error, OptionalExtension, Row, ffi, params};

use super::{Acquired, Answer, Claim, Lost, Operation, Scope, UnixMs, too_large};

/// The statements that make the table `idempotency_keys` and its index.
pub const SCHEMA: &str = include_str!("sqlite.sql");

/// Asks for an operation.
///
/// The claim is a lease of `lease_ms` (milliseconds) from `now_ms`: as long as the work may take in the worst case, because
/// the next worker that asks takes it over afterwards. A sweep removes a claim that is never completed after `keep_until`
/// if its lease has run out by then.
///
/// Outside a transaction the claim is committed at once, for work that must be seen to be under way before it is done, such
/// as a call to another service. Inside the transaction of the effect no other worker ever sees it: there
/// [`Acquired::InProgress`] comes only for claims that were made outside of one.
pub fn acquire(
    connection: &Connection,
    operation: &Operation,
    now_ms: UnixMs,
    lease_ms: i64,
    keep_until: UnixMs,
) -> Result<Acquired, Error> {
    if let Some(obstacle) = obstacle(connection, operation, now_ms)? {
        return Ok(obstacle);
    }
    let claim = Claim::new(operation).map_err(|error| Error::ToSqlConversionFailure(error.to_string().into()))?;
    let claimed = connection.prepare_cached(CLAIM)?.execute(params![
        operation.scope.as_str(),
        operation.key.as_str(),
        operation.fingerprint.as_bytes(),
        claim.token,
        now_ms.saturating_add(lease_ms),
        now_ms,
        keep_until,
    ])?;
    if claimed == 1 {
        return Ok(Acquired::Claimed(claim));
    }
    // Outside a transaction, another worker got it between the two statements, and may have released it by now.
    Ok(obstacle(connection, operation, now_ms)?.unwrap_or(Acquired::InProgress(now_ms)))
}

const SELECT_KEY: &str =
    "SELECT fingerprint, state, lease_until, answer FROM idempotency_keys WHERE scope = ?1 AND key = ?2";
/// Claims a key that is free, or takes over a claim whose lease has run out; the conditions are those of [`obstacle`].
const CLAIM: &str = "INSERT INTO idempotency_keys \
     (scope, key, fingerprint, state, token, lease_until, created_at, keep_until) \
     VALUES (?1, ?2, ?3, 'claimed', ?4, ?5, ?6, ?7) ON CONFLICT (scope, key) DO UPDATE \
     SET token = excluded.token, lease_until = excluded.lease_until, keep_until = excluded.keep_until \
     WHERE state = 'claimed' AND fingerprint = excluded.fingerprint AND lease_until <= ?6";

/// What keeps the caller from the operation; `None` if it may be claimed.
fn obstacle(connection: &Connection, operation: &Operation, now_ms: UnixMs) -> Result<Option<Acquired>, Error> {
    let mut select = connection.prepare_cached(SELECT_KEY)?;
    let read = |row: &Row<'_>| {
        let fingerprint: [u8; 16] = row.get(0)?;
        if fingerprint != *operation.fingerprint.as_bytes() {
            return Ok(Some(Acquired::OtherContent));
        }
        let answer = |is_success| Ok(Some(Acquired::Done(Answer { is_success, body: row.get(3)? })));
        match row.get_ref(1)?.as_str()? {
            "done" => answer(true),
            "failed" => answer(false),
            "claimed" => {
                let lease_until: UnixMs = row.get(2)?;
                Ok((lease_until > now_ms).then_some(Acquired::InProgress(lease_until)))
            }
            other => {
                let unknown = format!("idempotency_keys holds the unknown state {other}");
                Err(Error::FromSqlConversionFailure(1, Type::Text, unknown.into()))
            }
        }
    };
    Ok(select.query_row(params![operation.scope.as_str(), operation.key.as_str()], read).optional()?.flatten())
}

const SELECT_IS_MINE: &str = "SELECT 1 FROM idempotency_keys \
     WHERE scope = ?1 AND key = ?2 AND state = 'claimed' AND token = ?3 AND lease_until > ?4";

/// Whether the claim still is the caller's and its lease runs: worth asking before anything that cannot be rolled back. It
/// proves nothing about the next moment. Needs no transaction.
pub fn validate(connection: &Connection, claim: &Claim, now_ms: UnixMs) -> Result<bool, Error> {
    let (scope, key) = names(claim);
    connection.prepare_cached(SELECT_IS_MINE)?.exists(params![scope, key, claim.token, now_ms])
}

/// Stores the answer of an operation that had its effect, at least until `keep_until`.
///
/// The caller is in the transaction of the effect and rolls it back on [`Lost`]: another worker has taken the operation
/// over and does it, or did. A claim whose lease has run out is completed all the same if no other worker took it over.
pub fn complete(
    connection: &Connection,
    claim: &Claim,
    body: &[u8],
    keep_until: UnixMs,
) -> Result<Result<(), Lost>, Error> {
    settle(connection, claim, "done", body, keep_until)
}

/// Stores the answer of an operation that will never have an effect, however often it is tried, at least until
/// `keep_until`. Release instead what may go better another time. Needs no transaction.
pub fn fail(
    connection: &Connection,
    claim: &Claim,
    body: &[u8],
    keep_until: UnixMs,
) -> Result<Result<(), Lost>, Error> {
    settle(connection, claim, "failed", body, keep_until)
}

const SETTLE: &str = "UPDATE idempotency_keys SET state = ?4, answer = ?5, keep_until = ?6 \
     WHERE scope = ?1 AND key = ?2 AND state = 'claimed' AND token = ?3";

fn settle(
    connection: &Connection,
    claim: &Claim,
    state: &str,
    body: &[u8],
    keep_until: UnixMs,
) -> Result<Result<(), Lost>, Error> {
    if let Some(why) = too_large(body) {
        return Err(Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_TOOBIG), Some(why)));
    }
    let (scope, key) = names(claim);
    let settled =
        connection.prepare_cached(SETTLE)?.execute(params![scope, key, claim.token, state, body, keep_until])?;
    Ok(if settled == 1 { Ok(()) } else { Err(Lost) })
}

const RELEASE: &str = "DELETE FROM idempotency_keys WHERE scope = ?1 AND key = ?2 AND state = 'claimed' AND token = ?3";

/// Gives the key back, as if the operation had never been asked for: for work that had no effect and may go better another
/// time. Does nothing if the claim is lost. Needs no transaction.
pub fn release(connection: &Connection, claim: &Claim) -> Result<(), Error> {
    let (scope, key) = names(claim);
    connection.prepare_cached(RELEASE)?.execute(params![scope, key, claim.token])?;
    Ok(())
}

const SWEEP: &str = "DELETE FROM idempotency_keys WHERE (scope, key) IN (SELECT scope, key FROM idempotency_keys \
     WHERE keep_until <= ?1 AND (state <> 'claimed' OR lease_until <= ?1) ORDER BY keep_until LIMIT ?2)";

/// Removes up to `max` expired keys and returns how many: answers after their `keep_until`, and claims that were never
/// completed after theirs and their lease. Call it every minute or so, and again while it returns `max`. A clock that is
/// ahead removes answers that clients still ask for. Needs no transaction.
pub fn sweep(connection: &Connection, now_ms: UnixMs, max: u32) -> Result<u64, Error> {
    let swept = connection.prepare_cached(SWEEP)?.execute(params![now_ms, max])?;
    Ok(u64::try_from(swept).unwrap_or(u64::MAX))
}

fn names(claim: &Claim) -> (&str, &str) {
    (claim.operation.scope.as_str(), claim.operation.key.as_str())
}

const COUNT_ANSWERS: &str = "SELECT count(*) FROM idempotency_keys WHERE scope = ?1 AND state = 'done'";

/// How many answers of operations that had their effect are stored under keys of a scope.
pub fn count_answers(connection: &Connection, scope: &Scope) -> Result<i64, Error> {
    connection.prepare_cached(COUNT_ANSWERS)?.query_row([scope.as_str()], |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However many keys are stored, a sweep reads the expired ones only.
    #[test]
    fn a_sweep_reads_no_more_than_it_may_remove() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(SCHEMA).unwrap();
        let mut explain = connection.prepare(&format!("EXPLAIN QUERY PLAN {SWEEP}")).unwrap();
        let rows = explain.query_map([1, 1], |row| row.get::<_, String>(3)).unwrap();
        let plan: Vec<String> = rows.collect::<Result<_, _>>().unwrap();
        let of_table: Vec<&String> = plan.iter().filter(|line| line.contains("idempotency_keys")).collect();
        assert!(of_table.iter().all(|line| line.starts_with("SEARCH")), "{plan:?}");
        assert!(plan.iter().any(|line| line.contains("idempotency_keys_keep (keep_until<?)")), "{plan:?}");
        assert!(!plan.iter().any(|line| line.contains("ORDER BY")), "{plan:?}");
    }
}
