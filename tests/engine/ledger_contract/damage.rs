//! The embedded ledger's file: opening it in every condition, and an audit that finds what is broken in it.

use std::path::PathBuf;

use rushgate::ledger::{AppendOutcome, Error, Ledger, SqliteLedger, SqliteOpenError};
use rushgate::order::{History, Rules, State};
use rusqlite::Connection;
use tempfile::TempDir;

use super::lifecycle::way_to;
use super::{Books, Home, Kind, limited};
use crate::world::{PATIENCE, new_sale, open};

fn file(directory: &TempDir) -> PathBuf {
    directory.path().join("rushgate.db")
}

fn directory(books: &Books) -> &TempDir {
    match &books.home {
        Home::Directory(directory) => directory,
        Home::Database(url) => panic!("{url} is no directory"),
    }
}

/// A ledger with a sale of two skus and two shards, in which eight users have two units each.
async fn used() -> Books {
    let rules = Rules { shards: 2, ..limited(5) };
    let books = Books::new(Kind::Sqlite, new_sale("s", rules, &[("a", 20), ("b", 20)])).await;
    let wishes: Vec<_> = (1..=8).map(|user| books.wish(user, "k", 2)).collect();
    assert!(books.append(&wishes).await.iter().all(|answer| matches!(answer, AppendOutcome::Created { .. })));
    books
}

/// What the ledger does in the background, done at once: so nothing moves between the damage and the audit.
const UP_TO_DATE: &str = "INSERT OR IGNORE INTO order_numbers SELECT order_no, user_id FROM orders;
     UPDATE order_numbers_upto SET seq = 1000";

/// Closes the ledger, breaks its file with `statements`, opens it again and says which checks fail.
async fn failing_after(statements: &str) -> Vec<&'static str> {
    let mut books = used().await;
    books.assert_balanced().await;
    books.ledger.close().await;
    let connection = Connection::open(file(directory(&books))).unwrap();
    connection.execute_batch("PRAGMA ignore_check_constraints = ON; PRAGMA foreign_keys = OFF").unwrap();
    connection.execute_batch(UP_TO_DATE).unwrap();
    connection.execute_batch(statements).unwrap();
    connection.close().unwrap();
    books.ledger = open(directory(&books));
    let checks = books.ledger.audit(Some(books.sale.no)).await.unwrap();
    assert_eq!(checks, books.ledger.audit(None).await.unwrap(), "one sale is the whole ledger here");
    checks.into_iter().filter(|check| !check.ok).map(|check| check.name).collect()
}

/// A step of a user's order, of which `numbers` are its own, that of the state it led from, and that of the next.
fn step(user_id: u64, version: u32, numbers: &str) -> String {
    format!(
        "INSERT INTO order_steps SELECT order_no, {version}, user_id, {numbers}, 'operator', NULL, 0 \
         FROM orders WHERE user_id = {user_id};\n"
    )
}

const PAID: &str = "UPDATE orders SET state = 2, state_version = 2 WHERE user_id = 3";
const SHIPPED: &str = "UPDATE orders SET state = 3, state_version = 3 WHERE user_id = 3";
const PARKED: &str = "INSERT INTO payment_reports SELECT 'standard', 'e', 'payment.refunded', 'refunded', order_no, 'r', 5, \
     'CNY', 0, 1, 'parked', 0 FROM orders WHERE user_id = 3";

