//! Records a batch of orders: the transaction that every "201 Created" waits for.
//!
//! Its statements, in order: lock the batch's segments; read, under the lock, the switches, epochs and user units; if
//! an order may be denied, read the orders of the batch that exist; insert; if some were not inserted, read what stands
//! there; count the units of what was. Their number does not grow with the batch.

use std::collections::BTreeSet;

use sqlx::Row;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use super::read;
use super::session::Session;
use crate::ledger::core::admit::{BatchState, EntryDecision, Map, RecordedUnits, ShardEpochs, sku_no};
use crate::ledger::core::columns::epoch_column;
use crate::ledger::{AppendOutcome, Entry, Error};
use crate::limits;
use crate::order::{Epoch, Order, OrderNo, SaleNo, SkuNo, Switch, UserId};

/// Decides and records every entry in one transaction.
pub(super) async fn append(session: &mut Session, batch: &[Entry]) -> Result<Vec<AppendOutcome>, Error> {
    if batch.len() > limits::POSTGRES_BATCH_ORDERS_MAX {
        return Err(Error::Unavailable("the batch is larger than a block of order numbers".to_owned()));
    }
    session.begin().await?;
    let mut under = lock(&mut session.sql, batch).await?;
    let decisions = record(&mut session.sql, batch, &mut under).await?;
    count_units(&mut session.sql, batch, &decisions).await?;
    let outcome = |(entry, decision): (&Entry, EntryDecision)| decision.outcome(entry, &under.epochs);
    // A state that cannot be is found here, where nothing is committed.
    let outcomes = batch.iter().zip(decisions).map(outcome).collect::<Result<_, _>>()?;
    session.commit().await?;
    Ok(outcomes)
}

/// What was read under the lock.
struct UnderLock {
    state: BatchState,
    epochs: ShardEpochs,
    /// The block of numbers of this batch's [`Order::seq`].
    block: i64,
}

/// In the order in which every transaction locks segments. PostgreSQL answers the newest version of a row it had to wait for.
const LOCK_SEGMENTS: &str = "SELECT s.sku_no, s.shard, s.total - s.held - s.sold AS available \
     FROM UNNEST($1::bigint[], $2::integer[]) AS w(sku_no, shard) \
     JOIN segments s ON s.sku_no = w.sku_no AND s.shard = w.shard ORDER BY s.sku_no, s.shard FOR UPDATE OF s";
/// A statement of its own, because its view begins after the locks.
const SELECT_SHARDS: &str = "SELECT w.sale_no, w.shard, a.switch, coalesce(e.epoch, 0) AS epoch, \
     (SELECT nextval('order_blocks')) AS block \
     FROM UNNEST($1::bigint[], $2::integer[]) AS w(sale_no, shard) JOIN sales a ON a.no = w.sale_no \
     LEFT JOIN epochs e ON e.sale_no = w.sale_no AND e.shard = w.shard";
const SELECT_BUYERS: &str = "SELECT b.sku_no, b.user_id, b.units \
     FROM UNNEST($1::bigint[], $2::bigint[]) AS w(sku_no, user_id) \
     JOIN buyers b ON b.sku_no = w.sku_no AND b.user_id = w.user_id";

async fn lock(sql: &mut PgConnection, batch: &[Entry]) -> Result<UnderLock, Error> {
    let mut segments = BTreeSet::new();
    let mut shards = BTreeSet::new();
    let mut buyers = BTreeSet::new();
    for entry in batch {
        let sku = sku_no(entry)?;
        segments.insert((sku.0, i32::from(entry.shard)));
        shards.insert((entry.sale.no.0, i32::from(entry.shard)));
        if entry.sale.rules.user_limit.is_some() {
            buyers.insert((sku.0, entry.reservation.user.get()));
        }
    }
    let mut state = BatchState::default();
    let (sku_nos, in_shards): (Vec<i64>, Vec<i32>) = segments.into_iter().unzip();
    for row in sqlx::query(LOCK_SEGMENTS).bind(sku_nos).bind(in_shards).fetch_all(&mut *sql).await? {
        let at = (SkuNo(row.try_get(0)?), read::shard(&row, 1)?);
        state.available.insert(at, row.try_get(2)?);
    }
    let (mut epochs, mut block) = (ShardEpochs::default(), 0);
    let (sale_nos, in_shards): (Vec<i64>, Vec<i32>) = shards.into_iter().unzip();
    for row in sqlx::query(SELECT_SHARDS).bind(sale_nos).bind(in_shards).fetch_all(&mut *sql).await? {
        let sale = SaleNo(row.try_get(0)?);
        epochs.insert((sale, read::shard(&row, 1)?), Epoch::new(row.try_get(3)?));
        state.is_ended.insert(sale, read::parse_column(&row, 2, Switch::parse)? == Switch::Ended);
        block = row.try_get(4)?;
    }
    if !buyers.is_empty() {
        let (sku_nos, user_ids): (Vec<i64>, Vec<i64>) = buyers.into_iter().unzip();
        for row in sqlx::query(SELECT_BUYERS).bind(sku_nos).bind(user_ids).fetch_all(&mut *sql).await? {
            state.user_units.insert((SkuNo(row.try_get(0)?), read::user(&row, 1)?), row.try_get(2)?);
        }
    }
    Ok(UnderLock { state, epochs, block })
}

