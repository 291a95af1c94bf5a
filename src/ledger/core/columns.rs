//! Steps and reports as columns of the ledger's rows.

use crate::order::{Actor, Currency, Epoch, Money, OrderNo, PaymentEvent, Provider, ProviderId, Report};

/// The column `epoch`, which is 0 for none.
pub(in crate::ledger) fn epoch_column(epoch: Option<Epoch>) -> i64 {
    epoch.map_or(0, Epoch::get)
}

/// The columns `by` and `event_id` of a step.
pub(in crate::ledger) fn actor_columns(actor: &Actor) -> (&'static str, Option<&str>) {
    (actor.as_str(), actor.event_id().map(ProviderId::as_str))
}

/// The actor of a step, from the same columns.
pub(in crate::ledger) fn actor(word: &str, event_id: Option<&str>) -> Option<Actor> {
    match (word, event_id) {
        ("buyer", None) => Some(Actor::Buyer),
        ("operator", None) => Some(Actor::Operator),
        ("deadline", None) => Some(Actor::Deadline),
        (provider, Some(event_id)) => {
            Some(Actor::Report(Provider::parse(provider)?, ProviderId::parse(event_id).ok()?))
        }
        _ => None,
    }
}

/// The columns of a report's [`PaymentEvent`] and its [`Money`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::ledger) struct EventColumns {
    /// The column `fact`.
    pub(in crate::ledger) event: String,
    pub(in crate::ledger) order_no: Option<[u8; 16]>,
    pub(in crate::ledger) payment_id: Option<String>,
    pub(in crate::ledger) amount: Option<i64>,
    pub(in crate::ledger) currency: Option<String>,
    pub(in crate::ledger) is_total: Option<bool>,
    pub(in crate::ledger) is_ours: Option<bool>,
}

impl EventColumns {
    /// The columns of a report.
    pub(in crate::ledger) fn of(report: &Report) -> Self {
        let money = report.event.money();
        EventColumns {
            event: report.event.as_str().to_owned(),
            order_no: report.order_no().map(|order_no| *order_no.as_bytes()),
            payment_id: money.map(|money| money.payment_id.as_str().to_owned()),
            amount: money.map(|money| money.amount),
            currency: money.map(|money| money.currency.as_str().to_owned()),
            is_total: money.map(|money| money.is_total),
            is_ours: money.map(|money| money.is_ours),
        }
    }

    /// The event; `None` if no report wrote these columns.
    pub(in crate::ledger) fn event(&self) -> Option<PaymentEvent> {
        let order_no = self.order_no.map(OrderNo::from_bytes);
        match self.event.as_str() {
            "succeeded" => self.money(order_no?).map(PaymentEvent::Succeeded),
            "refunded" => self.money(order_no?).map(PaymentEvent::Refunded),
            "failed" => order_no.map(PaymentEvent::Failed),
            "refund_failed" => order_no.map(PaymentEvent::RefundFailed),
            "closed" => order_no.map(PaymentEvent::Closed),
            "unknown" => Some(PaymentEvent::Unknown),
            _ => None,
        }
    }

    fn money(&self, order_no: OrderNo) -> Option<Money> {
        Some(Money {
            order_no,
            payment_id: ProviderId::parse(self.payment_id.as_deref()?).ok()?,
            amount: self.amount?,
            currency: Currency::parse(self.currency.as_deref()?).ok()?,
            is_total: self.is_total?,
            is_ours: self.is_ours?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider_id(text: &str) -> ProviderId {
        ProviderId::parse(text).unwrap()
    }

    #[test]
    fn an_actor_reads_back() {
        let reported = Provider::ALL.iter().map(|provider| Actor::Report(*provider, provider_id("evt_1")));
        for who in [Actor::Buyer, Actor::Operator, Actor::Deadline].into_iter().chain(reported) {
            let (word, event_id) = actor_columns(&who);
            assert_eq!(actor(word, event_id), Some(who));
        }
        for (word, event_id) in [("nobody", None), ("nobody", Some("evt_1")), ("standard", None), ("alipay", Some(""))]
        {
            assert_eq!(actor(word, event_id), None, "{word} {event_id:?}");
        }
    }

    #[test]
    fn an_event_reads_back() {
        let order_no = OrderNo::from_bytes([7; 16]);
        let money = |is_total, is_ours| Money {
            order_no,
            payment_id: provider_id("pay_1"),
            amount: 1999,
            currency: Currency::parse("CNY").unwrap(),
            is_total,
            is_ours,
        };
        let (one, other) = (money(true, false), money(false, true));
        let moved = [
            PaymentEvent::Succeeded(one.clone()),
            PaymentEvent::Succeeded(other.clone()),
            PaymentEvent::Refunded(one),
            PaymentEvent::Refunded(other),
        ];
        let other = [
            PaymentEvent::Failed(order_no),
            PaymentEvent::RefundFailed(order_no),
            PaymentEvent::Closed(order_no),
            PaymentEvent::Unknown,
        ];
        for event in moved.into_iter().chain(other) {
            let (provider, event_id, event_type) = (Provider::Standard, provider_id("evt_1"), provider_id("payment"));
            let report = Report { provider, event_id, event_type, event };
            assert_eq!(EventColumns::of(&report).event(), Some(report.event));
        }
        let whole = EventColumns { event: "refunded".to_owned(), order_no: Some([7; 16]), ..EventColumns::default() };
        for damaged in [whole.clone(), EventColumns { event: "lost".to_owned(), ..whole }, EventColumns::default()] {
            assert_eq!(damaged.event(), None, "{damaged:?}");
        }
    }
}
