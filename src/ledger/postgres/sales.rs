//! Making sales and moving their stock. Whatever has an id is inserted first: a second one with the same id waits for it
//! and then finds it.

use std::collections::BTreeMap;

use sqlx::Row;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use super::read;
use super::session::Session;
use crate::clock::UnixMs;
use crate::ledger::{CreateOutcome, Error, Restock, RestockOutcome, SwitchOutcome, Transfer};
use crate::limits;
use crate::order::{DERIVATION, Name, NewSale, Sale, SaleNo, Salt, SkuNo, Switch, even_split};

const INSERT_SALE: &str = "INSERT INTO sales (id, starts_at, ends_at, boundary, user_limit, payment_timeout_s, \
     on_duplicate, require_token, shards, salt, derivation, switch, revision, created_at, time_zone) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 0, $13, $14) ON CONFLICT (id) DO NOTHING RETURNING no";
const INSERT_SKU: &str = "INSERT INTO skus (sale_no, position, id, unit_price, currency, created, total) \
     VALUES ($1, $2, $3, $4, $5, $6, $6) RETURNING no";
const INSERT_SEGMENTS: &str = "INSERT INTO segments (sku_no, shard, total, held, sold) \
     SELECT $1, w.shard, w.total, 0, 0 FROM UNNEST($2::integer[], $3::bigint[]) AS w(shard, total)";
const SELECT_STOCK_AS_CREATED: &str = "SELECT created FROM skus WHERE sale_no = $1 ORDER BY position";
/// Last of all, for it is held until the commit: so revisions become visible in their order.
const RAISE_REVISION: &str = "WITH raised AS (UPDATE revisions SET newest = newest + 1 RETURNING newest) \
     UPDATE sales SET revision = raised.newest FROM raised WHERE no = $1";
/// What has been recorded is written to once more: the commit then waits until the record itself is where
/// synchronous_commit wants it, should the first one have been cut off while it waited for a standby.
const LOCK_SALE: &str = "SELECT no FROM sales WHERE id = $1 FOR NO KEY UPDATE";

pub(super) async fn create(
    session: &mut Session,
    new: &NewSale,
    salt: &Salt,
    now_ms: UnixMs,
) -> Result<CreateOutcome, Error> {
    session.begin().await?;
    let sql = &mut session.sql;
    let rules = &new.rules;
    let insert = sqlx::query_scalar(INSERT_SALE)
        .bind(new.id.as_str())
        .bind(rules.starts_at)
        .bind(rules.ends_at)
        .bind(rules.boundary.as_str())
        .bind(rules.user_limit.map(i64::from))
        .bind(rules.payment_timeout_s.map(i64::from))
        .bind(rules.on_duplicate.as_str())
        .bind(rules.require_token)
        .bind(i32::from(rules.shards))
        .bind(salt.as_bytes().as_slice())
        .bind(i32::from(DERIVATION))
        .bind(Switch::Running.as_str())
        .bind(now_ms)
        .bind(rules.time_zone.as_str());
    let inserted: Option<i64> = insert.fetch_optional(&mut *sql).await?;
    let created = if let Some(sale_no) = inserted {
        for (position, sku) in (0_i32..).zip(&new.skus) {
            let insert = sqlx::query_scalar(INSERT_SKU)
                .bind(sale_no)
                .bind(position)
                .bind(sku.id.as_str())
                .bind(sku.unit_price)
                .bind(sku.currency.as_str())
                .bind(sku.stock);
            let sku_no: i64 = insert.fetch_one(&mut *sql).await?;
            let (shards, units): (Vec<i32>, Vec<i64>) = (0..).zip(even_split(sku.stock, rules.shards)).unzip();
            sqlx::query(INSERT_SEGMENTS).bind(sku_no).bind(shards).bind(units).execute(&mut *sql).await?;
        }
        sqlx::query(RAISE_REVISION).bind(sale_no).execute(&mut *sql).await?;
        CreateOutcome::New(read::sale_by_id(sql, &new.id).await?.ok_or_else(read::unreadable)?)
    } else {
        sqlx::query(LOCK_SALE).bind(new.id.as_str()).execute(&mut *sql).await?;
        let sale = read::sale_by_id(sql, &new.id).await?.ok_or_else(read::unreadable)?;
        if is_same(sql, &sale, new).await? { CreateOutcome::Same(sale) } else { CreateOutcome::Different }
    };
    session.commit().await?;
    Ok(created)
}

async fn is_same(sql: &mut PgConnection, sale: &Sale, new: &NewSale) -> Result<bool, Error> {
    let stock: Vec<i64> = sqlx::query_scalar(SELECT_STOCK_AS_CREATED).bind(sale.no.0).fetch_all(sql).await?;
    Ok(new.asks_for(sale, &stock))
}

