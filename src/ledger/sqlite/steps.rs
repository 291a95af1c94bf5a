//! The rows of orders that take steps: what a step needs to know of its order, and writing what steps do.

use rusqlite::{Connection, params};

use super::epochs;
use super::error::one_row;
use super::read::parse_column;
use crate::ledger::Error;
use crate::ledger::core::change_set::{ChangeSet, Epochs, LockedOrder};
use crate::ledger::core::columns::actor_columns;
use crate::order::{Currency, Order};

const SELECT_RULES: &str = "SELECT a.shards, a.user_limit IS NOT NULL, k.unit_price, k.currency \
     FROM sales a, skus k WHERE a.no = ?1 AND k.no = ?2";

/// An order with what its steps need to know. The transaction, as the only writer, holds every row locked.
pub(super) fn locked(connection: &Connection, order: Order) -> Result<LockedOrder, Error> {
    let mut select = connection.prepare_cached(SELECT_RULES)?;
    let mut rows = select.query([order.sale.0, order.sku.0])?;
    let missing = || Error::Corrupt(format!("the sale or the sku of order {} is missing", order.order_no));
    let row = rows.next()?.ok_or_else(missing)?;
    let currency = parse_column(row, 3, |text| Currency::parse(text).ok())?;
    Ok(LockedOrder::new(order, order.user.shard(row.get(0)?), row.get(1)?, row.get(2)?, currency))
}

const UPDATE_SEGMENT: &str = "UPDATE segments SET held = held + ?3, sold = sold + ?4, returned = returned + ?5 \
     WHERE sku_no = ?1 AND shard = ?2";
const UPDATE_ORDER: &str = "UPDATE orders SET state = ?4, state_version = ?5, updated_at = ?6, returned = ?7 \
     WHERE user_id = ?1 AND order_no = ?2 AND state_version = ?3";
const INSERT_STEP: &str = "INSERT INTO order_steps (order_no, state_version, user_id, step, from_state, to_state, by, \
     event_id, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
const TAKE_FROM_BUYER: &str = "UPDATE buyers SET units = units - ?3 WHERE sku_no = ?1 AND user_id = ?2";
const END_PARKING: &str = "UPDATE payment_reports SET note = ?2 WHERE order_no = ?1 AND note = 'parked'";

/// Writes what the steps of a set do, and answers the newest epoch of each shard in which units came back.
pub(super) fn write(connection: &Connection, change_set: &ChangeSet<'_>) -> Result<Epochs, Error> {
    for LockedOrder { order, version, .. } in change_set.changed_orders() {
        let changed = connection.prepare_cached(UPDATE_ORDER)?.execute(params![
            order.user.get(),
            order.order_no.as_bytes(),
            version,
            order.state.number(),
            order.state_version,
            order.updated_at,
            order.returned
        ])?;
        one_row(changed, "an order that was read")?;
    }
    for (user, order_no, step) in &change_set.steps {
        let (by, event_id) = actor_columns(&step.by);
        connection.prepare_cached(INSERT_STEP)?.execute(params![
            order_no.as_bytes(),
            step.state_version,
            user.get(),
            step.step.number(),
            step.from.number(),
            step.to.number(),
            by,
            event_id,
            step.at
        ])?;
    }
    for ((sku, shard), units) in &change_set.segments {
        let mut update = connection.prepare_cached(UPDATE_SEGMENT)?;
        let changed = update.execute(params![sku.0, shard, units.held, units.sold, units.returned])?;
        one_row(changed, "a segment of stock")?;
    }
    for ((sku, user), units) in &change_set.user_returns {
        let changed = connection.prepare_cached(TAKE_FROM_BUYER)?.execute(params![sku.0, user.get(), units])?;
        one_row(changed, "the counter of a user's units")?;
    }
    for (order_no, note) in &change_set.unparked {
        connection.prepare_cached(END_PARKING)?.execute(params![order_no.as_bytes(), note.as_str()])?;
    }
    let newest = |(sale, shard)| Ok(((sale, shard), epochs::newest(connection, sale, shard)?));
    change_set.returned_in.iter().copied().map(newest).collect()
}
