//! Makes sales and moves their stock. A row with an id is inserted first: a second row with the same id waits for it and
//! then finds it.

use sqlx::Row;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use super::read;
use super::session::Session;
use crate::clock::UnixMs;
use crate::ledger::core::restock::{UnitsByShard, can_restock, can_transfer, repeat, restock_moves, transfer_moves};
use crate::ledger::{CreateOutcome, Error, Restock, RestockOutcome, SwitchOutcome, Transfer};
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
/// A row that was recorded before is locked: the commit then waits until the row itself is where synchronous_commit wants
/// it, should the commit that recorded it have been cut off while it waited for a standby.
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
    let unread = || impossible!("sale {} is in the ledger and cannot be read", new.id);
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
        CreateOutcome::New(read::sale_by_id(sql, &new.id).await?.ok_or_else(unread)?)
    } else {
        sqlx::query(LOCK_SALE).bind(new.id.as_str()).execute(&mut *sql).await?;
        let sale = read::sale_by_id(sql, &new.id).await?.ok_or_else(unread)?;
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
/// Before the sale's row: every transaction that raises the revision locks it first.
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

/// Notes that orders of a sale bypass its gate.
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
        let (sku, units) = sqlx::query_as::<_, (i64, i64)>(LOCK_RESTOCK)
            .bind(restock.sale.0)
            .bind(restock.change_id.as_str())
            .fetch_one(&mut *sql)
            .await?;
        session.commit().await?;
        return Ok(repeat(restock, (SkuNo(sku), units)));
    }
    let moves = restock_moves(restock);
    let available = available(sql, restock.sku, &moves).await?;
    let total: i64 = sqlx::query_scalar(LOCK_TOTAL).bind(restock.sku.0).fetch_one(&mut *sql).await?;
    if !can_restock(restock, total, &available)? {
        session.roll_back().await?;
        return Ok(RestockOutcome::NotPossible);
    }
    add(sql, restock.sku, &moves).await?;
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

/// Locks the segments of these moves and answers the units in them that no order has.
async fn available(sql: &mut PgConnection, sku: SkuNo, moves: &UnitsByShard) -> Result<UnitsByShard, Error> {
    let shards: Vec<i32> = moves.keys().copied().map(i32::from).collect();
    let mut available = UnitsByShard::new();
    for row in sqlx::query(LOCK_SEGMENTS).bind(sku.0).bind(shards).fetch_all(sql).await? {
        available.insert(read::shard(&row, 0)?, row.try_get(1)?);
    }
    Ok(available)
}

/// Adds units to segments that are locked.
async fn add(sql: &mut PgConnection, sku: SkuNo, moves: &UnitsByShard) -> Result<(), Error> {
    let (shards, units): (Vec<i32>, Vec<i64>) = moves.iter().map(|(shard, units)| (i32::from(*shard), *units)).unzip();
    let changed = sqlx::query(ADD_TO_SEGMENTS).bind(sku.0).bind(shards).bind(units).execute(sql).await?.rows_affected();
    match usize::try_from(changed) == Ok(moves.len()) {
        true => Ok(()),
        false => Err(Error::Corrupt(format!("sku {} lacks a segment of stock", sku.0))),
    }
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
    let moves = transfer_moves(transfer);
    if !can_transfer(transfer, &available(sql, transfer.sku, &moves).await?)? {
        session.roll_back().await?;
        return Ok(false);
    }
    add(sql, transfer.sku, &moves).await?;
    session.commit().await?;
    Ok(true)
}
