//! Reading orders, sales and stock.

use sqlx::postgres::{PgColumn, PgConnection, PgRow};
use sqlx::{Column, Row};
use uuid::Uuid;

use crate::ledger::{Error, PageRequest};
use crate::order::{
    Boundary, Currency, Epoch, Fingerprint, Name, OnDuplicate, Order, OrderNo, Rules, Sale, SaleNo, Salt, Sku,
    SkuLevel, SkuNo, State, Switch, UserId, Zone,
};

/// Orders by user and number; an order that is asked for twice comes twice.
const SELECT_ORDERS: &str = "SELECT o.seq, o.user_id, o.order_no, o.sale_no, o.sku_no, o.quantity, o.state, \
     o.state_version, o.fingerprint, o.epoch, o.created_at, o.updated_at, o.returned \
     FROM UNNEST($1::bigint[], $2::uuid[]) AS w(user_id, order_no) \
     JOIN orders o ON o.user_id = w.user_id AND o.order_no = w.order_no";
const SELECT_BY_NUMBER: &str = "SELECT seq, user_id, order_no, sale_no, sku_no, quantity, state, state_version, \
     fingerprint, epoch, created_at, updated_at, returned FROM orders WHERE order_no = $1";
const SELECT_PAGE: &str = "SELECT seq, user_id, order_no, sale_no, sku_no, quantity, state, state_version, \
     fingerprint, epoch, created_at, updated_at, returned FROM orders \
     WHERE user_id = $1 AND sale_no = $2 AND seq < $3 ORDER BY seq DESC LIMIT $4";

pub(super) async fn find(sql: &mut PgConnection, users: &[UserId], numbers: &[OrderNo]) -> Result<Vec<Order>, Error> {
    let user_ids: Vec<i64> = users.iter().map(|user| user.get()).collect();
    let numbers: Vec<Uuid> = numbers.iter().map(|number| Uuid::from_bytes(*number.as_bytes())).collect();
    let rows = sqlx::query(SELECT_ORDERS).bind(user_ids).bind(numbers).fetch_all(sql).await?;
    rows.iter().map(order).collect()
}

pub(super) async fn find_by_number(sql: &mut PgConnection, number: OrderNo) -> Result<Option<Order>, Error> {
    let number = Uuid::from_bytes(*number.as_bytes());
    let row = sqlx::query(SELECT_BY_NUMBER).bind(number).fetch_optional(sql).await?;
    row.as_ref().map(order).transpose()
}

pub(super) async fn page(sql: &mut PgConnection, page: &PageRequest) -> Result<Vec<Order>, Error> {
    let select = sqlx::query(SELECT_PAGE)
        .bind(page.user.get())
        .bind(page.sale.0)
        .bind(page.before.unwrap_or(i64::MAX))
        .bind(i64::from(page.limit));
    select.fetch_all(sql).await?.iter().map(order).collect()
}

pub(super) fn order(row: &PgRow) -> Result<Order, Error> {
    let bytes = |column| Ok::<_, Error>(row.try_get::<Uuid, _>(column)?.into_bytes());
    Ok(Order {
        seq: row.try_get(0)?,
        user: user(row, 1)?,
        order_no: OrderNo::from_bytes(bytes(2)?),
        sale: SaleNo(row.try_get(3)?),
        sku: SkuNo(row.try_get(4)?),
        quantity: unsigned(row, 5)?,
        state: State::from_number(row.try_get::<i16, _>(6)?.into()).ok_or_else(|| unreadable(row, 6))?,
        state_version: unsigned(row, 7)?,
        fingerprint: Fingerprint::from_bytes(bytes(8)?),
        epoch: Epoch::new(row.try_get(9)?),
        created_at: row.try_get(10)?,
        updated_at: row.try_get(11)?,
        returned: row.try_get(12)?,
    })
}

const SELECT_SALES: &str = "SELECT no, id, starts_at, ends_at, boundary, user_limit, payment_timeout_s, on_duplicate, \
     require_token, shards, salt, derivation, switch, revision, ungated, time_zone FROM sales WHERE revision > $1 ORDER BY revision";
const SELECT_SALE: &str = "SELECT no, id, starts_at, ends_at, boundary, user_limit, payment_timeout_s, on_duplicate, \
     require_token, shards, salt, derivation, switch, revision, ungated, time_zone FROM sales WHERE id = $1";
const SELECT_SKUS: &str = "SELECT k.sale_no, k.no, k.id, k.unit_price, k.currency \
     FROM UNNEST($1::bigint[]) AS w(sale_no) JOIN skus k ON k.sale_no = w.sale_no ORDER BY k.sale_no, k.position";

/// Sales with a later revision, in the order of their revisions.
pub(super) async fn sales(sql: &mut PgConnection, after: i64) -> Result<Vec<Sale>, Error> {
    let rows = sqlx::query(SELECT_SALES).bind(after).fetch_all(&mut *sql).await?;
    with_skus(sql, &rows).await
}

pub(super) async fn sale_by_id(sql: &mut PgConnection, id: &Name) -> Result<Option<Sale>, Error> {
    let rows = sqlx::query(SELECT_SALE).bind(id.as_str()).fetch_all(&mut *sql).await?;
    Ok(with_skus(sql, &rows).await?.pop())
}

