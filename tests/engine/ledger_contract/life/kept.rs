//! What is kept of changes: the history, the keys for as long as they are to be kept, and an audit that compares all of it.

use rushgate::ledger::{ChangeOutcome, StepOutcome, StepRequest};
use rushgate::order::{Actor, History, Note, PaymentEvent, Provider, Rules, State, Step, StepRecord, StoredReport};

use super::super::{Books, Home, Kind, ledgers, limited};
use super::{LATE, asked, done, heard, is_done, money, paid_and_counted, payment, reference, refund, report};
use crate::world::{NOON, new_sale, rules, user};

#[tokio::test]
async fn a_history_is_complete_and_in_order() {
    for kind in ledgers() {
        let mut books = Books::new(kind, new_sale("s", rules(1), &[("a", 99)])).await;
        let name = books.name;
        let wish = books.taken_through(1, "k", &[]).await;
        assert_eq!(books.history(&wish).await, History::default(), "{name}: nothing happened yet");
        use rushgate::ledger::Change;
        let at = async |now_ms, change| books.change_at(vec![change], now_ms).await.remove(0);
        let told = async |now_ms, report| at(now_ms, Change::Report(report)).await;
        let failed = report("failed", PaymentEvent::Failed(wish.reservation.order_no));
        let late = payment(&wish, "paid");
        let part = report("part", {
            let whole = money(&wish, "r");
            PaymentEvent::Refunded(rushgate::order::Money { amount: 1, is_total: true, ..whole })
        });
        assert_eq!(told(NOON + 1, failed.clone()).await, ChangeOutcome::Report(heard(Note::NoEffect)), "{name}");
        let cancel = StepRequest { by: Actor::Buyer, ..asked(&wish, Step::Cancel, "x") };
        assert!(is_done(&at(NOON + 2, Change::Step(cancel)).await.step().unwrap()), "{name}");
        assert_eq!(told(NOON + 3, part.clone()).await, ChangeOutcome::Report(heard(Note::Parked)), "{name}");
        assert_eq!(told(NOON + 4, late.clone()).await, ChangeOutcome::Report(paid_and_counted()), "{name}");
        let operator = StepRequest { user: None, by: Actor::Operator, ..asked(&wish, Step::Refund, "y") };
        assert!(is_done(&at(NOON + 5, Change::Step(operator)).await.step().unwrap()), "{name}");
        // What is repeated or refused is no part of it.
        told(NOON + 6, late.clone()).await;
        at(NOON + 7, Change::Step(asked(&wish, Step::Ship, "z"))).await;

        let taken = |state_version, step, from, to, by, at| StepRecord { state_version, step, from, to, by, at };
        let by_provider = Actor::Report(Provider::Standard, reference("paid"));
        let kept = |report, note, at| StoredReport { report, note, at };
        let expected = History {
            steps: vec![
                taken(2, Step::Cancel, State::PendingPayment, State::Cancelled, Actor::Buyer, NOON + 2),
                taken(3, Step::Pay, State::Cancelled, State::RefundDue, by_provider, NOON + 4),
                taken(4, Step::Refund, State::RefundDue, State::Refunded, Actor::Operator, NOON + 5),
            ],
            reports: vec![
                kept(failed, Note::NoEffect, NOON + 1),
                kept(part, Note::Counted, NOON + 3),
                kept(late, Note::Applied, NOON + 4),
            ],
        };
        for _ in 0..2 {
            assert_eq!(books.history(&wish).await, expected, "{name}");
            let other = books.ledger.history(user(2), wish.reservation.order_no).await.unwrap();
            assert_eq!(other, History::default(), "{name}: not told to another");
            books.reopen().await;
        }
        books.assert_balanced().await;
    }
}