#[tokio::test]
async fn an_audit_names_what_is_broken() {
    for (check, statements) in [
        ("never_oversold", "UPDATE segments SET held = total + 1 WHERE shard = 1"),
        ("never_oversold", "UPDATE segments SET sold = -1 WHERE shard = 0"),
        ("segments_add_up", "UPDATE segments SET total = total + 1 WHERE sku_no = 1 AND shard = 0"),
        ("segments_add_up", "DELETE FROM segments WHERE sku_no = 2 AND shard = 1"),
        ("restocks_add_up", "UPDATE skus SET total = total + 1; UPDATE segments SET total = total + 1 WHERE shard = 0"),
        ("segments_add_up", "DELETE FROM segments WHERE sku_no = 1"),
        ("user_limits_hold", "INSERT INTO buyers VALUES (1, 999, 5)"),
        ("restocks_add_up", "INSERT INTO restocks VALUES (1, 'c', 1, 5, 0)"),
        ("orders_match_stock", "DELETE FROM orders WHERE user_id = 3"),
        ("orders_match_stock", "UPDATE orders SET quantity = 1 WHERE user_id = 3"),
        ("orders_match_stock", "UPDATE orders SET sku_no = 2 WHERE user_id = 3"),
        ("orders_match_stock", "UPDATE orders SET state = 2 WHERE user_id = 3"),
        ("orders_match_stock", "UPDATE orders SET state = 4 WHERE user_id = 3"),
        ("orders_match_stock", "UPDATE segments SET held = held - 1, sold = sold + 1 WHERE shard = 1"),
        ("orders_belong", "UPDATE orders SET sku_no = 99 WHERE user_id = 3"),
        ("orders_belong", "UPDATE orders SET state = 8 WHERE user_id = 3"),
        ("orders_belong", "UPDATE orders SET state_version = 0 WHERE user_id = 3"),
        (
            "one_order_per_operation",
            "INSERT INTO orders SELECT 99, user_id + 100, order_no, sale_no, sku_no, \
             quantity, state, state_version, fingerprint, epoch, created_at, updated_at, returned FROM orders WHERE user_id = 3",
        ),
        ("numbers_find_orders", "DELETE FROM order_numbers"),
        ("numbers_find_orders", "UPDATE order_numbers SET user_id = user_id + 1"),
        ("user_limits_hold", "UPDATE buyers SET units = 1 WHERE user_id = 3"),
        ("user_limits_hold", "DELETE FROM buyers WHERE user_id = 3"),
        ("user_limits_hold", "UPDATE sales SET user_limit = 1"),
        ("steps_lead_to_state", "UPDATE orders SET state = 2 WHERE user_id = 3"),
        ("steps_lead_to_state", "UPDATE orders SET state = 1 WHERE user_id = 3"),
        ("steps_lead_to_state", "UPDATE orders SET state_version = 2 WHERE user_id = 3"),
        ("steps_lead_to_state", "UPDATE sales SET payment_timeout_s = NULL"),
        ("steps_lead_to_state", &step(3, 2, "0, 0, 2")),
        ("steps_lead_to_state", &(step(3, 2, "0, 0, 2") + "UPDATE orders SET state = 2 WHERE user_id = 3")),
        ("steps_lead_to_state", &(step(3, 3, "0, 0, 2") + PAID)),
        ("steps_lead_to_state", &(step(3, 2, "4, 0, 2") + PAID)),
        ("steps_lead_to_state", &(step(3, 2, "3, 1, 3") + SHIPPED)),
        ("steps_lead_to_state", &(step(3, 2, "0, 0, 2") + &step(3, 3, "3, 1, 3") + SHIPPED)),
        ("steps_lead_to_state", &(step(3, 2, "0, 0, 2") + &step(3, 4, "3, 2, 3") + SHIPPED)),
        ("steps_lead_to_state", "INSERT INTO order_steps VALUES (zeroblob(16), 2, 3, 0, 0, 2, 'buyer', NULL, 0)"),
        ("units_come_back_once", "UPDATE orders SET returned = 1 WHERE user_id = 3"),
        ("units_come_back_once", "UPDATE orders SET state = 4 WHERE user_id = 3"),
        ("units_come_back_once", "UPDATE orders SET state = 6 WHERE user_id = 3"),
        ("units_come_back_once", "UPDATE segments SET returned = 2 WHERE sku_no = 1 AND shard = 1"),
        ("units_come_back_once", "UPDATE segments SET returned = -1 WHERE sku_no = 1 AND shard = 1"),
        (
            "units_come_back_once",
            "UPDATE orders SET state = 2, returned = 1 WHERE user_id = 3; \
             UPDATE segments SET returned = 2 WHERE sku_no = 1 AND shard = 1",
        ),
        ("no_refund_waits_in_vain", &(step(3, 2, "0, 0, 2") + PAID + "; " + PARKED)),
    ] {
        let failing = failing_after(statements).await;
        assert!(failing.contains(&check), "after {statements:?}, {check} is not among {failing:?}");
    }
}

