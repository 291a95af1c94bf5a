//! Reports in every order, and what does not fit.

use super::*;

const PRICE: i64 = 1999;

fn money(id: &str, amount: i64) -> Money {
    Money {
        order_no: OrderNo::from_bytes([1; 16]),
        payment_id: Reference::parse(id).unwrap(),
        amount,
        currency: cny(),
        is_total: false,
        is_ours: true,
    }
}

fn cny() -> Currency {
    Currency::parse("CNY").unwrap()
}

fn paid(id: &str) -> Fact {
    Fact::Succeeded(money(id, PRICE))
}

fn refunded(id: &str, amount: i64) -> Fact {
    Fact::Refunded(money(id, amount))
}

/// An order as the ledgers keep it, as far as reports go.
struct Book {
    state: State,
    past: Vec<Past>,
}

impl Book {
    fn new(state: State) -> Book {
        Book { state, past: Vec::new() }
    }

    fn hear(&mut self, fact: &Fact) -> Note {
        let verdict = judge(self.state, PRICE, cny(), &self.past, fact);
        for step in verdict.steps.into_iter().flatten() {
            self.state = self.state.after(step).unwrap();
        }
        if let Some(note) = verdict.parked {
            self.past.iter_mut().filter(|past| past.note == Note::Parked).for_each(|past| past.note = note);
        }
        self.past.push(Past { fact: fact.clone(), note: verdict.note });
        verdict.note
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
    let sets: [(&[Fact], State, State); 6] = [
        (&[paid("p")], State::Paid, State::RefundDue),
        (&[paid("p"), refunded("r1", 500)], State::Paid, State::RefundDue),
        (&[paid("p"), refunded("r1", 500), refunded("r2", PRICE)], State::Refunded, State::Refunded),
        (&[paid("p"), refunded("r1", 500), refunded("r2", PRICE - 500)], State::Refunded, State::Refunded),
        (&[paid("p"), paid("p"), refunded("r1", PRICE), refunded("r1", PRICE)], State::Refunded, State::Refunded),
        (&[refunded("r1", PRICE), refunded("r2", 500)], State::PendingPayment, State::Expired),
    ];
    for (facts, from_pending, from_expired) in sets {
        for facts in permutations(facts) {
            for (from, to) in [(State::PendingPayment, from_pending), (State::Expired, from_expired)] {
                let mut book = Book::new(from);
                for fact in &facts {
                    book.hear(fact);
                }
                assert_eq!(book.state, to, "{facts:?} from {from:?}");
            }
        }
    }
}

#[test]
fn a_late_payment_is_due_for_refund_whatever_waited_for_it() {
    for from in [State::Cancelled, State::Expired] {
        let mut book = Book::new(from);
        assert_eq!(book.hear(&refunded("r", 500)), Note::Parked);
        assert_eq!(book.hear(&paid("p")), Note::Applied);
        assert_eq!((book.state, book.past[0].note), (State::RefundDue, Note::Counted));
        assert_eq!(book.hear(&refunded("s", PRICE - 500)), Note::Applied);
        assert_eq!(book.state, State::Refunded);
    }
}

#[test]
fn what_does_not_fit_moves_nothing() {
    let foreign = |fact: &Fact| match fact.clone() {
        Fact::Succeeded(money) => Fact::Succeeded(Money { is_ours: false, ..money }),
        Fact::Refunded(money) => Fact::Refunded(Money { is_ours: false, ..money }),
        other => other,
    };
    let dollars = |fact: &Fact| match fact.clone() {
        Fact::Succeeded(money) => Fact::Succeeded(Money { currency: Currency::parse("USD").unwrap(), ..money }),
        Fact::Refunded(money) => Fact::Refunded(Money { currency: Currency::parse("USD").unwrap(), ..money }),
        other => other,
    };
    let bad = [
        Fact::Succeeded(money("p", PRICE - 1)),
        Fact::Succeeded(money("p", PRICE + 1)),
        foreign(&paid("p")),
        dollars(&paid("p")),
        refunded("r", PRICE + 1),
        refunded("r", 0),
        refunded("r", -1),
        foreign(&refunded("r", 1)),
        dollars(&refunded("r", 1)),
    ];
    for state in State::ALL {
        for fact in &bad {
            let mut book = Book::new(state);
            assert_eq!(book.hear(fact), Note::Mismatch, "{fact:?} in {state:?}");
            assert_eq!(book.state, state);
        }
        for fact in [Fact::Unknown, Fact::Failed(OrderNo::from_bytes([1; 16]))] {
            let mut book = Book::new(state);
            assert_eq!((book.hear(&fact), book.state), (Note::NoEffect, state));
        }
    }
}

#[test]
fn a_mismatched_payment_does_not_stand_in_the_way_of_the_right_one() {
    let mut book = Book::new(State::PendingPayment);
    assert_eq!(book.hear(&Fact::Succeeded(money("p", 1))), Note::Mismatch);
    assert_eq!(book.hear(&paid("p")), Note::Applied);
    assert_eq!(book.hear(&paid("p")), Note::Repeat);
    assert_eq!(book.hear(&paid("q")), Note::SecondPayment);
    assert_eq!(book.state, State::Paid);
}

#[test]
fn a_total_is_not_added_to_totals_before_it() {
    let total = |id: &str, amount| Fact::Refunded(Money { is_total: true, ..money(id, amount) });
    let mut book = Book::new(State::Paid);
    for amount in [500, 1000, 1500] {
        assert_eq!(book.hear(&total("t", amount)), Note::Counted);
    }
    assert_eq!(book.hear(&total("t", PRICE)), Note::Applied);
    assert_eq!(book.state, State::Refunded);
}

#[test]
fn shipped_and_confirmed_orders_only_note_what_they_hear() {
    for state in [State::Shipped, State::Confirmed] {
        let mut book = Book::new(state);
        assert_eq!(book.hear(&refunded("r", PRICE)), Note::Impossible);
        assert_eq!(book.hear(&paid("p")), Note::Impossible);
        assert_eq!(book.state, state);
    }
    // Paid by a report, then shipped: its refund is for a person to look at.
    let mut book = Book::new(State::PendingPayment);
    book.hear(&paid("p"));
    book.state = book.state.after(Step::Ship).unwrap();
    assert_eq!(book.hear(&paid("p")), Note::Repeat);
    assert_eq!(book.hear(&refunded("r", PRICE)), Note::Impossible);
}

#[test]
fn words_read_back() {
    for provider in Provider::ALL {
        assert_eq!(Provider::parse(provider.as_str()), Some(*provider));
    }
    for note in Note::ALL {
        assert_eq!(Note::parse(note.as_str()), Some(*note));
    }
    assert_eq!(Reference::parse(""), Err(InvalidId));
    assert_eq!(Reference::parse("a\nb"), Err(InvalidId));
}
