//! What payment providers report, and what each report does to its order: one function decides, from the order, what was
//! reported of it before, and the new report. Whatever order the same reports come in, they end in one state.

use std::fmt;

use super::{Currency, InvalidId, OrderNo, State, Step};
use crate::limits;

/// A payment provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Provider {
    /// Whoever signs as Standard Webhooks do.
    Standard,
    /// Alipay's asynchronous notifications.
    Alipay,
    /// WeChat Pay, version 3.
    Wechatpay,
}

/// A provider's id of a report, a payment or a refund: 1..=[`limits::REFERENCE_BYTES_MAX`] bytes, no control character.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference(Box<str>);

impl Reference {
    /// Checks length and characters.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        let is_valid =
            !text.is_empty() && text.len() <= limits::REFERENCE_BYTES_MAX && !text.contains(char::is_control);
        if is_valid { Ok(Reference(text.into())) } else { Err(InvalidId) }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A verified report of a payment provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Who reports.
    pub provider: Provider,
    /// The provider's id of this report; the same over its retries.
    pub event_id: Reference,
    /// What it calls the event, such as `payment.succeeded`.
    pub event_type: Reference,
    /// What it says.
    pub fact: Fact,
}

/// What a report says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// The order was paid.
    Succeeded(Money),
    /// A payment failed; the buyer may try again.
    Failed(OrderNo),
    /// Money of the order went back.
    Refunded(Money),
    /// An event that we do not know: kept for the operator.
    Unknown,
}

/// Money that moved for an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Money {
    /// The order.
    pub order_no: OrderNo,
    /// The provider's id of the payment or the refund.
    pub payment_id: Reference,
    /// Minor units.
    pub amount: i64,
    /// Its currency.
    pub currency: Currency,
    /// Of a refund: whether `amount` is all that went back so far, and not this time.
    pub is_total: bool,
    /// Whether it went to the merchant that the settings name.
    pub is_ours: bool,
}

impl Report {
    /// The order that the report is about.
    pub fn order_no(&self) -> Option<OrderNo> {
        self.fact.order_no()
    }
}

/// What became of a report. The words stand in the ledger and in the operator's view of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Note {
    /// It moved the order along.
    Applied,
    /// A refund of a payment that has not been reported yet: it waits for it.
    Parked,
    /// A refund of a part: counted, the order stays.
    Counted,
    /// Its effect was reported before, as another event.
    Repeat,
    /// The order was paid before, by another payment: somebody should look at it.
    SecondPayment,
    /// Amount, currency or merchant are not the order's: somebody should look at it.
    Mismatch,
    /// The order's state allows no such step: somebody should look at it.
    Impossible,
    /// It says nothing that changes an order.
    NoEffect,
}

/// A report of an order that was heard before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Past {
    /// What it said.
    pub fact: Fact,
    /// What became of it.
    pub note: Note,
}

/// What a report does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What becomes of the report.
    pub note: Note,
    /// The steps that the order takes, in their order, each from the state that the one before led to.
    pub steps: [Option<Step>; 2],
    /// What becomes of the refunds that waited for this payment.
    pub parked: Option<Note>,
}