#[tokio::test]
async fn an_audit_follows_every_state() {
    // Held, sold or given back: each state's units must be counted where the table of states has them.
    for state in State::ALL {
        let number = state.number();
        let gives_back = matches!(state, State::Cancelled | State::Expired | State::RefundDue);
        let returned = i64::from(gives_back);
        let sold = i64::from(!gives_back && state != State::PendingPayment) * 2;
        let held = i64::from(state == State::PendingPayment) * 2;
        let steps = way_to(state);
        let (mut from, mut version) = (State::PendingPayment, 1);
        let mut taken = String::new();
        for taken_step in steps {
            let to = from.after(*taken_step).unwrap();
            version += 1;
            let numbers = format!("{}, {}, {}", taken_step.number(), from.number(), to.number());
            taken += &step(4, version, &numbers);
            from = to;
        }
        let failing = failing_after(&format!(
            "{taken}
             UPDATE orders SET state = {number}, state_version = {version}, returned = {returned} WHERE user_id = 4;
             UPDATE segments SET held = held - 2 + {held}, sold = sold + {sold}, returned = {returned} * 2
             WHERE sku_no = 1 AND shard = 0;
             UPDATE buyers SET units = {held} + {sold} WHERE user_id = 4"
        ))
        .await;
        // A sale with a payment step has no order that began without one.
        let wrong: &[&str] = if state == State::Confirmed { &["steps_lead_to_state"] } else { &[] };
        assert_eq!(failing, wrong, "{state:?}");
    }
}

#[tokio::test]
async fn an_order_is_found_by_its_number_before_and_after_it_is_indexed() {
    let books = used().await;
    let wishes: Vec<_> = (1..=8).map(|user| books.wish(user, "k", 2)).collect();
    let found = async |ledger: &dyn Ledger| {
        for wish in &wishes {
            let row = ledger.find(None, wish.reservation.order_no).await.unwrap();
            assert_eq!(row, ledger.find(Some(wish.reservation.user), wish.reservation.order_no).await.unwrap());
            assert!(row.is_some());
        }
    };
    found(books.ledger.as_ref()).await;
    let connection = Connection::open(file(directory(&books))).unwrap();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let indexed: i64 = connection.query_row("SELECT count(*) FROM order_numbers", [], |row| row.get(0)).unwrap();
        if indexed == 8 {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "only {indexed} numbers are indexed");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    found(books.ledger.as_ref()).await;
    drop(connection);
    books.assert_balanced().await;
    books.ledger.close().await;
    found(open(directory(&books)).as_ref()).await;
}

/// A counter that a step must find and does not: the step is refused, and leaves nothing behind.
#[tokio::test]
async fn a_step_in_a_broken_ledger_leaves_nothing() {
    for statement in ["DELETE FROM buyers WHERE user_id = 3", "DELETE FROM segments WHERE sku_no = 1 AND shard = 1"] {
        let mut books = used().await;
        let rows = [books.row(&books.wish(3, "k", 2)).await, books.row(&books.wish(4, "k", 2)).await];
        books.ledger.close().await;
        let connection = Connection::open(file(directory(&books))).unwrap();
        connection.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
        connection.execute_batch(statement).unwrap();
        connection.close().unwrap();
        books.ledger = open(directory(&books));
        let expired = books.ledger.expire(i64::MAX, 99).await.unwrap();
        let is_broken = |user: u64| !expired.iter().any(|expired| expired.order.user.get() as u64 == user);
        let count = (1..=8).filter(|user| is_broken(*user)).count();
        assert!(count > 0 && count < 8, "{statement}: some are broken, and the others expire");
        for row in rows.into_iter().filter(|row| is_broken(row.user.get() as u64)) {
            let found = books.ledger.find(Some(row.user), row.order_no).await.unwrap();
            assert_eq!(found, Some(row), "{statement}");
            let history = books.ledger.history(row.user, row.order_no).await.unwrap();
            assert_eq!(history, History::default(), "{statement}");
        }
    }
}

