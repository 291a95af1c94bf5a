//! The gate in this process's memory: one mutex per shard, no await inside, gone with the process.

use std::collections::HashMap;
use std::future::ready;
use std::sync::Arc;

use crossbeam::utils::CachePadded;
use futures_util::future::{BoxFuture, FutureExt};
use parking_lot::{Mutex, RwLock};

use super::records::{Record, Records};
use super::{
    Denial, Error, Gate, Level, ReserveMode, ReserveOutcome, ReserveRequest, ReturnedUnits, Settlement, ShardEpoch,
    ShardId,
};
use crate::clock::UnixMs;
use crate::limits;
use crate::order::{Epoch, OrderNo, Reservation, Rules, Sale, SaleNo, SaleState, Switch, UserId};

/// The embedded gate.
pub struct MemoryGate {
    sales: RwLock<HashMap<SaleNo, Arc<Shards>>>,
    records_max: usize,
}

type Shards = [CachePadded<Mutex<MemoryShard>>];

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
    fn with<T>(&self, at: ShardId, work: impl FnOnce(&mut MemoryShard) -> T) -> Option<T> {
        let shards = self.sales.read().get(&at.sale).cloned()?;
        let shard = shards.get(usize::from(at.shard))?;
        Some(work(&mut shard.lock()))
    }
}

impl Gate for MemoryGate {
    fn load<'a>(
        &'a self,
        at: ShardEpoch,
        sale: &'a Sale,
        available: &'a [i64],
        remembers_all: bool,
    ) -> BoxFuture<'a, Result<(), Error>> {
        let shard = MemoryShard {
            epoch: Some(at.epoch),
            reserved: vec![0; available.len()],
            rules: sale.rules.clone(),
            switch: sale.switch,
            available: available.to_vec(),
            reservations: HashMap::default(),
            records: Records::new(self.records_max),
            user_units: HashMap::default(),
            remembers_all,
        };
        let shards = self
            .sales
            .write()
            .entry(at.sale)
            .or_insert_with(|| (0..sale.rules.shards).map(|_| MemoryShard::unloaded(sale)).collect())
            .clone();
        if let Some(place) = shards.get(usize::from(at.shard)) {
            let mut place = place.lock();
            if place.epoch < Some(at.epoch) {
                *place = shard;
            }
        }
        ready(Ok(())).boxed()
    }

    fn reserve<'a>(
        &'a self,
        at: ShardEpoch,
        now_ms: UnixMs,
        requests: &'a [ReserveRequest],
    ) -> BoxFuture<'a, Result<Vec<ReserveOutcome>, Error>> {
        let reserved = self.with(at.id(), |shard| {
            requests
                .iter()
                .map(|request| {
                    if shard.epoch == Some(at.epoch) {
                        shard.reserve(request, now_ms)
                    } else {
                        ReserveOutcome::StaleEpoch
                    }
                })
                .collect()
        });
        ready(Ok(reserved.unwrap_or_else(|| vec![ReserveOutcome::StaleEpoch; requests.len()]))).boxed()
    }

    fn settle<'a>(&'a self, at: ShardEpoch, settlements: &'a [Settlement]) -> BoxFuture<'a, Result<(), Error>> {
        self.with(at.id(), |shard| {
            if shard.epoch == Some(at.epoch) {
                settlements.iter().for_each(|settlement| shard.settle(*settlement));
            }
        });
        ready(Ok(())).boxed()
    }

    fn switch<'a>(&'a self, at: ShardId, switch: Switch) -> BoxFuture<'a, Result<(), Error>> {
        self.with(at, |shard| shard.switch = switch);
        ready(Ok(())).boxed()
    }

    fn adjust<'a>(&'a self, at: ShardEpoch, sku: u16, units: i64) -> BoxFuture<'a, Result<i64, Error>> {
        let moved = self.with(at.id(), |shard| match shard.available.get_mut(usize::from(sku)) {
            Some(available) if shard.epoch == Some(at.epoch) => {
                let moved = units.max(-*available);
                *available += moved;
                moved.abs()
            }
            _ => 0,
        });
        ready(Ok(moved.unwrap_or(0))).boxed()
    }

    fn return_units<'a>(&'a self, at: ShardEpoch, returns: &'a [ReturnedUnits]) -> BoxFuture<'a, Result<(), Error>> {
        self.with(at.id(), |shard| {
            if shard.epoch == Some(at.epoch) {
                returns.iter().for_each(|back| shard.put_back(back.user, back.sku, back.units));
            }
        });
        ready(Ok(())).boxed()
    }

    fn level<'a>(&'a self, at: ShardId) -> BoxFuture<'a, Result<Level, Error>> {
        let level = self.with(at, |shard| Level {
            epoch: shard.epoch,
            available: shard.available.clone(),
            reserved: shard.reserved.clone(),
            reservations: shard.reservations.len(),
            switch: shard.epoch.map(|_| shard.switch),
        });
        ready(Ok(level.unwrap_or_default())).boxed()
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn overdue<'a>(
        &'a self,
        at: ShardEpoch,
        now_ms: UnixMs,
        max: usize,
    ) -> BoxFuture<'a, Result<Vec<Reservation>, Error>> {
        let reservations = self.with(at.id(), |shard| {
            if shard.epoch != Some(at.epoch) {
                return Vec::new();
            }
            let overdue = shard.reservations.values_mut().filter(|reserved| !reserved.is_leased(now_ms)).take(max);
            overdue.map(|reserved| reserved.renew(reserved.attempt_id, now_ms)).collect()
        });
        ready(Ok(reservations.unwrap_or_default())).boxed()
    }
}

