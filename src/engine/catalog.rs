//! The sales that the engine knows, and what it keeps beside each: gate epochs, sold-out latches, refill locks.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use parking_lot::RwLock;

use super::moves::{Moving, SharedMoving};
use crate::gate::At;
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
    /// The gate epoch per shard; 0 before the first load.
    epochs: Vec<AtomicI64>,
    /// Held while the sale is loaded, switched or restocked: one of them at a time. Taken before any
    /// [`LiveSku::moving`].
    pub(super) changing: tokio::sync::Mutex<()>,
    skus: Vec<LiveSku>,
}

/// What the engine keeps beside a sku.
#[derive(Default)]
pub(super) struct LiveSku {
    /// Held while units move between shards.
    pub(super) moving: SharedMoving,
    pub(super) latch: Latch,
}

/// Remembers that all shards together are down to a few units, so that a sold-out sku costs no search.
pub(super) struct Latch {
    left_at_most: AtomicI64,
    /// Counts the times units came back.
    returns: AtomicU64,
}

impl Default for Latch {
    fn default() -> Self {
        Latch { left_at_most: AtomicI64::new(i64::MAX), returns: AtomicU64::new(0) }
    }
}

impl Latch {
    /// Whether fewer than `quantity` units are known to be left.
    pub(super) fn is_sold_out(&self, quantity: u32) -> bool {
        self.left_at_most.load(Ordering::SeqCst) < i64::from(quantity)
    }

    /// To be read before the units are counted.
    pub(super) fn returns(&self) -> u64 {
        self.returns.load(Ordering::SeqCst)
    }

    /// Sets the latch to a count that began when [`Latch::returns`] was `returns`, unless units came back since.
    pub(super) fn set(&self, left: i64, returns: u64) {
        self.left_at_most.store(left, Ordering::SeqCst);
        if self.returns() != returns {
            self.left_at_most.store(i64::MAX, Ordering::SeqCst);
        }
    }

    /// Units came back: nothing is known any more.
    pub(super) fn clear(&self) {
        self.returns.fetch_add(1, Ordering::SeqCst);
        self.left_at_most.store(i64::MAX, Ordering::SeqCst);
    }
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
        let offer = Offer { sale: sale.clone(), live };
        by_id.insert(sale.id.clone(), offer.clone());
        self.by_no.write().insert(sale.no, sale.id.clone());
        offer
    }
}

impl Live {
    fn new(sale: &Sale) -> Self {
        Live {
            epochs: (0..sale.rules.shards).map(|_| AtomicI64::new(0)).collect(),
            changing: tokio::sync::Mutex::default(),
            skus: sale.skus.iter().map(|_| LiveSku::default()).collect(),
        }
    }

    pub(super) fn skus(&self) -> &[LiveSku] {
        &self.skus
    }

    pub(super) fn sku(&self, sku: u16) -> Option<&LiveSku> {
        self.skus.get(usize::from(sku))
    }

    /// Keeps the units of every sku where they are. To be taken after `changing`, never before.
    pub(super) async fn hold_still(&self) -> Vec<tokio::sync::MutexGuard<'_, Moving>> {
        let mut guards = Vec::with_capacity(self.skus.len());
        for sku in &self.skus {
            guards.push(sku.moving.lock().await);
        }
        guards
    }

    pub(super) fn set_epoch(&self, shard: u16, epoch: i64) {
        if let Some(place) = self.epochs.get(usize::from(shard)) {
            place.store(epoch, Ordering::SeqCst);
        }
    }
}

impl Offer {
    /// One shard of the sale, in the epoch that the engine believes in.
    pub(super) fn at(&self, shard: u16) -> At {
        let epoch = self.live.epochs.get(usize::from(shard)).map_or(0, |epoch| epoch.load(Ordering::SeqCst));
        At { sale: self.sale.no, shard, epoch }
    }

    /// Whether the gate was ever loaded with this sale.
    pub(super) fn is_loaded(&self) -> bool {
        self.at(0).epoch > 0
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
}
