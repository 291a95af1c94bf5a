//! Making sales and moving their stock.

use rusqlite::{Connection, OptionalExtension, params};

use super::error::one_row;
use super::read;
use crate::clock::UnixMs;
use crate::ledger::core::admit::no_segment;
use crate::ledger::core::restock::{UnitsByShard, can_restock, can_transfer, repeat, restock_moves, transfer_moves};
use crate::ledger::{CreateOutcome, Error, Restock, RestockOutcome, SwitchOutcome, Transfer};
use crate::order::{DERIVATION, Name, NewSale, Sale, SaleNo, Salt, SkuNo, Switch, even_split};

const INSERT_SALE: &str = "INSERT INTO sales (id, starts_at, ends_at, boundary, user_limit, payment_timeout_s, \
     on_duplicate, require_token, shards, salt, derivation, switch, created_at, time_zone) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";
const INSERT_SKU: &str = "INSERT INTO skus (sale_no, position, id, unit_price, currency, created, total) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)";
const INSERT_SEGMENT: &str = "INSERT INTO segments (sku_no, shard, total, held, sold) VALUES (?1, ?2, ?3, 0, 0)";
const SELECT_STOCK_AS_CREATED: &str = "SELECT created FROM skus WHERE sale_no = ?1 ORDER BY position";

pub(super) fn create(
    connection: &Connection,
    new: &NewSale,
    salt: &Salt,
    now_ms: UnixMs,
) -> Result<CreateOutcome, Error> {
    if let Some(sale) = read::sale_by_id(connection, &new.id)? {
        let same = is_same(connection, &sale, new)?;
        return Ok(if same { CreateOutcome::Same(sale) } else { CreateOutcome::Different });
    }
    let rules = &new.rules;
    connection.prepare_cached(INSERT_SALE)?.execute(params![
        new.id.as_str(),
        rules.starts_at,
        rules.ends_at,
        rules.boundary.as_str(),
        rules.user_limit,
        rules.payment_timeout_s,
        rules.on_duplicate.as_str(),
        rules.require_token,
        rules.shards,
        salt.as_bytes(),
        DERIVATION,
        Switch::Running.as_str(),
        now_ms,
        rules.time_zone.as_str()
    ])?;
    let sale_no = connection.last_insert_rowid();
    for (position, sku) in (0_i64..).zip(&new.skus) {
        connection.prepare_cached(INSERT_SKU)?.execute(params![
            sale_no,
            position,
            sku.id.as_str(),
            sku.unit_price,
            sku.currency.as_str(),
            sku.stock
        ])?;
        let sku_no = connection.last_insert_rowid();
        let mut insert_segment = connection.prepare_cached(INSERT_SEGMENT)?;
        for (shard, units) in (0..rules.shards).zip(even_split(sku.stock, rules.shards)) {
            insert_segment.execute(params![sku_no, shard, units])?;
        }
    }
    let sale = read::sale_by_id(connection, &new.id)?;
    sale.map(CreateOutcome::New).ok_or_else(|| impossible!("sale {} was inserted and cannot be read", new.id))
}

