//! Finds an order by its number alone, for operators and payment providers, who do not name the user.
//!
//! Numbers are hashes: an index on them costs a random page per order, as much as the rest of the insert (measured:
//! 7 of 30 µs). An order is hardly ever asked for by number in the second it is placed, so the newest numbers stay in memory
//! and go into their table when the writer is idle, or when there are too many.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, params};

use super::read;
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

    /// Takes in numbers of orders that were just recorded. To be called before they are answered.
    pub(super) fn remember(&self, orders: impl Iterator<Item = (OrderNo, UserId)>) {
        self.recent.lock().extend(orders);
    }

    /// Whether the order's number stands in the table.
    pub(super) fn has(&self, order: &Order) -> bool {
        order.seq <= self.upto.load(Ordering::Relaxed)
    }

    /// The order with this number; with a user, only if it is theirs.
    pub(super) fn find(
        &self,
        connection: &Connection,
        user: Option<UserId>,
        order_no: OrderNo,
    ) -> Result<Option<Order>, Error> {
        let user = match user {
            Some(user) => Some(user),
            None => self.user_of(connection, order_no)?,
        };
        user.map_or(Ok(None), |user| read::find(connection, user, order_no))
    }

    /// The order's user. Memory first: a number leaves it only when its row has been committed.
    fn user_of(&self, connection: &Connection, order_no: OrderNo) -> Result<Option<UserId>, Error> {
        if let Some(user) = self.recent.lock().get(&order_no) {
            return Ok(Some(*user));
        }
        let mut select = connection.prepare_cached(SELECT_USER)?;
        let found: Option<i64> = select.query_row([order_no.as_bytes()], |row| row.get(0)).optional()?;
        Ok(found.and_then(user))
    }

    /// Whether memory holds more numbers than it should.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::sqlite::open;

    /// A ledger's tables, with `count` orders in one of them.
    fn orders(count: i64) -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
        for statements in open::MIGRATIONS {
            connection.execute_batch(statements).unwrap();
        }
        for n in 1..=count {
            let number = u128::try_from(n).unwrap().to_be_bytes();
            let insert = "INSERT INTO orders VALUES (?1, ?1, ?2, 1, 1, 1, 0, 1, ?2, 1, 0, 0, 0)";
            connection.execute(insert, params![n, number]).unwrap();
        }
        connection
    }

    fn number(n: u128) -> OrderNo {
        OrderNo::from_bytes(n.to_be_bytes())
    }

    #[test]
    fn numbers_move_into_their_table_and_leave_nothing_in_memory() {
        let count = limits::SQLITE_NUMBERS_PER_STEP + 1;
        let mut connection = orders(count);
        let numbers = Numbers::load(&connection).unwrap();
        let waiting = |numbers: &Numbers| i64::try_from(numbers.recent.lock().len()).unwrap();
        assert_eq!(waiting(&numbers), count, "what the last process left behind is read back");
        assert!(numbers.catch_up(&mut connection).unwrap());
        assert_eq!(waiting(&numbers), 1, "a step is bounded");
        assert_eq!(numbers.user_of(&connection, number(1)).unwrap(), user(1), "from the table");
        assert_eq!(
            numbers.user_of(&connection, number(count.unsigned_abs().into())).unwrap(),
            user(count),
            "from memory"
        );
        assert!(numbers.catch_up(&mut connection).unwrap());
        assert!(!numbers.catch_up(&mut connection).unwrap(), "nothing is left to do");
        assert_eq!(waiting(&numbers), 0);
        // A repeat of an order whose number stands in the table must not be kept a second time, or memory would grow
        // with every retry.
        let known = read::find(&connection, user(7).unwrap(), number(7)).unwrap().unwrap();
        assert!(numbers.has(&known));
        assert!(!numbers.has(&Order { seq: count + 1, ..known }));
        assert_eq!(numbers.user_of(&connection, number(0)).unwrap(), None);
        assert_eq!(waiting(&Numbers::load(&connection).unwrap()), 0);
    }
}