/// Decides and inserts, until no order is denied for units of an order that exists already.
async fn record(sql: &mut PgConnection, batch: &[Entry], under: &mut UnderLock) -> Result<Vec<EntryDecision>, Error> {
    let untouched = under.state.clone();
    let mut decisions = under.state.decide(batch, &Map::default())?;
    if decisions.iter().any(|decision| matches!(decision, EntryDecision::Denied(_))) {
        // An order is denied that may be recorded, or for the units of an order that is: look before deciding.
        under.state = untouched;
        let existing = existing(sql, batch.iter()).await?;
        decisions = under.state.decide(batch, &existing)?;
    }
    loop {
        let given_back = insert(sql, batch, &mut decisions, under).await?;
        if given_back == 0 {
            return Ok(decisions);
        }
        // Only an order that exists under the same number for another sku, with another segment, leads here. Each round finds
        // at least one more of them.
        for (entry, decision) in batch.iter().zip(&mut decisions) {
            if let EntryDecision::Denied(_) = decision {
                *decision = under.state.admit(entry)?;
            }
        }
    }
}

/// Sorted, so that two transactions that insert the same orders wait for each other in one order. `seq` is given: it
/// follows the batch and not the sorting.
const INSERT_ORDERS: &str = "INSERT INTO orders (seq, user_id, sale_no, sku_no, epoch, created_at, updated_at, \
     order_no, fingerprint, quantity, state_version, state) \
     SELECT w.seq, w.user_id, w.sale_no, w.sku_no, w.epoch, w.created_at, w.created_at, w.order_no, w.fingerprint, \
     w.quantity, 1, w.state FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], \
     $6::bigint[], $7::uuid[], $8::uuid[], $9::integer[], $10::smallint[]) \
     AS w(seq, user_id, sale_no, sku_no, epoch, created_at, order_no, fingerprint, quantity, state) \
     ON CONFLICT (user_id, order_no) DO NOTHING";

/// Inserts what is admitted; answers how many of them turned out to exist, whose units were given back.
async fn insert(
    sql: &mut PgConnection,
    batch: &[Entry],
    decisions: &mut [EntryDecision],
    under: &mut UnderLock,
) -> Result<usize, Error> {
    let mut rows: Vec<(i64, &Entry)> = Vec::with_capacity(batch.len());
    for (seq, (entry, decision)) in (under.block * BLOCK..).zip(batch.iter().zip(&*decisions)) {
        if *decision == EntryDecision::Admitted {
            rows.push((seq, entry));
        }
    }
    if rows.is_empty() {
        return Ok(0);
    }
    rows.sort_unstable_by_key(|(_, entry)| (entry.reservation.user, entry.reservation.order_no));
    let mut columns = OrderColumns::with_capacity(rows.len());
    for (seq, entry) in &rows {
        columns.push(*seq, entry)?;
    }
    let inserted = columns.insert(sql).await?;
    let all = u64::try_from(rows.len()).unwrap_or(u64::MAX);
    // Read back in a following statement: the winner of a race may be invisible to the insert that lost it.
    let recorded_row =
        if inserted == all { Map::default() } else { existing(sql, rows.iter().map(|row| row.1)).await? };
    let mut given_back = 0;
    for (seq, (entry, decision)) in (under.block * BLOCK..).zip(batch.iter().zip(decisions)) {
        if *decision != EntryDecision::Admitted {
            continue;
        }
        *decision = match recorded_row.get(&entry.reservation.order_no) {
            None if inserted < all => {
                let order_no = entry.reservation.order_no;
                return Err(Error::Corrupt(format!("order {order_no} was not inserted and cannot be read")));
            }
            // A number is drawn once: the row that has it was inserted just now.
            Some(order) if order.seq != seq => {
                under.state.give_back(entry)?;
                given_back += 1;
                EntryDecision::Exists(*order)
            }
            Some(_) | None => EntryDecision::Created,
        };
    }
    Ok(given_back)
}

/// Numbers of one block.
const BLOCK: i64 = limits::POSTGRES_BATCH_ORDERS_MAX as i64;

/// Orders as the arrays that [`INSERT_ORDERS`] takes.
#[derive(Default)]
struct OrderColumns {
    seq: Vec<i64>,
    user_id: Vec<i64>,
    sale_no: Vec<i64>,
    sku_no: Vec<i64>,
    epoch: Vec<i64>,
    created_at: Vec<i64>,
    order_no: Vec<Uuid>,
    fingerprint: Vec<Uuid>,
    quantity: Vec<i32>,
    state: Vec<i16>,
}