/// One shard of one sale.
struct MemoryShard {
    epoch: Option<Epoch>,
    rules: Rules,
    switch: Switch,
    available: Vec<i64>,
    /// Units of `reservations`, per sku.
    reserved: Vec<i64>,
    reservations: HashMap<OrderNo, Leased, foldhash::fast::RandomState>,
    records: Records,
    /// Units per user and sku, kept only where the sale has a limit.
    user_units: HashMap<(UserId, u16), u32, foldhash::fast::RandomState>,
    remembers_all: bool,
}

/// A reservation under its lease.
struct Leased {
    reservation: Reservation,
    /// See [`ReserveRequest::attempt_id`].
    attempt_id: u64,
    until_ms: UnixMs,
}

impl Leased {
    fn new(reservation: Reservation, attempt_id: u64, now_ms: UnixMs) -> Self {
        Leased { reservation, attempt_id, until_ms: now_ms.saturating_add(limits::LEASE_MS) }
    }

    /// A lease that ends further off than leases last, even by the clock of an engine that is ahead, is from before the
    /// clock was set back: it counts as over.
    fn is_leased(&self, now_ms: UnixMs) -> bool {
        let left_ms = self.until_ms.saturating_sub(now_ms);
        0 < left_ms && left_ms <= limits::LEASE_MS + limits::CLOCKS_APART_MS
    }

    fn renew(&mut self, attempt_id: u64, now_ms: UnixMs) -> Reservation {
        *self = Leased::new(self.reservation, attempt_id, now_ms);
        self.reservation
    }
}

impl MemoryShard {
    fn unloaded(sale: &Sale) -> CachePadded<Mutex<MemoryShard>> {
        CachePadded::new(Mutex::new(MemoryShard {
            epoch: None,
            reserved: Vec::new(),
            rules: sale.rules.clone(),
            switch: sale.switch,
            available: Vec::new(),
            reservations: HashMap::default(),
            records: Records::new(1),
            user_units: HashMap::default(),
            remembers_all: false,
        }))
    }

