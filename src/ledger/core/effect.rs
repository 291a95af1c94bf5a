//! What a step does to an order and to the stock of its segment.

use crate::clock::UnixMs;
use crate::order::{InvalidTransition, Order, State, Step};

/// What changes in a segment of stock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::ledger) struct SegmentDelta {
    /// Units of unpaid orders.
    pub(in crate::ledger) held: i64,
    /// Units of orders that are confirmed, paid, shipped, or refunded without their units.
    pub(in crate::ledger) sold: i64,
    /// Units that go back on sale; the user has them no longer.
    pub(in crate::ledger) returned: i64,
}

impl SegmentDelta {
    /// The units of a new order.
    pub(in crate::ledger) fn of_new(state: State, quantity: u32) -> Self {
        let units = i64::from(quantity);
        match state {
            State::PendingPayment => SegmentDelta { held: units, ..SegmentDelta::default() },
            State::Confirmed | State::Paid | State::Shipped | State::Refunded => {
                SegmentDelta { sold: units, ..SegmentDelta::default() }
            }
            State::Cancelled | State::Expired | State::RefundDue => SegmentDelta::default(),
        }
    }

    /// The units that an order has in its segment.
    fn of(order: &Order) -> Self {
        if order.returned { SegmentDelta::default() } else { SegmentDelta::of_new(order.state, order.quantity) }
    }

    pub(in crate::ledger) fn add(&mut self, other: SegmentDelta) {
        self.held += other.held;
        self.sold += other.sold;
        self.returned += other.returned;
    }

    pub(in crate::ledger) fn is_zero(&self) -> bool {
        *self == SegmentDelta::default()
    }
}

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ledger) struct Effect {
    /// The order after the step.
    pub(in crate::ledger) order: Order,
    /// What changes in its segment.
    pub(in crate::ledger) units: SegmentDelta,
}

impl Effect {
    /// What `step` does to `order`; with `restock`, a refund puts its units back on sale unless they went back before.
    pub(in crate::ledger) fn of(
        order: &Order,
        step: Step,
        restock: bool,
        now_ms: UnixMs,
    ) -> Result<Self, InvalidTransition> {
        let gives_back = match step {
            Step::Cancel | Step::Expire => true,
            Step::Refund => restock,
            Step::Pay | Step::Ship => false,
        };
        let after = Order {
            state: order.state.after(step)?,
            state_version: order.state_version.saturating_add(1),
            updated_at: now_ms,
            returned: order.returned || gives_back,
            ..*order
        };
        let (from, to) = (SegmentDelta::of(order), SegmentDelta::of(&after));
        let returned = if after.returned && !order.returned { i64::from(order.quantity) } else { 0 };
        let units = SegmentDelta { held: to.held - from.held, sold: to.sold - from.sold, returned };
        Ok(Effect { order: after, units })
    }
}

/// What the ledger stores of an order under the key of a step: all that steps change of it.
pub(in crate::ledger) fn encode_snapshot(order: &Order) -> String {
    format!("{} {} {} {}", order.state.as_str(), order.state_version, order.updated_at, order.returned)
}

/// `order` as it stood when `body` was [`encode_snapshot`] of it; `None` if that never was.
pub(in crate::ledger) fn decode_snapshot(order: &Order, body: &[u8]) -> Option<Order> {
    let mut words = std::str::from_utf8(body).ok()?.split(' ');
    let state = words.next()?;
    Some(Order {
        state: State::ALL.into_iter().find(|known| known.as_str() == state)?,
        state_version: words.next()?.parse().ok()?,
        updated_at: words.next()?.parse().ok()?,
        returned: words.next()?.parse().ok()?,
        ..*order
    })
}

#[cfg(test)]
pub(in crate::ledger) mod tests {
    use super::*;
    use crate::order::{Epoch, Fingerprint, OrderNo, SaleNo, SkuNo, UserId};

    pub(in crate::ledger) fn order(state: State, returned: bool) -> Order {
        Order {
            seq: 1,
            sale: SaleNo(1),
            sku: SkuNo(1),
            order_no: OrderNo::from_bytes([1; 16]),
            fingerprint: Fingerprint::from_bytes([2; 16]),
            user: UserId::new(3).unwrap(),
            quantity: 5,
            state,
            state_version: 4,
            epoch: Some(Epoch::FIRST),
            created_at: 10,
            updated_at: 20,
            returned,
        }
    }

    #[test]
    fn units_move_as_the_table_says() {
        use State::*;
        // From, whether returned, step, restock: units held, sold, returned.
        for (from, before, step, restock, moved) in [
            (PendingPayment, false, Step::Pay, false, (-5, 5, 0)),
            (PendingPayment, false, Step::Cancel, false, (-5, 0, 5)),
            (PendingPayment, false, Step::Expire, false, (-5, 0, 5)),
            (Confirmed, false, Step::Ship, false, (0, 0, 0)),
            (Paid, false, Step::Ship, true, (0, 0, 0)),
            (Paid, false, Step::Refund, false, (0, 0, 0)),
            (Paid, false, Step::Refund, true, (0, -5, 5)),
            (Cancelled, true, Step::Pay, false, (0, 0, 0)),
            (Expired, true, Step::Pay, true, (0, 0, 0)),
            (RefundDue, true, Step::Refund, false, (0, 0, 0)),
            (RefundDue, true, Step::Refund, true, (0, 0, 0)),
        ] {
            let effect = Effect::of(&order(from, before), step, restock, 99).unwrap();
            let SegmentDelta { held, sold, returned } = effect.units;
            assert_eq!((held, sold, returned), moved, "{from:?} {step:?} {restock}");
            let after = effect.order;
            let returned = before || moved.2 > 0;
            assert_eq!(
                after,
                Order {
                    state: from.after(step).unwrap(),
                    state_version: 5,
                    updated_at: 99,
                    returned,
                    ..order(from, before)
                },
                "{from:?} {step:?} {restock}"
            );
        }
        assert_eq!(Effect::of(&order(Paid, false), Step::Cancel, false, 99), Err(InvalidTransition(Paid)));
    }

    #[test]
    fn a_snapshot_reads_back() {
        for state in State::ALL {
            for returned in [false, true] {
                let then = Order { state_version: 7, updated_at: -1, ..order(state, returned) };
                let now = order(State::Paid, !returned);
                assert_eq!(decode_snapshot(&now, encode_snapshot(&then).as_bytes()), Some(then));
            }
        }
        assert_eq!(
            encode_snapshot(&order(State::Cancelled, true)),
            "cancelled 4 20 true",
            "it stands in ledgers and must never change"
        );
        for body in
            [&b""[..], b"paid", b"paid 2 3", b"paid 2 3 1", b"gone 2 3 true", b"paid -2 3 true", b"\xff 2 3 true"]
        {
            assert_eq!(decode_snapshot(&order(State::Paid, false), body), None, "{body:?}");
        }
    }
}
