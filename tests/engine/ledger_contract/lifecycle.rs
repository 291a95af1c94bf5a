//! What happens to orders after they are made: every step with its units, what is asked twice, what expires, what is kept.

mod expiry;
mod kept;
mod outcomes;
mod races;
mod reports;
mod reused;

use rushgate::ledger::idempotency::{Operation, Scope};
use rushgate::ledger::{
    AppendDenial, AppendOutcome, Change, ChangeOutcome, Entry, ReportOutcome, Returned, StepOutcome, StepRequest,
};
use rushgate::limits::KEY_KEPT_MS;
use rushgate::limits::KEYS_PER_STEP_MAX;
use rushgate::order::{
    Actor, Fingerprint, History, Money, Order, PaymentEvent, Provider, ProviderId, Report, Rules, SkuLevel, State, Step,
};

pub(crate) use self::outcomes::{heard, paid, paid_and_refunded, refunded};
use self::outcomes::{known, paid_and_counted, word};
use super::{Books, CREATED, ledgers, limited};
use crate::world::{NOON, key, new_sale, reservation, rules, user};

/// A sale without a payment step.
fn free() -> Rules {
    Rules { payment_timeout_s: None, ..rules(1) }
}

/// What one unit costs in the tests' sales.
const PRICE: i64 = 1999;

/// When the orders of the tests' sales are past their time to pay.
pub(crate) const LATE: i64 = NOON + 900_000;

pub(crate) fn reference(text: &str) -> ProviderId {
    ProviderId::parse(text).unwrap()
}

/// A buyer's wish for a step of their own order.
pub(crate) fn asked(wish: &Entry, step: Step, key_text: &str) -> StepRequest {
    let (user, order_no) = (wish.reservation.user, wish.reservation.order_no);
    let scope = Scope::new(&[step.as_str(), &user.to_string(), &order_no.to_string()]).unwrap();
    let fingerprint = Fingerprint::of_fields(step.as_str(), &[order_no.as_bytes()]);
    StepRequest {
        order_no,
        user: Some(user),
        step,
        restock: false,
        by: Actor::Buyer,
        operation: Operation { scope, key: key(key_text), fingerprint },
        keep_until: NOON + KEY_KEPT_MS,
    }
}

pub(crate) fn report(event_id: &str, event: PaymentEvent) -> Report {
    let event_type = reference(&format!("payment.{}", event.as_str()));
    Report { provider: Provider::Standard, event_id: reference(event_id), event_type, event }
}

pub(crate) fn money(wish: &Entry, payment_id: &str) -> Money {
    Money {
        order_no: wish.reservation.order_no,
        payment_id: reference(payment_id),
        amount: PRICE * i64::from(wish.reservation.quantity),
        currency: wish.sale.skus[usize::from(wish.reservation.sku)].currency,
        is_total: false,
        is_ours: true,
    }
}

pub(crate) fn payment(wish: &Entry, event_id: &str) -> Report {
    report(event_id, PaymentEvent::Succeeded(money(wish, &format!("pay-{event_id}"))))
}

pub(crate) fn refund(wish: &Entry, event_id: &str) -> Report {
    report(event_id, PaymentEvent::Refunded(money(wish, &format!("refund-{event_id}"))))
}

impl Books {
    async fn change_at(&self, changes: Vec<Change>, now_ms: i64) -> Vec<ChangeOutcome> {
        let count = changes.len();
        let answers = self.ledger.change(changes, now_ms).await.unwrap();
        assert_eq!(answers.len(), count, "{}: one answer per change", self.name);
        answers
    }

    async fn ask(&self, asked: StepRequest) -> StepOutcome {
        self.change_at(vec![Change::Step(asked)], NOON + 5).await.remove(0).step().unwrap()
    }

    async fn step(&self, wish: &Entry, step: Step, key_text: &str) -> StepOutcome {
        self.ask(asked(wish, step, key_text)).await
    }