#[tokio::test]
async fn keys_are_swept_when_their_time_is_over() {
    for kind in ledgers() {
        let mut books = Books::new(kind, new_sale("s", rules(1), &[("a", 99)])).await;
        let name = books.name;
        let wish = books.taken_through(1, "k", &[]).await;
        let mut answers = Vec::new();
        for n in 0..5 {
            let cancel = StepRequest { keep_until: NOON + 1000 + n, ..asked(&wish, Step::Cancel, &format!("c{n}")) };
            answers.push(done(books.ask(cancel.clone()).await).0);
        }
        assert_eq!(books.ledger.sweep_keys(NOON + 999, 100).await.unwrap(), 0, "{name}: kept until then");
        assert_eq!(books.ledger.sweep_keys(NOON + 1003, 3).await.unwrap(), 3, "{name}: no more than asked");
        assert_eq!(books.ledger.sweep_keys(NOON + 1003, 3).await.unwrap(), 1, "{name}");
        books.reopen().await;
        let last = books.step(&wish, Step::Cancel, "c4").await;
        assert_eq!(last, StepOutcome::Before(answers[4]), "{name}: the last is kept");
        assert_eq!(books.ledger.sweep_keys(LATE, 100).await.unwrap(), 1, "{name}");
        assert_eq!(books.ledger.sweep_keys(i64::MAX, 100).await.unwrap(), 0, "{name}");
        // A key that is forgotten is a new one, and the order's state protects it from a second effect.
        assert!(is_done(&books.step(&wish, Step::Pay, "p").await), "{name}");
        let forgotten = books.step(&wish, Step::Cancel, "c0").await;
        assert_eq!(forgotten, StepOutcome::NotAllowed(State::RefundDue), "{name}");
        books.assert_balanced().await;
    }
}

/// A ledger whose orders have been through everything: user 1 waits for payment, 2 has paid, 3 has got it, 4 has cancelled,
/// 5 was too late, 6 has paid after that and 7 got the money back, 8 too, and the unit is on sale again; a refund of 9 waits.
async fn lived(kind: Kind) -> Books {
    let rules = Rules { shards: 2, ..limited(5) };
    let books = Books::new(kind, new_sale("s", rules, &[("a", 40), ("b", 20)])).await;
    for (user_id, steps) in [
        (1, &[][..]),
        (2, &[Step::Pay]),
        (3, &[Step::Pay, Step::Ship]),
        (4, &[Step::Cancel]),
        (5, &[Step::Expire]),
        (6, &[Step::Expire, Step::Pay]),
        (7, &[Step::Cancel, Step::Pay, Step::Refund]),
        (8, &[Step::Pay]),
    ] {
        books.taken_through(user_id, "k", steps).await;
    }
    let back = StepRequest { restock: true, ..asked(&books.wish(8, "k", 2), Step::Refund, "back") };
    assert!(is_done(&books.ask(back).await));
    let parked = books.taken_through(9, "k", &[]).await;
    assert_eq!(books.record_report(refund(&parked, "r9")).await, heard(Note::Parked));
    books.assert_balanced().await;
    books
}

impl Books {
    /// Runs statements on the ledger's rows while it is closed.
    pub(super) async fn damage(&mut self, statements: &str) {
        self.ledger.close().await;
        match &self.home {
            Home::Directory(directory) => {
                let file = directory.path().join("rushgate.db");
                let connection = rusqlite::Connection::open(file).unwrap();
                connection.execute_batch("PRAGMA ignore_check_constraints = ON").unwrap();
                connection.execute_batch(statements).unwrap();
            }
            Home::Database(url) => {
                let mut sql = <sqlx::PgConnection as sqlx::Connection>::connect(url).await.unwrap();
                sqlx::raw_sql(sqlx::AssertSqlSafe(statements.to_owned())).execute(&mut sql).await.unwrap();
            }
        }
        self.ledger = self.home.open().await;
    }
}

/// What keeps steps from being changed, taken away in the words of each database.
fn without_guard(kind: Kind) -> &'static str {
    match kind {
        Kind::Sqlite => "DROP TRIGGER order_steps_never_change; DROP TRIGGER order_steps_never_vanish;",
        Kind::Postgres => "DROP TRIGGER order_steps_never_change ON order_steps;",
    }
}