#[tokio::test]
async fn a_ledger_file_has_one_process() {
    let books = used().await;
    assert!(matches!(SqliteLedger::open(&file(directory(&books))), Err(SqliteOpenError::Locked(_))));
    books.ledger.close().await;
    let again = open(directory(&books));
    assert_eq!(again.sales(0).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_ledger_of_a_newer_program_is_refused() {
    let books = used().await;
    books.ledger.close().await;
    let connection = Connection::open(file(directory(&books))).unwrap();
    connection.execute_batch("PRAGMA user_version = 99").unwrap();
    connection.close().unwrap();
    let refused = SqliteLedger::open(&file(directory(&books))).err();
    assert!(matches!(refused, Some(SqliteOpenError::TooNew { found: 99, .. })), "{refused:?}");
}

#[tokio::test]
async fn a_file_that_is_no_ledger_is_refused() {
    let directory = TempDir::new().unwrap();
    std::fs::write(file(&directory), b"not a database, and long enough to be told from an empty one".repeat(99))
        .unwrap();
    let refused = SqliteLedger::open(&file(&directory)).err();
    assert!(matches!(refused, Some(SqliteOpenError::Sqlite(..))), "{refused:?}");
}

#[tokio::test]
async fn a_ledger_dropped_without_closing_keeps_every_order() {
    let books = used().await;
    let wish = books.wish(1, "k", 2);
    let row = books.row(&wish).await;
    let Books { name, home, ledger, sale } = books;
    drop(ledger);
    let ledger = home.open().await;
    let books = Books { name, home, ledger, sale };
    assert_eq!(books.row(&wish).await, row);
    assert_eq!(books.append_one(&wish).await, AppendOutcome::Exists(row));
    books.assert_balanced().await;
}

#[tokio::test]
async fn the_files_of_a_killed_process_hold_every_order() {
    let books = used().await;
    let rows = books.orders(1, None, 100).await;
    // What a crash leaves behind: the file, and the log that was not folded into it.
    let crashed = TempDir::new().unwrap();
    for name in ["rushgate.db", "rushgate.db-wal"] {
        std::fs::copy(directory(&books).path().join(name), crashed.path().join(name)).unwrap();
    }
    assert!(std::fs::metadata(crashed.path().join("rushgate.db-wal")).unwrap().len() > 0);
    let books = Books { ledger: open(&crashed), home: Home::Directory(crashed), ..books };
    assert_eq!(books.orders(1, None, 100).await, rows);
    assert_eq!(books.ledger.find(None, rows[0].order_no).await.unwrap(), Some(rows[0]));
    assert_eq!(books.level(0, 1).await.held, 8);
    books.assert_balanced().await;
}

#[tokio::test]
async fn nothing_can_be_asked_of_a_closed_ledger() {
    let books = used().await;
    books.ledger.close().await;
    books.ledger.close().await;
    assert!(books.ledger.sales(0).await.is_err());
    assert!(books.ledger.append(vec![books.wish(1, "l", 1)]).await.is_err());
}

#[tokio::test]
async fn a_probe_writes_to_the_file() {
    let books = used().await;
    let log = directory(&books).path().join("rushgate.db-wal");
    let written = || std::fs::metadata(&log).unwrap().len();
    let before = written();
    books.ledger.probe().await.unwrap();
    assert!(written() > before, "what is written need not change anything");
    let other = Connection::open(file(directory(&books))).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = books.ledger.probe().await;
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    other.execute_batch("COMMIT").unwrap();
    books.ledger.probe().await.unwrap();
    books.assert_balanced().await;
}
