//! The rows of orders that take steps: locks them, moves their units, writes them.

use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};
use uuid::Uuid;

use super::read;
use crate::clock::UnixMs;
use crate::ledger::Error;
use crate::ledger::core::change_set::{ChangeSet, Epochs, LockedOrder};
use crate::ledger::core::columns;
use crate::ledger::core::quarantine::QuarantineBatch;
use crate::order::{Currency, Epoch, OrderNo, State, Step, StepRecord, UserId};

/// In the order in which every transaction locks orders. PostgreSQL answers the newest version of a row it had to wait for.
const LOCK_ORDERS: &str = "SELECT o.seq, o.user_id, o.order_no, o.sale_no, o.sku_no, o.quantity, o.state, \
     o.state_version, o.fingerprint, o.epoch, o.created_at, o.updated_at, o.returned, a.shards, \
     a.user_limit IS NOT NULL AS is_limited, k.unit_price, k.currency FROM UNNEST($1::uuid[]) AS w(order_no) \
     JOIN orders o ON o.order_no = w.order_no JOIN sales a ON a.no = o.sale_no JOIN skus k ON k.no = o.sku_no \
     ORDER BY o.order_no, o.user_id FOR UPDATE OF o";

/// Locks orders, found by their numbers alone.
pub(super) async fn lock(sql: &mut PgConnection, numbers: &[OrderNo]) -> Result<Vec<LockedOrder>, Error> {
    let numbers: Vec<Uuid> = numbers.iter().map(number).collect();
    sqlx::query(LOCK_ORDERS).bind(numbers).fetch_all(sql).await?.iter().map(locked).collect()
}

/// Orders past their time to pay at $1, up to $2 of them, without those of $3. Only the sales that have unpaid orders are
/// looked at, each found behind the one before in the index of these. The sale whose oldest order has waited longest comes
/// first, in each the oldest order first; rows are locked one by one on this way, and it ends when $2 are found: so
/// no order is locked that is not answered, however many sales have some, and the oldest of all is in every round. An order
/// that another engine has locked is skipped before the orders are counted, so that several engines find different orders;
/// an order that it has changed meanwhile is not unpaid any more. The statement waits for nothing. An order without its sku
/// is answered too: it does not read, and so it is logged and quarantined.
const LOCK_OVERDUE: &str = "WITH RECURSIVE unpaid (sale_no) AS ( \
         (SELECT o.sale_no FROM orders o WHERE o.state = 0 ORDER BY o.sale_no LIMIT 1) \
         UNION ALL SELECT (SELECT o.sale_no FROM orders o WHERE o.state = 0 AND o.sale_no > u.sale_no \
             ORDER BY o.sale_no LIMIT 1) FROM unpaid u WHERE u.sale_no IS NOT NULL), \
     overdue AS (SELECT a.no, a.shards, a.user_limit IS NOT NULL AS is_limited, a.payment_timeout_s * 1000 AS timeout_ms \
         FROM unpaid u JOIN sales a ON a.no = u.sale_no AND a.payment_timeout_s IS NOT NULL \
         CROSS JOIN LATERAL (SELECT o.created_at FROM orders o \
             WHERE o.state = 0 AND o.sale_no = a.no AND o.created_at <= $1 - a.payment_timeout_s * 1000 \
             AND o.order_no <> ALL($3::uuid[]) ORDER BY o.created_at LIMIT 1) AS oldest \
         ORDER BY oldest.created_at + a.payment_timeout_s * 1000) \
     SELECT d.seq, d.user_id, d.order_no, d.sale_no, d.sku_no, d.quantity, d.state, d.state_version, d.fingerprint, \
         d.epoch, d.created_at, d.updated_at, d.returned, d.shards, d.is_limited, k.unit_price, k.currency \
     FROM (SELECT f.*, s.shards, s.is_limited, f.created_at + s.timeout_ms AS deadline FROM overdue s \
         CROSS JOIN LATERAL (SELECT o.* FROM orders o \
             WHERE o.state = 0 AND o.sale_no = s.no AND o.created_at <= $1 - s.timeout_ms \
             AND o.order_no <> ALL($3::uuid[]) ORDER BY o.created_at LIMIT $2 FOR UPDATE OF o SKIP LOCKED) AS f \
         LIMIT $2) AS d \
     LEFT JOIN skus k ON k.no = d.sku_no ORDER BY d.deadline, d.order_no";

/// Locks orders past their time to pay, the oldest first; their rows are what [`order_no`] and [`locked`] read.
pub(super) async fn lock_overdue(
    sql: &mut PgConnection,
    now_ms: UnixMs,
    batch: &QuarantineBatch,
) -> Result<Vec<PgRow>, Error> {
    let left_out: Vec<Uuid> = batch.left_out.iter().map(number).collect();
    Ok(sqlx::query(LOCK_OVERDUE).bind(now_ms).bind(i64::from(batch.size)).bind(left_out).fetch_all(sql).await?)
}

/// The number of an order, whatever else its row holds.
pub(super) fn order_no(row: &PgRow) -> Result<OrderNo, Error> {
    Ok(OrderNo::from_bytes(row.try_get::<Uuid, _>(2)?.into_bytes()))
}

