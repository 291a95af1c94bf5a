//! Reading orders, sales and stock.

use rusqlite::{Connection, Row, named_params, params};

use super::error::unreadable;
use crate::ledger::{Error, PageRequest};
use crate::order::{
    Boundary, Currency, Epoch, Fingerprint, Name, OnDuplicate, Order, OrderNo, Rules, Sale, SaleNo, Salt, Sku,
    SkuLevel, SkuNo, State, Switch, UserId, Zone,
};

const SELECT_BY_USER: &str = "SELECT seq, user_id, order_no, sale_no, sku_no, quantity, state, state_version, \
     fingerprint, epoch, created_at, updated_at, returned FROM orders WHERE user_id = ?1 AND order_no = ?2";
/// The plus signs keep the planner from walking the whole table backwards instead of the user's orders.
const SELECT_PAGE: &str = "SELECT seq, user_id, order_no, sale_no, sku_no, quantity, state, state_version, \
     fingerprint, epoch, created_at, updated_at, returned FROM orders \
     WHERE user_id = :user AND sale_no = :sale AND +seq < :before ORDER BY +seq DESC LIMIT :limit";

pub(super) fn find(connection: &Connection, user: UserId, order_no: OrderNo) -> Result<Option<Order>, Error> {
    let mut select = connection.prepare_cached(SELECT_BY_USER)?;
    let mut rows = select.query(params![user.get(), order_no.as_bytes()])?;
    rows.next()?.map(order).transpose()
}

pub(super) fn page(connection: &Connection, page: &PageRequest) -> Result<Vec<Order>, Error> {
    let mut select = connection.prepare_cached(SELECT_PAGE)?;
    let rows = select.query_and_then(
        named_params! {
            ":user": page.user.get(),
            ":sale": page.sale.0,
            ":before": page.before.unwrap_or(i64::MAX),
            ":limit": page.limit,
        },
        order,
    )?;
    rows.collect()
}

fn order(row: &Row<'_>) -> Result<Order, Error> {
    let user: i64 = row.get(1)?;
    Ok(Order {
        seq: row.get(0)?,
        user: u64::try_from(user).ok().and_then(|n| UserId::new(n).ok()).ok_or_else(|| unreadable(row, 1))?,
        order_no: OrderNo::from_bytes(row.get(2)?),
        sale: SaleNo(row.get(3)?),
        sku: SkuNo(row.get(4)?),
        quantity: row.get(5)?,
        state: State::from_number(row.get(6)?).ok_or_else(|| unreadable(row, 6))?,
        state_version: row.get(7)?,
        fingerprint: Fingerprint::from_bytes(row.get(8)?),
        epoch: Epoch::new(row.get(9)?),
        created_at: row.get(10)?,
        updated_at: row.get(11)?,
        returned: row.get(12)?,
    })
}

const SELECT_SALES: &str = "SELECT no, id, starts_at, ends_at, boundary, user_limit, payment_timeout_s, on_duplicate, \
     require_token, shards, salt, derivation, switch, ungated, time_zone FROM sales WHERE no > ?1 ORDER BY no";
const SELECT_ID: &str = "SELECT id FROM ledger_id";
const SELECT_SALE: &str = "SELECT no, id, starts_at, ends_at, boundary, user_limit, payment_timeout_s, on_duplicate, \
     require_token, shards, salt, derivation, switch, ungated, time_zone FROM sales WHERE id = ?1";
const SELECT_SKUS: &str = "SELECT no, id, unit_price, currency FROM skus WHERE sale_no = ?1 ORDER BY position";

pub(super) fn ledger_id(connection: &Connection) -> Result<u64, Error> {
    let id: i64 = connection.prepare_cached(SELECT_ID)?.query_row([], |row| row.get(0))?;
    Ok(id.cast_unsigned())
}

/// Sales made after revision `after`. One process has the file, so what it changes itself it knows already: the number
/// of a sale is all the revision it needs.
pub(super) fn sales(connection: &Connection, after: i64) -> Result<Vec<Sale>, Error> {
    let mut select = connection.prepare_cached(SELECT_SALES)?;
    select.query_and_then([after], |row| sale(connection, row))?.collect()
}

pub(super) fn sale_by_id(connection: &Connection, id: &Name) -> Result<Option<Sale>, Error> {
    let mut select = connection.prepare_cached(SELECT_SALE)?;
    let mut rows = select.query([id.as_str()])?;
    rows.next()?.map(|row| sale(connection, row)).transpose()
}

fn sale(connection: &Connection, row: &Row<'_>) -> Result<Sale, Error> {
    let no: i64 = row.get(0)?;
    let mut select_skus = connection.prepare_cached(SELECT_SKUS)?;
    Ok(Sale {
        no: SaleNo(no),
        id: name(row, 1)?,
        rules: Rules {
            starts_at: row.get(2)?,
            ends_at: row.get(3)?,
            boundary: parse_column(row, 4, Boundary::parse)?,
            user_limit: row.get(5)?,
            payment_timeout_s: row.get(6)?,
            on_duplicate: parse_column(row, 7, OnDuplicate::parse)?,
            require_token: row.get(8)?,
            shards: row.get(9)?,
            time_zone: parse_column(row, 14, |text| Zone::parse(text).ok())?,
        },
        salt: Salt::new(row.get(10)?),
        derivation: row.get(11)?,
        switch: parse_column(row, 12, Switch::parse)?,
        skus: select_skus.query_and_then([no], sku)?.collect::<Result<_, Error>>()?,
        revision: no,
        bypassed: row.get(13)?,
    })
}

fn sku(row: &Row<'_>) -> Result<Sku, Error> {
    Ok(Sku {
        no: SkuNo(row.get(0)?),
        id: name(row, 1)?,
        unit_price: row.get(2)?,
        currency: parse_column(row, 3, |text| Currency::parse(text).ok())?,
    })
}

const SELECT_STOCK: &str = "SELECT k.position, s.shard, s.total, s.held, s.sold, s.returned FROM segments s \
     JOIN skus k ON k.no = s.sku_no WHERE k.sale_no = ?1 ORDER BY k.position, s.shard";

/// Stock of every sku of a sale, in the order of its skus, by shard.
pub(super) fn stock(connection: &Connection, sale: SaleNo) -> Result<Vec<Vec<SkuLevel>>, Error> {
    let mut select = connection.prepare_cached(SELECT_STOCK)?;
    let mut rows = select.query([sale.0])?;
    let mut stock: Vec<Vec<SkuLevel>> = Vec::new();
    while let Some(row) = rows.next()? {
        let position: u16 = row.get(0)?;
        if usize::from(position) >= stock.len() {
            stock.push(Vec::new());
        }
        if let Some(shards) = stock.last_mut() {
            shards.push(SkuLevel { total: row.get(2)?, held: row.get(3)?, sold: row.get(4)?, returned: row.get(5)? });
        }
    }
    Ok(stock)
}

fn name(row: &Row<'_>, column: usize) -> Result<Name, Error> {
    parse_column(row, column, |text| Name::parse(text).ok())
}

/// A text column that holds one of a closed set of words.
pub(super) fn parse_column<T>(row: &Row<'_>, column: usize, parse: impl Fn(&str) -> Option<T>) -> Result<T, Error> {
    let text = row.get_ref(column)?.as_str().ok();
    text.and_then(parse).ok_or_else(|| unreadable(row, column))
}