    async fn record_report(&self, report: Report) -> ReportOutcome {
        self.change_at(vec![Change::Report(report)], NOON + 5).await.remove(0).report().unwrap()
    }

    async fn history(&self, wish: &Entry) -> History {
        self.ledger.history(wish.reservation.user, wish.reservation.order_no).await.unwrap()
    }

    async fn state(&self, wish: &Entry) -> State {
        self.row(wish).await.state
    }

    /// Records an order and takes it through `steps`.
    async fn taken_through(&self, user_id: u64, key_text: &str, steps: &[Step]) -> Entry {
        let wish = self.wish(user_id, key_text, 2);
        let appended = self.append_one(&wish).await;
        assert!(matches!(appended, AppendOutcome::Created { .. }), "{}: {appended:?}", self.name);
        for step in steps {
            let changed = self.step(&wish, *step, "there").await;
            assert!(matches!(changed, StepOutcome::Done { .. }), "{}: {step:?}: {changed:?}", self.name);
        }
        wish
    }
}

/// The order of a step that is done, and the units that went back on sale.
pub(crate) fn done(changed: StepOutcome) -> (Order, Option<Returned>) {
    match changed {
        StepOutcome::Done { order, returned } => (order, returned),
        other => panic!("{other:?}"),
    }
}

fn is_done(changed: &StepOutcome) -> bool {
    matches!(changed, StepOutcome::Done { .. })
}

/// The steps that lead to each state.
pub(super) fn way_to(state: State) -> &'static [Step] {
    match state {
        State::PendingPayment | State::Confirmed => &[],
        State::Paid => &[Step::Pay],
        State::Shipped => &[Step::Pay, Step::Ship],
        State::Cancelled => &[Step::Cancel],
        State::Expired => &[Step::Expire],
        State::RefundDue => &[Step::Cancel, Step::Pay],
        State::Refunded => &[Step::Pay, Step::Refund],
    }
}

#[tokio::test]
async fn a_step_is_written_into_the_order() {
    for kind in ledgers() {
        let mut books = Books::new(kind, new_sale("s", rules(2), &[("a", 10), ("b", 10)])).await;
        let wish = books.entry(reservation(&books.sale, 3, "k", 1, 4));
        books.append_one(&wish).await;
        let made = books.row(&wish).await;
        let (order, returned) = done(books.step(&wish, Step::Pay, "pay").await);
        let paid = Order { state: State::Paid, state_version: 2, updated_at: NOON + 5, ..made };
        assert_eq!((order, returned), (paid, None), "{}", books.name);
        books.reopen().await;
        assert_eq!(books.row(&wish).await, paid, "{}", books.name);
        assert_eq!(books.level(1, 1).await, SkuLevel { total: 5, held: 0, sold: 4, returned: 0 }, "{}", books.name);
        books.assert_balanced().await;
    }
}

