//! The gate in this process's memory: one mutex per shard, no await inside, gone with the process.

use std::collections::HashMap;
use std::future::ready;
use std::sync::Arc;

use crossbeam::utils::CachePadded;
use futures_util::future::{BoxFuture, FutureExt};
use parking_lot::{Mutex, RwLock};

use super::records::{Record, Records};
use super::{Ask, At, Error, Gate, Held, Level, May, No, Return, Settlement};
use crate::clock::UnixMs;
use crate::limits;
use crate::order::{Hold, OrderNo, Rules, Sale, SaleNo, SaleState, Switch, UserId};

/// The embedded gate.
pub struct MemoryGate {
    sales: RwLock<HashMap<SaleNo, Arc<Shards>>>,
    records_max: usize,
}

type Shards = [CachePadded<Mutex<Segment>>];

impl Default for MemoryGate {
    fn default() -> Self {
        MemoryGate::with_records_max(limits::RECORDS_PER_SHARD_MAX)
    }
}

impl MemoryGate {
    /// A gate that keeps up to `records_max` recorded orders per shard.
    pub fn with_records_max(records_max: usize) -> Self {
        MemoryGate { sales: RwLock::default(), records_max }
    }

    /// Runs `work` on one shard; a shard that was never loaded is a stale epoch.
    fn with<T>(&self, at: At, work: impl FnOnce(&mut Segment) -> T) -> Option<T> {
        let shards = self.sales.read().get(&at.sale).cloned()?;
        let segment = shards.get(usize::from(at.shard))?;
        Some(work(&mut segment.lock()))
    }
}

impl Gate for MemoryGate {
    fn load<'a>(
        &'a self,
        at: At,
        sale: &'a Sale,
        available: &'a [i64],
        remembers_all: bool,
    ) -> BoxFuture<'a, Result<(), Error>> {
        let segment = Segment {
            epoch: at.epoch,
            held: vec![0; available.len()],
            rules: sale.rules.clone(),
            switch: sale.switch,
            available: available.to_vec(),
            holds: HashMap::default(),
            records: Records::new(self.records_max),
            user_units: HashMap::default(),
            remembers_all,
        };
        let shards = self
            .sales
            .write()
            .entry(at.sale)
            .or_insert_with(|| (0..sale.rules.shards).map(|_| Segment::unloaded(sale)).collect())
            .clone();
        if let Some(place) = shards.get(usize::from(at.shard)) {
            let mut place = place.lock();
            if place.epoch < at.epoch {
                *place = segment;
            }
        }
        ready(Ok(())).boxed()
    }

    fn reserve<'a>(&'a self, at: At, now_ms: UnixMs, asks: &'a [Ask]) -> BoxFuture<'a, Result<Vec<Held>, Error>> {
        let held = self.with(at, |segment| {
            asks.iter()
                .map(|ask| if segment.epoch == at.epoch { segment.reserve(ask, now_ms) } else { Held::StaleEpoch })
                .collect()
        });
        ready(Ok(held.unwrap_or_else(|| vec![Held::StaleEpoch; asks.len()]))).boxed()
    }

    fn settle<'a>(&'a self, at: At, settlements: &'a [Settlement]) -> BoxFuture<'a, Result<(), Error>> {
        self.with(at, |segment| {
            if segment.epoch == at.epoch {
                settlements.iter().for_each(|settlement| segment.settle(*settlement));
            }
        });
        ready(Ok(())).boxed()
    }

    fn switch<'a>(&'a self, at: At, switch: Switch) -> BoxFuture<'a, Result<(), Error>> {
        self.with(at, |segment| segment.switch = switch);
        ready(Ok(())).boxed()
    }

    fn adjust<'a>(&'a self, at: At, sku: u16, units: i64) -> BoxFuture<'a, Result<i64, Error>> {
        let moved = self.with(at, |segment| match segment.available.get_mut(usize::from(sku)) {
            Some(available) if segment.epoch == at.epoch => {
                let moved = units.max(-*available);
                *available += moved;
                moved.abs()
            }
            _ => 0,
        });
        ready(Ok(moved.unwrap_or(0))).boxed()
    }

    fn give_back<'a>(&'a self, at: At, returns: &'a [Return]) -> BoxFuture<'a, Result<(), Error>> {
        self.with(at, |segment| {
            if segment.epoch == at.epoch {
                returns.iter().for_each(|back| segment.put_back(back.user, back.sku, back.units));
            }
        });
        ready(Ok(())).boxed()
    }

    fn level<'a>(&'a self, at: At) -> BoxFuture<'a, Result<Level, Error>> {
        let level = self.with(at, |segment| Level {
            epoch: segment.epoch,
            available: segment.available.clone(),
            held: segment.held.clone(),
            holds: segment.holds.len(),
            switch: (segment.epoch > 0).then_some(segment.switch),
        });
        ready(Ok(level.unwrap_or_default())).boxed()
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn overdue<'a>(&'a self, at: At, now_ms: UnixMs, max: usize) -> BoxFuture<'a, Result<Vec<Hold>, Error>> {
        let holds = self.with(at, |segment| {
            if segment.epoch != at.epoch {
                return Vec::new();
            }
            let overdue = segment.holds.values_mut().filter(|held| !held.is_leased(now_ms)).take(max);
            overdue.map(|held| held.renew(held.by, now_ms)).collect()
        });
        ready(Ok(holds.unwrap_or_default())).boxed()
    }
}