/// A sale's skus are made with it and never change, so they may be read after it.
async fn with_skus(sql: &mut PgConnection, rows: &[PgRow]) -> Result<Vec<Sale>, Error> {
    let mut sales = rows.iter().map(sale).collect::<Result<Vec<_>, _>>()?;
    if sales.is_empty() {
        return Ok(sales);
    }
    let numbers: Vec<i64> = sales.iter().map(|sale| sale.no.0).collect();
    let mut by_no: std::collections::HashMap<SaleNo, &mut Sale> =
        sales.iter_mut().map(|sale| (sale.no, sale)).collect();
    for row in sqlx::query(SELECT_SKUS).bind(numbers).fetch_all(sql).await? {
        let sale = by_no.get_mut(&SaleNo(row.try_get(0)?)).ok_or_else(|| unreadable(&row, 0))?;
        sale.skus.push(Sku {
            no: SkuNo(row.try_get(1)?),
            id: name(&row, 2)?,
            unit_price: row.try_get(3)?,
            currency: parse_column(&row, 4, |text| Currency::parse(text).ok())?,
        });
    }
    Ok(sales)
}

fn sale(row: &PgRow) -> Result<Sale, Error> {
    let optional = |column| match row.try_get::<Option<i64>, _>(column)? {
        Some(number) => u32::try_from(number).map(Some).map_err(|_| unreadable(row, column)),
        None => Ok(None),
    };
    let salt: Vec<u8> = row.try_get(10)?;
    Ok(Sale {
        no: SaleNo(row.try_get(0)?),
        id: name(row, 1)?,
        rules: Rules {
            starts_at: row.try_get(2)?,
            ends_at: row.try_get(3)?,
            boundary: parse_column(row, 4, Boundary::parse)?,
            user_limit: optional(5)?,
            payment_timeout_s: optional(6)?,
            on_duplicate: parse_column(row, 7, OnDuplicate::parse)?,
            require_token: row.try_get(8)?,
            shards: shard(row, 9)?,
            time_zone: parse_column(row, 15, |text| Zone::parse(text).ok())?,
        },
        salt: Salt::new(salt.try_into().map_err(|_| unreadable(row, 10))?),
        derivation: u8::try_from(row.try_get::<i32, _>(11)?).map_err(|_| unreadable(row, 11))?,
        switch: parse_column(row, 12, Switch::parse)?,
        skus: Vec::new(),
        revision: row.try_get(13)?,
        bypassed: row.try_get(14)?,
    })
}

const SELECT_STOCK: &str = "SELECT k.position, s.total, s.held, s.sold, s.returned FROM skus k \
     JOIN segments s ON s.sku_no = k.no WHERE k.sale_no = $1 ORDER BY k.position, s.shard";

/// Stock of every sku of a sale, in the order of its skus, by shard.
pub(super) async fn stock(sql: &mut PgConnection, sale: SaleNo) -> Result<Vec<Vec<SkuLevel>>, Error> {
    let mut stock: Vec<Vec<SkuLevel>> = Vec::new();
    for row in sqlx::query(SELECT_STOCK).bind(sale.0).fetch_all(sql).await? {
        let position = usize::try_from(row.try_get::<i32, _>(0)?).map_err(|_| unreadable(&row, 0))?;
        if position >= stock.len() {
            stock.push(Vec::new());
        }
        if let Some(shards) = stock.last_mut() {
            shards.push(level(&row, 1)?);
        }
    }
    Ok(stock)
}

/// Four columns from `first`: total, held, sold, returned.
pub(super) fn level(row: &PgRow, first: usize) -> Result<SkuLevel, Error> {
    Ok(SkuLevel {
        total: row.try_get(first)?,
        held: row.try_get(first + 1)?,
        sold: row.try_get(first + 2)?,
        returned: row.try_get(first + 3)?,
    })
}

fn name(row: &PgRow, column: usize) -> Result<Name, Error> {
    parse_column(row, column, |text| Name::parse(text).ok())
}

/// A text column that holds a member of a closed set.
pub(super) fn parse_column<T>(row: &PgRow, column: usize, parse: impl Fn(&str) -> Option<T>) -> Result<T, Error> {
    parse(row.try_get(column)?).ok_or_else(|| unreadable(row, column))
}

pub(super) fn user(row: &PgRow, column: usize) -> Result<UserId, Error> {
    let number: i64 = row.try_get(column)?;
    let user = u64::try_from(number).ok().and_then(|number| UserId::new(number).ok());
    user.ok_or_else(|| unreadable(row, column))
}

pub(super) fn shard(row: &PgRow, column: usize) -> Result<u16, Error> {
    u16::try_from(row.try_get::<i32, _>(column)?).map_err(|_| unreadable(row, column))
}

pub(super) fn unsigned(row: &PgRow, column: usize) -> Result<u32, Error> {
    u32::try_from(row.try_get::<i32, _>(column)?).map_err(|_| unreadable(row, column))
}

/// A column holds a value that this program does not write.
pub(super) fn unreadable(row: &PgRow, column: usize) -> Error {
    let name = row.columns().get(column).map_or("without a name", PgColumn::name);
    Error::Corrupt(format!("column {name} holds a value that this program does not know"))
}
