//! How steps and reports stand in the rows of any ledger.

use crate::order::{Actor, Currency, Money, OrderNo, PaymentEvent, Provider, ProviderId, Report};

/// The columns `by` and `event_id` of a step.
pub(in crate::ledger) fn by_columns(by: &Actor) -> (&'static str, Option<&str>) {
    (by.as_str(), by.event_id().map(ProviderId::as_str))
}

/// Who took a step, from the same columns.
pub(in crate::ledger) fn by(word: &str, event_id: Option<&str>) -> Option<Actor> {
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

/// The columns of a report that say what it says; see [`PaymentEvent`] and [`Money`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::ledger) struct FactColumns {
    pub(in crate::ledger) fact: String,
    pub(in crate::ledger) order_no: Option<[u8; 16]>,
    pub(in crate::ledger) payment_id: Option<String>,
    pub(in crate::ledger) amount: Option<i64>,
    pub(in crate::ledger) currency: Option<String>,
    pub(in crate::ledger) is_total: Option<bool>,
    pub(in crate::ledger) is_ours: Option<bool>,
}

impl FactColumns {
    /// The columns of a report.
    pub(in crate::ledger) fn of(report: &Report) -> Self {
        let money = report.fact.money();
        FactColumns {
            fact: report.fact.as_str().to_owned(),
            order_no: report.order_no().map(|order_no| *order_no.as_bytes()),
            payment_id: money.map(|money| money.payment_id.as_str().to_owned()),
            amount: money.map(|money| money.amount),
            currency: money.map(|money| money.currency.as_str().to_owned()),
            is_total: money.map(|money| money.is_total),
            is_ours: money.map(|money| money.is_ours),
        }
    }

    /// What they say; `None` if no report wrote them.
    pub(in crate::ledger) fn read(&self) -> Option<PaymentEvent> {
        let order_no = self.order_no.map(OrderNo::from_bytes);
        match self.fact.as_str() {
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

    fn reference(text: &str) -> ProviderId {
        ProviderId::parse(text).unwrap()
    }

    #[test]
    fn who_took_a_step_reads_back() {
        let reported = Provider::ALL.iter().map(|provider| Actor::Report(*provider, reference("evt_1")));
        for who in [Actor::Buyer, Actor::Operator, Actor::Deadline].into_iter().chain(reported) {
            let (word, event_id) = by_columns(&who);
            assert_eq!(by(word, event_id), Some(who));
        }
        for (word, event_id) in [("nobody", None), ("nobody", Some("evt_1")), ("standard", None), ("alipay", Some(""))]
        {
            assert_eq!(by(word, event_id), None, "{word} {event_id:?}");
        }
    }

    #[test]
    fn what_a_report_says_reads_back() {
        let order_no = OrderNo::from_bytes([7; 16]);
        let money = |is_total, is_ours| Money {
            order_no,
            payment_id: reference("pay_1"),
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
        for fact in moved.into_iter().chain(other) {
            let (provider, event_id, event_type) = (Provider::Standard, reference("evt_1"), reference("payment"));
            let report = Report { provider, event_id, event_type, fact };
            assert_eq!(FactColumns::of(&report).read(), Some(report.fact));
        }
        let whole = FactColumns { fact: "refunded".to_owned(), order_no: Some([7; 16]), ..FactColumns::default() };
        for damaged in [whole.clone(), FactColumns { fact: "lost".to_owned(), ..whole }, FactColumns::default()] {
            assert_eq!(damaged.read(), None, "{damaged:?}");
        }
    }
}
