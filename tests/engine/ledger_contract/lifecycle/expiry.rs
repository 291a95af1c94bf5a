//! Orders that are not paid in time, and what a gate is told of units that come back.

use std::collections::BTreeSet;

use rushgate::ledger::{Entry, EpochRequest, ExpiredOrder, Returned, StepOutcome, StepRequest};
use rushgate::order::{Actor, Epoch, Order, OrderNo, Rules, SkuLevel, State, Step, StepRecord, Switch};
use tokio::task::JoinSet;

use super::super::{Books, CREATED, ledgers, limited};
use super::{LATE, asked, done, free};
use crate::world::{NOON, PATIENCE, made, new_sale, rules};

impl Books {
    async fn expire(&self, now_ms: i64, max: u32) -> Vec<ExpiredOrder> {
        self.ledger.expire(now_ms, max).await.unwrap()
    }

    /// Records orders, made at these times after noon, one per user from 1.
    async fn made_at(&self, after_ms: &[i64]) -> Vec<Entry> {
        let mut wishes = Vec::new();
        for (user_id, after_ms) in (1..).zip(after_ms) {
            let mut wish = self.wish(user_id, "k", 1);
            wish.reservation.created_at = NOON + after_ms;
            assert_eq!(self.append_one(&wish).await, CREATED, "{}", self.name);
            wishes.push(wish);
        }
        wishes
    }
}

fn numbers(expired: &[ExpiredOrder]) -> Vec<OrderNo> {
    expired.iter().map(|expired| expired.order.order_no).collect()
}

fn number(wish: &Entry) -> OrderNo {
    wish.reservation.order_no
}

#[tokio::test]
async fn an_order_expires_when_its_time_to_pay_is_over() {
    for kind in ledgers() {
        let mut books = Books::new(kind, new_sale("s", limited(5), &[("a", 9)])).await;
        let name = books.name;
        let wish = books.taken_through(1, "k", &[]).await;
        let made = books.row(&wish).await;
        assert_eq!(books.expire(LATE - 1, 100).await, [], "{name}: a moment before");
        let expired = Order { state: State::Expired, state_version: 2, updated_at: LATE, returned: true, ..made };
        assert_eq!(
            books.expire(LATE, 100).await,
            [ExpiredOrder { order: expired, returned: Returned { epoch: None } }],
            "{name}"
        );
        assert_eq!(books.expire(LATE + 1, 100).await, [], "{name}: once");
        books.reopen().await;
        assert_eq!(books.row(&wish).await, expired, "{name}");
        assert_eq!(books.level(0, 0).await, SkuLevel { total: 9, held: 0, sold: 0, returned: 2 }, "{name}");
        let step = StepRecord {
            state_version: 2,
            step: Step::Expire,
            from: State::PendingPayment,
            to: State::Expired,
            by: Actor::Deadline,
            at: LATE,
        };
        assert_eq!(books.history(&wish).await.steps, [step], "{name}");
        assert_eq!(books.append_one(&books.wish(1, "again", 5)).await, CREATED, "{name}: the user has none left");
        books.assert_balanced().await;
    }
}

#[tokio::test]
async fn the_oldest_expire_first_and_no_more_than_asked() {
    for kind in ledgers() {
        let books = Books::new(kind, new_sale("s", rules(2), &[("a", 90)])).await;
        let name = books.name;
        let wishes = books.made_at(&[50, 10, 40, 20, 30]).await;
        assert_eq!(books.expire(LATE + 50, 0).await, [], "{name}");
        let first = books.expire(LATE + 50, 2).await;
        assert_eq!(numbers(&first), [number(&wishes[1]), number(&wishes[3])], "{name}");
        let rest = books.expire(LATE + 49, 9).await;
        assert_eq!(numbers(&rest), [number(&wishes[4]), number(&wishes[2])], "{name}");
        assert_eq!(numbers(&books.expire(LATE + 50, 9).await), [number(&wishes[0])], "{name}");
        books.assert_balanced().await;
    }
}

