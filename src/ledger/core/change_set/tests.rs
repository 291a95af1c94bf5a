//! Steps and reports, decided without a ledger.

use super::*;
use crate::ledger::ReportOutcome;
use crate::ledger::core::effect::tests::order;
use crate::ledger::idempotency::sqlite;
use crate::order::{Key, Money, PaymentEvent};

const SHARD: SaleShard = (SaleNo(1), 4);

/// One order of five units, of user 3.
fn set<'c>(state: State) -> ChangeSet<'c> {
    let locked = LockedOrder::new(order(state, false), SHARD.1, true, 100, Currency::parse("CNY").unwrap());
    ChangeSet::of(vec![locked], 50)
}

fn number() -> OrderNo {
    order(State::Paid, false).order_no
}

fn request(step: Step, key: &str, content: &str) -> StepRequest {
    let scope = Scope::new(&[step.as_str(), "3"]).unwrap();
    let fingerprint = Fingerprint::of_fields(content, &[]);
    StepRequest {
        order_no: number(),
        user: UserId::new(3).ok(),
        step,
        restock: false,
        by: Actor::Buyer,
        operation: Operation { scope, key: Key::parse(key.as_bytes()).unwrap(), fingerprint },
        keep_until: 1_000,
    }
}

/// Takes in that the key of each step is free. Only an idempotency table draws claims: this one is in memory.
fn claim<'c>(set: &mut ChangeSet<'c>, changes: &'c [Change]) {
    let keys = rusqlite::Connection::open_in_memory().unwrap();
    keys.execute_batch(sqlite::SCHEMA).unwrap();
    for step in set.keyed_steps(changes) {
        let acquired = sqlite::acquire(&keys, &step.operation, 50, 0, 1_000).unwrap();
        set.add_key(&step.operation, step.operation.fingerprint, acquired);
    }
}

fn provider_id(text: &str) -> ProviderId {
    ProviderId::parse(text).unwrap()
}

fn report(event_id: &str, paid: bool, payment_id: &str) -> Report {
    let money = Money {
        order_no: number(),
        payment_id: provider_id(payment_id),
        amount: 500,
        currency: Currency::parse("CNY").unwrap(),
        is_total: false,
        is_ours: true,
    };
    let event = if paid { PaymentEvent::Succeeded(money) } else { PaymentEvent::Refunded(money) };
    Report { provider: Provider::Standard, event_id: provider_id(event_id), event_type: provider_id("x"), event }
}

fn recorded(note: Note, steps: [Option<Step>; 2], parked: Option<Note>, is_new: bool) -> ChangeOutcome {
    ChangeOutcome::Report(ReportOutcome::Recorded { note, steps, parked, is_new })
}

#[test]
fn a_batch_is_decided_in_its_order() {
    let changes = [
        Change::Step(request(Step::Ship, "a", "ship")),
        Change::Report(report("e", true, "p")),
        Change::Step(request(Step::Ship, "b", "ship")),
        Change::Step(request(Step::Ship, "b", "ship")),
        Change::Step(request(Step::Ship, "b", "other")),
    ];
    let mut set = set(State::PendingPayment);
    claim(&mut set, &changes);
    set.apply(&changes).unwrap();
    assert_eq!(set.changed_orders().len(), 1);
    assert_eq!(set.steps.iter().map(|(_, _, step)| step.step).collect::<Vec<_>>(), [Step::Pay, Step::Ship]);
    let units = SegmentDelta { held: -5, sold: 5, returned: 0 };
    assert_eq!(set.segments, BTreeMap::from([((SkuNo(1), SHARD.1), units)]));
    assert_eq!(set.answers().len(), 1);
    assert_eq!(set.unused_claims().len(), 1, "of the step that was not allowed");
    let outcomes = set.outcomes(&Epochs::new()).unwrap();
    let ChangeOutcome::Step(StepOutcome::Done { order: shipped, returned: None }) = outcomes[2] else {
        panic!("{outcomes:?}")
    };
    assert_eq!((shipped.state, shipped.state_version), (State::Shipped, 6));
    let expected = [
        ChangeOutcome::Step(StepOutcome::NotAllowed(State::PendingPayment)),
        recorded(Note::Applied, [Some(Step::Pay), None], None, true),
        ChangeOutcome::Step(StepOutcome::Done { order: shipped, returned: None }),
        ChangeOutcome::Step(StepOutcome::Before(shipped)),
        ChangeOutcome::Step(StepOutcome::OtherContent),
    ];
    assert_eq!(outcomes, expected);
}

