//! What a sale is, without shards, gates, batches or failures: a few maps.

use std::collections::BTreeMap;

use rushgate::order::{Boundary, OnDuplicate, OrderNo, Rules, SaleState, State, Switch};

use crate::world::NOON;

/// What a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) user: u64,
    pub(super) key: u8,
    pub(super) sku: u16,
    pub(super) quantity: u32,
}

/// What it must hear.
#[derive(Clone, Debug)]
pub(super) enum Verdict {
    Created {
        created_at: i64,
    },
    Replayed {
        created_at: i64,
    },
    /// One of these. There are two where two reasons hold: a gate that was just filled does not know who bought what,
    /// so it may find the stock too small before the ledger finds the limit reached.
    Refused(Vec<&'static str>),
}

pub(super) struct Oracle {
    rules: Rules,
    switch: Switch,
    pub(super) now_ms: i64,
    total: [i64; 2],
    /// By what makes an operation the same.
    orders: BTreeMap<Identity, Made>,
    changes: BTreeMap<u8, (u16, i64)>,
    /// The answers to steps, by order, word and key: with what they were asked for, and where they led.
    steps: BTreeMap<(Identity, &'static str, u8), (bool, State)>,
}

/// What makes an operation the same: its user, and what the boundary adds.
type Identity = (u64, String);

/// An order that was made.
struct Made {
    wish: Wish,
    created_at: i64,
    number: Option<OrderNo>,
    state: State,
    /// Whether its units went back.
    returned: bool,
    /// Whether a refund was reported before the payment.
    waits: bool,
}

/// What may happen to an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lifecycle {
    Cancel,
    Ship,
    Refund {
        restock: bool,
    },
    /// The provider reports a payment.
    Paid,
    /// The provider reports that all of it went back.
    Refunded,
}

/// What whoever sees to it must hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    State(State),
    Again(State),
    Refused(&'static str),
    Heard,
}

impl Oracle {
    pub(super) fn new(rules: Rules, stock: [i64; 2]) -> Oracle {
        Oracle {
            rules,
            switch: Switch::Running,
            now_ms: NOON,
            total: stock,
            orders: BTreeMap::new(),
            changes: BTreeMap::new(),
            steps: BTreeMap::new(),
        }
    }

    fn identity(&self, wish: &Wish) -> Identity {
        let day = self.now_ms.div_euclid(24 * 3600 * 1000);
        let same = match self.rules.boundary {
            Boundary::Request => format!("key {}", wish.key),
            Boundary::UserSku => format!("sku {}", wish.sku),
            Boundary::UserSale => "sale".to_owned(),
            Boundary::UserSkuDay => format!("sku {} day {day}", wish.sku),
        };
        (wish.user, same)
    }

    fn units(&self, is_counted: impl Fn(&Wish) -> bool) -> i64 {
        let live = self.orders.values().filter(|made| !made.returned).map(|made| &made.wish);
        live.filter(|wish| is_counted(wish)).map(|wish| i64::from(wish.quantity)).sum()
    }

    pub(super) fn verdict(&self, wish: &Wish) -> Verdict {
        if let Some(Made { wish: first, created_at, .. }) = self.orders.get(&self.identity(wish)) {
            // The key is no part of the content.
            let is_same = Wish { key: 0, ..*first } == Wish { key: 0, ..*wish };
            return match self.rules.on_duplicate {
                _ if !is_same => Verdict::Refused(vec!["idempotency_key_reused"]),
                OnDuplicate::Replay => Verdict::Replayed { created_at: *created_at },
                OnDuplicate::Conflict => Verdict::Refused(vec!["idempotency_conflict"]),
            };
        }
        match self.rules.state(self.switch, self.now_ms) {
            SaleState::Open => {}
            SaleState::Scheduled(_) => return Verdict::Refused(vec!["sale_not_open"]),
            SaleState::Paused => return Verdict::Refused(vec!["sale_paused"]),
            SaleState::Ended => return Verdict::Refused(vec!["sale_ended"]),
        }
        let mut why_not = Vec::new();
        let mine = self.units(|order| (order.user, order.sku) == (wish.user, wish.sku));
        if self.rules.user_limit.is_some_and(|limit| mine + i64::from(wish.quantity) > i64::from(limit)) {
            why_not.push("limit_reached");
        }
        if self.levels(wish.sku).0 < i64::from(wish.quantity) {
            why_not.push("sold_out");
        }
        if why_not.is_empty() { Verdict::Created { created_at: self.now_ms } } else { Verdict::Refused(why_not) }
    }

