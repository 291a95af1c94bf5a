//! Idempotency in a PostgreSQL database, over a [`sqlx::PgConnection`] of the caller's. See [`super`].
//!
//! The table is [`SCHEMA`]; the service makes it once, in its own migrations. Transactions are those of READ COMMITTED, the
//! default; after an error inside of one, PostgreSQL refuses everything but its rollback. An error of the database means that
//! nothing was done, unless it comes from the commit: then the same call again finds out. None of these functions is
//! cancel-safe: a caller that drops one half-way drops the connection with it.
//!
//! [`acquire_all`], [`complete_all`] and [`release_all`] take several operations of one transaction in one statement each,
//! for services that commit in groups.

use std::collections::{HashMap, HashSet};

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Error, Row};
use uuid::Uuid;

use super::{Acquired, Answer, Claim, Fingerprint, Lost, Operation, UnixMs, too_large};

/// The statements that make the table `idempotency_keys` and its index, for [`sqlx::raw_sql`].
pub const SCHEMA: &str = include_str!("postgres.sql");

/// Asks for an operation.
///
/// The claim is a lease of `lease_ms` (milliseconds) from `now_ms`: as long as the work may take in the worst case, because
/// the next worker that asks takes it over afterwards. A sweep removes a claim that is never completed after `keep_until`
/// if its lease has run out by then.
///
/// Outside a transaction the claim is committed at once, for work that must be seen to be under way before it is done, such
/// as a call to another service. Inside the transaction of the effect no other worker ever sees it: one that asks meanwhile
/// waits for the end of that transaction, and [`Acquired::InProgress`] comes only for claims that were made outside of one.
pub async fn acquire(
    sql: &mut PgConnection,
    operation: &Operation,
    now_ms: UnixMs,
    lease_ms: i64,
    keep_until: UnixMs,
) -> Result<Acquired, Error> {
    let mut states = acquire_all(sql, &[ClaimRequest { operation, keep_until }], now_ms, lease_ms).await?;
    // Outside a transaction, another worker had it and may have released it between two statements.
    let gone = Acquired::InProgress(now_ms);
    Ok(states.pop().flatten().map_or(gone, |state| state.seen_with(&operation.fingerprint)))
}

/// An operation to claim, and how long to keep the claim.
#[derive(Clone, Copy, Debug)]
pub struct ClaimRequest<'a> {
    /// What is to be done.
    pub operation: &'a Operation,
    /// When a claim that is never completed may be swept.
    pub keep_until: UnixMs,
}

/// The state of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyState {
    /// Of the command that the key is used for.
    pub fingerprint: Fingerprint,
    /// What a worker that asks with that command gets.
    pub acquired: Acquired,
}

impl KeyState {
    /// What a worker that asks with `fingerprint` gets.
    pub fn seen_with(self, fingerprint: &Fingerprint) -> Acquired {
        if self.fingerprint == *fingerprint { self.acquired } else { Acquired::OtherContent }
    }
}

/// Claims keys that are free, and takes over claims whose lease has run out. It locks every row that exists, even if
/// nothing of it changes, so that the transaction goes on with rows that no other one is about to change. $1 scopes, $2 keys,
/// $3 fingerprints, $4 tokens, $5 until when to keep, $6 the end of the lease, $7 now.
const CLAIM: &str = "INSERT INTO idempotency_keys AS k \
     (scope, key, fingerprint, state, token, lease_until, created_at, keep_until) \
     SELECT w.scope, w.key, w.fingerprint, 'claimed', w.token, $6, $7, w.keep_until \
     FROM UNNEST($1::text[], $2::text[], $3::uuid[], $4::uuid[], $5::bigint[]) \
     AS w(scope, key, fingerprint, token, keep_until) ON CONFLICT (scope, key) DO UPDATE \
     SET token = excluded.token, lease_until = excluded.lease_until, keep_until = excluded.keep_until \
     WHERE k.state = 'claimed' AND k.fingerprint = excluded.fingerprint AND k.lease_until <= $7 \
     RETURNING k.scope, k.key";