#[test]
fn units_that_come_back_are_answered_with_the_epoch_of_their_shard() {
    let changes = [Change::Step(request(Step::Cancel, "a", "cancel"))];
    let mut cancel = set(State::PendingPayment);
    claim(&mut cancel, &changes);
    cancel.apply(&changes).unwrap();
    assert_eq!(cancel.returned_in, BTreeSet::from([SHARD]));
    assert_eq!(cancel.user_returns, BTreeMap::from([((SkuNo(1), UserId::new(3).unwrap()), 5)]));
    let outcomes = cancel.outcomes(&Epochs::from([(SHARD, Epoch::new(9))])).unwrap();
    let [ChangeOutcome::Step(StepOutcome::Done { returned, .. })] = outcomes[..] else { panic!("{outcomes:?}") };
    assert_eq!(returned, Some(Returned { epoch: Epoch::new(9) }));

    let mut expiry = set(State::PendingPayment);
    expiry.expire(&number()).unwrap();
    let expired = expiry.expired(&Epochs::from([(SHARD, Epoch::new(9))])).unwrap();
    assert_eq!((expired[0].order.state, expired[0].returned.epoch), (State::Expired, Epoch::new(9)));

    let before = crate::bug::seen();
    let mut expiry = set(State::PendingPayment);
    expiry.expire(&number()).unwrap();
    assert!(matches!(expiry.expired(&Epochs::new()), Err(Error::Unknown(_))), "an epoch that was not read");
    assert!(crate::bug::seen() > before);
    assert!(
        matches!(set(State::Paid).expire(&number()), Err(Error::Corrupt(_))),
        "an order that was paid: only its own row is bad"
    );
}

#[test]
fn a_step_needs_its_order_its_user_and_a_free_key() {
    let ship = request(Step::Ship, "a", "ship");
    let stranger = StepRequest { user: UserId::new(4).ok(), ..ship.clone() };
    let nowhere = StepRequest { order_no: OrderNo::from_bytes([9; 16]), ..ship.clone() };
    let unfound = [Change::Step(stranger), Change::Step(nowhere)];
    let mut paid = set(State::Paid);
    assert!(paid.keyed_steps(&unfound).is_empty());
    paid.apply(&unfound).unwrap();
    let not_found = ChangeOutcome::Step(StepOutcome::NotFound);
    assert_eq!(paid.outcomes(&Epochs::new()), Ok(vec![not_found.clone(), not_found]));

    let asked = [Change::Step(ship.clone())];
    let then = order(State::Shipped, false);
    let done = |is_success| Acquired::Done(Answer { is_success, body: effect::encode_snapshot(&then).into_bytes() });
    let outcome = |acquired, fingerprint| {
        let mut set = set(State::Paid);
        set.add_key(&ship.operation, fingerprint, acquired);
        set.apply(&asked)?;
        set.outcomes(&Epochs::new()).map(|mut outcomes| outcomes.remove(0))
    };
    let (same, other) = (ship.operation.fingerprint, Fingerprint::from_bytes([8; 16]));
    assert_eq!(outcome(done(true), same), Ok(ChangeOutcome::Step(StepOutcome::Before(then))));
    assert_eq!(outcome(done(true), other), Ok(ChangeOutcome::Step(StepOutcome::OtherContent)));
    assert_eq!(outcome(Acquired::OtherContent, same), Ok(ChangeOutcome::Step(StepOutcome::OtherContent)));
    assert_eq!(outcome(Acquired::InProgress(99), same), Err(Error::Busy));
    assert!(matches!(outcome(done(false), same), Err(Error::Corrupt(_))), "no step fails for good");
}

