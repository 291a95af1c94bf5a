//! The life of orders after they were made: changes that are asked for or reported, and orders that expire.
//!
//! Whoever changes orders locks, in this order: the rows of the orders by (order_no); idempotency keys by (scope, key);
//! reports by (provider, event_id); segments by (sku_no, shard). Each of these is one statement for the whole batch, so two
//! batches never wait for each other crosswise, whatever they hold. Orders and buyers are written to last, under the lock
//! of the segments, and nothing is waited for from then on. That closes the circle with those who make orders: they hold
//! segments while they look whether an order exists, which waits for an order that is being written, but not for one that
//! is only locked. So nobody who holds a segment waits for somebody who still needs one. Expiring orders skips what is
//! locked and takes the same way from the segments on.
//!
//! Every answer, a "before" and a "no" too, comes from a transaction that has locked its order or its report, and whose
//! commit therefore waits for the standbys behind the one that it speaks of.

use std::collections::BTreeSet;

use sqlx::postgres::PgRow;

use crate::ledger::core::change_set::ChangeSet;
use super::session::Session;
use super::{reports, steps};
use crate::clock::UnixMs;
use crate::ledger::idempotency::Operation;
use crate::ledger::idempotency::postgres::{ClaimRequest, acquire_all, complete_all, full, release_all};
use crate::ledger::core::quarantine::BatchTry;
use crate::ledger::{Change, Changed, Error, ExpiredOrder};
use crate::limits;
use crate::order::{Actor, History, OrderNo, Report, SaleNo, Step, UserId};

/// Carries out changes in one transaction, in their order.
pub(super) async fn change(session: &mut Session, changes: &[Change], now_ms: UnixMs) -> Result<Vec<Changed>, Error> {
    if changes.is_empty() {
        return Ok(Vec::new());
    }
    for _ in 0..limits::POSTGRES_CHANGE_TRIES_MAX {
        session.begin().await?;
        match apply(session, changes, now_ms).await? {
            Some(answers) => {
                session.commit().await?;
                return Ok(answers);
            }
            None => session.roll_back().await?,
        }
    }
    Err(Error::Busy)
}

/// `None`: one of the reports was kept by somebody else while we were at it, for no order or for another one. Then all of
/// it is to be done again, and this time the report is a repeat, or its id is another's.
async fn apply(session: &mut Session, changes: &[Change], now_ms: UnixMs) -> Result<Option<Vec<Changed>>, Error> {
    let sql = &mut session.sql;
    let numbers: BTreeSet<OrderNo> = changes.iter().filter_map(Change::order_no).collect();
    let numbers: Vec<OrderNo> = numbers.into_iter().collect();
    let orders = if numbers.is_empty() { Vec::new() } else { steps::lock(sql, &numbers).await? };
    let mut change_set = ChangeSet::of(orders, now_ms);

    let wishes = wishes(changes, &change_set);
    if !wishes.is_empty() {
        // Nobody ever sees these claims: they are completed or given back in this transaction.
        let standings = acquire_all(sql, &wishes, now_ms, 0).await?;
        for (wish, standing) in wishes.iter().zip(standings) {
            let gone = || Error::Corrupt("an idempotency key that is taken cannot be read".to_owned());
            change_set.key(wish.operation, standing.ok_or_else(gone)?);
        }
        let repeated = change_set.repeated(changes);
        if !repeated.is_empty() {
            change_set.full = full(sql, repeated, limits::KEYS_PER_STEP_MAX).await?;
        }
    }
    let found = changes.iter().filter(|change| change_set.is_found(change));
    let heard: Vec<&Report> = found.filter_map(report).collect();
    if !heard.is_empty() {
        reports::read(sql, &heard, &mut change_set).await?;
    }

    let mut answers = Vec::with_capacity(changes.len());
    for change in changes {
        answers.push(change_set.apply(change)?);
    }

    let settled = change_set.settled();
    if !settled.is_empty() && complete_all(sql, &settled).await?.is_err() {
        return Err(Error::Corrupt("an idempotency key was taken over in a transaction".to_owned()));
    }
    let unused = change_set.unused();
    if !unused.is_empty() {
        release_all(sql, &unused).await?;
    }
    if !change_set.reports.is_empty() {
        let new = change_set.reports.iter().map(|(event, report)| (event, *report, change_set.note(event)));
        if !reports::insert(sql, new, now_ms).await? {
            return Ok(None);
        }
    }
    steps::move_units(sql, &change_set).await?;
    let epochs = steps::write(sql, &change_set, now_ms).await?;
    for answer in &mut answers {
        if let Changed::Done { order, returned: Some(returned) } = answer {
            *returned = epoch(&epochs, &change_set, &order.order_no)?;
        }
    }
    Ok(Some(answers))
}

/// Expires up to `max` orders whose time to pay is over, without those to be left out.
pub(super) async fn expire(
    session: &mut Session,
    now_ms: UnixMs,
    max: u32,
    left_out: &[OrderNo],
) -> Result<BatchTry, Error> {
    session.begin().await?;
    let overdue = steps::lock_overdue(&mut session.sql, now_ms, max, left_out).await?;
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
    let mut expired = Vec::with_capacity(numbers.len());
    for order_no in numbers {
        let not_unpaid = |_| Error::Corrupt("an order that is not unpaid was to expire".to_owned());
        let effect = change_set.take(order_no, Step::Expire, false, &Actor::Deadline)?.map_err(not_unpaid)?;
        expired.push(ExpiredOrder { order: effect.order, epoch: 0 });
    }
    steps::move_units(sql, &change_set).await?;
    let epochs = steps::write(sql, &change_set, now_ms).await?;
    for expired in &mut expired {
        expired.epoch = epoch(&epochs, &change_set, &expired.order.order_no)?;
    }
    Ok(expired)
}

/// What happened to a user's order.
pub(super) async fn history(session: &mut Session, user: UserId, order_no: OrderNo) -> Result<History, Error> {
    let sql = &mut session.sql;
    let steps = steps::of_order(sql, user, order_no).await?;
    Ok(History { steps, reports: reports::of_order(sql, user, order_no).await? })
}

fn report(change: &Change) -> Option<&Report> {
    match change {
        Change::Report(report) => Some(report),
        Change::Step(_) => None,
    }
}

/// The operations of the changes whose orders are there, each key once.
fn wishes<'c>(changes: &'c [Change], change_set: &ChangeSet<'_>) -> Vec<ClaimRequest<'c>> {
    let mut keys: BTreeSet<(&str, &str)> = BTreeSet::new();
    let mut wishes = Vec::new();
    for change in changes.iter().filter(|change| change_set.is_found(change)) {
        if let Change::Step(asked) = change {
            let operation: &Operation = &asked.operation;
            if keys.insert((operation.scope.as_str(), operation.key.as_str())) {
                wishes.push(ClaimRequest { operation, keep_until: asked.keep_until });
            }
        }
    }
    wishes
}

/// The newest epoch of the order's shard.
fn epoch(epochs: &[((SaleNo, u16), i64)], change_set: &ChangeSet<'_>, order_no: &OrderNo) -> Result<i64, Error> {
    let unread = || Error::Corrupt("the epoch of a shard was not read".to_owned());
    let locked = change_set.orders.get(order_no).ok_or_else(unread)?;
    let at = (locked.order.sale, locked.shard);
    epochs.iter().find(|(shard, _)| *shard == at).map(|(_, epoch)| *epoch).ok_or_else(unread)
}
