//! The sales that the engine knows, and what it keeps beside each: gate epochs, sold-out latches, refill locks.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use parking_lot::RwLock;

use super::latch::Latch;
use super::moves::SharedMoving;
use crate::clock::UnixMs;
use crate::gate::At;
use crate::limits;
use crate::order::{Name, Sale, SaleNo};

/// Every sale by id. Looked up once per request.
#[derive(Default)]
pub(super) struct Catalog {
    by_id: RwLock<HashMap<Name, Offer, foldhash::fast::RandomState>>,
    by_no: RwLock<HashMap<SaleNo, Name>>,
}

/// A sale with its engine-side state; cheap to clone. The sale is replaced when it is switched, `live` is not.
#[derive(Clone)]
pub(super) struct Offer {
    pub(super) sale: Arc<Sale>,
    pub(super) live: Arc<Live>,
}

/// What the engine keeps beside a sale.
pub(super) struct Live {
    since: tokio::time::Instant,
    shards: Vec<LiveShard>,
    /// Held while the sale is loaded, switched or restocked: one of them at a time. Taken before any
    /// [`LiveSku::moving`].
    pub(super) changing: tokio::sync::Mutex<()>,
    /// Whether anything may have happened in the sale since it was last found in order.
    stirred: AtomicBool,
    /// When this engine first saw that the sale has ended; 0 before, and [`UnixMs::MAX`] when its gate was emptied.
    ended_at: AtomicI64,
    /// Counts the looks for stranded units: who waited for one need not look again.
    pub(super) looks: AtomicU64,
    /// Whether any engine lets, or ever let, orders of the sale past its gate.
    pub(super) is_ungated: AtomicBool,
    /// Whether every engine has had the time to learn so.
    pub(super) may_go_ungated: AtomicBool,
    /// Held while the others are told.
    pub(super) telling: tokio::sync::Mutex<()>,
    /// The last look at what is left, with its number, and how many looks were begun.
    pub(super) hint: tokio::sync::Mutex<(u64, Vec<i64>)>,
    pub(super) hints_begun: AtomicU64,
    /// Whether a sweep of the sale is under way.
    pub(super) sweeping: AtomicBool,
    /// What did not fit when gate and ledger were last compared.
    pub(super) misfits: parking_lot::Mutex<Misfits>,
    skus: Vec<LiveSku>,
}

/// Shards whose gate and ledger did not fit at one look. Looks are not instants: what moves may seem not to fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Misfits {
    /// The ledger has units that the gate neither sells nor holds.
    pub(super) stranded: Vec<Stranded>,
    /// The gate sells units that the ledger does not have.
    pub(super) excess: Vec<u16>,
    /// The gate sells while the sale is paused or has been ended, or does not sell while it runs.
    pub(super) switch: Vec<u16>,
}

/// A shard that seems to have lost units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stranded {
    pub(super) shard: u16,
    /// Units that had ever come back into its skus that lack some. Those come back in the ledger first: where the count
    /// grows between two looks, some may only be on their way.
    pub(super) returned: i64,
    /// Looks in a row at which it seemed so.
    pub(super) looks: u32,
}

/// What the engine keeps beside a shard.
#[derive(Default)]
struct LiveShard {
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
pub(super) struct LiveSku {
    /// Held while units move between shards.
    pub(super) moving: SharedMoving,
    pub(super) latch: Latch,
    /// Counts refills: who waited for one need not count again.
    pub(super) refills: AtomicU64,
}

impl Catalog {
    pub(super) fn get(&self, id: &str) -> Option<Offer> {
        self.by_id.read().get(id).cloned()
    }

    pub(super) fn by_no(&self, no: SaleNo) -> Option<Offer> {
        let id = self.by_no.read().get(&no).cloned()?;
        self.get(id.as_str())
    }

    /// Every sale, in the order they were made.
    pub(super) fn all(&self) -> Vec<Offer> {
        let mut all: Vec<Offer> = self.by_id.read().values().cloned().collect();
        all.sort_by_key(|offer| offer.sale.no);
        all
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.read().len()
    }

    /// Adds a sale, or replaces it and keeps what stands beside it.
    pub(super) fn put(&self, sale: Sale) -> Offer {
        let sale = Arc::new(sale);
        let mut by_id = self.by_id.write();
        let live = by_id.get(sale.id.as_str()).map_or_else(|| Arc::new(Live::new(&sale)), |offer| offer.live.clone());
        if sale.ungated {
            live.is_ungated.store(true, Ordering::SeqCst);
        }
        let offer = Offer { sale: sale.clone(), live };
        by_id.insert(sale.id.clone(), offer.clone());
        self.by_no.write().insert(sale.no, sale.id.clone());
        offer
    }
}

impl Live {
    fn new(sale: &Sale) -> Self {
        Live {
            since: tokio::time::Instant::now(),
            shards: (0..sale.rules.shards).map(|_| LiveShard::default()).collect(),
            changing: tokio::sync::Mutex::default(),
            stirred: AtomicBool::new(true),
            ended_at: AtomicI64::new(0),
            looks: AtomicU64::new(0),
            is_ungated: AtomicBool::new(false),
            may_go_ungated: AtomicBool::new(false),
            telling: tokio::sync::Mutex::default(),
            hint: tokio::sync::Mutex::default(),
            hints_begun: AtomicU64::new(0),
            sweeping: AtomicBool::new(false),
            misfits: parking_lot::Mutex::default(),
            skus: sale.skus.iter().map(|_| LiveSku::default()).collect(),
        }
    }

