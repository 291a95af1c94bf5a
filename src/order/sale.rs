//! A sale: its rules, its skus, and what it is at a given moment.

use super::{Currency, Name, Salt, State, Zone};
use crate::clock::UnixMs;

/// The ledger's number of a sale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SaleNo(pub i64);

/// The ledger's number of a sku.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SkuNo(pub i64);

/// A sale as the engine knows it. It is never changed, only replaced.
#[derive(Clone, Debug)]
pub struct Sale {
    /// The ledger's number.
    pub no: SaleNo,
    /// The seller's id.
    pub id: Name,
    /// The rules as created.
    pub rules: Rules,
    /// Keys the derivation of order numbers.
    pub salt: Salt,
    /// Version of the derivation, pinned when the sale was made.
    pub derivation: u8,
    /// What an operator did to the sale.
    pub switch: Switch,
    /// The items, in the order they were given.
    pub skus: Vec<Sku>,
    /// Grows, over all sales of the ledger, with every change of a sale or of its stock by an operator.
    pub revision: i64,
    /// Whether orders of it ever bypassed the gate: then no gate knows every order of it.
    pub bypassed: bool,
}

/// One item of a sale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sku {
    /// The ledger's number.
    pub no: SkuNo,
    /// The seller's id.
    pub id: Name,
    /// Price of one unit, in minor units.
    pub unit_price: i64,
    /// Currency of the price.
    pub currency: Currency,
}

/// What a sale was created with; frozen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Opens at this time; `None`: at once.
    pub starts_at: Option<UnixMs>,
    /// Ends at this time; `None`: when it is ended.
    pub ends_at: Option<UnixMs>,
    /// What counts as the same operation.
    pub boundary: Boundary,
    /// Most units of one sku per user; `None`: no limit.
    pub user_limit: Option<u32>,
    /// Time to pay, in seconds; `None`: no payment step.
    pub payment_timeout_s: Option<u32>,
    /// The answer to a repeat.
    pub on_duplicate: OnDuplicate,
    /// Whether a purchase token is the only way in.
    pub require_token: bool,
    /// Number of virtual shards, 1..=[`crate::limits::SHARDS_MAX`].
    pub shards: u16,
    /// Where the days of [`Boundary::UserSkuDay`] begin.
    pub time_zone: Zone,
}

impl Default for Rules {
    /// What the contract says of rules that are left out.
    fn default() -> Self {
        Rules {
            starts_at: None,
            ends_at: None,
            boundary: Boundary::default(),
            user_limit: None,
            payment_timeout_s: Some(900),
            on_duplicate: OnDuplicate::default(),
            require_token: false,
            shards: 1,
            time_zone: Zone::UTC,
        }
    }
}

/// What counts as the same operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Boundary {
    /// The client's key.
    #[default]
    Request,
    /// One order per user and sku.
    UserSku,
    /// One order per user.
    UserSale,
    /// One order per user, sku and day.
    UserSkuDay,
}

/// The answer to a repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnDuplicate {
    /// The first answer again.
    #[default]
    Replay,
    /// 409 with the order's number.
    Conflict,
}

/// What an operator did to a sale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Switch {
    /// Nothing, or resumed.
    #[default]
    Running,
    /// Paused: orders are refused until it is resumed.
    Paused,
    /// Ended for good.
    Ended,
}

/// What a sale is at a given moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaleState {
    /// It opens later, at the given time.
    Scheduled(UnixMs),
    /// It sells.
    Open,
    /// An operator paused it.
    Paused,
    /// It ended, by its window or by an operator.
    Ended,
}

/// A sale that is to be made.
#[derive(Clone, Debug)]
pub struct NewSale {
    /// The seller's id.
    pub id: Name,
    /// The rules.
    pub rules: Rules,
    /// Whether `rules.shards` was named by the seller and not filled in from the settings.
    pub shards_named: bool,
    /// The items, at least one, ids distinct.
    pub skus: Vec<NewSku>,
}

impl NewSale {
    /// Whether this describes an existing sale; `stock` is what each of its skus was created with. The order of the skus
    /// does not matter, and shards that are not named now are not compared: the settings fill them in.
    pub fn asks_for(&self, sale: &Sale, stock: &[i64]) -> bool {
        let shards = if self.shards_named { self.rules.shards } else { sale.rules.shards };
        let existing = sale.skus.iter().zip(stock).map(|(sku, stock)| NewSku {
            id: sku.id.clone(),
            stock: *stock,
            unit_price: sku.unit_price,
            currency: sku.currency,
        });
        let sorted = |mut skus: Vec<NewSku>| {
            skus.sort_by(|a, b| a.id.cmp(&b.id));
            skus
        };
        Rules { shards, ..self.rules.clone() } == sale.rules && sorted(existing.collect()) == sorted(self.skus.clone())
    }
}

/// An item of a sale that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSku {
    /// The seller's id.
    pub id: Name,
    /// Units to sell, 0..=[`crate::limits::STOCK_UNITS_MAX`].
    pub stock: i64,
    /// Price of one unit, in minor units.
    pub unit_price: i64,
    /// Currency of the price.
    pub currency: Currency,
}