/// An order that was locked.
pub(super) fn locked(row: &PgRow) -> Result<LockedOrder, Error> {
    let order = read::order(row)?;
    let shard = order.user.shard(read::shard(row, 13)?);
    let currency = read::parse_column(row, 16, |text| Currency::parse(text).ok())?;
    Ok(LockedOrder::new(order, shard, row.try_get(14)?, row.try_get(15)?, currency))
}

/// Locks in the order in which every transaction locks segments, each before it is changed.
const MOVE_UNITS: &str = "WITH locked AS (SELECT s.sku_no, s.shard, w.held, w.sold, w.returned \
         FROM UNNEST($1::bigint[], $2::integer[], $3::bigint[], $4::bigint[], $5::bigint[]) \
         AS w(sku_no, shard, held, sold, returned) \
         JOIN segments s ON s.sku_no = w.sku_no AND s.shard = w.shard ORDER BY s.sku_no, s.shard FOR UPDATE OF s) \
     UPDATE segments s SET held = s.held + l.held, sold = s.sold + l.sold, returned = s.returned + l.returned \
     FROM locked l WHERE s.sku_no = l.sku_no AND s.shard = l.shard";

/// Moves the units of the orders in their segments, which stay locked.
pub(super) async fn move_units(sql: &mut PgConnection, change_set: &ChangeSet<'_>) -> Result<(), Error> {
    let segments = &change_set.segments;
    if segments.is_empty() {
        return Ok(());
    }
    let (sku_nos, shards): (Vec<i64>, Vec<i32>) =
        segments.keys().map(|(sku, shard)| (sku.0, i32::from(*shard))).unzip();
    let update = sqlx::query(MOVE_UNITS)
        .bind(sku_nos)
        .bind(shards)
        .bind(segments.values().map(|units| units.held).collect::<Vec<_>>())
        .bind(segments.values().map(|units| units.sold).collect::<Vec<_>>())
        .bind(segments.values().map(|units| units.returned).collect::<Vec<_>>());
    match usize::try_from(update.execute(sql).await?.rows_affected()) == Ok(segments.len()) {
        true => Ok(()),
        false => Err(Error::Corrupt("a segment of stock is missing".to_owned())),
    }
}

/// Everything that is written under the lock of the segments, in one statement, whose view of the epochs begins after
/// these locks. Orders are written here and not before: an append of an order that is written to waits for this
/// transaction while it has the order's segment locked.
const WRITE: &str = "WITH changed AS (UPDATE orders o SET state = w.state, state_version = w.state_version, \
         updated_at = $7, returned = w.returned \
         FROM UNNEST($1::bigint[], $2::uuid[], $3::integer[], $4::smallint[], $5::integer[], $6::boolean[]) \
         AS w(user_id, order_no, version, state, state_version, returned) \
         WHERE o.user_id = w.user_id AND o.order_no = w.order_no AND o.state_version = w.version RETURNING 1), \
     taken AS (INSERT INTO order_steps \
         (order_no, state_version, user_id, step, from_state, to_state, by, event_id, at) \
         SELECT w.*, $7 FROM UNNEST($8::uuid[], $9::integer[], $10::bigint[], $11::smallint[], $12::smallint[], \
         $13::smallint[], $14::text[], $15::text[]) AS w), \
     given_back AS (UPDATE buyers b SET units = b.units - w.units \
         FROM UNNEST($16::bigint[], $17::bigint[], $18::bigint[]) AS w(sku_no, user_id, units) \
         WHERE b.sku_no = w.sku_no AND b.user_id = w.user_id RETURNING 1), \
     waited AS (UPDATE payment_reports r SET note = w.note FROM UNNEST($19::uuid[], $20::text[]) AS w(order_no, note) \
         WHERE r.order_no = w.order_no AND r.order_no IS NOT NULL AND r.note = 'parked') \
     SELECT (SELECT count(*) FROM changed) AS changed, (SELECT count(*) FROM given_back) AS given_back, \
         ARRAY(SELECT coalesce(e.epoch, 0) FROM UNNEST($21::bigint[], $22::integer[]) WITH ORDINALITY \
         AS w(sale_no, shard, n) LEFT JOIN epochs e ON e.sale_no = w.sale_no AND e.shard = w.shard ORDER BY w.n) \
         AS epochs";