/// A statement of its own, because its view begins after the locks.
const SELECT_KEYS: &str = "SELECT k.scope, k.key, k.fingerprint, k.state, k.lease_until, k.answer \
     FROM UNNEST($1::text[], $2::text[]) AS w(scope, key) \
     JOIN idempotency_keys k ON k.scope = w.scope AND k.key = w.key";

/// Asks for several operations, none of them twice, and answers in their order. It locks them in one order, whatever order
/// they come in. `None`: another worker had it and released it, which cannot be inside a transaction.
pub async fn acquire_all(
    sql: &mut PgConnection,
    requests: &[ClaimRequest<'_>],
    now_ms: UnixMs,
    lease_ms: i64,
) -> Result<Vec<Option<KeyState>>, Error> {
    let mut claims = Vec::with_capacity(requests.len());
    for request in requests {
        let claim = Claim::new(request.operation);
        claims.push(claim.map_err(|error| Error::Encode(format!("no random numbers: {error}").into()))?);
    }
    let mut sorted: Vec<(&Claim, UnixMs)> =
        claims.iter().zip(requests.iter().map(|request| request.keep_until)).collect();
    sorted.sort_unstable_by_key(|(claim, _)| names(&claim.operation));
    let column = |of: fn(&Claim) -> Uuid| sorted.iter().map(|(claim, _)| of(claim)).collect::<Vec<Uuid>>();
    let (scopes, keys): (Vec<&str>, Vec<&str>) = sorted.iter().map(|(claim, _)| names(&claim.operation)).unzip();
    let claim = sqlx::query(CLAIM)
        .bind(scopes)
        .bind(keys)
        .bind(column(|claim| fingerprint(&claim.operation.fingerprint)))
        .bind(column(token))
        .bind(sorted.iter().map(|(_, keep_until)| *keep_until).collect::<Vec<_>>())
        .bind(now_ms.saturating_add(lease_ms))
        .bind(now_ms);
    let claimed = claim.fetch_all(&mut *sql).await?;
    let claimed = claimed.iter().map(scope_and_key).collect::<Result<HashSet<_>, _>>()?;
    let is_claimed = |operation: &Operation| claimed.contains(&names(operation));
    let taken: Vec<_> =
        requests.iter().map(|request| request.operation).filter(|operation| !is_claimed(operation)).collect();
    let rows = if taken.is_empty() { Vec::new() } else { select(sql, &taken).await? };
    let mut others = HashMap::new();
    for row in &rows {
        others.insert(scope_and_key(row)?, key_state(row)?);
    }
    let mut answers = Vec::with_capacity(requests.len());
    for (claim, request) in claims.iter().zip(requests) {
        answers.push(if is_claimed(request.operation) {
            let fingerprint = request.operation.fingerprint;
            Some(KeyState { fingerprint, acquired: Acquired::Claimed(claim.clone()) })
        } else {
            others.remove(&names(request.operation))
        });
    }
    Ok(answers)
}

async fn select(sql: &mut PgConnection, operations: &[&Operation]) -> Result<Vec<PgRow>, Error> {
    let (scopes, keys): (Vec<&str>, Vec<&str>) = operations.iter().map(|operation| names(operation)).unzip();
    sqlx::query(SELECT_KEYS).bind(scopes).bind(keys).fetch_all(sql).await
}

fn scope_and_key(row: &PgRow) -> Result<(&str, &str), Error> {
    Ok((row.try_get(0)?, row.try_get(1)?))
}

fn key_state(row: &PgRow) -> Result<KeyState, Error> {
    let answer = |is_success| Ok::<_, Error>(Acquired::Done(Answer { is_success, body: row.try_get(5)? }));
    let acquired = match row.try_get(3)? {
        "done" => answer(true)?,
        "failed" => answer(false)?,
        "claimed" => Acquired::InProgress(row.try_get(4)?),
        other => return Err(Error::Decode(format!("idempotency_keys holds the unknown state {other}").into())),
    };
    let fingerprint = Fingerprint::from_bytes(row.try_get::<Uuid, _>(2)?.into_bytes());
    Ok(KeyState { fingerprint, acquired })
}

const SELECT_IS_MINE: &str = "SELECT EXISTS (SELECT 1 FROM idempotency_keys \
     WHERE scope = $1 AND key = $2 AND state = 'claimed' AND token = $3 AND lease_until > $4)";

/// Whether the claim still is the caller's and its lease runs: worth asking before anything that cannot be rolled back. It
/// proves nothing about the next moment. Needs no transaction.
pub async fn validate(sql: &mut PgConnection, claim: &Claim, now_ms: UnixMs) -> Result<bool, Error> {
    let (scope, key) = names(&claim.operation);
    sqlx::query_scalar(SELECT_IS_MINE).bind(scope).bind(key).bind(token(claim)).bind(now_ms).fetch_one(sql).await
}

/// Stores the answer of an operation that had its effect, at least until `keep_until`.
///
/// The caller is in the transaction of the effect and rolls it back on [`Lost`]: another worker has taken the operation
/// over and does it, or did. A claim whose lease has run out is completed all the same if no other worker took it over.
pub async fn complete(
    sql: &mut PgConnection,
    claim: &Claim,
    body: &[u8],
    keep_until: UnixMs,
) -> Result<Result<(), Lost>, Error> {
    settle_all(sql, "done", &[Completion { claim, fingerprint: &claim.operation.fingerprint, body, keep_until }]).await
}

/// Stores the answer of an operation that will never have an effect, however often it is tried, at least until
/// `keep_until`. Release instead what may go better another time. Needs no transaction.
pub async fn fail(
    sql: &mut PgConnection,
    claim: &Claim,
    body: &[u8],
    keep_until: UnixMs,
) -> Result<Result<(), Lost>, Error> {
    settle_all(sql, "failed", &[Completion { claim, fingerprint: &claim.operation.fingerprint, body, keep_until }])
        .await
}

/// An answer to store, and how long to keep it.
#[derive(Clone, Copy, Debug)]
pub struct Completion<'a> {
    /// The claim that it completes.
    pub claim: &'a Claim,
    /// Of the command that is answered: within a transaction one may be refused, and another done under the same claim.
    pub fingerprint: &'a Fingerprint,
    /// The answer, 0..=[`limits::ANSWER_BYTES_MAX`](super::limits::ANSWER_BYTES_MAX) bytes.
    pub body: &'a [u8],
    /// When the answer may be swept.
    pub keep_until: UnixMs,
}