#[tokio::test]
async fn each_sale_has_its_own_deadline_whatever_became_of_it() {
    for kind in ledgers() {
        let mut books = Books::new(kind, new_sale("s", rules(1), &[("a", 9)])).await;
        let name = books.name;
        let slow = books.made_at(&[0]).await.remove(0);
        let quick = Rules { payment_timeout_s: Some(60), ..rules(3) };
        let mut quick_ones = Vec::new();
        for (n, switch) in [Switch::Running, Switch::Paused, Switch::Ended].into_iter().enumerate() {
            books.sale = made(books.ledger.as_ref(), new_sale(&format!("t{n}"), quick.clone(), &[("a", 9)])).await;
            quick_ones.push(books.made_at(&[n as i64]).await.remove(0));
            books.ledger.switch(books.sale.no, switch).await.unwrap();
        }
        books.sale = made(books.ledger.as_ref(), new_sale("free", free(), &[("a", 9)])).await;
        let confirmed = books.made_at(&[0]).await.remove(0);
        let expected: Vec<_> = quick_ones.iter().map(number).collect();
        assert_eq!(numbers(&books.expire(NOON + 60_002, 9).await), expected, "{name}");
        assert_eq!(numbers(&books.expire(NOON + 899_999, 9).await), [], "{name}");
        // The deadline counts, not the time an order was made: this one is younger and due earlier.
        books.sale = made(books.ledger.as_ref(), new_sale("u", quick, &[("a", 9)])).await;
        let younger = books.made_at(&[800_000]).await.remove(0);
        assert_eq!(numbers(&books.expire(i64::MAX, 9).await), [number(&younger), number(&slow)], "{name}");
        let found = books.ledger.find(None, number(&confirmed)).await.unwrap().unwrap();
        assert_eq!(found.state, State::Confirmed, "{name}: never");
        books.assert_balanced().await;
    }
}

