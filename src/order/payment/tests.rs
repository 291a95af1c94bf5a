//! Reports in every order, and what does not fit.

use super::*;
use crate::order::{State, Step};

const PRICE: i64 = 1999;

fn money(id: &str, amount: i64) -> Money {
    Money {
        order_no: OrderNo::from_bytes([1; 16]),
        payment_id: ProviderId::parse(id).unwrap(),
        amount,
        currency: cny(),
        is_total: false,
        is_ours: true,
    }
}

fn cny() -> Currency {
    Currency::parse("CNY").unwrap()
}

fn paid(id: &str) -> PaymentEvent {
    PaymentEvent::Succeeded(money(id, PRICE))
}

/// What one provider says went back in all.
fn total(id: &str, amount: i64) -> PaymentEvent {
    PaymentEvent::Refunded(Money { is_total: true, ..money(id, amount) })
}

fn refunded(id: &str, amount: i64) -> PaymentEvent {
    PaymentEvent::Refunded(money(id, amount))
}

/// An order as the ledgers keep it, as far as reports go.
struct Book {
    state: State,
    past: Vec<PriorReport>,
}

impl Book {
    fn new(state: State) -> Book {
        Book { state, past: Vec::new() }
    }

    fn record(&mut self, event: &PaymentEvent) -> Note {
        self.record_from(Provider::Standard, event)
    }

    fn record_from(&mut self, provider: Provider, event: &PaymentEvent) -> Note {
        let decision = judge(self.state, PRICE, cny(), &self.past, provider, event);
        for step in decision.steps.into_iter().flatten() {
            self.state = self.state.after(step).unwrap();
        }
        if let Some(note) = decision.parked {
            self.past.iter_mut().filter(|past| past.note == Note::Parked).for_each(|past| past.note = note);
        }
        self.past.push(PriorReport { provider, event: event.clone(), note: decision.note });
        decision.note
    }
}

fn permutations<T: Clone>(items: &[T]) -> Vec<Vec<T>> {
    if items.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for at in 0..items.len() {
        let mut rest = items.to_vec();
        let first = rest.remove(at);
        for mut tail in permutations(&rest) {
            tail.insert(0, first.clone());
            all.push(tail);
        }
    }
    all
}

#[test]
fn the_same_reports_in_any_order_end_in_one_state() {
    let sets: [(&[PaymentEvent], State, State); 9] = [
        (&[paid("p")], State::Paid, State::RefundDue),
        (&[paid("p"), refunded("r1", 500)], State::Paid, State::RefundDue),
        (&[paid("p"), refunded("r1", 500), refunded("r2", PRICE)], State::Refunded, State::Refunded),
        (&[paid("p"), refunded("r1", 500), refunded("r2", PRICE - 500)], State::Refunded, State::Refunded),
        (&[paid("p"), paid("p"), refunded("r1", PRICE), refunded("r1", PRICE)], State::Refunded, State::Refunded),
        (&[refunded("r1", PRICE), refunded("r2", 500)], State::PendingPayment, State::Expired),
        // More goes back than was paid, and for one order twice.
        (&[paid("p"), refunded("r1", PRICE), refunded("r2", PRICE)], State::Refunded, State::Refunded),
        (&[paid("p"), refunded("r1", 1500), refunded("r2", 1500), total("t", 1)], State::Refunded, State::Refunded),
        (&[paid("p"), paid("q"), refunded("r1", PRICE), refunded("r2", PRICE)], State::Refunded, State::Refunded),
    ];
    for (facts, from_pending, from_expired) in sets {
        for facts in permutations(facts) {
            for (from, to) in [(State::PendingPayment, from_pending), (State::Expired, from_expired)] {
                let mut book = Book::new(from);
                for event in &facts {
                    book.record(event);
                }
                assert_eq!(book.state, to, "{facts:?} from {from:?}");
            }
        }
    }
}