/// Decides what `report` does to an order in `state` that costs `amount` of `currency`, when `past` was heard of it before.
pub fn judge(state: State, amount: i64, currency: Currency, past: &[Past], fact: &Fact) -> Verdict {
    let only = |note| Verdict { note, steps: [None, None], parked: None };
    match fact {
        Fact::Unknown | Fact::Failed(_) => only(Note::NoEffect),
        Fact::Succeeded(money) if !money.is_ours || money.amount != amount || money.currency != currency => {
            only(Note::Mismatch)
        }
        Fact::Succeeded(money) => {
            let before = past.iter().find_map(|past| match (&past.fact, past.note) {
                (Fact::Succeeded(paid), Note::Applied) => Some(paid),
                _ => None,
            });
            match before {
                Some(paid) if paid.payment_id == money.payment_id => return only(Note::Repeat),
                Some(_) => return only(Note::SecondPayment),
                None => {}
            }
            let Ok(paid) = state.after(Step::Pay) else { return only(Note::Impossible) };
            let refunds = past.iter().filter(|past| past.note == Note::Parked).map(|past| &past.fact);
            let refunded = money_back(refunds);
            if refunded == 0 && !past.iter().any(|past| past.note == Note::Parked) {
                Verdict { note: Note::Applied, steps: [Some(Step::Pay), None], parked: None }
            } else if refunded >= amount && paid.after(Step::Refund).is_ok() {
                Verdict {
                    note: Note::Applied,
                    steps: [Some(Step::Pay), Some(Step::Refund)],
                    parked: Some(Note::Applied),
                }
            } else {
                Verdict { note: Note::Applied, steps: [Some(Step::Pay), None], parked: Some(Note::Counted) }
            }
        }
        Fact::Refunded(money)
            if !money.is_ours || !(1..=amount).contains(&money.amount) || money.currency != currency =>
        {
            only(Note::Mismatch)
        }
        Fact::Refunded(money) => {
            let is_same = |past: &&Past| match &past.fact {
                Fact::Refunded(other) => (&other.payment_id, other.amount) == (&money.payment_id, money.amount),
                _ => false,
            };
            let counts = |past: &&Past| matches!(past.note, Note::Parked | Note::Counted | Note::Applied);
            if past.iter().filter(counts).any(|past| is_same(&past)) {
                return only(Note::Repeat);
            }
            match state {
                State::PendingPayment | State::Cancelled | State::Expired => only(Note::Parked),
                State::Paid | State::RefundDue => {
                    let before = past.iter().filter(counts).map(|past| &past.fact);
                    if money_back(before.chain([fact])) >= amount {
                        Verdict { note: Note::Applied, steps: [Some(Step::Refund), None], parked: None }
                    } else {
                        only(Note::Counted)
                    }
                }
                // An operator has marked it, or refunds of parts have added up: the report confirms it.
                State::Refunded => only(Note::Counted),
                State::Confirmed | State::Shipped => only(Note::Impossible),
            }
        }
    }
}

/// What these refunds come to: those that say how much went back this time are added up.
fn money_back<'a>(facts: impl Iterator<Item = &'a Fact>) -> i64 {
    let (mut sum, mut total) = (0_i64, 0_i64);
    for fact in facts {
        if let Fact::Refunded(money) = fact {
            if money.is_total {
                total = total.max(money.amount);
            } else {
                sum = sum.saturating_add(money.amount);
            }
        }
    }
    sum.max(total)
}

words!(Provider { Standard = "standard", Alipay = "alipay", Wechatpay = "wechatpay", });
words!(Note {
    Applied = "applied",
    Parked = "parked",
    Counted = "counted",
    Repeat = "repeat",
    SecondPayment = "second_payment",
    Mismatch = "mismatch",
    Impossible = "impossible",
    NoEffect = "no_effect",
});

impl Fact {
    /// The word that stands in the ledger.
    pub fn as_str(&self) -> &'static str {
        match self {
            Fact::Succeeded(_) => "succeeded",
            Fact::Failed(_) => "failed",
            Fact::Refunded(_) => "refunded",
            Fact::Unknown => "unknown",
        }
    }

    /// The order that it is about.
    pub fn order_no(&self) -> Option<OrderNo> {
        match self {
            Fact::Succeeded(money) | Fact::Refunded(money) => Some(money.order_no),
            Fact::Failed(order_no) => Some(*order_no),
            Fact::Unknown => None,
        }
    }

    /// The money that moved.
    pub fn money(&self) -> Option<&Money> {
        match self {
            Fact::Succeeded(money) | Fact::Refunded(money) => Some(money),
            Fact::Failed(_) | Fact::Unknown => None,
        }
    }
}

#[cfg(test)]
mod tests;