#[tokio::test]
async fn every_state_takes_the_steps_of_the_table_and_no_other() {
    for kind in ledgers() {
        for from in State::ALL {
            let rules = if from == State::Confirmed { free() } else { rules(1) };
            let books = Books::new(kind, new_sale("s", Rules { user_limit: Some(99), ..rules }, &[("a", 99)])).await;
            // Each step with and without its units going back on sale; only a refund has the choice.
            for (n, (step, restock)) in Step::ALL.into_iter().flat_map(|s| [(s, false), (s, true)]).enumerate() {
                let place = format!("{}: {from:?} {step:?} {restock}", books.name);
                let wish = books.taken_through(7, &format!("k{n}"), way_to(from)).await;
                let (before, level) = (books.row(&wish).await, books.level(0, 0).await);
                assert_eq!(before.state, from, "{place}");
                let changed = books.ask(StepRequest { restock, ..asked(&wish, step, "tried") }).await;
                let (after, now) = (books.row(&wish).await, books.level(0, 0).await);
                let is_back = !before.returned
                    && (matches!(step, Step::Cancel | Step::Expire) || (step == Step::Refund && restock));
                match from.after(step) {
                    Ok(to) => {
                        let state_version = before.state_version + 1;
                        let returned = before.returned || is_back;
                        let expected = Order { state: to, state_version, updated_at: NOON + 5, returned, ..before };
                        assert_eq!(after, expected, "{place}");
                        let returned = is_back.then_some(Returned { epoch: None });
                        assert_eq!(changed, StepOutcome::Done { order: after, returned }, "{place}");
                    }
                    Err(_) if (from, step) == (State::Cancelled, Step::Cancel) => {
                        assert_eq!(changed, StepOutcome::Done { order: before, returned: None }, "{place}");
                        assert_eq!((after, now), (before, level), "{place}");
                    }
                    Err(_) => {
                        assert_eq!(changed, StepOutcome::NotAllowed(from), "{place}");
                        assert_eq!((after, now), (before, level), "{place}");
                    }
                }
                let units = |order: &Order| match order.state {
                    State::PendingPayment => (2, 0, 0),
                    _ if order.returned => (0, 0, 2),
                    _ => (0, 2, 0),
                };
                let (was, is) = (units(&before), units(&after));
                let moved = (now.held - level.held, now.sold - level.sold, now.returned - level.returned);
                assert_eq!(moved, (is.0 - was.0, is.1 - was.1, is.2 - was.2), "{place}");
                assert_eq!(now.total, level.total, "{place}");
            }
            books.assert_balanced().await;
        }
    }
}

#[tokio::test]
async fn the_same_key_is_answered_as_the_order_stood() {
    for kind in ledgers() {
        let mut books = Books::new(kind, new_sale("s", free(), &[("a", 9)])).await;
        let name = books.name;
        let wish = books.taken_through(1, "k", &[]).await;
        let (shipped, _) = done(books.step(&wish, Step::Ship, "x").await);
        let other = StepRequest {
            operation: Operation {
                fingerprint: Fingerprint::of_fields("z", &[]),
                ..asked(&wish, Step::Ship, "x").operation
            },
            ..asked(&wish, Step::Ship, "x")
        };

        let pending = Books::new(kind, new_sale("s", rules(1), &[("a", 9)])).await;
        let given_up = pending.taken_through(1, "k", &[]).await;
        let (cancelled, _) = done(pending.step(&given_up, Step::Cancel, "x").await);
        assert!(is_done(&pending.step(&given_up, Step::Pay, "y").await), "{name}: it moves on");
        assert!(is_done(&pending.step(&given_up, Step::Refund, "z").await), "{name}: and on");
        let level = pending.level(0, 0).await;
        for now_ms in [NOON + 6, LATE] {
            let again = vec![Change::Step(asked(&given_up, Step::Cancel, "x"))];
            assert_eq!(
                pending.change_at(again, now_ms).await,
                [ChangeOutcome::Step(StepOutcome::Before(cancelled))],
                "{name}"
            );
            assert_eq!(books.step(&wish, Step::Ship, "x").await, StepOutcome::Before(shipped), "{name}");
            assert_eq!(books.ask(other.clone()).await, StepOutcome::OtherContent, "{name}");
            books.reopen().await;
        }
        assert_eq!(
            pending.step(&given_up, Step::Cancel, "other").await,
            StepOutcome::NotAllowed(State::Refunded),
            "{name}"
        );
        assert_eq!(books.step(&wish, Step::Ship, "y").await, StepOutcome::NotAllowed(State::Shipped), "{name}");
        assert_eq!(pending.level(0, 0).await, level, "{name}: nothing moves twice");
        books.assert_balanced().await;
        pending.assert_balanced().await;
    }
}