    pub(super) fn skus(&self) -> &[LiveSku] {
        &self.skus
    }

    pub(super) fn sku(&self, sku: u16) -> Option<&LiveSku> {
        self.skus.get(usize::from(sku))
    }

    /// How long ago this engine first saw that the sale has ended; `None` when its gate was emptied since.
    pub(super) fn ended_for_ms(&self, now_ms: UnixMs) -> Option<i64> {
        let seen = self.ended_at.compare_exchange(0, now_ms, Ordering::SeqCst, Ordering::SeqCst);
        let ended_at = seen.map_or_else(|ended_at| ended_at, |_| now_ms);
        (ended_at != UnixMs::MAX).then(|| now_ms.saturating_sub(ended_at))
    }

    /// The gate of an ended sale was emptied.
    pub(super) fn set_forgotten(&self) {
        self.ended_at.store(UnixMs::MAX, Ordering::SeqCst);
    }

    /// Whether units of any sku are being moved, or were and it is not known how that ended.
    pub(super) fn has_moves(&self) -> bool {
        self.skus.iter().any(|sku| sku.moving.try_lock().map_or(true, |moving| moving.is_unsettled()))
    }

    pub(super) fn set_epoch(&self, shard: u16, epoch: i64) {
        if let Some(shard) = self.shards.get(usize::from(shard)) {
            shard.epoch.store(epoch, Ordering::SeqCst);
        }
    }

    /// To be told before this engine loads a shard.
    pub(super) fn begin_load(&self, shard: u16) {
        if let Some(shard) = self.shards.get(usize::from(shard))
            && shard.loaded_at.load(Ordering::SeqCst) > 0
        {
            shard.is_reloaded.store(true, Ordering::SeqCst);
        }
    }

    /// Whether this engine loaded a shard more than once.
    pub(super) fn is_reloaded(&self, shard: u16) -> bool {
        self.shards.get(usize::from(shard)).is_none_or(|shard| shard.is_reloaded.load(Ordering::SeqCst))
    }

    /// Whether a shard's gate is left aside.
    pub(super) fn is_out(&self, shard: u16) -> bool {
        self.shards.get(usize::from(shard)).is_some_and(|shard| shard.out.load(Ordering::SeqCst))
    }

    /// Whether a shard's gate is left aside and may be loaded again.
    pub(super) fn is_due(&self, shard: u16) -> bool {
        let now_ms = self.elapsed_ms();
        self.shards
            .get(usize::from(shard))
            .is_some_and(|shard| shard.out.load(Ordering::SeqCst) && shard.due_at.load(Ordering::SeqCst) <= now_ms)
    }

    /// Leaves a shard's gate aside. One that fails soon after it was loaded is left aside longer from time to time: a
    /// Redis that is full takes a load and refuses every order.
    pub(super) fn set_out(&self, shard: u16) {
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
    pub(super) fn set_in(&self, shard: u16) {
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
    pub(super) fn shards_out(&self) -> usize {
        self.shards.iter().filter(|shard| shard.out.load(Ordering::SeqCst)).count()
    }

    /// Something happens in the sale.
    pub(super) fn stir(&self) {
        // Most of the time it is set: a plain load does not take the cache line from the other cores.
        if !self.stirred.load(Ordering::Relaxed) {
            self.stirred.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn is_stirred(&self) -> bool {
        self.stirred.load(Ordering::Relaxed)
    }

    /// The sale is about to be looked at; what happens from now on stirs it again.
    pub(super) fn calm(&self) {
        self.stirred.store(false, Ordering::Relaxed);
    }
}

impl Offer {
    /// One shard of the sale, in the epoch that the engine believes in.
    pub(super) fn at(&self, shard: u16) -> At {
        let epoch = self.live.shards.get(usize::from(shard)).map_or(0, |shard| shard.epoch.load(Ordering::SeqCst));
        At { sale: self.sale.no, shard, epoch }
    }

    /// Whether the gate was ever loaded with this sale, or is known to be out.
    pub(super) fn is_loaded(&self) -> bool {
        self.at(0).epoch > 0 || self.live.is_out(0)
    }

    /// Every shard of the sale.
    pub(super) fn shards(&self) -> impl Iterator<Item = At> + '_ {
        (0..self.sale.rules.shards).map(|shard| self.at(shard))
    }

    /// Units of a sku came back on sale.
    pub(super) fn units_came_back(&self, sku: u16) {
        if let Some(sku) = self.live.sku(sku) {
            sku.latch.clear();
        }
    }

    /// Units of any sku may have come back on sale.
    pub(super) fn all_units_came_back(&self) {
        self.live.skus.iter().for_each(|sku| sku.latch.clear());
    }
}