/// One shard of one sale.
struct Segment {
    epoch: i64,
    rules: Rules,
    switch: Switch,
    available: Vec<i64>,
    /// Units of `holds`, per sku.
    held: Vec<i64>,
    holds: HashMap<OrderNo, Leased, foldhash::fast::RandomState>,
    records: Records,
    /// Units per user and sku, kept only where the sale has a limit.
    user_units: HashMap<(UserId, u16), u32, foldhash::fast::RandomState>,
    remembers_all: bool,
}

/// A reservation under its lease.
struct Leased {
    hold: Hold,
    /// Who asked for it: see [`Ask::by`].
    by: u64,
    until_ms: UnixMs,
}

impl Leased {
    fn new(hold: Hold, by: u64, now_ms: UnixMs) -> Self {
        Leased { hold, by, until_ms: now_ms.saturating_add(limits::LEASE_MS) }
    }

    /// A lease that ends further off than leases last, even by the clock of an engine that is ahead, was given before the
    /// clock was set back: it counts as over.
    fn is_leased(&self, now_ms: UnixMs) -> bool {
        let left_ms = self.until_ms.saturating_sub(now_ms);
        0 < left_ms && left_ms <= limits::LEASE_MS + limits::CLOCKS_APART_MS
    }

    fn renew(&mut self, by: u64, now_ms: UnixMs) -> Hold {
        *self = Leased::new(self.hold, by, now_ms);
        self.hold
    }
}

impl Segment {
    fn unloaded(sale: &Sale) -> CachePadded<Mutex<Segment>> {
        CachePadded::new(Mutex::new(Segment {
            epoch: 0,
            held: Vec::new(),
            rules: sale.rules.clone(),
            switch: sale.switch,
            available: Vec::new(),
            holds: HashMap::default(),
            records: Records::new(1),
            user_units: HashMap::default(),
            remembers_all: false,
        }))
    }

