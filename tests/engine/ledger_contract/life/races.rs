//! Two changes of one order at the same moment: whichever comes first, it is as if they had come one after the other.

use std::sync::Arc;

use rushgate::ledger::{Change, Entry, Ledger, StepRequest};
use rushgate::order::{OrderNo, Rules, State, Step};
use tokio::sync::Barrier;

use super::super::{Books, Kind, ledgers};
use super::{LATE, asked, payment, refund, word};
use crate::world::{NOON, new_sale, rules};

/// How often each pair meets, in each kind of ledger.
const MEETINGS: u64 = 25;

/// Something that is done to an order.
#[derive(Clone, Copy, Debug)]
enum Deed {
    /// A step under this key.
    Step(Step, &'static str),
    /// A refund whose units go back on sale, under this key.
    GiveBack(&'static str),
    /// A payment is reported, as this event.
    Payment(&'static str),
    /// A refund is reported, as this event.
    Refund(&'static str),
    /// Somebody looks for orders past their deadline.
    Expiry,
}

impl Deed {
    /// Does it to one order and says in a word what came of it.
    async fn on(self, ledger: &dyn Ledger, wish: &Entry) -> String {
        // Events of different orders have different ids.
        let id = |event: &str| format!("{event}-{}", wish.reservation.order_no);
        let change = match self {
            Deed::Step(step, key_text) => Change::Step(asked(wish, step, key_text)),
            Deed::GiveBack(key_text) => {
                Change::Step(StepRequest { restock: true, ..asked(wish, Step::Refund, key_text) })
            }
            Deed::Payment(event) => Change::Report(payment(wish, &id(event))),
            Deed::Refund(event) => Change::Report(refund(wish, &id(event))),
            Deed::Expiry => {
                let expired = ledger.expire(LATE, 100).await.unwrap();
                let numbers: Vec<OrderNo> = expired.iter().map(|expired| expired.order.order_no).collect();
                assert!(numbers.iter().all(|number| *number == wish.reservation.order_no), "all others are settled");
                return format!("expired {}", numbers.len());
            }
        };
        let answers = ledger.change(vec![change], NOON + 5).await.unwrap();
        word(&answers[0])
    }
}

/// Lets two deeds meet on one order after another, each of which is in `state` before.
async fn meet(kind: Kind, before: &[Step], one: Deed, other: Deed) {
    let rules = Rules { shards: 2, user_limit: Some(1_000), ..rules(1) };
    let books = Books::new(kind, new_sale("s", rules, &[("a", 10_000)])).await;
    let (ledger, place) = (books.ledger.as_ref(), format!("{}: {one:?} meets {other:?}", books.name));
    let one_first = {
        let wish = books.taken_through(1, "one-first", before).await;
        let answers = (one.on(ledger, &wish).await, other.on(ledger, &wish).await);
        (answers, outcome(&books, &wish).await)
    };
    let other_first = {
        let wish = books.taken_through(1, "other-first", before).await;
        let answer = other.on(ledger, &wish).await;
        ((one.on(ledger, &wish).await, answer), outcome(&books, &wish).await)
    };
    for n in 0..MEETINGS {
        settle(&books).await;
        let wish = books.taken_through(n % 4 + 1, &format!("k{n}"), before).await;
        let start = Arc::new(Barrier::new(2));
        let begin = |deed: Deed| {
            let (ledger, wish, start) = (books.ledger.clone(), wish.clone(), start.clone());
            tokio::spawn(async move {
                start.wait().await;
                deed.on(ledger.as_ref(), &wish).await
            })
        };
        let (one, other) = (begin(one), begin(other));
        let met = ((one.await.unwrap(), other.await.unwrap()), outcome(&books, &wish).await);
        assert!(
            met == one_first || met == other_first,
            "{place}: {met:?} is neither {one_first:?} nor {other_first:?}"
        );
    }
    books.assert_balanced().await;
}

/// Sees to it that no order is left that may expire.
async fn settle(books: &Books) {
    while !books.ledger.expire(LATE, 100).await.unwrap().is_empty() {}
}

/// How an order stands, and the steps that led there.
async fn outcome(books: &Books, wish: &Entry) -> (State, bool, Vec<Step>) {
    let row = books.row(wish).await;
    (row.state, row.returned, books.history(wish).await.steps.iter().map(|taken| taken.step).collect())
}

async fn meet_on_both(before: &[Step], one: Deed, other: Deed) {
    for kind in ledgers() {
        meet(kind, before, one, other).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_and_pay() {
    meet_on_both(&[], Deed::Step(Step::Cancel, "c"), Deed::Payment("e")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_and_expire() {
    meet_on_both(&[], Deed::Step(Step::Cancel, "c"), Deed::Expiry).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pay_and_expire() {
    meet_on_both(&[], Deed::Payment("e"), Deed::Expiry).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn expire_and_expire() {
    meet_on_both(&[], Deed::Expiry, Deed::Expiry).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ship_and_refund() {
    meet_on_both(&[Step::Pay], Deed::Step(Step::Ship, "s"), Deed::GiveBack("r")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ship_and_a_reported_refund() {
    meet_on_both(&[Step::Pay], Deed::Step(Step::Ship, "s"), Deed::Refund("r")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_and_cancel() {
    meet_on_both(&[], Deed::Step(Step::Cancel, "c"), Deed::Step(Step::Cancel, "d")).await;
    meet_on_both(&[], Deed::Step(Step::Cancel, "c"), Deed::Step(Step::Cancel, "c")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refund_and_refund() {
    meet_on_both(&[Step::Pay], Deed::GiveBack("r"), Deed::Step(Step::Refund, "s")).await;
    meet_on_both(&[Step::Pay], Deed::GiveBack("r"), Deed::GiveBack("r")).await;
    meet_on_both(&[Step::Pay], Deed::GiveBack("r"), Deed::Refund("r")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reported_refund_and_its_payment() {
    meet_on_both(&[], Deed::Refund("r"), Deed::Payment("e")).await;
    meet_on_both(&[Step::Cancel], Deed::Refund("r"), Deed::Payment("e")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_payments_and_one_twice() {
    meet_on_both(&[], Deed::Payment("e"), Deed::Payment("f")).await;
    meet_on_both(&[], Deed::Payment("e"), Deed::Payment("e")).await;
    meet_on_both(&[Step::Expire], Deed::Payment("e"), Deed::Payment("f")).await;
}