const LOCK_SALES_SEGMENTS: &str = "SELECT 1 FROM skus k JOIN segments s ON s.sku_no = k.no WHERE k.sale_no = $1 \
     ORDER BY s.sku_no, s.shard FOR UPDATE OF s";
const UPDATE_SWITCH: &str = "UPDATE sales SET switch = $2 WHERE no = $1 AND switch NOT IN ('ended', $2)";
const SELECT_SWITCH: &str = "SELECT switch, revision FROM sales WHERE no = $1";
/// Before the sale's row, for everybody who raises the revision takes it first.
const LOCK_REVISION: &str = "SELECT newest FROM revisions FOR UPDATE";

/// An end waits for every order that is being recorded: none is recorded after it.
pub(super) async fn switch(session: &mut Session, sale: SaleNo, switch: Switch) -> Result<SwitchOutcome, Error> {
    session.begin().await?;
    let sql = &mut session.sql;
    if switch == Switch::Ended {
        sqlx::query(LOCK_SALES_SEGMENTS).bind(sale.0).execute(&mut *sql).await?;
    }
    sqlx::query(LOCK_REVISION).execute(&mut *sql).await?;
    let update = sqlx::query(UPDATE_SWITCH).bind(sale.0).bind(switch.as_str());
    if update.execute(&mut *sql).await?.rows_affected() > 0 {
        sqlx::query(RAISE_REVISION).bind(sale.0).execute(&mut *sql).await?;
    }
    let row = sqlx::query(SELECT_SWITCH).bind(sale.0).fetch_one(&mut *sql).await?;
    let switched = SwitchOutcome { switch: read::parse_column(&row, 0, Switch::parse)?, revision: row.try_get(1)? };
    session.commit().await?;
    Ok(switched)
}

const MARK_UNGATED: &str = "UPDATE sales SET ungated = true WHERE no = $1 AND NOT ungated";

/// Notes that orders of a sale go past its gate.
pub(super) async fn mark_bypassed(session: &mut Session, sale: SaleNo) -> Result<(), Error> {
    session.begin().await?;
    let sql = &mut session.sql;
    sqlx::query(LOCK_REVISION).execute(&mut *sql).await?;
    if sqlx::query(MARK_UNGATED).bind(sale.0).execute(&mut *sql).await?.rows_affected() > 0 {
        sqlx::query(RAISE_REVISION).bind(sale.0).execute(&mut *sql).await?;
    }
    session.commit().await
}

const INSERT_RESTOCK: &str = "INSERT INTO restocks (sale_no, change_id, sku_no, units, created_at) \
     VALUES ($1, $2, $3, $4, $5) ON CONFLICT (sale_no, change_id) DO NOTHING";
const SELECT_RESTOCK: &str = "SELECT sku_no, units FROM restocks WHERE sale_no = $1 AND change_id = $2";
/// `FOR UPDATE` for the reason of [`LOCK_SALE`].
const LOCK_RESTOCK: &str = "SELECT sku_no, units FROM restocks WHERE sale_no = $1 AND change_id = $2 FOR UPDATE";
const LOCK_SEGMENTS: &str = "SELECT s.shard, s.total - s.held - s.sold AS available \
     FROM UNNEST($2::integer[]) AS w(shard) JOIN segments s ON s.sku_no = $1 AND s.shard = w.shard \
     ORDER BY s.sku_no, s.shard FOR UPDATE OF s";
const LOCK_TOTAL: &str = "SELECT total FROM skus WHERE no = $1 FOR NO KEY UPDATE";
const ADD_TO_TOTAL: &str = "UPDATE skus SET total = total + $2 WHERE no = $1";
const ADD_TO_SEGMENTS: &str = "UPDATE segments s SET total = s.total + w.units \
     FROM UNNEST($2::integer[], $3::bigint[]) AS w(shard, units) WHERE s.sku_no = $1 AND s.shard = w.shard";

