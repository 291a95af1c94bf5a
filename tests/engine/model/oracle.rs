//! What a sale is, without shards, gates, batches or failures: a few maps.

use std::collections::BTreeMap;

use rushgate::order::{Boundary, OnDuplicate, Rules, SaleState, Switch};

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
    /// By what makes an operation the same: the order's content and its time.
    orders: BTreeMap<(u64, String), (Wish, i64)>,
    changes: BTreeMap<u8, (u16, i64)>,
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
        }
    }

    fn identity(&self, wish: &Wish) -> (u64, String) {
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
        let counted = self.orders.values().filter(|(wish, _)| is_counted(wish));
        counted.map(|(wish, _)| i64::from(wish.quantity)).sum()
    }

    pub(super) fn verdict(&self, wish: &Wish) -> Verdict {
        if let Some((first, created_at)) = self.orders.get(&self.identity(wish)) {
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
            self.orders.insert(self.identity(wish), (*wish, *created_at));
        }
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
        let ordered = self.units(|order| order.sku == sku);
        let available = self.total[usize::from(sku)] - ordered;
        if self.rules.payment_timeout_s.is_some() { (available, ordered, 0) } else { (available, 0, ordered) }
    }
}