/// $1 state, $2 scopes, $3 keys, $4 tokens, $5 fingerprints, $6 answers, $7 until when to keep.
const SETTLE: &str = "UPDATE idempotency_keys k \
     SET state = $1, fingerprint = w.fingerprint, answer = w.answer, keep_until = w.keep_until \
     FROM UNNEST($2::text[], $3::text[], $4::uuid[], $5::uuid[], $6::bytea[], $7::bigint[]) \
     AS w(scope, key, token, fingerprint, answer, keep_until) \
     WHERE k.scope = w.scope AND k.key = w.key AND k.state = 'claimed' AND k.token = w.token";

/// Completes claims of one transaction; [`Lost`] if any of them is.
pub async fn complete_all(sql: &mut PgConnection, answers: &[Completion<'_>]) -> Result<Result<(), Lost>, Error> {
    settle_all(sql, "done", answers).await
}

async fn settle_all(
    sql: &mut PgConnection,
    state: &'static str,
    answers: &[Completion<'_>],
) -> Result<Result<(), Lost>, Error> {
    if let Some(why) = answers.iter().find_map(|answer| too_large(answer.body)) {
        return Err(Error::Encode(why.into()));
    }
    let (scopes, keys): (Vec<&str>, Vec<&str>) = answers.iter().map(|answer| names(&answer.claim.operation)).unzip();
    let settle = sqlx::query(SETTLE)
        .bind(state)
        .bind(scopes)
        .bind(keys)
        .bind(answers.iter().map(|answer| token(answer.claim)).collect::<Vec<_>>())
        .bind(answers.iter().map(|answer| fingerprint(answer.fingerprint)).collect::<Vec<_>>())
        .bind(answers.iter().map(|answer| answer.body).collect::<Vec<_>>())
        .bind(answers.iter().map(|answer| answer.keep_until).collect::<Vec<_>>());
    let settled = settle.execute(sql).await?.rows_affected();
    Ok(if usize::try_from(settled) == Ok(answers.len()) { Ok(()) } else { Err(Lost) })
}

const RELEASE: &str = "DELETE FROM idempotency_keys k \
     USING UNNEST($1::text[], $2::text[], $3::uuid[]) AS w(scope, key, token) \
     WHERE k.scope = w.scope AND k.key = w.key AND k.state = 'claimed' AND k.token = w.token";

/// Gives the key back, as if the operation had never been asked for: for work that had no effect and may go better another
/// time. Does nothing if the claim is lost. Needs no transaction.
pub async fn release(sql: &mut PgConnection, claim: &Claim) -> Result<(), Error> {
    release_all(sql, &[claim]).await
}

/// The same for several claims of one transaction.
pub async fn release_all(sql: &mut PgConnection, claims: &[&Claim]) -> Result<(), Error> {
    let (scopes, keys): (Vec<&str>, Vec<&str>) = claims.iter().map(|claim| names(&claim.operation)).unzip();
    let tokens: Vec<Uuid> = claims.iter().map(|claim| token(claim)).collect();
    sqlx::query(RELEASE).bind(scopes).bind(keys).bind(tokens).execute(sql).await?;
    Ok(())
}

/// Skips rows that another transaction has locked: it sweeps or uses them.
const SWEEP: &str = "WITH expired AS (SELECT scope, key FROM idempotency_keys \
     WHERE keep_until <= $1 AND (state <> 'claimed' OR lease_until <= $1) \
     ORDER BY keep_until LIMIT $2 FOR UPDATE SKIP LOCKED) \
     DELETE FROM idempotency_keys k USING expired o WHERE k.scope = o.scope AND k.key = o.key";

/// Removes up to `max` expired keys and returns how many: answers after their `keep_until`, and claims that were never
/// completed after theirs and their lease. Call it every minute or so, and again while it returns `max`. `now_ms` should be
/// the database's clock: one that is ahead removes answers that clients still ask for. Needs no transaction.
pub async fn sweep(sql: &mut PgConnection, now_ms: UnixMs, max: u32) -> Result<u64, Error> {
    Ok(sqlx::query(SWEEP).bind(now_ms).bind(i64::from(max)).execute(sql).await?.rows_affected())
}

fn names(operation: &Operation) -> (&str, &str) {
    (operation.scope.as_str(), operation.key.as_str())
}

fn token(claim: &Claim) -> Uuid {
    Uuid::from_bytes(claim.token)
}

fn fingerprint(fingerprint: &Fingerprint) -> Uuid {
    Uuid::from_bytes(*fingerprint.as_bytes())
}

const SELECT_FULL: &str = "SELECT k.scope FROM idempotency_keys k WHERE k.scope = ANY ($1::text[]) AND k.state = 'done' \
     GROUP BY k.scope HAVING count(*) >= $2";

/// Those of the scopes that have stored at least `count` answers of operations that had their effect.
pub async fn full_scopes(sql: &mut PgConnection, scopes: Vec<&str>, count: i64) -> Result<HashSet<String>, Error> {
    let full: Vec<String> = sqlx::query_scalar(SELECT_FULL).bind(scopes).bind(count).fetch_all(sql).await?;
    Ok(full.into_iter().collect())
}