/// Units of one sku in one shard. `total = available + held + sold`, none negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SkuLevel {
    /// Units this shard may sell in all.
    pub total: i64,
    /// Units of orders that wait for payment.
    pub held: i64,
    /// Units of orders that are confirmed, paid or beyond.
    pub sold: i64,
    /// Units that ever came back from orders. It only grows: units come back in the ledger first, so a growth shows the
    /// engine, when it compares gate and ledger, that units are on their way to the gate.
    pub returned: i64,
}

impl SkuLevel {
    /// Units that no order has.
    pub fn available(&self) -> i64 {
        self.total - self.held - self.sold
    }
}

impl Sale {
    /// What the sale is at `now_ms`.
    pub fn state(&self, now_ms: UnixMs) -> SaleState {
        self.rules.state(self.switch, now_ms)
    }

    /// Position and item of the sku with this id.
    pub fn sku(&self, id: &str) -> Option<(u16, &Sku)> {
        let at = self.skus.iter().position(|sku| sku.id.as_str() == id)?;
        Some((u16::try_from(at).ok()?, self.skus.get(at)?))
    }

    /// Position of the sku that the ledger numbers `no`.
    pub fn sku_at(&self, no: SkuNo) -> Option<u16> {
        self.skus.iter().position(|sku| sku.no == no).and_then(|at| u16::try_from(at).ok())
    }
}

impl Rules {
    /// What a sale with these rules is at `now_ms`: an end is final, a pause outranks the window.
    pub fn state(&self, switch: Switch, now_ms: UnixMs) -> SaleState {
        match (switch, self.starts_at, self.ends_at) {
            (Switch::Ended, _, _) => SaleState::Ended,
            (_, _, Some(ends_at)) if now_ms >= ends_at => SaleState::Ended,
            (Switch::Paused, _, _) => SaleState::Paused,
            (Switch::Running, Some(starts_at), _) if now_ms < starts_at => SaleState::Scheduled(starts_at),
            (Switch::Running, _, _) => SaleState::Open,
        }
    }

    /// The state an order begins in.
    pub fn first_state(&self) -> State {
        if self.payment_timeout_s.is_some() { State::PendingPayment } else { State::Confirmed }
    }

    /// When an order made at `created_at` expires unless it is paid.
    pub fn expires_at(&self, created_at: UnixMs) -> Option<UnixMs> {
        self.payment_timeout_s.map(|seconds| created_at.saturating_add(i64::from(seconds) * 1000))
    }
}

impl SaleState {
    /// The contract's word.
    pub fn as_str(self) -> &'static str {
        match self {
            SaleState::Scheduled(_) => "scheduled",
            SaleState::Open => "open",
            SaleState::Paused => "paused",
            SaleState::Ended => "ended",
        }
    }
}

text_enum!(Boundary { Request = "request", UserSku = "user_sku", UserSale = "user_sale", UserSkuDay = "user_sku_day", });
text_enum!(OnDuplicate { Replay = "replay", Conflict = "conflict", });
text_enum!(Switch { Running = "running", Paused = "paused", Ended = "ended", });

impl Boundary {
    /// Whether an order in such a sale needs a key; where it does not, a key is ignored.
    pub fn needs_key(self) -> bool {
        self == Boundary::Request
    }
}

/// Splits `units` over `parts` as evenly as whole units allow; the first parts get the remainder.
pub fn even_split(units: i64, parts: u16) -> impl Iterator<Item = i64> {
    let parts = i64::from(parts.max(1));
    let (each, over) = (units / parts, units % parts);
    (0..parts).map(move |part| each + i64::from(part < over))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sale_is_scheduled_open_paused_or_ended() {
        let rules = Rules { starts_at: Some(100), ends_at: Some(200), ..Rules::default() };
        let table = [
            (Switch::Running, 99, SaleState::Scheduled(100)),
            (Switch::Running, 100, SaleState::Open),
            (Switch::Running, 199, SaleState::Open),
            (Switch::Running, 200, SaleState::Ended),
            (Switch::Paused, 99, SaleState::Paused),
            (Switch::Paused, 150, SaleState::Paused),
            (Switch::Paused, 200, SaleState::Ended),
            (Switch::Ended, 150, SaleState::Ended),
        ];
        for (switch, now_ms, want) in table {
            assert_eq!(rules.state(switch, now_ms), want, "{switch:?} at {now_ms}");
        }
        assert_eq!(rules.expires_at(100), Some(900_100));
    }

    #[test]
    fn a_split_loses_no_unit_and_differs_by_at_most_one() {
        for (units, parts) in [(0, 1), (3, 64), (100, 7), (10_000, 64), (1, 1024)] {
            let split: Vec<i64> = even_split(units, parts).collect();
            assert_eq!(split.len(), usize::from(parts));
            assert_eq!(split.iter().sum::<i64>(), units);
            let (low, high) = (split.iter().min().unwrap(), split.iter().max().unwrap());
            assert!(high - low <= 1 && *low >= 0);
        }
    }
}