#[test]
fn answers_of_one_step_have_a_bound() {
    let changes = [Change::Step(request(Step::Cancel, "z", "cancel"))];
    for is_full in [false, true] {
        let mut set = set(State::Cancelled);
        claim(&mut set, &changes);
        assert_eq!(set.repeated_scopes(&changes).len(), 1);
        for scope in set.repeated_scopes(&changes).into_iter().filter(|_| is_full) {
            set.add_full_scope(scope);
        }
        set.apply(&changes).unwrap();
        assert_eq!((set.answers().len(), set.unused_claims().len()), if is_full { (0, 1) } else { (1, 0) });
        let outcomes = set.outcomes(&Epochs::new()).unwrap();
        assert!(matches!(outcomes[..], [ChangeOutcome::Step(StepOutcome::Done { returned: None, .. })]));
    }
}

#[test]
fn a_parked_refund_is_applied_with_its_payment() {
    let changes = [Change::Report(report("r", false, "r")), Change::Report(report("e", true, "p"))];
    let mut set = set(State::PendingPayment);
    assert_eq!(set.readable_reports(&changes).len(), 2);
    set.apply(&changes).unwrap();
    assert_eq!(set.unparked, BTreeMap::from([(number(), Note::Applied)]));
    assert_eq!(set.note(&(Provider::Standard, provider_id("r"))), Ok(Note::Applied), "as it is to be stored");
    assert_eq!(set.new_reports.len(), 2);
    let expected = [
        recorded(Note::Parked, [None; 2], None, true),
        recorded(Note::Applied, [Some(Step::Pay), Some(Step::Refund)], Some(Note::Applied), true),
    ];
    assert_eq!(set.outcomes(&Epochs::new()).unwrap(), expected);
}

#[test]
fn a_report_counts_once_and_an_id_stands_for_one_report() {
    let stored = report("e", true, "p");
    let reused = report("e", true, "q");
    let changes = [Change::Report(stored.clone()), Change::Report(reused.clone()), Change::Report(reused.clone())];
    let mut set = set(State::Paid);
    for _ in 0..2 {
        let prior = PriorReport { provider: Provider::Standard, event: stored.event.clone(), note: Note::Applied };
        set.add_prior_report((Provider::Standard, provider_id("e")), prior);
    }
    set.apply(&changes).unwrap();
    assert_eq!(set.new_reports.keys().collect::<Vec<_>>(), [&(Provider::Standard, reused.reused_id())]);
    let expected = [
        recorded(Note::Applied, [None; 2], None, false),
        recorded(Note::IdReused, [None; 2], None, true),
        recorded(Note::IdReused, [None; 2], None, false),
    ];
    assert_eq!(set.outcomes(&Epochs::new()).unwrap(), expected);
}

#[test]
fn a_report_of_no_order_is_stored_and_one_of_an_unknown_order_is_not() {
    let unknown = Report { event: PaymentEvent::Unknown, ..report("u", true, "p") };
    let elsewhere = Report { event: PaymentEvent::Failed(OrderNo::from_bytes([9; 16])), ..report("f", true, "p") };
    let changes = [Change::Report(unknown), Change::Report(elsewhere)];
    let mut set = set(State::Paid);
    assert_eq!(set.readable_reports(&changes).len(), 1);
    set.apply(&changes).unwrap();
    assert_eq!(set.new_reports.len(), 1);
    let expected = [recorded(Note::NoEffect, [None; 2], None, true), ChangeOutcome::Report(ReportOutcome::NotFound)];
    assert_eq!(set.outcomes(&Epochs::new()).unwrap(), expected);
}