impl OrderColumns {
    fn with_capacity(rows: usize) -> Self {
        OrderColumns {
            seq: Vec::with_capacity(rows),
            user_id: Vec::with_capacity(rows),
            sale_no: Vec::with_capacity(rows),
            sku_no: Vec::with_capacity(rows),
            epoch: Vec::with_capacity(rows),
            created_at: Vec::with_capacity(rows),
            order_no: Vec::with_capacity(rows),
            fingerprint: Vec::with_capacity(rows),
            quantity: Vec::with_capacity(rows),
            state: Vec::with_capacity(rows),
        }
    }

    fn push(&mut self, seq: i64, entry: &Entry) -> Result<(), Error> {
        let reservation = &entry.reservation;
        let out_of_range = |_| Error::Corrupt("an order is out of range".to_owned());
        self.seq.push(seq);
        self.user_id.push(reservation.user.get());
        self.sale_no.push(entry.sale.no.0);
        self.sku_no.push(sku_no(entry)?.0);
        self.epoch.push(epoch_column(entry.epoch));
        self.created_at.push(reservation.created_at);
        self.order_no.push(Uuid::from_bytes(*reservation.order_no.as_bytes()));
        self.fingerprint.push(Uuid::from_bytes(*reservation.fingerprint.as_bytes()));
        self.quantity.push(i32::try_from(reservation.quantity).map_err(out_of_range)?);
        self.state.push(i16::try_from(entry.sale.rules.first_state().number()).map_err(out_of_range)?);
        Ok(())
    }

    async fn insert(self, sql: &mut PgConnection) -> Result<u64, sqlx::Error> {
        let insert = sqlx::query(INSERT_ORDERS)
            .bind(self.seq)
            .bind(self.user_id)
            .bind(self.sale_no)
            .bind(self.sku_no)
            .bind(self.epoch)
            .bind(self.created_at)
            .bind(self.order_no)
            .bind(self.fingerprint)
            .bind(self.quantity)
            .bind(self.state);
        Ok(insert.execute(sql).await?.rows_affected())
    }
}

/// The orders of these entries that exist.
async fn existing<'e>(
    sql: &mut PgConnection,
    entries: impl Iterator<Item = &'e Entry>,
) -> Result<Map<OrderNo, Order>, Error> {
    let (users, numbers): (Vec<UserId>, Vec<OrderNo>) =
        entries.map(|entry| (entry.reservation.user, entry.reservation.order_no)).unzip();
    let orders = read::find(sql, &users, &numbers).await?;
    Ok(orders.into_iter().map(|order| (order.order_no, order)).collect())
}

const UPDATE_SEGMENTS: &str = "UPDATE segments s SET held = s.held + w.held, sold = s.sold + w.sold \
     FROM UNNEST($1::bigint[], $2::integer[], $3::bigint[], $4::bigint[]) AS w(sku_no, shard, held, sold) \
     WHERE s.sku_no = w.sku_no AND s.shard = w.shard";
const UPSERT_BUYERS: &str = "INSERT INTO buyers (sku_no, user_id, units) \
     SELECT * FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[]) AS w(sku_no, user_id, units) \
     ON CONFLICT (sku_no, user_id) DO UPDATE SET units = buyers.units + excluded.units";

/// Counts the units of the orders that were inserted.
async fn count_units(sql: &mut PgConnection, batch: &[Entry], decisions: &[EntryDecision]) -> Result<(), Error> {
    let mut recorded = RecordedUnits::default();
    for (entry, _) in batch.iter().zip(decisions).filter(|(_, decision)| **decision == EntryDecision::Created) {
        recorded.add(entry)?;
    }
    let RecordedUnits { segments, users } = recorded;
    if segments.is_empty() {
        return Ok(());
    }
    let changed = u64::try_from(segments.len()).unwrap_or(u64::MAX);
    let (mut sku_nos, mut shards, mut held, mut sold) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for ((sku, shard), units) in segments {
        sku_nos.push(sku.0);
        shards.push(i32::from(shard));
        held.push(units.held);
        sold.push(units.sold);
    }
    let update = sqlx::query(UPDATE_SEGMENTS).bind(sku_nos).bind(shards).bind(held).bind(sold);
    if update.execute(&mut *sql).await?.rows_affected() != changed {
        return Err(Error::Corrupt("a segment of stock is missing".to_owned()));
    }
    if !users.is_empty() {
        let (sku_nos, user_ids): (Vec<i64>, Vec<i64>) = users.keys().map(|(sku, user)| (sku.0, user.get())).unzip();
        let units: Vec<i64> = users.into_values().collect();
        sqlx::query(UPSERT_BUYERS).bind(sku_nos).bind(user_ids).bind(units).execute(&mut *sql).await?;
    }
    Ok(())
}
