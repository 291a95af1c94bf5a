//! Changes of orders after they were made: the steps that are asked for under a key. What payment providers report is in
//! `reports.rs`, what nobody asks for in `expiry.rs`.

use rusqlite::{Connection, Error, params, types::Type};

use super::numbers::Numbers;
use super::{epochs, reports};
use crate::clock::UnixMs;
use crate::ledger::core::columns::by_columns;
use crate::ledger::core::effect::{Effect, decode_snapshot, encode_snapshot};
use crate::ledger::idempotency::{Acquired, sqlite as keys};
use crate::ledger::{Change, Changed, StepRequest};
use crate::limits;
use crate::order::{Actor, InvalidTransition, Order, State, Step};

/// Carries out every change, one after the other. Runs inside one transaction: an error leaves nothing behind.
pub(super) fn change(
    connection: &Connection,
    numbers: &Numbers,
    changes: &[Change],
    now_ms: UnixMs,
) -> Result<Vec<Changed>, Error> {
    let carry_out = |change: &Change| match change {
        Change::Step(asked) => apply_step_request(connection, numbers, asked, now_ms),
        Change::Report(report) => reports::record_report(connection, numbers, report, now_ms),
    };
    changes.iter().map(carry_out).collect()
}

/// Claim and answer are written in the transaction of the step, so a claim needs no lease: nobody ever sees one.
const LEASE_MS: i64 = 0;

fn apply_step_request(
    connection: &Connection,
    numbers: &Numbers,
    asked: &StepRequest,
    now_ms: UnixMs,
) -> Result<Changed, Error> {
    let Some(order) = numbers.find(connection, asked.user, asked.order_no)? else { return Ok(Changed::NotFound) };
    let claim = match keys::acquire(connection, &asked.operation, now_ms, LEASE_MS, asked.keep_until)? {
        Acquired::Claimed(claim) => claim,
        Acquired::Done(answer) => {
            let before = decode_snapshot(&order, &answer.body).map(Changed::Before);
            return before.ok_or_else(|| broken("an answer under a key that no step has written"));
        }
        Acquired::OtherContent => return Ok(Changed::OtherContent),
        Acquired::InProgress(_) => return Err(broken("a claim that outlived its transaction")),
    };
    let is_done_already = asked.step == Step::Cancel && order.state == State::Cancelled;
    let (order, returned) = if is_done_already {
        if keys::kept(connection, &asked.operation.scope)? >= limits::KEYS_PER_STEP_MAX {
            keys::release(connection, &claim)?;
            return Ok(Changed::Done { order, returned: None });
        }
        (order, None)
    } else {
        match take(connection, &order, asked.step, asked.restock, &asked.by, now_ms)? {
            Ok(taken) => taken,
            Err(InvalidTransition(state)) => {
                keys::release(connection, &claim)?;
                return Ok(Changed::NotAllowed(state));
            }
        }
    };
    let completed = keys::complete(connection, &claim, encode_snapshot(&order).as_bytes(), asked.keep_until)?;
    completed.map_err(|_| broken("a claim was lost within its transaction"))?;
    Ok(Changed::Done { order, returned })
}

const UPDATE_ORDER: &str = "UPDATE orders SET state = ?4, state_version = ?5, updated_at = ?6, returned = ?7 \
     WHERE user_id = ?1 AND order_no = ?2 AND state_version = ?3";
const INSERT_STEP: &str = "INSERT INTO order_steps (order_no, state_version, user_id, step, from_state, to_state, by, \
     event_id, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";

/// Takes one step, moves its units, and answers how the order stands and, if units went back on sale, in which epoch. Runs
/// inside the caller's transaction, which is the only writer and has read `order`.
pub(super) fn take(
    connection: &Connection,
    order: &Order,
    step: Step,
    restock: bool,
    by: &Actor,
    now_ms: UnixMs,
) -> Result<Result<(Order, Option<i64>), InvalidTransition>, Error> {
    let effect = match Effect::of(order, step, restock, now_ms) {
        Ok(effect) => effect,
        Err(not_allowed) => return Ok(Err(not_allowed)),
    };
    let after = effect.order;
    let (user, order_no) = (order.user.get(), order.order_no.as_bytes());
    one(connection.prepare_cached(UPDATE_ORDER)?.execute(params![
        user,
        order_no,
        order.state_version,
        after.state.number(),
        after.state_version,
        after.updated_at,
        after.returned
    ])?)?;
    let (by, event_id) = by_columns(by);
    connection.prepare_cached(INSERT_STEP)?.execute(params![
        order_no,
        after.state_version,
        user,
        step.number(),
        order.state.number(),
        after.state.number(),
        by,
        event_id,
        now_ms
    ])?;
    Ok(Ok((after, move_units(connection, &effect)?)))
}

const SELECT_RULES: &str = "SELECT shards, user_limit IS NOT NULL FROM sales WHERE no = ?1";
const UPDATE_SEGMENT: &str = "UPDATE segments SET held = held + ?3, sold = sold + ?4, returned = returned + ?5 \
     WHERE sku_no = ?1 AND shard = ?2";
const TAKE_FROM_BUYER: &str = "UPDATE buyers SET units = units - ?3 WHERE sku_no = ?1 AND user_id = ?2";

/// Moves the units of a step; answers the newest epoch of their shard if they went back on sale.
fn move_units(connection: &Connection, effect: &Effect) -> Result<Option<i64>, Error> {
    let Effect { order, held, sold, returned } = effect;
    if (*held, *sold, *returned) == (0, 0, 0) {
        return Ok(None);
    }
    let mut select = connection.prepare_cached(SELECT_RULES)?;
    let (shards, has_limit): (u16, bool) = select.query_row([order.sale.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let shard = order.user.shard(shards);
    one(connection.prepare_cached(UPDATE_SEGMENT)?.execute(params![order.sku.0, shard, held, sold, returned])?)?;
    if *returned == 0 {
        return Ok(None);
    }
    if has_limit {
        let mut update = connection.prepare_cached(TAKE_FROM_BUYER)?;
        one(update.execute(params![order.sku.0, order.user.get(), returned])?)?;
    }
    epochs::newest(connection, order.sale, shard).map(Some)
}

/// A statement that must have changed one row, or the ledger is not what it must be.
fn one(changed: usize) -> Result<(), Error> {
    if changed == 1 { Ok(()) } else { Err(Error::StatementChangedRows(changed)) }
}

/// The ledger holds what it must never hold.
pub(super) fn broken(what: &'static str) -> Error {
    Error::FromSqlConversionFailure(0, Type::Text, what.into())
}