#[test]
fn what_costs_nothing_is_paid_with_nothing_and_not_given_back() {
    for (from, to) in
        [(State::PendingPayment, State::Paid), (State::Cancelled, State::RefundDue), (State::Expired, State::RefundDue)]
    {
        let decision = judge(from, 0, cny(), &[], Provider::Standard, &PaymentEvent::Succeeded(money("p", 0)));
        assert_eq!((decision.note, decision.steps), (Note::Applied, [Some(Step::Pay), None]));
        assert_eq!(from.after(Step::Pay), Ok(to));
    }
}

#[test]
fn a_late_payment_is_due_for_refund_whatever_waited_for_it() {
    for from in [State::Cancelled, State::Expired] {
        let mut book = Book::new(from);
        assert_eq!(book.record(&refunded("r", 500)), Note::Parked);
        assert_eq!(book.record(&paid("p")), Note::Applied);
        assert_eq!((book.state, book.past[0].note), (State::RefundDue, Note::Counted));
        assert_eq!(book.record(&refunded("s", PRICE - 500)), Note::Applied);
        assert_eq!(book.state, State::Refunded);
    }
}

#[test]
fn what_does_not_fit_moves_nothing() {
    let foreign = |event: &PaymentEvent| match event.clone() {
        PaymentEvent::Succeeded(money) => PaymentEvent::Succeeded(Money { is_ours: false, ..money }),
        PaymentEvent::Refunded(money) => PaymentEvent::Refunded(Money { is_ours: false, ..money }),
        other => other,
    };
    let dollars = |event: &PaymentEvent| match event.clone() {
        PaymentEvent::Succeeded(money) => {
            PaymentEvent::Succeeded(Money { currency: Currency::parse("USD").unwrap(), ..money })
        }
        PaymentEvent::Refunded(money) => {
            PaymentEvent::Refunded(Money { currency: Currency::parse("USD").unwrap(), ..money })
        }
        other => other,
    };
    let bad = [
        PaymentEvent::Succeeded(money("p", PRICE - 1)),
        PaymentEvent::Succeeded(money("p", PRICE + 1)),
        foreign(&paid("p")),
        dollars(&paid("p")),
        refunded("r", PRICE + 1),
        refunded("r", 0),
        refunded("r", -1),
        foreign(&refunded("r", 1)),
        dollars(&refunded("r", 1)),
    ];
    for state in State::ALL {
        for event in &bad {
            let mut book = Book::new(state);
            assert_eq!(book.record(event), Note::Mismatch, "{event:?} in {state:?}");
            assert_eq!(book.state, state);
        }
        let order_no = OrderNo::from_bytes([1; 16]);
        for (event, note) in [
            (PaymentEvent::Unknown, Note::NoEffect),
            (PaymentEvent::Failed(order_no), Note::NoEffect),
            (PaymentEvent::Closed(order_no), Note::NoEffect),
            (PaymentEvent::RefundFailed(order_no), Note::RefundFailed),
        ] {
            let mut book = Book::new(state);
            assert_eq!((book.record(&event), book.state), (note, state));
        }
    }
}

#[test]
fn a_mismatched_payment_does_not_stand_in_the_way_of_the_right_one() {
    let mut book = Book::new(State::PendingPayment);
    assert_eq!(book.record(&PaymentEvent::Succeeded(money("p", 1))), Note::Mismatch);
    assert_eq!(book.record(&paid("p")), Note::Applied);
    assert_eq!(book.record(&paid("p")), Note::Repeat);
    assert_eq!(book.record(&paid("q")), Note::SecondPayment);
    assert_eq!(book.record(&paid("q")), Note::Repeat);
    assert_eq!(book.state, State::Paid);
}

#[test]
fn a_total_is_not_added_to_totals_before_it() {
    let mut book = Book::new(State::Paid);
    for amount in [500, 1000, 1500] {
        assert_eq!(book.record(&total("t", amount)), Note::Counted);
    }
    assert_eq!(book.record(&total("t", PRICE)), Note::Applied);
    assert_eq!(book.state, State::Refunded);
}

