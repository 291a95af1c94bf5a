//! The sales that the engine knows, and what it keeps beside each: gate epochs, sold-out latches, refill locks.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use parking_lot::RwLock;

use crate::engine::stock::moves::MoveLock;
mod sold_out;

use self::sold_out::SoldOutCache;
use crate::clock::UnixMs;
use crate::gate::ShardEpoch;
use crate::limits;
use crate::order::{Name, Sale, SaleNo};

/// Every sale by id. Looked up once per request.
#[derive(Default)]
pub(in crate::engine) struct Catalog {
    by_id: RwLock<HashMap<Name, ActiveSale, foldhash::fast::RandomState>>,
    by_no: RwLock<HashMap<SaleNo, Name>>,
}

/// A sale with its engine-side state; cheap to clone. The sale is replaced when it is switched, `runtime` is not.
#[derive(Clone)]
pub(in crate::engine) struct ActiveSale {
    pub(in crate::engine) sale: Arc<Sale>,
    pub(in crate::engine) runtime: Arc<SaleRuntime>,
}

/// What the engine keeps beside a sale.
pub(in crate::engine) struct SaleRuntime {
    since: tokio::time::Instant,
    shards: Vec<ShardRuntime>,
    /// Held while the sale is loaded, switched or restocked: one of them at a time. Taken before any
    /// [`SkuRuntime::moving`].
    pub(in crate::engine) admin_lock: tokio::sync::Mutex<()>,
    /// Whether anything may have happened in the sale since it was last found in order.
    dirty: AtomicBool,
    /// When this engine first saw that the sale has ended; 0 before, and [`UnixMs::MAX`] when its gate was emptied.
    ended_at: AtomicI64,
    /// Counts the looks for stranded units: who waited for one need not look again.
    pub(in crate::engine) observations: AtomicU64,
    /// Whether any engine lets, or ever let, orders of the sale past its gate.
    pub(in crate::engine) may_bypass: AtomicBool,
    /// Whether every engine has had the time to learn so.
    pub(in crate::engine) is_bypass_announced: AtomicBool,
    /// Held while the others are told.
    pub(in crate::engine) announcement: tokio::sync::Mutex<()>,
    /// The last look at what is left, with its number, and how many looks were begun.
    pub(in crate::engine) hint: tokio::sync::Mutex<(u64, Vec<i64>)>,
    pub(in crate::engine) hints_begun: AtomicU64,
    /// Whether a sweep of the sale is under way.
    pub(in crate::engine) sweeping: AtomicBool,
    /// What did not fit when gate and ledger were last compared.
    pub(in crate::engine) drift: parking_lot::Mutex<Drift>,
    skus: Vec<SkuRuntime>,
}

/// Shards whose gate and ledger did not fit at one look. Looks are not instants: what moves may seem not to fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::engine) struct Drift {
    /// The ledger has units that the gate neither sells nor holds.
    pub(in crate::engine) stranded: Vec<Stranded>,
    /// The gate sells units that the ledger does not have.
    pub(in crate::engine) excess: Vec<u16>,
    /// The gate sells while the sale is paused or has been ended, or does not sell while it runs.
    pub(in crate::engine) switch: Vec<u16>,
}

/// A shard that seems to have lost units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Stranded {
    pub(in crate::engine) shard: u16,
    /// Units that had ever come back into its skus that lack some. Those come back in the ledger first: where the count
    /// grows between two looks, some may only be on their way.
    pub(in crate::engine) returned: i64,
    /// Looks in a row at which it seemed so.
    pub(in crate::engine) observations: u32,
}

/// What the engine keeps beside a shard.
#[derive(Default)]
struct ShardRuntime {
    /// Its gate epoch; 0 before the first load.
    epoch: AtomicI64,
    /// Whether this engine loaded it again after the first time, which makes the gate forget reservations.
    is_reloaded: AtomicBool,
    /// Whether its gate is left aside, because it failed or orders went past it: it needs a new epoch.
    out: AtomicBool,
    /// When it may be loaded again; in the past unless it keeps failing.
    due_at: AtomicI64,
    /// How long it was left aside last time, and when it was loaded last.
    pause_ms: AtomicI64,
    loaded_at: AtomicI64,
}

/// What the engine keeps beside a sku.
#[derive(Default)]
pub(in crate::engine) struct SkuRuntime {
    /// Held while units move between shards.
    pub(in crate::engine) moving: MoveLock,
    pub(in crate::engine) sold_out: SoldOutCache,
    /// Counts refills: who waited for one need not count again.
    pub(in crate::engine) refills: AtomicU64,
}