#[tokio::test]
async fn an_audit_names_what_is_broken_in_the_life_of_orders() {
    for kind in ledgers() {
        for (check, statements) in [
            ("steps_lead_to_state", "UPDATE orders SET state = 2 WHERE user_id = 3"),
            ("steps_lead_to_state", "UPDATE orders SET state_version = 4 WHERE user_id = 3"),
            ("steps_lead_to_state", "UPDATE orders SET state = 1 WHERE user_id = 3"),
            ("steps_lead_to_state", "UPDATE orders SET state = 2 WHERE user_id = 1"),
            ("steps_lead_to_state", "DELETE FROM order_steps WHERE user_id = 3 AND state_version = 2"),
            ("steps_lead_to_state", "DELETE FROM order_steps WHERE user_id = 3 AND state_version = 3"),
            ("steps_lead_to_state", "UPDATE order_steps SET from_state = 1 WHERE user_id = 3 AND state_version = 3"),
            ("steps_lead_to_state", "UPDATE order_steps SET step = 4 WHERE user_id = 3 AND state_version = 3"),
            ("steps_lead_to_state", "DELETE FROM orders WHERE user_id = 4"),
            ("units_come_back_once", "UPDATE orders SET returned = NOT returned WHERE user_id = 4"),
            ("units_come_back_once", "UPDATE orders SET returned = NOT returned WHERE user_id = 2"),
            ("units_come_back_once", "UPDATE orders SET returned = NOT returned WHERE user_id = 6"),
            ("units_come_back_once", "UPDATE orders SET returned = NOT returned WHERE user_id = 1"),
            ("units_come_back_once", "UPDATE segments SET returned = returned + 1 WHERE shard = 1"),
            ("units_come_back_once", "UPDATE orders SET quantity = 1 WHERE user_id = 4"),
            ("user_limits_hold", "UPDATE orders SET returned = NOT returned WHERE user_id = 8"),
            ("no_refund_waits_in_vain", "UPDATE orders SET state = 2, state_version = 2 WHERE user_id = 9"),
            ("no_refund_waits_in_vain", "UPDATE orders SET state = 7 WHERE user_id = 9"),
            ("no_refund_waits_in_vain", "DELETE FROM orders WHERE user_id = 9"),
        ] {
            let mut books = lived(kind).await;
            books.damage(&format!("{} {statements}", without_guard(kind))).await;
            let checks = books.ledger.audit(Some(books.sale.no)).await.unwrap();
            assert_eq!(checks, books.ledger.audit(None).await.unwrap(), "one sale is the whole ledger here");
            let failing: Vec<_> = checks.iter().filter(|check| !check.ok).map(|check| check.name).collect();
            assert!(failing.contains(&check), "{kind:?}: after {statements:?}, {check} is not among {failing:?}");
        }
    }
}

#[tokio::test]
async fn an_audit_of_one_sale_looks_at_no_other() {
    for kind in ledgers() {
        let mut books = lived(kind).await;
        let other = crate::world::made(books.ledger.as_ref(), new_sale("t", rules(1), &[("a", 1)])).await;
        books.damage("UPDATE orders SET state_version = 9, returned = NOT returned WHERE state = 4").await;
        let checks = books.ledger.audit(Some(other.no)).await.unwrap();
        assert!(checks.iter().all(|check| check.ok), "{checks:?}");
        assert!(!books.ledger.audit(None).await.unwrap().iter().all(|check| check.ok));
    }
}

#[tokio::test]
async fn a_step_that_is_written_cannot_be_changed() {
    for kind in ledgers() {
        let books = lived(kind).await;
        books.ledger.close().await;
        for statement in ["UPDATE order_steps SET at = 0", "DELETE FROM order_steps"] {
            let refused = match &books.home {
                Home::Directory(directory) => {
                    let file = directory.path().join("rushgate.db");
                    let connection = rusqlite::Connection::open(file).unwrap();
                    connection.execute_batch(statement).unwrap_err().to_string()
                }
                Home::Database(url) => {
                    let mut sql = <sqlx::PgConnection as sqlx::Connection>::connect(url).await.unwrap();
                    sqlx::raw_sql(statement).execute(&mut sql).await.unwrap_err().to_string()
                }
            };
            assert!(refused.contains("a step of an order is never"), "{refused}");
        }
    }
}