#[test]
fn more_back_than_was_paid_is_for_a_person() {
    let mut book = Book::new(State::PendingPayment);
    book.record(&paid("p"));
    assert_eq!(book.record(&refunded("r1", 1500)), Note::Counted);
    assert_eq!((book.record(&refunded("r2", 1500)), book.state), (Note::OverRefunded, State::Refunded));
    assert_eq!(book.record(&refunded("r2", 1500)), Note::Repeat, "it counts");
    assert_eq!((book.record(&refunded("r3", 1)), book.state), (Note::OverRefunded, State::Refunded));

    // An operator's refund, and the provider's one report of it.
    let mut book = Book::new(State::PendingPayment);
    book.record(&paid("p"));
    book.state = book.state.after(Step::Refund).unwrap();
    assert_eq!(book.record(&refunded("r1", PRICE)), Note::Counted);
    assert_eq!(book.record(&refunded("r2", PRICE)), Note::OverRefunded);
    assert_eq!(book.state, State::Refunded);
}

#[test]
fn a_second_payment_may_go_back_too() {
    let mut book = Book::new(State::PendingPayment);
    for (event, note) in [
        (paid("p"), Note::Applied),
        (paid("q"), Note::SecondPayment),
        (refunded("r1", PRICE), Note::Applied),
        (refunded("r2", PRICE), Note::Counted),
        (refunded("r3", 1), Note::OverRefunded),
    ] {
        assert_eq!(book.record(&event), note, "{event:?}");
    }
    assert_eq!(book.state, State::Refunded);
}

#[test]
fn refunds_that_waited_may_be_too_much() {
    for from in [State::PendingPayment, State::Expired] {
        let mut book = Book::new(from);
        assert_eq!(book.record(&refunded("r1", PRICE)), Note::Parked);
        assert_eq!(book.record(&refunded("r2", 1)), Note::Parked);
        assert_eq!((book.record(&paid("p")), book.state), (Note::Applied, State::Refunded));
        assert_eq!((book.past[0].note, book.past[1].note), (Note::OverRefunded, Note::OverRefunded));
    }
}

#[test]
fn an_id_is_one_providers_own() {
    let mut book = Book::new(State::PendingPayment);
    assert_eq!(book.record_from(Provider::Alipay, &paid("p")), Note::Applied);
    assert_eq!(book.record_from(Provider::Wechatpay, &paid("p")), Note::SecondPayment);
    for provider in [Provider::Alipay, Provider::Wechatpay] {
        assert_eq!(book.record_from(provider, &paid("p")), Note::Repeat);
    }
    assert_eq!(book.record_from(Provider::Alipay, &refunded("r", 1000)), Note::Counted);
    assert_eq!(book.record_from(Provider::Alipay, &refunded("r", 1000)), Note::Repeat);
    assert_eq!(book.record_from(Provider::Wechatpay, &refunded("r", 1000)), Note::Applied);
    assert_eq!(book.state, State::Refunded);
}

#[test]
fn totals_of_several_providers_and_parts_add_up() {
    let mut book = Book::new(State::Paid);
    assert_eq!(book.record_from(Provider::Alipay, &total("t", 900)), Note::Counted);
    assert_eq!(book.record_from(Provider::Alipay, &total("t", 1000)), Note::Counted);
    assert_eq!(book.record_from(Provider::Wechatpay, &refunded("r", 500)), Note::Counted);
    assert_eq!(book.record_from(Provider::Standard, &total("t", PRICE - 1501)), Note::Counted);
    assert_eq!(book.record_from(Provider::Standard, &total("t", PRICE - 1500)), Note::Applied);
    assert_eq!(book.state, State::Refunded);
}

#[test]
fn a_trade_that_is_closed_was_not_paid() {
    let closed = PaymentEvent::Closed(OrderNo::from_bytes([1; 16]));
    let mut book = Book::new(State::PendingPayment);
    assert_eq!(book.record_from(Provider::Alipay, &closed), Note::NoEffect);
    book.record_from(Provider::Alipay, &paid("p"));
    assert_eq!(book.record_from(Provider::Alipay, &closed), Note::Impossible);
    assert_eq!(book.record_from(Provider::Wechatpay, &closed), Note::NoEffect, "one that the buyer did not use");
    assert_eq!(book.state, State::Paid);
    book.record_from(Provider::Alipay, &total("p", PRICE));
    assert_eq!(book.record_from(Provider::Alipay, &closed), Note::NoEffect);
}