impl Catalog {
    pub(in crate::engine) fn get(&self, id: &str) -> Option<ActiveSale> {
        self.by_id.read().get(id).cloned()
    }

    pub(in crate::engine) fn by_no(&self, no: SaleNo) -> Option<ActiveSale> {
        let id = self.by_no.read().get(&no).cloned()?;
        self.get(id.as_str())
    }

    /// Every sale, in the order they were made.
    pub(in crate::engine) fn all(&self) -> Vec<ActiveSale> {
        let mut all: Vec<ActiveSale> = self.by_id.read().values().cloned().collect();
        all.sort_by_key(|active| active.sale.no);
        all
    }

    pub(in crate::engine) fn len(&self) -> usize {
        self.by_id.read().len()
    }

    /// Adds a sale, or replaces it and keeps what stands beside it.
    pub(in crate::engine) fn put(&self, sale: Sale) -> ActiveSale {
        let sale = Arc::new(sale);
        let mut by_id = self.by_id.write();
        let runtime = by_id
            .get(sale.id.as_str())
            .map_or_else(|| Arc::new(SaleRuntime::new(&sale)), |active| active.runtime.clone());
        if sale.bypassed {
            runtime.may_bypass.store(true, Ordering::SeqCst);
        }
        let active = ActiveSale { sale: sale.clone(), runtime };
        by_id.insert(sale.id.clone(), active.clone());
        self.by_no.write().insert(sale.no, sale.id.clone());
        active
    }
}

impl SaleRuntime {
    fn new(sale: &Sale) -> Self {
        SaleRuntime {
            since: tokio::time::Instant::now(),
            shards: (0..sale.rules.shards).map(|_| ShardRuntime::default()).collect(),
            admin_lock: tokio::sync::Mutex::default(),
            dirty: AtomicBool::new(true),
            ended_at: AtomicI64::new(0),
            observations: AtomicU64::new(0),
            may_bypass: AtomicBool::new(false),
            is_bypass_announced: AtomicBool::new(false),
            announcement: tokio::sync::Mutex::default(),
            hint: tokio::sync::Mutex::default(),
            hints_begun: AtomicU64::new(0),
            sweeping: AtomicBool::new(false),
            drift: parking_lot::Mutex::default(),
            skus: sale.skus.iter().map(|_| SkuRuntime::default()).collect(),
        }
    }

    pub(in crate::engine) fn skus(&self) -> &[SkuRuntime] {
        &self.skus
    }

    pub(in crate::engine) fn sku(&self, sku: u16) -> Option<&SkuRuntime> {
        self.skus.get(usize::from(sku))
    }

    /// How long ago this engine first saw that the sale has ended; `None` when its gate was emptied since.
    pub(in crate::engine) fn ended_for_ms(&self, now_ms: UnixMs) -> Option<i64> {
        let seen = self.ended_at.compare_exchange(0, now_ms, Ordering::SeqCst, Ordering::SeqCst);
        let ended_at = seen.map_or_else(|ended_at| ended_at, |_| now_ms);
        (ended_at != UnixMs::MAX).then(|| now_ms.saturating_sub(ended_at))
    }

    /// The gate of an ended sale was emptied.
    pub(in crate::engine) fn set_forgotten(&self) {
        self.ended_at.store(UnixMs::MAX, Ordering::SeqCst);
    }

    /// Whether units of any sku are being moved, or were and it is not known how that ended.
    pub(in crate::engine) fn has_moves(&self) -> bool {
        self.skus.iter().any(|sku| sku.moving.try_lock().map_or(true, |moving| moving.is_unsettled()))
    }

    pub(in crate::engine) fn set_epoch(&self, shard: u16, epoch: i64) {
        if let Some(shard) = self.shards.get(usize::from(shard)) {
            shard.epoch.store(epoch, Ordering::SeqCst);
        }
    }

    /// To be told before this engine loads a shard.
    pub(in crate::engine) fn begin_load(&self, shard: u16) {
        if let Some(shard) = self.shards.get(usize::from(shard))
            && shard.loaded_at.load(Ordering::SeqCst) > 0
        {
            shard.is_reloaded.store(true, Ordering::SeqCst);
        }
    }

    /// Whether this engine loaded a shard more than once.
    pub(in crate::engine) fn is_reloaded(&self, shard: u16) -> bool {
        self.shards.get(usize::from(shard)).is_none_or(|shard| shard.is_reloaded.load(Ordering::SeqCst))
    }