    fn reserve(&mut self, request: &ReserveRequest, now_ms: UnixMs) -> ReserveOutcome {
        let reservation = &request.reservation;
        if let Some(record) = self.records.get(&reservation.order_no) {
            return if record.fingerprint == reservation.fingerprint {
                ReserveOutcome::Recorded { created_at: record.created_at }
            } else {
                ReserveOutcome::OtherContent
            };
        }
        if let Some(reserved) = self.reservations.get_mut(&reservation.order_no) {
            return if reserved.reservation.fingerprint != reservation.fingerprint {
                ReserveOutcome::OtherContent
            } else if request.mode != ReserveMode::Look && reserved.attempt_id == request.attempt_id {
                // The same attempt again: its answer was lost on the way.
                ReserveOutcome::Reserved { created_at: reserved.reservation.created_at, resumed: false }
            } else if request.mode == ReserveMode::Look || reserved.is_leased(now_ms) {
                ReserveOutcome::InFlight
            } else {
                ReserveOutcome::Reserved {
                    created_at: reserved.renew(request.attempt_id, now_ms).created_at,
                    resumed: true,
                }
            };
        }
        if request.mode != ReserveMode::Create {
            return ReserveOutcome::NotFound;
        }
        match self.take(reservation, now_ms) {
            Ok(()) => {
                self.reservations.insert(reservation.order_no, Leased::new(*reservation, request.attempt_id, now_ms));
                ReserveOutcome::Reserved { created_at: reservation.created_at, resumed: false }
            }
            Err(why) => ReserveOutcome::Denied { why, remembers_all: self.remembers_all },
        }
    }

    /// Takes the units of a new reservation, or says why not and changes nothing.
    fn take(&mut self, reservation: &Reservation, now_ms: UnixMs) -> Result<(), Denial> {
        match self.rules.state(self.switch, now_ms) {
            SaleState::Open => {}
            state => return Err(Denial::NotOpen(state)),
        }
        let user = (reservation.user, reservation.sku);
        let user_units = self.user_units.get(&user).copied().unwrap_or(0).saturating_add(reservation.quantity);
        if self.rules.user_limit.is_some_and(|limit| user_units > limit) {
            return Err(Denial::UserLimit);
        }
        match self.available.get_mut(usize::from(reservation.sku)) {
            Some(available) if *available >= i64::from(reservation.quantity) => {
                *available -= i64::from(reservation.quantity)
            }
            _ => return Err(Denial::SegmentEmpty),
        }
        self.add_reserved(reservation, 1);
        if self.rules.user_limit.is_some() {
            self.user_units.insert(user, user_units);
        }
        Ok(())
    }

    fn settle(&mut self, settlement: Settlement) {
        match settlement {
            Settlement::Commit { order_no, created_at } => {
                if let Some(reserved) = self.end_reservation(&order_no) {
                    self.remember(order_no, Record { fingerprint: reserved.reservation.fingerprint, created_at });
                }
            }
            Settlement::CommitEarlier { order_no, fingerprint, created_at } => {
                self.return_units(&order_no);
                self.remember(order_no, Record { fingerprint, created_at });
            }
            Settlement::Release { order_no } => self.return_units(&order_no),
            Settlement::WriteOff { order_no } => {
                if let Some(Leased { reservation, .. }) = self.end_reservation(&order_no) {
                    self.forget_user_units(reservation.user, reservation.sku, reservation.quantity);
                }
            }
            Settlement::Abandon { order_no } => {
                if let Some(reserved) = self.reservations.get_mut(&order_no) {
                    reserved.until_ms = UnixMs::MIN;
                }
            }
        }
    }

    fn end_reservation(&mut self, order_no: &OrderNo) -> Option<Leased> {
        let reserved = self.reservations.remove(order_no)?;
        self.add_reserved(&reserved.reservation, -1);
        Some(reserved)
    }

    fn add_reserved(&mut self, reservation: &Reservation, sign: i64) {
        if let Some(reserved) = self.reserved.get_mut(usize::from(reservation.sku)) {
            *reserved += sign * i64::from(reservation.quantity);
        }
    }

    fn remember(&mut self, order_no: OrderNo, record: Record) {
        if self.records.insert(order_no, record) {
            self.remembers_all = false;
        }
    }

    /// Ends a reservation and puts its units back on sale.
    fn return_units(&mut self, order_no: &OrderNo) {
        if let Some(Leased { reservation, .. }) = self.end_reservation(order_no) {
            self.put_back(reservation.user, reservation.sku, reservation.quantity);
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