#[tokio::test]
async fn what_is_paid_or_cancelled_does_not_expire() {
    for kind in ledgers() {
        let books = Books::new(kind, new_sale("s", rules(1), &[("a", 90)])).await;
        for (n, step) in [Step::Pay, Step::Cancel].into_iter().enumerate() {
            books.taken_through(n as u64 + 1, "k", &[step]).await;
        }
        assert_eq!(books.expire(LATE, 9).await, [], "{}", books.name);
        books.assert_balanced().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_callers_one_expires_each_order() {
    for kind in ledgers() {
        let books = Books::new(kind, new_sale("s", Rules { shards: 4, ..limited(1) }, &[("a", 400)])).await;
        let name = books.name;
        let wishes: Vec<Entry> = (1..=400).map(|user_id| books.wish(user_id, "k", 1)).collect();
        assert!(books.append(&wishes).await.iter().all(|answer| *answer == CREATED), "{name}");
        let mut callers = JoinSet::new();
        for _ in 0..4 {
            let (ledger, sale) = (books.ledger.clone(), books.sale.no);
            callers.spawn(async move {
                let deadline = tokio::time::Instant::now() + PATIENCE;
                let mut told = Vec::new();
                // A caller that finds nothing may have been left nothing by another that has not committed yet.
                loop {
                    let expired = ledger.expire(LATE, 30).await.unwrap();
                    told.extend(numbers(&expired));
                    let stock = ledger.stock(sale).await.unwrap();
                    if stock[0].iter().all(|level| level.held == 0) {
                        return told;
                    }
                    assert!(tokio::time::Instant::now() < deadline, "orders do not expire");
                }
            });
        }
        let told: Vec<OrderNo> = callers.join_all().await.into_iter().flatten().collect();
        assert_eq!(told.len(), 400, "{name}: none twice");
        assert_eq!(BTreeSet::from_iter(told), wishes.iter().map(number).collect(), "{name}: each");
        books.assert_balanced().await;
    }
}

#[tokio::test]
async fn units_that_come_back_tell_the_newest_epoch() {
    for kind in ledgers() {
        let books = Books::new(kind, new_sale("s", rules(2), &[("a", 90)])).await;
        let name = books.name;
        let back = async |user_id: u64, key_text: &str| {
            let [cancelled, paid, expired] = ["c", "p", "e"].map(|k| format!("{k}{key_text}"));
            let wish = books.taken_through(user_id, &cancelled, &[]).await;
            let by_cancel = done(books.step(&wish, Step::Cancel, "x").await).1;
            let wish = books.taken_through(user_id, &paid, &[]).await;
            let by_pay = done(books.step(&wish, Step::Pay, "x").await).1;
            let back = StepRequest { restock: true, ..asked(&wish, Step::Refund, "y") };
            let by_refund = done(books.ask(back).await).1;
            let wish = books.taken_through(user_id, &expired, &[]).await;
            let by_deadline = books.expire(LATE, 9).await;
            assert_eq!(numbers(&by_deadline), [number(&wish)], "{name}");
            (by_cancel, by_pay, by_refund, by_deadline[0].returned)
        };
        let none = Returned { epoch: None };
        assert_eq!(back(1, "0").await, (Some(none), None, Some(none), none), "{name}: no epoch yet");
        for after in 0..3 {
            let begin = vec![EpochRequest { shard: 1, after: Epoch::new(after) }];
            let epochs = books.ledger.begin_epochs(books.sale.no, begin).await.unwrap();
            let levels = epochs[0].begun.clone().unwrap().levels;
            // What has come back before an epoch is among what it begins with.
            assert_eq!(levels, [books.level(0, 1).await], "{name}");
            let newest = Returned { epoch: Epoch::new(after + 1) };
            let expected = (Some(newest), None, Some(newest), newest);
            assert_eq!(back(3, &after.to_string()).await, expected, "{name}: the shard's own");
        }
        assert_eq!(back(2, "x").await, (Some(none), None, Some(none), none), "{name}: another shard's");
        let wish = books.taken_through(1, "last", &[Step::Cancel]).await;
        let late_payment = books.step(&wish, Step::Pay, "z").await;
        assert!(matches!(late_payment, StepOutcome::Done { returned: None, .. }), "{name}: back before");
        books.assert_balanced().await;
    }
}

/// Orders 1, 4, 5 and 6 of 9 are broken: each of the others expires, in this round and in the next ones.
#[tokio::test]
async fn a_broken_order_does_not_keep_the_others_from_expiring() {
    for kind in ledgers() {
        let mut books = Books::new(kind, new_sale("s", limited(5), &[("a", 99)])).await;
        let name = books.name;
        let wishes = books.made_at(&[0, 1, 2, 3, 4, 5, 6, 7, 8]).await;
        books.damage("DELETE FROM buyers WHERE user_id IN (1, 4, 5, 6)").await;
        let healthy: Vec<OrderNo> = [2, 3, 7, 8, 9].map(|user| number(&wishes[user - 1])).to_vec();
        assert_eq!(numbers(&books.expire(LATE + 8, 3).await), healthy[..3], "{name}: the oldest");
        assert_eq!(numbers(&books.expire(LATE + 8, 9).await), healthy[3..], "{name}: behind the broken ones");
        assert_eq!(books.expire(LATE + 9, 9).await, [], "{name}");
        assert_eq!(books.row(&wishes[0]).await.state, State::PendingPayment, "{name}: nothing of it is written");
        let mend =
            "INSERT INTO buyers (sku_no, user_id, units) SELECT sku_no, user_id, quantity FROM orders WHERE state = 0";
        books.damage(mend).await;
        let mended: Vec<OrderNo> = [1, 4, 5, 6].map(|user| number(&wishes[user - 1])).to_vec();
        assert_eq!(numbers(&books.expire(LATE + 10, 9).await), mended, "{name}: the ledger was repaired");
        books.assert_balanced().await;
    }
}

/// Somebody set a cancelled order back to unpaid by hand: its units are back already.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_revived_by_hand_does_not_keep_the_others_from_expiring() {
    for kind in ledgers() {
        let mut books = Books::new(kind, new_sale("s", limited(5), &[("a", 99)])).await;
        let name = books.name;
        let wishes = books.made_at(&[0, 1, 2]).await;
        books.damage("UPDATE orders SET returned = true WHERE user_id = 1").await;
        let healthy: Vec<OrderNo> = [2, 3].map(|user| number(&wishes[user - 1])).to_vec();
        assert_eq!(numbers(&books.expire(LATE + 2, 9).await), healthy, "{name}");
        assert_eq!(books.row(&wishes[0]).await.state, State::PendingPayment, "{name}: nothing of it is written");
        books.damage("UPDATE orders SET returned = false WHERE user_id = 1").await;
        let mended = [number(&wishes[0])];
        assert_eq!(numbers(&books.expire(LATE + 60_002, 9).await), mended, "{name}: the ledger was repaired");
        books.assert_balanced().await;
    }
}
