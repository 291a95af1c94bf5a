//! The life of an order: one table of transitions, and nothing moves an order except along it.

/// Where an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// Recorded, waiting for its payment.
    PendingPayment,
    /// Recorded in a sale without a payment step.
    Confirmed,
    /// Paid.
    Paid,
    /// Handed to the buyer.
    Shipped,
    /// Cancelled by the buyer before payment.
    Cancelled,
    /// Not paid in time.
    Expired,
    /// Paid after it was cancelled or had expired: the money goes back.
    RefundDue,
    /// The money went back.
    Refunded,
}

/// What may happen to an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// A payment succeeded.
    Pay,
    /// The buyer cancelled.
    Cancel,
    /// The time to pay ran out.
    Expire,
    /// The seller handed it over.
    Ship,
    /// The money went back.
    Refund,
}

impl Step {
    /// Every step, in the order of their numbers in the ledger.
    pub const ALL: [Step; 5] = [Step::Pay, Step::Cancel, Step::Expire, Step::Ship, Step::Refund];

    /// The word in histories and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Step::Pay => "pay",
            Step::Cancel => "cancel",
            Step::Expire => "expire",
            Step::Ship => "ship",
            Step::Refund => "refund",
        }
    }

    /// The number that stands in the ledger; it never changes.
    pub fn number(self) -> i64 {
        match self {
            Step::Pay => 0,
            Step::Cancel => 1,
            Step::Expire => 2,
            Step::Ship => 3,
            Step::Refund => 4,
        }
    }

    /// The step of a ledger number.
    pub fn from_number(number: i64) -> Option<Step> {
        Step::ALL.into_iter().find(|step| step.number() == number)
    }
}

/// A step that the order's state does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an order that is {} cannot take this step", .0.as_str())]
pub struct InvalidTransition(pub State);

impl State {
    /// Every state, in the order of their numbers in the ledger.
    pub const ALL: [State; 8] = [
        State::PendingPayment,
        State::Confirmed,
        State::Paid,
        State::Shipped,
        State::Cancelled,
        State::Expired,
        State::RefundDue,
        State::Refunded,
    ];

    /// The whole table: where `step` leads from here.
    pub fn after(self, step: Step) -> Result<State, InvalidTransition> {
        use State::*;
        match (self, step) {
            (PendingPayment, Step::Pay) => Ok(Paid),
            (PendingPayment, Step::Cancel) => Ok(Cancelled),
            (PendingPayment, Step::Expire) => Ok(Expired),
            (Paid | Confirmed, Step::Ship) => Ok(Shipped),
            (Paid | RefundDue, Step::Refund) => Ok(Refunded),
            (Cancelled | Expired, Step::Pay) => Ok(RefundDue),
            (from, _) => Err(InvalidTransition(from)),
        }
    }

    /// The contract's word.
    pub fn as_str(self) -> &'static str {
        match self {
            State::PendingPayment => "pending_payment",
            State::Confirmed => "confirmed",
            State::Paid => "paid",
            State::Shipped => "shipped",
            State::Cancelled => "cancelled",
            State::Expired => "expired",
            State::RefundDue => "refund_due",
            State::Refunded => "refunded",
        }
    }

    /// The number that stands in the ledger; it never changes.
    pub fn number(self) -> i64 {
        match self {
            State::PendingPayment => 0,
            State::Confirmed => 1,
            State::Paid => 2,
            State::Shipped => 3,
            State::Cancelled => 4,
            State::Expired => 5,
            State::RefundDue => 6,
            State::Refunded => 7,
        }
    }

    /// The state of a ledger number.
    pub fn from_number(number: i64) -> Option<State> {
        State::ALL.into_iter().find(|state| state.number() == number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table once more, drawn as the design draws it: a row per state, a column per step.
    #[test]
    fn the_whole_table() {
        let drawn = "
            from             pay         cancel     expire   ship     refund
            pending_payment  paid        cancelled  expired  -        -
            confirmed        -           -          -        shipped  -
            paid             -           -          -        shipped  refunded
            shipped          -           -          -        -        -
            cancelled        refund_due  -          -        -        -
            expired          refund_due  -          -        -        -
            refund_due       -           -          -        -        refunded
            refunded         -           -          -        -        -";
        let mut rows = drawn.lines().filter(|line| !line.trim().is_empty()).skip(1);
        for state in State::ALL {
            let cells: Vec<&str> = rows.next().unwrap().split_whitespace().collect();
            assert_eq!(cells[0], state.as_str());
            for (step, cell) in Step::ALL.into_iter().zip(&cells[1..]) {
                let want = State::ALL.into_iter().find(|s| s.as_str() == *cell);
                assert_eq!(state.after(step).ok(), want, "{state:?} {step:?}");
            }
        }
        assert_eq!(rows.next(), None);
    }

    #[test]
    fn numbers_read_back() {
        for state in State::ALL {
            assert_eq!(State::from_number(state.number()), Some(state));
        }
        assert_eq!(State::from_number(8), None);
        for step in Step::ALL {
            assert_eq!(Step::from_number(step.number()), Some(step));
        }
        assert_eq!(Step::from_number(5), None);
    }
}
