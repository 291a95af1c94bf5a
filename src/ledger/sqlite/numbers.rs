//! Finding an order by its number alone, for operators and payment providers, who do not say whose it is.
//!
//! Numbers are hashes: an index on them costs a random page per order, as much as the rest of the insert (measured:
//! 7 of 30 µs). Nobody asks for an order by number in the second it is made, so the newest numbers are kept in memory
//! and go into their table when the writer is idle, or when too many have gathered.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, params};

use super::thread::write;
use crate::ledger::Error;
use crate::limits;
use crate::order::{Order, OrderNo, UserId};

/// The numbers that are not in their table yet.
#[derive(Default)]
pub(super) struct Numbers {
    recent: Mutex<HashMap<OrderNo, UserId, foldhash::fast::RandomState>>,
    /// Every order up to this seq stands in the table. Only the writer thread changes it.
    upto: AtomicI64,
}

const SELECT_RECENT: &str = "SELECT seq, order_no, user_id FROM orders \
     WHERE seq > (SELECT seq FROM order_numbers_upto) ORDER BY seq LIMIT ?1";
const SELECT_UPTO: &str = "SELECT seq FROM order_numbers_upto";
const SELECT_USER: &str = "SELECT user_id FROM order_numbers WHERE order_no = ?1";
const INSERT_NUMBER: &str = "INSERT OR IGNORE INTO order_numbers (order_no, user_id) VALUES (?1, ?2)";
const UPDATE_UPTO: &str = "UPDATE order_numbers_upto SET seq = ?1";

impl Numbers {
    /// Reads the numbers that the last process left behind.
    pub(super) fn load(connection: &Connection) -> Result<Self, rusqlite::Error> {
        let numbers = Numbers::default();
        numbers.upto.store(connection.query_row(SELECT_UPTO, [], |row| row.get(0))?, Ordering::Relaxed);
        let left = recent(connection, i64::MAX)?;
        numbers.remember(left.iter().map(|(_, order_no, user)| (*order_no, *user)));
        Ok(numbers)
    }

    /// Keeps numbers that were just recorded. To be called before anybody is told of them.
    pub(super) fn remember(&self, orders: impl Iterator<Item = (OrderNo, UserId)>) {
        self.recent.lock().extend(orders);
    }

    /// Whether the order's number stands in the table.
    pub(super) fn has(&self, order: &Order) -> bool {
        order.seq <= self.upto.load(Ordering::Relaxed)
    }

    /// Whose order this is. Memory first: a number leaves it only when its row has been committed.
    pub(super) fn user_of(
        &self,
        connection: &Connection,
        order_no: OrderNo,
    ) -> Result<Option<UserId>, rusqlite::Error> {
        if let Some(user) = self.recent.lock().get(&order_no) {
            return Ok(Some(*user));
        }
        let mut select = connection.prepare_cached(SELECT_USER)?;
        let found: Option<i64> = select.query_row([order_no.as_bytes()], |row| row.get(0)).optional()?;
        Ok(found.and_then(user))
    }

    /// Whether more numbers have gathered than should.
    pub(super) fn are_many(&self) -> bool {
        self.recent.lock().len() > limits::SQLITE_NUMBERS_BEHIND_MAX
    }

    /// Moves some of the oldest numbers into their table; answers whether there may be more.
    pub(super) fn catch_up(&self, connection: &mut Connection) -> Result<bool, Error> {
        let moved = write(connection, |connection| {
            let mut moved = recent(connection, limits::SQLITE_NUMBERS_PER_STEP)?;
            let Some((upto, ..)) = moved.last().copied() else { return Ok(moved) };
            // In the order of the table: neighbours share pages.
            moved.sort_unstable_by_key(|(_, order_no, _)| *order_no);
            let mut insert = connection.prepare_cached(INSERT_NUMBER)?;
            for (_, order_no, user) in &moved {
                insert.execute(params![order_no.as_bytes(), user.get()])?;
            }
            connection.prepare_cached(UPDATE_UPTO)?.execute([upto])?;
            Ok(moved)
        })?;
        let Some(upto) = moved.iter().map(|(seq, ..)| *seq).max() else { return Ok(false) };
        self.upto.store(upto, Ordering::Relaxed);
        let mut recent = self.recent.lock();
        for (_, order_no, _) in &moved {
            recent.remove(order_no);
        }
        Ok(true)
    }
}

/// The oldest orders, at most `max`, whose numbers are not in their table.
fn recent(connection: &Connection, max: i64) -> Result<Vec<(i64, OrderNo, UserId)>, rusqlite::Error> {
    let mut select = connection.prepare_cached(SELECT_RECENT)?;
    let rows = select.query_map([max], |row| {
        let (seq, order_no, user_id): (i64, [u8; 16], i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(user(user_id).map(|user| (seq, OrderNo::from_bytes(order_no), user)))
    })?;
    rows.filter_map(Result::transpose).collect()
}

/// The ledger's rows have positive users, under a `CHECK`.
fn user(user_id: i64) -> Option<UserId> {
    u64::try_from(user_id).ok().and_then(|id| UserId::new(id).ok())
}
