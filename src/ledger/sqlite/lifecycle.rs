//! Changes of orders after they were placed, and orders that expire.

use rusqlite::Connection;

use super::expiry::DueOrder;
use super::numbers::Numbers;
use super::{expiry, reports, steps};
use crate::clock::UnixMs;
use crate::ledger::core::change_set::ChangeSet;
use crate::ledger::idempotency::sqlite as keys;
use crate::ledger::{Change, ChangeOutcome, Error, ExpiredOrder};
use crate::limits;

/// A claim is completed or released in its transaction, so it needs no lease: no other client ever sees it.
const LEASE_MS: i64 = 0;

/// Makes every change, one after the other. Runs inside one transaction: an error leaves nothing behind.
pub(super) fn change(
    connection: &Connection,
    numbers: &Numbers,
    changes: &[Change],
    now_ms: UnixMs,
) -> Result<Vec<ChangeOutcome>, Error> {
    let mut outcomes = Vec::with_capacity(changes.len());
    for change in changes.chunks(1) {
        outcomes.extend(change_one(connection, numbers, change, now_ms)?);
    }
    Ok(outcomes)
}

/// Makes one change.
fn change_one(
    connection: &Connection,
    numbers: &Numbers,
    change: &[Change],
    now_ms: UnixMs,
) -> Result<Vec<ChangeOutcome>, Error> {
    let mut orders = Vec::with_capacity(1);
    for change in change {
        let (user, order_no) = match change {
            Change::Step(request) => (request.user, Some(request.order_no)),
            Change::Report(report) => (None, report.order_no()),
        };
        if let Some(order_no) = order_no
            && let Some(order) = numbers.find(connection, user, order_no)?
        {
            orders.push(steps::locked(connection, order)?);
        }
    }
    let mut change_set = ChangeSet::of(orders, now_ms);
    for request in change_set.keyed_steps(change) {
        let operation = &request.operation;
        let acquired = keys::acquire(connection, operation, now_ms, LEASE_MS, request.keep_until)?;
        change_set.add_key(operation, operation.fingerprint, acquired);
    }
    for scope in change_set.repeated_scopes(change) {
        if keys::kept(connection, scope)? >= limits::KEYS_PER_STEP_MAX {
            change_set.add_full_scope(scope);
        }
    }
    for report in change_set.readable_reports(change) {
        reports::load(connection, report, &mut change_set)?;
    }

    change_set.apply(change)?;

    for answer in change_set.answers() {
        let completed = keys::complete(connection, &answer.claim, &answer.body, answer.keep_until)?;
        completed.map_err(|lost| impossible!("a key was lost within its transaction: {lost}"))?;
    }
    for claim in change_set.unused_claims() {
        keys::release(connection, claim)?;
    }
    let epochs = steps::write(connection, &change_set)?;
    reports::insert(connection, &change_set, now_ms)?;
    change_set.outcomes(&epochs)
}

/// Expires those of the orders that are still unpaid. Runs inside one transaction: an error leaves nothing behind.
pub(super) fn expire(connection: &Connection, due: &[DueOrder], now_ms: UnixMs) -> Result<Vec<ExpiredOrder>, Error> {
    let mut orders = Vec::with_capacity(due.len());
    for order in expiry::unpaid(connection, due)? {
        orders.push(steps::locked(connection, order)?);
    }
    let numbers: Vec<_> = orders.iter().map(|locked| locked.order.order_no).collect();
    let mut change_set = ChangeSet::of(orders, now_ms);
    for order_no in &numbers {
        change_set.expire(order_no)?;
    }
    let epochs = steps::write(connection, &change_set)?;
    change_set.expired(&epochs)
}
