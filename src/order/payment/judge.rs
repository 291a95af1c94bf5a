//! What a report does to its order: one function decides, from the order, its earlier reports, and the new report. In
//! whatever order the same reports come, they end in one state.

use std::collections::BTreeMap;

use super::{Money, Note, PaymentEvent, PriorReport, Provider};
use crate::order::{Currency, State, Step};

/// The effect of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The note on the report.
    pub note: Note,
    /// The steps that the order takes, in their order, each from the state that the one before led to.
    pub steps: [Option<Step>; 2],
    /// The note on the refunds that waited for this payment.
    pub parked: Option<Note>,
}

/// Decides what a report of `provider` does to an order in `state` that costs `amount` of `currency`, given its earlier
/// reports, `past`.
pub fn judge(
    state: State,
    amount: i64,
    currency: Currency,
    past: &[PriorReport],
    provider: Provider,
    event: &PaymentEvent,
) -> Decision {
    match event {
        PaymentEvent::Unknown | PaymentEvent::Failed(_) => only(Note::NoEffect),
        PaymentEvent::RefundFailed(_) => only(Note::RefundFailed),
        PaymentEvent::Closed(_) => only(closed(state, past, provider)),
        PaymentEvent::Succeeded(money) if !money.is_ours || money.amount != amount || money.currency != currency => {
            only(Note::Mismatch)
        }
        PaymentEvent::Succeeded(money) => paid(state, past, provider, money),
        PaymentEvent::Refunded(money)
            if !money.is_ours || !(1..=amount).contains(&money.amount) || money.currency != currency =>
        {
            only(Note::Mismatch)
        }
        PaymentEvent::Refunded(money) => refunded(state, amount, past, provider, money),
    }
}

fn only(note: Note) -> Decision {
    Decision { note, steps: [None, None], parked: None }
}

/// The provider closed its trade. That is how one ends that was not paid in time; one that paid the order ends otherwise.
fn closed(state: State, past: &[PriorReport], provider: Provider) -> Note {
    let is_paid = payments(past).any(|(of, _)| of == provider);
    if is_paid && state != State::Refunded { Note::Impossible } else { Note::NoEffect }
}

fn paid(state: State, past: &[PriorReport], provider: Provider, money: &Money) -> Decision {
    if payments(past).any(|(of, before)| (of, &before.payment_id) == (provider, &money.payment_id)) {
        return only(Note::Repeat);
    }
    if payments(past).next().is_some() {
        return only(Note::SecondPayment);
    }
    let Ok(after) = state.after(Step::Pay) else { return only(Note::Impossible) };
    let back = money_back(refunds(past).filter(|(note, ..)| *note == Note::Parked).map(|(_, of, money)| (of, money)));
    // Of an order that costs nothing, nothing goes back.
    let refund = (back > 0 && back >= money.amount && after.after(Step::Refund).is_ok()).then_some(Step::Refund);
    let parked = match refund {
        _ if back == 0 => None,
        _ if back > money.amount => Some(Note::OverRefunded),
        Some(_) => Some(Note::Applied),
        None => Some(Note::Counted),
    };
    Decision { note: Note::Applied, steps: [Some(Step::Pay), refund], parked }
}

fn refunded(state: State, amount: i64, past: &[PriorReport], provider: Provider, money: &Money) -> Decision {
    let names = |of: Provider, money: &Money| (of, money.payment_id.clone(), money.amount);
    if refunds(past).any(|(_, of, before)| names(of, before) == names(provider, money)) {
        return only(Note::Repeat);
    }
    let back = money_back(refunds(past).map(|(_, of, money)| (of, money)).chain([(provider, money)]));
    // A second payment is one of the same amount, and its money goes back too.
    let second = past.iter().filter(|past| past.note == Note::SecondPayment).filter_map(|past| past.event.money());
    let paid = second.fold(amount, |sum, money| sum.saturating_add(money.amount));
    let noted = |note| if back > paid { Note::OverRefunded } else { note };
    match state {
        State::PendingPayment | State::Cancelled | State::Expired => only(Note::Parked),
        State::Paid | State::RefundDue if back >= amount => {
            Decision { note: noted(Note::Applied), steps: [Some(Step::Refund), None], parked: None }
        }
        State::Paid | State::RefundDue => only(Note::Counted),
        // An operator has marked it, or refunds of parts have added up: the report confirms it.
        State::Refunded => only(noted(Note::Counted)),
        State::Confirmed | State::Shipped => only(Note::Impossible),
    }
}

/// The payments of the order: the one that paid it, and those after it, each once.
fn payments(past: &[PriorReport]) -> impl Iterator<Item = (Provider, &Money)> {
    past.iter().filter_map(|past| match (&past.event, past.note) {
        (PaymentEvent::Succeeded(money), Note::Applied | Note::SecondPayment) => Some((past.provider, money)),
        _ => None,
    })
}

/// The refunds that count, each once.
fn refunds(past: &[PriorReport]) -> impl Iterator<Item = (Note, Provider, &Money)> {
    past.iter().filter_map(|past| match (&past.event, past.note) {
        (PaymentEvent::Refunded(money), note @ (Note::Parked | Note::Counted | Note::Applied | Note::OverRefunded)) => {
            Some((note, past.provider, money))
        }
        _ => None,
    })
}

/// What these refunds come to: those that say how much went back this time are added up, and to them what each provider
/// says that went back in all.
fn money_back<'a>(refunds: impl Iterator<Item = (Provider, &'a Money)>) -> i64 {
    let (mut sum, mut totals) = (0_i64, BTreeMap::new());
    for (provider, money) in refunds {
        if money.is_total {
            let total: &mut i64 = totals.entry(provider).or_default();
            *total = money.amount.max(*total);
        } else {
            sum = sum.saturating_add(money.amount);
        }
    }
    totals.into_values().fold(sum, i64::saturating_add)
}