#[tokio::test]
async fn a_no_uses_no_key_up() {
    for kind in ledgers() {
        let books = Books::new(kind, new_sale("s", rules(1), &[("a", 9)])).await;
        let name = books.name;
        let wish = books.taken_through(1, "k", &[]).await;
        let ship = asked(&wish, Step::Ship, "x");
        assert_eq!(books.ask(ship.clone()).await, StepOutcome::NotAllowed(State::PendingPayment), "{name}");
        let fingerprint = Fingerprint::of_fields("another", &[]);
        let another = StepRequest { operation: Operation { fingerprint, ..ship.operation.clone() }, ..ship.clone() };
        assert_eq!(books.ask(another.clone()).await, StepOutcome::NotAllowed(State::PendingPayment), "{name}");
        assert!(is_done(&books.step(&wish, Step::Pay, "pay").await), "{name}");
        let (shipped, _) = done(books.ask(ship.clone()).await);
        assert_eq!(shipped.state, State::Shipped, "{name}");
        assert_eq!(books.ask(another).await, StepOutcome::OtherContent, "{name}");
        assert_eq!(books.ask(ship).await, StepOutcome::Before(shipped), "{name}");
        books.assert_balanced().await;
    }
}

#[tokio::test]
async fn nobody_changes_the_order_of_another() {
    for kind in ledgers() {
        let books = Books::new(kind, new_sale("s", rules(1), &[("a", 9)])).await;
        let name = books.name;
        let wish = books.taken_through(1, "k", &[]).await;
        let cancel = asked(&wish, Step::Cancel, "x");
        let stranger = StepRequest { user: Some(user(2)), ..cancel.clone() };
        assert_eq!(books.ask(stranger.clone()).await, StepOutcome::NotFound, "{name}");
        let nowhere = asked(&books.wish(1, "none", 1), Step::Cancel, "x");
        assert_eq!(books.ask(nowhere.clone()).await, StepOutcome::NotFound, "{name}");
        // Had the stranger left anything under the key, the buyer would hear of it.
        let (cancelled, _) = done(books.ask(cancel.clone()).await);
        assert_eq!(books.ask(stranger).await, StepOutcome::NotFound, "{name}: nor is the answer told to strangers");
        assert_eq!(books.ask(StepRequest { user: None, ..nowhere }).await, StepOutcome::NotFound, "{name}");
        let operator = StepRequest { user: None, by: Actor::Operator, ..cancel };
        assert_eq!(books.ask(operator).await, StepOutcome::Before(cancelled), "{name}: an operator changes anybody's");
        books.assert_balanced().await;
    }
}

#[tokio::test]
async fn what_is_cancelled_is_cancelled() {
    for kind in ledgers() {
        let books = Books::new(kind, new_sale("s", rules(1), &[("a", 9)])).await;
        let name = books.name;
        let wish = books.taken_through(1, "k", &[]).await;
        let (cancelled, _) = done(books.step(&wish, Step::Cancel, "x").await);
        let again = books.step(&wish, Step::Cancel, "y").await;
        assert_eq!(again, StepOutcome::Done { order: cancelled, returned: None }, "{name}");
        assert_eq!(books.history(&wish).await.steps.len(), 1, "{name}");
        assert!(is_done(&books.step(&wish, Step::Pay, "pay").await), "{name}");
        assert_eq!(
            books.step(&wish, Step::Cancel, "y").await,
            StepOutcome::Before(cancelled),
            "{name}: under its key too"
        );
        books.assert_balanced().await;
    }
}

#[tokio::test]
async fn a_cancellation_under_a_thousand_keys_leaves_a_few() {
    for kind in ledgers() {
        let books = Books::new(kind, new_sale("s", rules(1), &[("a", 9)])).await;
        let wish = books.taken_through(1, "k", &[]).await;
        let (cancelled, _) = done(books.step(&wish, Step::Cancel, "first").await);
        for n in 0..100 {
            let again = books.step(&wish, Step::Cancel, &format!("k{n}")).await;
            assert_eq!(again, StepOutcome::Done { order: cancelled, returned: None }, "{}", books.name);
        }
        assert_eq!(books.step(&wish, Step::Cancel, "first").await, StepOutcome::Before(cancelled), "{}", books.name);
        let kept = books.ledger.sweep_keys(i64::MAX, 1_000).await.unwrap();
        assert_eq!(kept, KEYS_PER_STEP_MAX.unsigned_abs(), "{}", books.name);
    }
}

