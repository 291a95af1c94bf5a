//! Reports of payment providers, and the note on each. `judge.rs` decides what a report does to its order.

mod judge;

pub use judge::{Decision, judge};

use std::fmt;

use super::{Currency, Fingerprint, InvalidId, OrderNo};
use crate::limits;

/// A payment provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Provider {
    /// Any sender that signs as Standard Webhooks do.
    Standard,
    /// Alipay's asynchronous notifications.
    Alipay,
    /// WeChat Pay, version 3.
    Wechatpay,
}

/// A provider's id of a report, a payment or a refund: 1..=[`limits::PROVIDER_ID_BYTES_MAX`] bytes, no control character.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProviderId(Box<str>);

impl ProviderId {
    /// Checks length and characters.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        let is_valid =
            !text.is_empty() && text.len() <= limits::PROVIDER_ID_BYTES_MAX && !text.contains(char::is_control);
        if is_valid { Ok(ProviderId(text.into())) } else { Err(InvalidId) }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProviderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A verified report of a payment provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The provider that reports.
    pub provider: Provider,
    /// The provider's id of this report; the same over its retries.
    pub event_id: ProviderId,
    /// The provider's name of the event, such as `payment.succeeded`.
    pub event_type: ProviderId,
    /// The event itself.
    pub event: PaymentEvent,
}

/// The event that a report is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PaymentEvent {
    /// The order was paid.
    Succeeded(Money),
    /// A payment failed; the buyer may try again.
    Failed(OrderNo),
    /// Money of the order went back.
    Refunded(Money),
    /// A refund failed: the money is not with the buyer.
    RefundFailed(OrderNo),
    /// The trade is closed, and the report names no refund: it was not paid in time, or should not be closed.
    Closed(OrderNo),
    /// An unknown event: the ledger stores it for the operator.
    Unknown,
}

/// Money that moved for an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Money {
    /// The order.
    pub order_no: OrderNo,
    /// The provider's id of the payment or the refund.
    pub payment_id: ProviderId,
    /// Minor units.
    pub amount: i64,
    /// Its currency.
    pub currency: Currency,
    /// Of a refund: whether `amount` is the total refunded so far, and not this refund alone.
    pub is_total: bool,
    /// Whether it went to the merchant that the settings name, in a currency whose amounts this code reads.
    pub is_ours: bool,
}

impl Report {
    /// The order that the report is about.
    pub fn order_no(&self) -> Option<OrderNo> {
        self.event.order_no()
    }

    /// The id that the ledger stores it under when another report with other content used its own id before:
    /// `evt_1#0123abcd`, derived from its content, so that a repeat is recognised. A long id is cut.
    pub fn reused_id(&self) -> ProviderId {
        let event = self.event.as_str();
        let order_no = self.order_no().map(|order_no| *order_no.as_bytes()).unwrap_or_default();
        let hash = match self.event.sum() {
            Some((id, amount, currency)) => Fingerprint::of_fields(
                event,
                &[&order_no, id.as_str().as_bytes(), &amount.to_be_bytes(), currency.as_str().as_bytes()],
            ),
            None => Fingerprint::of_fields(event, &[&order_no]),
        };
        let hash: String = hash.as_bytes().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        let id = self.event_id.as_str();
        let room = limits::PROVIDER_ID_BYTES_MAX - "#01234567".len();
        let cut = id.char_indices().map(|(at, one)| at + one.len_utf8()).take_while(|end| *end <= room).last();
        let kept = id.get(..cut.unwrap_or_default()).unwrap_or_default();
        ProviderId(format!("{kept}#{hash}").into())
    }
}

/// What the engine did with a report. The words stand in the ledger and in the operator's view of an order.
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
    /// The order was paid before, by another payment: an operator should look at it.
    SecondPayment,
    /// Amount, currency or merchant are not the order's: an operator should look at it.
    Mismatch,
    /// The order's state allows no such step: an operator should look at it.
    Impossible,
    /// It says nothing that changes an order.
    NoEffect,
    /// With this refund, more went back than was paid: an operator should look at it. It counts like the others.
    OverRefunded,
    /// A refund failed: an operator should look at it.
    RefundFailed,
    /// A report with other content used its id before: an operator should look at it.
    IdReused,
}

/// An earlier report of the same order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriorReport {
    /// The provider that reported it.
    pub provider: Provider,
    /// Its event.
    pub event: PaymentEvent,
    /// Its note.
    pub note: Note,
}

text_enum!(Provider { Standard = "standard", Alipay = "alipay", Wechatpay = "wechatpay", });
text_enum!(Note {
    Applied = "applied",
    Parked = "parked",
    Counted = "counted",
    Repeat = "repeat",
    SecondPayment = "second_payment",
    Mismatch = "mismatch",
    Impossible = "impossible",
    NoEffect = "no_effect",
    OverRefunded = "over_refunded",
    RefundFailed = "refund_failed",
    IdReused = "id_reused",
});

impl PaymentEvent {
    /// Whether another report says the same of the same money. It leaves out the provider's name of the event, and the
    /// merchant, which the settings name.
    pub fn says_the_same(&self, other: &PaymentEvent) -> bool {
        (self.as_str(), self.order_no(), self.sum()) == (other.as_str(), other.order_no(), other.sum())
    }

    fn sum(&self) -> Option<(&ProviderId, i64, Currency)> {
        self.money().map(|money| (&money.payment_id, money.amount, money.currency))
    }

    /// The word that stands in the ledger.
    pub fn as_str(&self) -> &'static str {
        match self {
            PaymentEvent::Succeeded(_) => "succeeded",
            PaymentEvent::Failed(_) => "failed",
            PaymentEvent::Refunded(_) => "refunded",
            PaymentEvent::RefundFailed(_) => "refund_failed",
            PaymentEvent::Closed(_) => "closed",
            PaymentEvent::Unknown => "unknown",
        }
    }

    /// The order that it is about.
    pub fn order_no(&self) -> Option<OrderNo> {
        match self {
            PaymentEvent::Succeeded(money) | PaymentEvent::Refunded(money) => Some(money.order_no),
            PaymentEvent::Failed(order_no) | PaymentEvent::RefundFailed(order_no) | PaymentEvent::Closed(order_no) => {
                Some(*order_no)
            }
            PaymentEvent::Unknown => None,
        }
    }

    /// The money that moved.
    pub fn money(&self) -> Option<&Money> {
        match self {
            PaymentEvent::Succeeded(money) | PaymentEvent::Refunded(money) => Some(money),
            PaymentEvent::Failed(_)
            | PaymentEvent::RefundFailed(_)
            | PaymentEvent::Closed(_)
            | PaymentEvent::Unknown => None,
        }
    }
}

#[cfg(test)]
mod tests;