    pub(super) fn apply(&mut self, wish: &Wish, verdict: &Verdict) {
        if let Verdict::Created { created_at } = verdict {
            let state = if self.rules.payment_timeout_s.is_some() { State::PendingPayment } else { State::Confirmed };
            let made =
                Made { wish: *wish, created_at: *created_at, number: None, state, returned: false, waits: false };
            self.orders.insert(self.identity(wish), made);
        }
    }

    /// The number that an order was answered with.
    pub(super) fn learn(&mut self, wish: &Wish, number: OrderNo) {
        let identity = self.identity(wish);
        if let Some(made) = self.orders.get_mut(&identity) {
            assert_eq!(*made.number.get_or_insert(number), number, "an order has one number");
        }
    }

    /// The number and quantity of the order that this wish made, if it is known.
    pub(super) fn number(&self, wish: &Wish) -> Option<(OrderNo, u32)> {
        let made = self.orders.get(&self.identity(wish))?;
        Some((made.number?, made.wish.quantity))
    }

    /// What is told of a step of the order that this wish made, and what it does to it.
    pub(super) fn live(&mut self, wish: &Wish, lifecycle: Lifecycle, key: u8) -> Told {
        let identity = self.identity(wish);
        let made = self.orders.get_mut(&identity).expect("an order");
        let (word, restock) = match lifecycle {
            Lifecycle::Cancel => ("cancel", false),
            Lifecycle::Ship => ("ship", false),
            Lifecycle::Refund { restock } => ("refund", restock),
            Lifecycle::Paid => {
                made.state = match made.state {
                    State::PendingPayment => State::Paid,
                    State::Cancelled | State::Expired => State::RefundDue,
                    other => other,
                };
                if made.waits && matches!(made.state, State::Paid | State::RefundDue) {
                    made.state = State::Refunded;
                }
                return Told::Heard;
            }
            Lifecycle::Refunded => {
                match made.state {
                    State::PendingPayment | State::Cancelled | State::Expired => made.waits = true,
                    State::Paid | State::RefundDue => made.state = State::Refunded,
                    _ => {}
                }
                return Told::Heard;
            }
        };
        if let Some((asked, state)) = self.steps.get(&(identity.clone(), word, key)) {
            return if *asked == restock { Told::Again(*state) } else { Told::Refused("idempotency_key_reused") };
        }
        let (state, returns) = match (made.state, lifecycle) {
            (State::PendingPayment, Lifecycle::Cancel) => (State::Cancelled, true),
            (State::Cancelled, Lifecycle::Cancel) => (State::Cancelled, false),
            (State::Paid | State::Confirmed, Lifecycle::Ship) => (State::Shipped, false),
            (State::Paid | State::RefundDue, Lifecycle::Refund { restock }) => (State::Refunded, restock),
            _ => return Told::Refused("invalid_transition"),
        };
        made.state = state;
        made.returned |= returns;
        self.steps.insert((identity, word, key), (restock, state));
        Told::State(state)
    }

    /// Time passes.
    pub(super) fn tick(&mut self, ms: i64) {
        self.now_ms += ms;
        let Some(seconds) = self.rules.payment_timeout_s else { return };
        for made in self.orders.values_mut() {
            if made.state == State::PendingPayment && made.created_at + i64::from(seconds) * 1000 <= self.now_ms {
                made.state = State::Expired;
                made.returned = true;
            }
        }
    }

    /// How every order stands whose number is known.
    pub(super) fn states(&self) -> impl Iterator<Item = (OrderNo, State)> {
        self.orders.values().filter_map(|made| Some((made.number?, made.state)))
    }

    /// Whether the sale may be switched so.
    pub(super) fn switch(&mut self, switch: Switch) -> bool {
        let is_ended = self.rules.state(self.switch, self.now_ms) == SaleState::Ended;
        if is_ended && switch != Switch::Ended {
            return false;
        }
        self.switch = switch;
        true
    }

    /// Changes the stock, or says why not.
    pub(super) fn restock(&mut self, change: u8, sku: u16, units: i64) -> Option<&'static str> {
        match self.changes.get(&change) {
            Some(before) if *before == (sku, units) => return None,
            Some(_) => return Some("change_exists"),
            None => {}
        }
        if self.levels(sku).0 + units < 0 {
            return Some("not_enough_stock");
        }
        self.changes.insert(change, (sku, units));
        self.total[usize::from(sku)] += units;
        None
    }

    /// Available, held and sold.
    pub(super) fn levels(&self, sku: u16) -> (i64, i64, i64) {
        let live = self.orders.values().filter(|made| made.wish.sku == sku && !made.returned);
        let (held, sold) = live.fold((0, 0), |(held, sold), made| {
            let units = i64::from(made.wish.quantity);
            if made.state == State::PendingPayment { (held + units, sold) } else { (held, sold + units) }
        });
        (self.total[usize::from(sku)] - held - sold, held, sold)
    }
}