#[tokio::test]
async fn whose_units_went_back_may_order_again() {
    for kind in ledgers() {
        let books = Books::new(kind, new_sale("s", limited(2), &[("a", 99)])).await;
        let name = books.name;
        for (n, (steps, restock, is_back)) in [
            (&[Step::Cancel][..], false, true),
            (&[Step::Expire], false, true),
            (&[Step::Cancel, Step::Pay], false, true),
            (&[Step::Expire, Step::Pay, Step::Refund], true, true),
            (&[Step::Pay, Step::Refund], true, true),
            (&[Step::Pay, Step::Refund], false, false),
            (&[Step::Pay, Step::Ship], false, false),
        ]
        .into_iter()
        .enumerate()
        {
            let buyer = n as u64 + 1;
            let wish = books.taken_through(buyer, "first", &[]).await;
            let more = books.wish(buyer, "second", 1);
            assert_eq!(
                books.append_one(&more).await,
                AppendOutcome::Denied(AppendDenial::LimitReached),
                "{name}: {steps:?}"
            );
            for step in steps {
                assert!(is_done(&books.ask(StepRequest { restock, ..asked(&wish, *step, "k") }).await), "{name}");
            }
            let expected = if is_back { CREATED } else { AppendOutcome::Denied(AppendDenial::LimitReached) };
            assert_eq!(books.append_one(&more).await, expected, "{name}: {steps:?}");
            let rest = books.append_one(&books.wish(buyer, "third", 2)).await;
            assert_eq!(
                rest,
                AppendOutcome::Denied(AppendDenial::LimitReached),
                "{name}: {steps:?}: not more than before"
            );
        }
        books.assert_balanced().await;
    }
}

#[tokio::test]
async fn a_batch_takes_its_changes_in_turn() {
    for kind in ledgers() {
        let books = Books::new(kind, new_sale("s", Rules { user_limit: Some(9), ..rules(2) }, &[("a", 20)])).await;
        let name = books.name;
        let a = books.taken_through(1, "a", &[]).await;
        let b = books.taken_through(2, "b", &[]).await;
        let c = books.taken_through(3, "c", &[]).await;
        let step = |wish, step, key_text| Change::Step(asked(wish, step, key_text));
        let other = {
            let ship = asked(&b, Step::Ship, "ship");
            let operation = Operation { fingerprint: Fingerprint::of_fields("other", &[]), ..ship.operation };
            Change::Step(StepRequest { operation, ..asked(&b, Step::Ship, "ship") })
        };
        let batch = vec![
            step(&c, Step::Cancel, "x"),
            step(&b, Step::Ship, "ship"),
            step(&a, Step::Pay, "pay"),
            Change::Report(payment(&b, "e1")),
            step(&b, Step::Ship, "ship"),
            Change::Report(payment(&b, "e1")),
            step(&b, Step::Ship, "ship"),
            other,
            step(&c, Step::Cancel, "x"),
            Change::Report(payment(&c, "e2")),
            step(&c, Step::Cancel, "x"),
            Change::Report(refund(&c, "e3")),
            step(&a, Step::Cancel, "x"),
        ];
        let words: Vec<String> = books.change_at(batch, NOON + 5).await.iter().map(word).collect();
        let expected = [
            "done cancelled 2 back",
            "not allowed pending_payment",
            "done paid 2",
            "heard applied",
            "done shipped 3",
            "heard applied",
            "before shipped 3",
            "other content",
            "before cancelled 2",
            "heard applied",
            "before cancelled 2",
            "heard applied",
            "not allowed paid",
        ];
        assert_eq!(words, expected, "{name}");
        let states = [books.state(&a).await, books.state(&b).await, books.state(&c).await];
        assert_eq!(states, [State::Paid, State::Shipped, State::Refunded], "{name}");
        assert_eq!(books.change_at(vec![], NOON).await, [], "{name}");
        books.assert_balanced().await;
    }
}