/// Writes orders and their steps, and answers the newest epoch of each shard in which units came back.
pub(super) async fn write(sql: &mut PgConnection, change_set: &ChangeSet<'_>, now_ms: UnixMs) -> Result<Epochs, Error> {
    if change_set.steps.is_empty() {
        return Ok(Epochs::new());
    }
    let (orders, steps) = (OrderRows::of(change_set)?, Steps::of(change_set)?);
    let count = orders.user_id.len();
    let (skus, users): (Vec<i64>, Vec<i64>) =
        change_set.user_returns.keys().map(|(sku, user)| (sku.0, user.get())).unzip();
    let (unparked, notes): (Vec<Uuid>, Vec<&str>) =
        change_set.unparked.iter().map(|(order_no, note)| (number(order_no), note.as_str())).unzip();
    let (sales, shards): (Vec<i64>, Vec<i32>) =
        change_set.returned_in.iter().map(|(sale, shard)| (sale.0, i32::from(*shard))).unzip();
    let write = sqlx::query(WRITE)
        .bind(orders.user_id)
        .bind(orders.order_no)
        .bind(orders.version)
        .bind(orders.state)
        .bind(orders.state_version)
        .bind(orders.returned)
        .bind(now_ms)
        .bind(steps.order_no)
        .bind(steps.state_version)
        .bind(steps.user_id)
        .bind(steps.step)
        .bind(steps.from_state)
        .bind(steps.to_state)
        .bind(steps.by)
        .bind(steps.event_id)
        .bind(skus)
        .bind(users)
        .bind(change_set.user_returns.values().copied().collect::<Vec<i64>>())
        .bind(unparked)
        .bind(notes)
        .bind(sales)
        .bind(shards);
    let row = write.fetch_one(sql).await?;
    let (changed, user_returns): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    let epochs: Vec<i64> = row.try_get(2)?;
    if usize::try_from(changed) != Ok(count) {
        return Err(Error::Corrupt(format!("{count} orders were locked and {changed} of them written")));
    }
    if usize::try_from(user_returns) != Ok(change_set.user_returns.len()) {
        return Err(Error::Corrupt("the counter of a user's units is missing".to_owned()));
    }
    Ok(change_set.returned_in.iter().copied().zip(epochs.into_iter().map(Epoch::new)).collect())
}

/// Orders as the arrays that [`WRITE`] takes, in the order in which every transaction locks them.
#[derive(Default)]
struct OrderRows {
    user_id: Vec<i64>,
    order_no: Vec<Uuid>,
    version: Vec<i32>,
    state: Vec<i16>,
    state_version: Vec<i32>,
    returned: Vec<bool>,
}

impl OrderRows {
    fn of(change_set: &ChangeSet<'_>) -> Result<Self, Error> {
        let mut columns = OrderRows::default();
        for LockedOrder { order, version, .. } in change_set.changed_orders() {
            columns.user_id.push(order.user.get());
            columns.order_no.push(number(&order.order_no));
            columns.version.push(narrow(*version)?);
            columns.state.push(narrow(order.state.number())?);
            columns.state_version.push(narrow(order.state_version)?);
            columns.returned.push(order.returned);
        }
        Ok(columns)
    }
}

/// Steps as the arrays that [`WRITE`] takes.
#[derive(Default)]
struct Steps<'c> {
    order_no: Vec<Uuid>,
    state_version: Vec<i32>,
    user_id: Vec<i64>,
    step: Vec<i16>,
    from_state: Vec<i16>,
    to_state: Vec<i16>,
    by: Vec<&'static str>,
    event_id: Vec<Option<&'c str>>,
}

impl<'c> Steps<'c> {
    fn of(change_set: &'c ChangeSet<'_>) -> Result<Self, Error> {
        let mut columns = Steps::default();
        for (user, order_no, step) in &change_set.steps {
            let (by, event_id) = columns::actor_columns(&step.by);
            columns.order_no.push(number(order_no));
            columns.state_version.push(narrow(step.state_version)?);
            columns.user_id.push(user.get());
            columns.step.push(narrow(step.step.number())?);
            columns.from_state.push(narrow(step.from.number())?);
            columns.to_state.push(narrow(step.to.number())?);
            columns.by.push(by);
            columns.event_id.push(event_id);
        }
        Ok(columns)
    }
}

const SELECT_STEPS: &str = "SELECT s.state_version, s.step, s.from_state, s.to_state, s.by, s.event_id, s.at \
     FROM order_steps s WHERE s.order_no = $1 AND s.user_id = $2 ORDER BY s.state_version";

/// The steps of a user's order, oldest first.
pub(super) async fn of_order(
    sql: &mut PgConnection,
    user: UserId,
    order_no: OrderNo,
) -> Result<Vec<StepRecord>, Error> {
    let step = |row: &PgRow| {
        let number = |column| Ok::<_, Error>(i64::from(row.try_get::<i16, _>(column)?));
        let state = |column| State::from_number(number(column)?).ok_or_else(|| read::unreadable(row, column));
        Ok(StepRecord {
            state_version: read::unsigned(row, 0)?,
            step: Step::from_number(number(1)?).ok_or_else(|| read::unreadable(row, 1))?,
            from: state(2)?,
            to: state(3)?,
            by: columns::actor(row.try_get(4)?, row.try_get(5)?).ok_or_else(|| read::unreadable(row, 4))?,
            at: row.try_get(6)?,
        })
    };
    let select = sqlx::query(SELECT_STEPS).bind(number(&order_no)).bind(user.get());
    select.fetch_all(sql).await?.iter().map(step).collect()
}

fn number(order_no: &OrderNo) -> Uuid {
    Uuid::from_bytes(*order_no.as_bytes())
}

/// A number as a narrower column has it.
fn narrow<From, To: TryFrom<From>>(number: From) -> Result<To, Error> {
    To::try_from(number).map_err(|_| Error::Corrupt("an order is out of range".to_owned()))
}