fn is_same(connection: &Connection, sale: &Sale, new: &NewSale) -> Result<bool, Error> {
    let mut select = connection.prepare_cached(SELECT_STOCK_AS_CREATED)?;
    let stock: Vec<i64> = select.query_map([sale.no.0], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(new.asks_for(sale, &stock))
}

const UPDATE_SWITCH: &str = "UPDATE sales SET switch = ?2 WHERE no = ?1 AND switch <> 'ended'";

pub(super) fn switch(connection: &Connection, sale: SaleNo, switch: Switch) -> Result<SwitchOutcome, Error> {
    // The condition can only fail for a sale that has ended.
    let switched = connection.prepare_cached(UPDATE_SWITCH)?.execute(params![sale.0, switch.as_str()])?;
    let switch = if switched == 0 { Switch::Ended } else { switch };
    Ok(SwitchOutcome { switch, revision: sale.0 })
}

const MARK_UNGATED: &str = "UPDATE sales SET ungated = 1 WHERE no = ?1";

pub(super) fn mark_bypassed(connection: &Connection, sale: SaleNo) -> Result<(), Error> {
    connection.prepare_cached(MARK_UNGATED)?.execute([sale.0])?;
    Ok(())
}

const SELECT_RESTOCK: &str = "SELECT sku_no, units FROM restocks WHERE sale_no = ?1 AND change_id = ?2";
const INSERT_RESTOCK: &str =
    "INSERT INTO restocks (sale_no, change_id, sku_no, units, created_at) VALUES (?1, ?2, ?3, ?4, ?5)";
const SELECT_TOTAL: &str = "SELECT total FROM skus WHERE no = ?1";
const SELECT_AVAILABLE: &str = "SELECT total - held - sold FROM segments WHERE sku_no = ?1 AND shard = ?2";
const ADD_TO_TOTAL: &str = "UPDATE skus SET total = total + ?2 WHERE no = ?1";
const ADD_TO_SEGMENT: &str = "UPDATE segments SET total = total + ?3 WHERE sku_no = ?1 AND shard = ?2";

pub(super) fn restock(connection: &Connection, restock: &Restock) -> Result<RestockOutcome, Error> {
    if let Some(recorded) = restocked(connection, restock.sale, &restock.change_id)? {
        return Ok(repeat(restock, recorded));
    }
    let total = connection.prepare_cached(SELECT_TOTAL)?.query_row([restock.sku.0], |row| row.get(0)).optional()?;
    let missing = || Error::Corrupt(format!("sku {} is not in the ledger", restock.sku.0));
    let moves = restock_moves(restock);
    if !can_restock(restock, total.ok_or_else(missing)?, &available(connection, restock.sku, &moves)?)? {
        return Ok(RestockOutcome::NotPossible);
    }
    add(connection, restock.sku, &moves)?;
    connection.prepare_cached(ADD_TO_TOTAL)?.execute(params![restock.sku.0, restock.units])?;
    connection.prepare_cached(INSERT_RESTOCK)?.execute(params![
        restock.sale.0,
        restock.change_id.as_str(),
        restock.sku.0,
        restock.units,
        restock.now_ms
    ])?;
    Ok(RestockOutcome::Applied)
}

pub(super) fn restocked(
    connection: &Connection,
    sale: SaleNo,
    change_id: &Name,
) -> Result<Option<(SkuNo, i64)>, Error> {
    let mut select = connection.prepare_cached(SELECT_RESTOCK)?;
    let recorded = select.query_row(params![sale.0, change_id.as_str()], |row| Ok((SkuNo(row.get(0)?), row.get(1)?)));
    Ok(recorded.optional()?)
}

/// The units that no order has, in the segments of these moves.
fn available(connection: &Connection, sku: SkuNo, moves: &UnitsByShard) -> Result<UnitsByShard, Error> {
    let mut select = connection.prepare_cached(SELECT_AVAILABLE)?;
    let mut available = UnitsByShard::new();
    for shard in moves.keys() {
        let units = select.query_row(params![sku.0, shard], |row| row.get(0)).optional()?;
        available.insert(*shard, units.ok_or_else(|| no_segment(sku, *shard))?);
    }
    Ok(available)
}

fn add(connection: &Connection, sku: SkuNo, moves: &UnitsByShard) -> Result<(), Error> {
    let mut add = connection.prepare_cached(ADD_TO_SEGMENT)?;
    for (shard, units) in moves {
        one_row(add.execute(params![sku.0, shard, units])?, "a segment of stock")?;
    }
    Ok(())
}

const SELECT_TRANSFER: &str = "SELECT 1 FROM transfers WHERE id = ?1";
const INSERT_TRANSFER: &str =
    "INSERT INTO transfers (id, sku_no, from_shard, to_shard, units, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";

pub(super) fn transfer(connection: &Connection, transfer: &Transfer) -> Result<bool, Error> {
    let id = transfer.id.to_be_bytes();
    if connection.prepare_cached(SELECT_TRANSFER)?.exists([&id])? {
        return Ok(true);
    }
    let moves = transfer_moves(transfer);
    if !can_transfer(transfer, &available(connection, transfer.sku, &moves)?)? {
        return Ok(false);
    }
    add(connection, transfer.sku, &moves)?;
    connection.prepare_cached(INSERT_TRANSFER)?.execute(params![
        id,
        transfer.sku.0,
        transfer.from,
        transfer.to,
        transfer.units,
        transfer.now_ms
    ])?;
    Ok(true)
}
