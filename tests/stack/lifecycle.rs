//! What is done to orders after they were made: buyers cancel, a provider reports payments, operators ship and refund.

use serde_json::{Value, json};

use crate::book::Operation;
use crate::client::{Request, post};
use crate::provider::PaymentEvent;
use crate::random::Random;

/// How many orders meet which fate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifecycle {
    /// Of a hundred orders, how many their buyers cancel.
    pub(crate) cancel: u64,
    /// Of a hundred orders, how many are paid at once. The others wait for the end: their deadline, or that of the test.
    pub(crate) pay: u64,
    /// Of a hundred paid orders, how many are refunded.
    pub(crate) refund: u64,
    /// Of a hundred paid orders, how many are shipped.
    pub(crate) ship: u64,
    /// The sale's `payment_timeout_s`.
    pub(crate) pays_in_s: u64,
}

impl Default for Lifecycle {
    /// Nothing expires.
    fn default() -> Self {
        Lifecycle { cancel: 30, pay: 45, refund: 35, ship: 30, pays_in_s: 900 }
    }
}

impl Lifecycle {
    /// Whoever does not pay at once loses the order.
    pub(crate) fn expiring() -> Self {
        Lifecycle { pays_in_s: 3, ..Lifecycle::default() }
    }

    /// What will be done to an order: one round after the other, what stands in one round at once.
    pub(crate) fn fate(&self, random: &mut Random) -> Vec<Vec<Act>> {
        use Act::{Cancel, Paid, PaidBack, Refund, Ship};
        let restocked = Refund { restock: true };
        match random.within(1, 100) {
            percent if percent <= self.cancel => match random.within(1, 6) {
                1 => vec![vec![Cancel, Paid(1)]],
                // It is paid too late; its units are back already, and must not come back again.
                2 => vec![vec![Cancel], vec![Paid(1)], vec![restocked]],
                3 => vec![vec![Cancel], vec![Cancel]],
                _ => vec![vec![Cancel]],
            },
            percent if percent <= self.cancel + self.pay => {
                let mut rounds = match random.within(1, 8) {
                    1 => return vec![vec![PaidBack], vec![Paid(1)]],
                    2 => return vec![vec![PaidBack, Paid(1)]],
                    // The same payment as another event, and another payment.
                    3 => vec![vec![Paid(1)], vec![Paid(1)]],
                    4 => vec![vec![Paid(1), Paid(2)]],
                    _ => vec![vec![Paid(1)]],
                };
                match random.within(1, 100) {
                    percent if percent <= self.refund => rounds.push(match random.within(1, 6) {
                        1 => vec![PaidBack],
                        2 => vec![restocked, PaidBack],
                        3 => vec![restocked, Ship],
                        4 => vec![Refund { restock: false }],
                        _ => vec![restocked],
                    }),
                    percent if percent <= self.refund + self.ship => rounds.push(vec![Ship]),
                    _ => {}
                }
                rounds
            }
            _ => vec![],
        }
    }
}

/// What somebody does to an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Cancel,
    Ship,
    Refund {
        restock: bool,
    },
    /// The provider reports a payment of all of it: its first, its second.
    Paid(u8),
    /// The provider reports that the money of the first payment went back.
    PaidBack,
}

impl Act {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Act::Cancel => "cancel",
            Act::Ship => "ship",
            Act::Refund { .. } => "refund",
            Act::Paid(_) => "paid",
            Act::PaidBack => "paid_back",
        }
    }

    pub(crate) fn is_report(self) -> bool {
        matches!(self, Act::Paid(_) | Act::PaidBack)
    }

    /// Whether it is asked for at the admin listener.
    pub(crate) fn is_operators(self) -> bool {
        matches!(self, Act::Ship | Act::Refund { .. })
    }

    /// The state in which a 200 shows the order.
    pub(crate) fn leads_to(self) -> Option<&'static str> {
        match self {
            Act::Cancel => Some("cancelled"),
            Act::Ship => Some("shipped"),
            Act::Refund { .. } => Some("refunded"),
            Act::Paid(_) | Act::PaidBack => None,
        }
    }
}

/// An act under its key, or as its event.
#[derive(Clone, Debug)]
pub(crate) struct Deed {
    pub(crate) act: Act,
    pub(crate) key: String,
    /// What came of it, if that is known.
    pub(crate) end: Option<End>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The body of the first 200 that arrived.
    Done(String),
    /// The order's state did not allow it.
    Refused,
}

impl Deed {
    pub(crate) fn is_done(&self) -> bool {
        matches!(self.end, Some(End::Done(_)))
    }

    pub(crate) fn request(&self, operation: &Operation) -> Request {
        let order = operation.order().expect("whoever does this was told of the order");
        let order_no = order["order_no"].as_str().unwrap();
        let admin = |word: &str| post(format!("/admin/v1/orders/{order_no}/{word}")).key(&self.key);
        match self.act {
            Act::Cancel => post(format!("/v1/orders/{order_no}/cancel"))
                .key(&self.key)
                .header("X-User-Id", operation.user.to_string()),
            Act::Ship => admin("ship"),
            Act::Refund { restock } => admin("refund").json(&json!({"restock": restock})),
            Act::Paid(n) => self.report("payment.succeeded", &order, n),
            Act::PaidBack => self.report("payment.refunded", &order, 1),
        }
    }

    fn report(&self, kind: &str, order: &Value, payment: u8) -> Request {
        let order_no = order["order_no"].as_str().unwrap();
        let payment_id = format!("{order_no}-{payment}");
        let told = json!({"payment_id": payment_id, "amount": order["amount"], "currency": order["currency"]});
        PaymentEvent::paid(&self.key, order_no).of(kind).with(told).request()
    }
}
