//! Orders that were not paid in time.
//!
//! A reader looks for them, several times a second, so that the writer is disturbed only when there are some.

use rusqlite::{Connection, params};

use super::read;
use crate::clock::UnixMs;
use crate::ledger::Error;
use crate::order::{Order, OrderNo, State, UserId};

/// An order past its deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DueOrder {
    deadline: UnixMs,
    /// As in the row: a number that does not parse breaks its own order and not the search.
    user: i64,
    pub(super) order_no: OrderNo,
}

/// The sales with unpaid orders. Most sales of a ledger have none, so the index leads to the next sale that has.
const SELECT_SALES: &str = "WITH RECURSIVE unpaid (sale_no) AS (SELECT min(sale_no) FROM orders WHERE state = 0 \
         UNION ALL SELECT (SELECT min(o.sale_no) FROM orders o WHERE o.state = 0 AND o.sale_no > unpaid.sale_no) \
         FROM unpaid WHERE unpaid.sale_no IS NOT NULL) \
     SELECT a.no, a.payment_timeout_s FROM unpaid CROSS JOIN sales a ON a.no = unpaid.sale_no \
     WHERE a.payment_timeout_s IS NOT NULL";
const SELECT_DUE: &str = "SELECT created_at, user_id, order_no FROM orders \
     WHERE state = 0 AND sale_no = ?1 AND created_at <= ?2 ORDER BY created_at LIMIT ?3";

/// Up to `max` orders whose deadline is over at `now_ms`, the oldest deadline first, without `left_out`.
pub(super) fn due(
    connection: &Connection,
    now_ms: UnixMs,
    max: u32,
    left_out: &[OrderNo],
) -> Result<Vec<DueOrder>, Error> {
    let mut select_sales = connection.prepare_cached(SELECT_SALES)?;
    let sales = select_sales.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut select_due = connection.prepare_cached(SELECT_DUE)?;
    let room = usize::try_from(max).unwrap_or(usize::MAX);
    let rows = i64::from(max).saturating_add(i64::try_from(left_out.len()).unwrap_or(i64::MAX));
    let mut due: Vec<DueOrder> = Vec::new();
    for sale in sales {
        let (sale_no, timeout_s): (i64, i64) = sale?;
        let timeout_ms = timeout_s.saturating_mul(1000);
        // When there is no room left, only what is older than the last of them counts.
        let until = due.last().filter(|_| due.len() >= room).map_or(now_ms, |last| last.deadline);
        let found = select_due.query_map(params![sale_no, until.saturating_sub(timeout_ms), rows], |row| {
            let deadline = row.get::<_, UnixMs>(0)?.saturating_add(timeout_ms);
            Ok(DueOrder { deadline, user: row.get(1)?, order_no: OrderNo::from_bytes(row.get(2)?) })
        })?;
        let found = found.collect::<Result<Vec<_>, rusqlite::Error>>()?;
        due.extend(found.into_iter().filter(|due| !left_out.contains(&due.order_no)));
        due.sort_by_key(|due| due.deadline);
        due.truncate(room);
    }
    Ok(due)
}

/// Those of the orders that are still unpaid.
pub(super) fn unpaid(connection: &Connection, due: &[DueOrder]) -> Result<Vec<Order>, Error> {
    let mut orders = Vec::with_capacity(due.len());
    for DueOrder { user, order_no, .. } in due {
        let order = read::find(connection, parse_user(*user, order_no)?, *order_no)?;
        orders.extend(order.filter(|order| order.state == State::PendingPayment));
    }
    Ok(orders)
}