#[test]
fn shipped_and_confirmed_orders_only_note_what_they_hear() {
    for state in [State::Shipped, State::Confirmed] {
        let mut book = Book::new(state);
        assert_eq!(book.record(&refunded("r", PRICE)), Note::Impossible);
        assert_eq!(book.record(&paid("p")), Note::Impossible);
        assert_eq!(book.state, state);
    }
    // Paid by a report, then shipped: its refund is for a person to look at.
    let mut book = Book::new(State::PendingPayment);
    book.record(&paid("p"));
    book.state = book.state.after(Step::Ship).unwrap();
    assert_eq!(book.record(&paid("p")), Note::Repeat);
    assert_eq!(book.record(&refunded("r", PRICE)), Note::Impossible);
}

fn report(event_id: &str, event: PaymentEvent) -> Report {
    let reference = |text| ProviderId::parse(text).unwrap();
    Report { provider: Provider::Standard, event_id: reference(event_id), event_type: reference("x"), event }
}

#[test]
fn what_a_report_says_is_its_order_and_its_money() {
    let right = money("p", PRICE);
    let facts = [
        PaymentEvent::Succeeded(right.clone()),
        PaymentEvent::Refunded(right.clone()),
        PaymentEvent::Succeeded(Money { order_no: OrderNo::from_bytes([2; 16]), ..right.clone() }),
        PaymentEvent::Succeeded(money("q", PRICE)),
        PaymentEvent::Succeeded(money("p", 1)),
        PaymentEvent::Succeeded(Money { currency: Currency::parse("USD").unwrap(), ..right.clone() }),
        PaymentEvent::Failed(right.order_no),
        PaymentEvent::Closed(right.order_no),
        PaymentEvent::RefundFailed(right.order_no),
        PaymentEvent::Unknown,
    ];
    for (at, one) in facts.iter().enumerate() {
        for (other_at, other) in facts.iter().enumerate() {
            assert_eq!(one.says_the_same(other), at == other_at, "{one:?} {other:?}");
            let ids = [one, other].map(|event| report("e", event.clone()).reused_id());
            assert_eq!(ids[0] == ids[1], at == other_at, "{one:?} {other:?}");
        }
    }
    let elsewhere = PaymentEvent::Succeeded(Money { is_ours: false, is_total: true, ..right.clone() });
    assert!(elsewhere.says_the_same(&PaymentEvent::Succeeded(right.clone())));
    assert_eq!(report("e", elsewhere).reused_id(), report("e", PaymentEvent::Succeeded(right)).reused_id());
}

#[test]
fn an_id_that_was_used_before_stays_an_id() {
    let id = |id: &str| report(id, paid("p")).reused_id().as_str().to_owned();
    let hash = id("evt_1").strip_prefix("evt_1#").unwrap().to_owned();
    assert!(hash.len() == 8 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{hash}");
    for (own, kept) in [
        ("x".repeat(119), "x".repeat(119)),
        ("x".repeat(128), "x".repeat(119)),
        ("\u{7403}".repeat(42), "\u{7403}".repeat(39)),
        (format!("xx{}", "\u{7403}".repeat(42)), format!("xx{}", "\u{7403}".repeat(39))),
    ] {
        assert_eq!(id(&own), format!("{kept}#{hash}"));
        assert!(ProviderId::parse(&id(&own)).is_ok(), "{own}");
    }
}

#[test]
fn words_read_back() {
    for provider in Provider::ALL {
        assert_eq!(Provider::parse(provider.as_str()), Some(*provider));
    }
    for note in Note::ALL {
        assert_eq!(Note::parse(note.as_str()), Some(*note));
    }
    assert_eq!(ProviderId::parse(""), Err(InvalidId));
    assert_eq!(ProviderId::parse("a\nb"), Err(InvalidId));
}