    fn reserve(&mut self, ask: &Ask, now_ms: UnixMs) -> Held {
        let hold = &ask.hold;
        if let Some(record) = self.records.get(&hold.order_no) {
            return if record.fingerprint == hold.fingerprint {
                Held::Recorded { created_at: record.created_at }
            } else {
                Held::OtherContent
            };
        }
        if let Some(held) = self.holds.get_mut(&hold.order_no) {
            return if held.hold.fingerprint != hold.fingerprint {
                Held::OtherContent
            } else if ask.may != May::Look && held.by == ask.by {
                // Asked again, because the answer was lost on the way.
                Held::Reserved { created_at: held.hold.created_at, resumed: false }
            } else if ask.may == May::Look || held.is_leased(now_ms) {
                Held::InFlight
            } else {
                Held::Reserved { created_at: held.renew(ask.by, now_ms).created_at, resumed: true }
            };
        }
        if ask.may != May::Create {
            return Held::Unfamiliar;
        }
        match self.take(hold, now_ms) {
            Ok(()) => {
                self.holds.insert(hold.order_no, Leased::new(*hold, ask.by, now_ms));
                Held::Reserved { created_at: hold.created_at, resumed: false }
            }
            Err(why) => Held::Refused { why, remembers_all: self.remembers_all },
        }
    }

    /// Takes the units of a new reservation, or says why not and changes nothing.
    fn take(&mut self, hold: &Hold, now_ms: UnixMs) -> Result<(), No> {
        match self.rules.state(self.switch, now_ms) {
            SaleState::Open => {}
            state => return Err(No::NotOpen(state)),
        }
        let user = (hold.user, hold.sku);
        let user_units = self.user_units.get(&user).copied().unwrap_or(0).saturating_add(hold.quantity);
        if self.rules.user_limit.is_some_and(|limit| user_units > limit) {
            return Err(No::UserLimit);
        }
        match self.available.get_mut(usize::from(hold.sku)) {
            Some(available) if *available >= i64::from(hold.quantity) => *available -= i64::from(hold.quantity),
            _ => return Err(No::SegmentEmpty),
        }
        self.add_held(hold, 1);
        if self.rules.user_limit.is_some() {
            self.user_units.insert(user, user_units);
        }
        Ok(())
    }

    fn settle(&mut self, settlement: Settlement) {
        match settlement {
            Settlement::Recorded { order_no, created_at } => {
                if let Some(held) = self.end_hold(&order_no) {
                    self.remember(order_no, Record { fingerprint: held.hold.fingerprint, created_at });
                }
            }
            Settlement::KnownBefore { order_no, fingerprint, created_at } => {
                self.give_back(&order_no);
                self.remember(order_no, Record { fingerprint, created_at });
            }
            Settlement::Refused { order_no } => self.give_back(&order_no),
            Settlement::Void { order_no } => {
                if let Some(Leased { hold, .. }) = self.end_hold(&order_no) {
                    self.forget_user_units(hold.user, hold.sku, hold.quantity);
                }
            }
            Settlement::Abandoned { order_no } => {
                if let Some(held) = self.holds.get_mut(&order_no) {
                    held.until_ms = UnixMs::MIN;
                }
            }
        }
    }

    fn end_hold(&mut self, order_no: &OrderNo) -> Option<Leased> {
        let held = self.holds.remove(order_no)?;
        self.add_held(&held.hold, -1);
        Some(held)
    }

    fn add_held(&mut self, hold: &Hold, sign: i64) {
        if let Some(held) = self.held.get_mut(usize::from(hold.sku)) {
            *held += sign * i64::from(hold.quantity);
        }
    }

    fn remember(&mut self, order_no: OrderNo, record: Record) {
        if self.records.insert(order_no, record) {
            self.remembers_all = false;
        }
    }

    /// Ends a reservation and puts its units back on sale.
    fn give_back(&mut self, order_no: &OrderNo) {
        if let Some(Leased { hold, .. }) = self.end_hold(order_no) {
            self.put_back(hold.user, hold.sku, hold.quantity);
        }
    }

    fn put_back(&mut self, user: UserId, sku: u16, units: u32) {
        if let Some(available) = self.available.get_mut(usize::from(sku)) {
            *available += i64::from(units);
            self.forget_user_units(user, sku, units);
        }
    }

    fn forget_user_units(&mut self, user: UserId, sku: u16, units: u32) {
        if let std::collections::hash_map::Entry::Occupied(mut entry) = self.user_units.entry((user, sku)) {
            *entry.get_mut() = entry.get().saturating_sub(units);
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}