fn parse_user(number: i64, order_no: &OrderNo) -> Result<UserId, Error> {
    let user = u64::try_from(number).ok().and_then(|id| UserId::new(id).ok());
    user.ok_or_else(|| Error::Corrupt(format!("order {order_no} is of user {number}, who cannot be")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::sqlite::open;

    /// A ledger's tables, with sales of these time-outs, in seconds.
    fn ledger(timeouts_s: &[Option<i64>]) -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        for statements in open::MIGRATIONS {
            connection.execute_batch(statements).unwrap();
        }
        for (no, timeout_s) in (1_i64..).zip(timeouts_s) {
            let insert = "INSERT INTO sales VALUES (?1, ?1, NULL, NULL, 'request', NULL, ?2, 'replay', 0, 1, \
                 zeroblob(32), 1, 'ended', 0, 0, 'UTC')";
            connection.execute(insert, params![no, timeout_s]).unwrap();
        }
        connection
    }

    /// An order in a state, of user and number `n`.
    fn add(connection: &Connection, n: i64, sale_no: i64, state: State, created_at: UnixMs) {
        let number = u128::try_from(n).unwrap().to_be_bytes();
        let insert = "INSERT INTO orders (user_id, order_no, sale_no, sku_no, quantity, state, state_version, \
             fingerprint, epoch, created_at, updated_at) VALUES (?1, ?2, ?3, 1, 1, ?4, 1, ?2, 1, ?5, ?5)";
        connection.execute(insert, params![n, number, sale_no, state.number(), created_at]).unwrap();
    }

    fn users(connection: &Connection, now_ms: UnixMs, max: u32) -> Vec<i64> {
        due(connection, now_ms, max, &[]).unwrap().iter().map(|due| due.user).collect()
    }

    #[test]
    fn the_oldest_deadline_of_all_sales_comes_first() {
        let connection = ledger(&[Some(10), Some(1), None, Some(5), Some(7)]);
        for (n, sale_no, created_at) in
            [(1, 1, 0), (2, 1, 3_000), (3, 2, 9_500), (4, 2, 8_500), (5, 3, 0), (6, 4, 5_001), (7, 4, 4_000)]
        {
            add(&connection, n, sale_no, State::PendingPayment, created_at);
        }
        for (n, state) in (8..).zip(State::ALL.into_iter().filter(|state| *state != State::PendingPayment)) {
            add(&connection, n, 1, state, 0);
        }
        // Deadlines: 7 at 9,000, 4 at 9,500, 1 at 10,000, 6 at 10,001, 3 at 10,500, 2 at 13,000; 5 has none.
        let all = [7, 4, 1, 6, 3, 2];
        for (now_ms, count) in [(8_999, 0), (9_000, 1), (9_999, 2), (10_000, 3), (10_001, 4), (13_000, 6)] {
            assert_eq!(users(&connection, now_ms, 99), all[..count], "at {now_ms}");
        }
        for max in 0..=7 {
            let count = all.len().min(usize::try_from(max).unwrap());
            assert_eq!(users(&connection, 99_999, max), all[..count], "at most {max}");
        }
    }

    /// However many orders a ledger has, looking for those past their deadline reads none of the others.
    #[test]
    fn unpaid_orders_are_found_by_their_index() {
        let connection = ledger(&[Some(1)]);
        let plan = |statement: &str, values: &[i64]| {
            let mut explain = connection.prepare(&format!("EXPLAIN QUERY PLAN {statement}")).unwrap();
            let rows = explain.query_map(rusqlite::params_from_iter(values), |row| row.get::<_, String>(3)).unwrap();
            rows.collect::<Result<Vec<_>, _>>().unwrap()
        };
        let found = plan(SELECT_DUE, &[1, 1, 1]);
        assert_eq!(found, ["SEARCH orders USING INDEX orders_unpaid (sale_no=? AND created_at<?)"]);
        let found = plan(SELECT_SALES, &[]);
        let on_orders = found.iter().filter(|line| line.contains("orders") || line.contains(" o "));
        assert_eq!(on_orders.clone().count(), 2, "{found:?}");
        for line in on_orders {
            assert!(line.starts_with("SEARCH") && line.contains("COVERING INDEX orders_unpaid"), "{found:?}");
        }
        assert!(found.iter().any(|line| line.starts_with("SEARCH a USING INTEGER PRIMARY KEY")), "{found:?}");
        assert!(!found.iter().any(|line| line.contains("TEMP B-TREE")), "{found:?}");
    }
}
