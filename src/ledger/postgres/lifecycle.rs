//! Changes of orders after they were placed, and orders that expire.
//!
//! A transaction that changes orders locks, in this order: the rows of the orders by (order_no); idempotency keys by (scope,
//! key); reports by (provider, event_id); segments by (sku_no, shard). Each of these is one statement for the whole batch, so
//! two batches never wait for each other crosswise, whatever they have locked. Orders and buyers are written last, under the
//! lock of the segments, and from then on the transaction waits for nothing. That closes the circle with appends: an append
//! has segments locked while it looks whether an order exists, which waits for an order that is being written, but not for
//! an order that is only locked. So no transaction with a segment waits for one that still needs a segment. Expiry skips
//! orders that are locked and goes the same way from the segments on.
//!
//! Every answer, a repeat and a refusal too, comes from a transaction that has locked its order or its report, and whose
//! commit therefore waits for the standbys behind the commit that it speaks of.

use std::collections::BTreeSet;

use sqlx::postgres::PgRow;

use super::session::Session;
use super::{reports, steps};
use crate::clock::UnixMs;
use crate::ledger::core::change_set::{ChangeSet, StoredAnswer};
use crate::ledger::core::quarantine::{Batch, BatchTry};
use crate::ledger::idempotency::Scope;
use crate::ledger::idempotency::postgres::{ClaimRequest, Completion, acquire_all, complete_all, full, release_all};
use crate::ledger::{Change, ChangeOutcome, Error, ExpiredOrder, StepRequest};
use crate::limits;
use crate::order::{History, OrderNo, UserId};

/// A claim is completed or released in its transaction, so it needs no lease: no other client ever sees it.
const LEASE_MS: i64 = 0;

/// Makes changes in one transaction, in their order.
pub(super) async fn change(
    session: &mut Session,
    changes: &[Change],
    now_ms: UnixMs,
) -> Result<Vec<ChangeOutcome>, Error> {
    if changes.is_empty() {
        return Ok(Vec::new());
    }
    for _ in 0..limits::POSTGRES_CHANGE_TRIES_MAX {
        session.begin().await?;
        match apply(session, changes, now_ms).await? {
            Some(outcomes) => {
                session.commit().await?;
                return Ok(outcomes);
            }
            None => session.roll_back().await?,
        }
    }
    Err(Error::Busy)
}

/// `None`: another transaction stored one of the reports meanwhile, for no order or for another one. The batch is to be
/// applied again: then the report is a repeat, or its id is another's.
async fn apply(session: &mut Session, changes: &[Change], now_ms: UnixMs) -> Result<Option<Vec<ChangeOutcome>>, Error> {
    let sql = &mut session.sql;
    let numbers: BTreeSet<OrderNo> = changes.iter().filter_map(Change::order_no).collect();
    let numbers: Vec<OrderNo> = numbers.into_iter().collect();
    let orders = if numbers.is_empty() { Vec::new() } else { steps::lock(sql, &numbers).await? };
    let mut change_set = ChangeSet::of(orders, now_ms);

    let keyed = change_set.keyed_steps(changes);
    if !keyed.is_empty() {
        let requests: Vec<ClaimRequest<'_>> = keyed.iter().copied().map(claim_request).collect();
        let keys = acquire_all(sql, &requests, now_ms, LEASE_MS).await?;
        for (step, key) in keyed.into_iter().zip(keys) {
            let unread = || impossible!("the key of a step of order {} is claimed and cannot be read", step.order_no);
            let key = key.ok_or_else(unread)?;
            change_set.add_key(&step.operation, key.fingerprint, key.acquired);
        }
        let repeated = change_set.repeated_scopes(changes);
        if !repeated.is_empty() {
            let scopes = repeated.iter().map(|scope| scope.as_str()).collect();
            let full = full(sql, scopes, limits::KEYS_PER_STEP_MAX).await?;
            let is_full = |scope: &&Scope| full.contains(scope.as_str());
            repeated.into_iter().filter(is_full).for_each(|scope| change_set.add_full_scope(scope));
        }
    }
    let readable = change_set.readable_reports(changes);
    if !readable.is_empty() {
        reports::read(sql, &readable, &mut change_set).await?;
    }

    change_set.apply(changes)?;

    let answers: Vec<Completion<'_>> = change_set.answers().iter().map(completion).collect();
    if !answers.is_empty() {
        let completed = complete_all(sql, &answers).await?;
        completed.map_err(|lost| impossible!("a key was lost within its transaction: {lost}"))?;
    }
    let unused = change_set.unused_claims();
    if !unused.is_empty() {
        release_all(sql, &unused).await?;
    }
    if !change_set.new_reports.is_empty() && !reports::insert(sql, &change_set, now_ms).await? {
        return Ok(None);
    }
    steps::move_units(sql, &change_set).await?;
    let epochs = steps::write(sql, &change_set, now_ms).await?;
    change_set.outcomes(&epochs).map(Some)
}

fn claim_request(step: &StepRequest) -> ClaimRequest<'_> {
    ClaimRequest { operation: &step.operation, keep_until: step.keep_until }
}

fn completion<'s>(answer: &'s StoredAnswer<'_>) -> Completion<'s> {
    let StoredAnswer { claim, fingerprint, body, keep_until } = answer;
    Completion { claim, fingerprint, body, keep_until: *keep_until }
}

/// Expires a batch of orders whose time to pay is over.
pub(super) async fn expire(session: &mut Session, now_ms: UnixMs, batch: &Batch) -> Result<BatchTry, Error> {
    session.begin().await?;
    let overdue = steps::lock_overdue(&mut session.sql, now_ms, batch).await?;
    if overdue.is_empty() {
        session.roll_back().await?;
        return Ok(BatchTry::Done { expired: Vec::new(), found: 0 });
    }
    let found = overdue.iter().map(steps::order_no).collect::<Result<Vec<OrderNo>, _>>()?;
    match expire_all(session, &overdue, &found, now_ms).await {
        Ok(expired) => {
            session.commit().await?;
            Ok(BatchTry::Done { expired, found: found.len() })
        }
        Err(Error::Corrupt(why)) => {
            session.roll_back().await?;
            Ok(BatchTry::Broken { found, why })
        }
        Err(error) => Err(error),
    }
}

async fn expire_all(
    session: &mut Session,
    overdue: &[PgRow],
    numbers: &[OrderNo],
    now_ms: UnixMs,
) -> Result<Vec<ExpiredOrder>, Error> {
    let sql = &mut session.sql;
    let overdue = overdue.iter().map(steps::locked).collect::<Result<Vec<_>, _>>()?;
    let mut change_set = ChangeSet::of(overdue, now_ms);
    for order_no in numbers {
        change_set.expire(order_no)?;
    }
    steps::move_units(sql, &change_set).await?;
    let epochs = steps::write(sql, &change_set, now_ms).await?;
    change_set.expired(&epochs)
}

/// What happened to a user's order.
pub(super) async fn history(session: &mut Session, user: UserId, order_no: OrderNo) -> Result<History, Error> {
    let sql = &mut session.sql;
    let steps = steps::of_order(sql, user, order_no).await?;
    Ok(History { steps, reports: reports::of_order(sql, user, order_no).await? })
}