pub(super) async fn restock(session: &mut Session, restock: &Restock) -> Result<RestockOutcome, Error> {
    session.begin().await?;
    let sql = &mut session.sql;
    let insert = sqlx::query(INSERT_RESTOCK)
        .bind(restock.sale.0)
        .bind(restock.change_id.as_str())
        .bind(restock.sku.0)
        .bind(restock.units)
        .bind(restock.now_ms);
    if insert.execute(&mut *sql).await?.rows_affected() == 0 {
        let before = sqlx::query_as::<_, (i64, i64)>(LOCK_RESTOCK)
            .bind(restock.sale.0)
            .bind(restock.change_id.as_str())
            .fetch_one(&mut *sql)
            .await?;
        session.commit().await?;
        let same = before == (restock.sku.0, restock.units);
        return Ok(if same { RestockOutcome::Before } else { RestockOutcome::Different });
    }
    let mut by_shard: BTreeMap<u16, i64> = BTreeMap::new();
    for (shard, units) in &restock.by_shard {
        *by_shard.entry(*shard).or_default() += units;
    }
    let left = available(sql, restock.sku, by_shard.keys().copied()).await?;
    let total: i64 = sqlx::query_scalar(LOCK_TOTAL).bind(restock.sku.0).fetch_one(&mut *sql).await?;
    let is_possible = by_shard.iter().all(|(shard, units)| left.get(shard).is_some_and(|left| left + units >= 0));
    if total + restock.units > limits::STOCK_UNITS_MAX || !is_possible {
        session.roll_back().await?;
        return Ok(RestockOutcome::NotPossible);
    }
    add(sql, restock.sku, &by_shard).await?;
    sqlx::query(ADD_TO_TOTAL).bind(restock.sku.0).bind(restock.units).execute(&mut *sql).await?;
    sqlx::query(RAISE_REVISION).bind(restock.sale.0).execute(&mut *sql).await?;
    session.commit().await?;
    Ok(RestockOutcome::Applied)
}

pub(super) async fn restocked(
    sql: &mut PgConnection,
    sale: SaleNo,
    change_id: &Name,
) -> Result<Option<(SkuNo, i64)>, Error> {
    let select = sqlx::query_as::<_, (i64, i64)>(SELECT_RESTOCK).bind(sale.0).bind(change_id.as_str());
    Ok(select.fetch_optional(sql).await?.map(|(sku, units)| (SkuNo(sku), units)))
}

/// Locks segments of a sku and answers the units that no order has, by shard.
async fn available(
    sql: &mut PgConnection,
    sku: SkuNo,
    shards: impl Iterator<Item = u16>,
) -> Result<BTreeMap<u16, i64>, Error> {
    let wanted: Vec<i32> = shards.map(i32::from).collect();
    let count = wanted.len();
    let mut left = BTreeMap::new();
    for row in sqlx::query(LOCK_SEGMENTS).bind(sku.0).bind(wanted).fetch_all(sql).await? {
        left.insert(read::shard(row.try_get(0)?)?, row.try_get(1)?);
    }
    match left.len() == count {
        true => Ok(left),
        false => Err(Error::Corrupt("a segment of stock is missing".to_owned())),
    }
}

/// Adds units to segments that are locked.
async fn add(sql: &mut PgConnection, sku: SkuNo, by_shard: &BTreeMap<u16, i64>) -> Result<(), Error> {
    let (shards, units): (Vec<i32>, Vec<i64>) =
        by_shard.iter().map(|(shard, units)| (i32::from(*shard), *units)).unzip();
    sqlx::query(ADD_TO_SEGMENTS).bind(sku.0).bind(shards).bind(units).execute(sql).await?;
    Ok(())
}

const INSERT_TRANSFER: &str = "INSERT INTO transfers (id, sku_no, from_shard, to_shard, units, created_at) \
     VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO NOTHING";
/// `FOR UPDATE` for the reason of [`LOCK_SALE`].
const LOCK_TRANSFER: &str = "SELECT id FROM transfers WHERE id = $1 FOR UPDATE";

pub(super) async fn transfer(session: &mut Session, transfer: &Transfer) -> Result<bool, Error> {
    session.begin().await?;
    let sql = &mut session.sql;
    let id = Uuid::from_u128(transfer.id);
    let insert = sqlx::query(INSERT_TRANSFER)
        .bind(id)
        .bind(transfer.sku.0)
        .bind(i32::from(transfer.from))
        .bind(i32::from(transfer.to))
        .bind(transfer.units)
        .bind(transfer.now_ms);
    if insert.execute(&mut *sql).await?.rows_affected() == 0 {
        sqlx::query(LOCK_TRANSFER).bind(id).execute(&mut *sql).await?;
        session.commit().await?;
        return Ok(true);
    }
    let moves = BTreeMap::from([(transfer.from, -transfer.units), (transfer.to, transfer.units)]);
    let left = available(sql, transfer.sku, moves.keys().copied()).await?;
    if left.get(&transfer.from).is_none_or(|left| *left < transfer.units) {
        session.roll_back().await?;
        return Ok(false);
    }
    add(sql, transfer.sku, &moves).await?;
    session.commit().await?;
    Ok(true)
}