    /// Whether a shard's gate is left aside.
    pub(in crate::engine) fn is_bypassed(&self, shard: u16) -> bool {
        self.shards.get(usize::from(shard)).is_some_and(|shard| shard.out.load(Ordering::SeqCst))
    }

    /// Whether a shard's gate is left aside and may be loaded again.
    pub(in crate::engine) fn may_reload(&self, shard: u16) -> bool {
        let now_ms = self.elapsed_ms();
        self.shards
            .get(usize::from(shard))
            .is_some_and(|shard| shard.out.load(Ordering::SeqCst) && shard.due_at.load(Ordering::SeqCst) <= now_ms)
    }

    /// Leaves a shard's gate aside. One that fails soon after it was loaded is left aside longer from time to time: a
    /// Redis that is full takes a load and refuses every order.
    pub(in crate::engine) fn bypass(&self, shard: u16) {
        let Some(shard) = self.shards.get(usize::from(shard)) else { return };
        if shard.out.swap(true, Ordering::SeqCst) {
            return;
        }
        let now_ms = self.elapsed_ms();
        let loaded_at = shard.loaded_at.load(Ordering::SeqCst);
        let is_steady = loaded_at == 0 || now_ms - loaded_at > limits::GATE_STEADY_MS;
        let before_ms = shard.pause_ms.load(Ordering::SeqCst);
        let pause_ms = if is_steady { 0 } else { (2 * before_ms).clamp(250, limits::GATE_BACK_MS_MAX) };
        shard.pause_ms.store(pause_ms, Ordering::SeqCst);
        shard.due_at.store(now_ms + pause_ms, Ordering::SeqCst);
    }

    /// Uses a shard's gate again.
    pub(in crate::engine) fn end_bypass(&self, shard: u16) {
        if let Some(shard) = self.shards.get(usize::from(shard)) {
            shard.loaded_at.store(self.elapsed_ms(), Ordering::SeqCst);
            shard.out.store(false, Ordering::SeqCst);
        }
    }

    /// Milliseconds since this was made, plus one: 0 is never.
    fn elapsed_ms(&self) -> i64 {
        i64::try_from(self.since.elapsed().as_millis()).unwrap_or(i64::MAX / 2) + 1
    }

    /// Shards whose gate is left aside.
    pub(in crate::engine) fn shards_bypassed(&self) -> usize {
        self.shards.iter().filter(|shard| shard.out.load(Ordering::SeqCst)).count()
    }

    /// Something happens in the sale.
    pub(in crate::engine) fn mark_dirty(&self) {
        // Most of the time it is set: a plain load does not take the cache line from the other cores.
        if !self.dirty.load(Ordering::Relaxed) {
            self.dirty.store(true, Ordering::Relaxed);
        }
    }

    pub(in crate::engine) fn is_dirty(&self) -> bool {
        self.dirty.load(Ordering::Relaxed)
    }

    /// The sale is about to be looked at; what happens from now on stirs it again.
    pub(in crate::engine) fn clear_dirty(&self) {
        self.dirty.store(false, Ordering::Relaxed);
    }
}

impl ActiveSale {
    /// One shard of the sale, in the epoch that the engine believes in.
    pub(in crate::engine) fn at(&self, shard: u16) -> ShardEpoch {
        let epoch = self.runtime.shards.get(usize::from(shard)).map_or(0, |shard| shard.epoch.load(Ordering::SeqCst));
        ShardEpoch { sale: self.sale.no, shard, epoch }
    }

    /// Whether the gate was ever loaded with this sale, or is known to be out.
    pub(in crate::engine) fn is_loaded(&self) -> bool {
        self.at(0).epoch > 0 || self.runtime.is_bypassed(0)
    }

    /// Every shard of the sale.
    pub(in crate::engine) fn shards(&self) -> impl Iterator<Item = ShardEpoch> + '_ {
        (0..self.sale.rules.shards).map(|shard| self.at(shard))
    }

    /// Units of a sku came back on sale.
    pub(in crate::engine) fn clear_sold_out(&self, sku: u16) {
        if let Some(sku) = self.runtime.sku(sku) {
            sku.sold_out.clear();
        }
    }

    /// Units of any sku may have come back on sale.
    pub(in crate::engine) fn clear_all_sold_out(&self) {
        self.runtime.skus.iter().for_each(|sku| sku.sold_out.clear());
    }
}
