//! The sales that the engine knows, and what it keeps beside each: gate epochs, sold-out caches, move locks, the sweeper's
//! notes. The catalogue asks neither gate nor ledger; `sync.rs` and the operators' calls bring the sales.

mod drift;
mod hint;
mod move_lock;
mod runtime;
mod shards;
mod sold_out;

pub(super) use drift::{Drift, Stranded};
pub(super) use move_lock::{Move, MoveGuard, MoveState};
pub(super) use runtime::SkuRuntime;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;

use self::runtime::SaleRuntime;
use crate::gate::{ShardEpoch, ShardId};
use crate::order::{Name, Order, OrderView, Sale, SaleNo};

/// Every sale by id. Looked up once per request.
pub(super) struct Catalog {
    by_id: RwLock<HashMap<Name, ActiveSale, foldhash::fast::RandomState>>,
    by_no: RwLock<HashMap<SaleNo, Name>>,
    /// Every sale in the order they were made. `None` after a change, until the next caller of [`Catalog::all`].
    listing: Mutex<Option<Arc<[ActiveSale]>>>,
    since: Instant,
    /// When the last look at the ledger's sales that succeeded was begun, in ms since `since`.
    refreshed_at_ms: AtomicU64,
}

/// A sale with its engine-side state; cheap to clone. The sale is replaced when it is switched, `runtime` is not.
#[derive(Clone)]
pub(super) struct ActiveSale {
    pub(super) sale: Arc<Sale>,
    pub(super) runtime: Arc<SaleRuntime>,
}

impl Default for Catalog {
    fn default() -> Self {
        Catalog {
            by_id: RwLock::default(),
            by_no: RwLock::default(),
            listing: Mutex::default(),
            since: Instant::now(),
            refreshed_at_ms: AtomicU64::new(0),
        }
    }
}

impl Catalog {
    pub(super) fn get(&self, id: &str) -> Option<ActiveSale> {
        self.by_id.read().get(id).cloned()
    }

    pub(super) fn by_no(&self, no: SaleNo) -> Option<ActiveSale> {
        let id = self.by_no.read().get(&no).cloned()?;
        self.get(id.as_str())
    }

    /// Every sale, in the order they were made. Cheap unless a sale has changed since the last call.
    pub(super) fn all(&self) -> Arc<[ActiveSale]> {
        let mut listing = self.listing.lock();
        let all = listing.get_or_insert_with(|| {
            let mut all: Vec<ActiveSale> = self.by_id.read().values().cloned().collect();
            all.sort_by_key(|active| active.sale.no);
            all.into()
        });
        all.clone()
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.read().len()
    }

    /// Adds a sale, or replaces it and keeps what stands beside it.
    pub(super) fn put(&self, sale: Sale) -> ActiveSale {
        let active = self.insert(Arc::new(sale));
        // After the insertion: a listing that was made before it is dropped here, a later one has the sale.
        *self.listing.lock() = None;
        active
    }

    fn insert(&self, sale: Arc<Sale>) -> ActiveSale {
        let mut by_id = self.by_id.write();
        let runtime = by_id
            .get(sale.id.as_str())
            .map_or_else(|| Arc::new(SaleRuntime::new(&sale)), |active| active.runtime.clone());
        if sale.bypassed {
            runtime.bypass_notice.set_may_bypass();
        }
        let active = ActiveSale { sale: sale.clone(), runtime };
        by_id.insert(sale.id.clone(), active.clone());
        self.by_no.write().insert(sale.no, sale.id.clone());
        active
    }

    /// Something happened in an unknown sale that may not have reached its gate: all sales are compared soon.
    pub(super) fn mark_all_dirty(&self) {
        self.all().iter().for_each(ActiveSale::mark_dirty);
    }

    /// Shards that bypass their gate, over all sales.
    pub(super) fn count_bypassed(&self) -> usize {
        self.all().iter().map(|active| active.runtime.shards.count_bypassed()).sum()
    }

    /// An order with its sale and sku; `None` if its sale is not known here yet.
    pub(super) fn view(&self, order: Order) -> Option<OrderView> {
        let sale = self.by_no(order.sale)?.sale;
        let sku = sale.sku_at(order.sku).and_then(|at| sale.skus.get(usize::from(at)).cloned())?;
        Some(OrderView { order, sale, sku })
    }

    /// The catalogue's own time, in ms.
    pub(super) fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The catalogue has everything that the ledger had when [`Catalog::elapsed_ms`] was `begun_at_ms`.
    pub(super) fn set_refreshed(&self, begun_at_ms: u64) {
        self.refreshed_at_ms.store(begun_at_ms, Ordering::SeqCst);
    }

    /// How old the catalogue's knowledge of the ledger is, in ms.
    pub(super) fn age_ms(&self) -> u64 {
        self.elapsed_ms().saturating_sub(self.refreshed_at_ms.load(Ordering::SeqCst))
    }
}

impl ActiveSale {
    /// One shard of the sale.
    pub(super) fn shard(&self, shard: u16) -> ShardId {
        ShardId { sale: self.sale.no, shard }
    }

    /// One shard of the sale, in the epoch that the engine believes in; `None` before the first load.
    pub(super) fn at(&self, shard: u16) -> Option<ShardEpoch> {
        Some(self.shard(shard).in_epoch(self.runtime.shards.epoch(shard)?))
    }

    /// Whether the gate was ever loaded with this sale, or is known to be bypassed.
    pub(super) fn is_loaded(&self) -> bool {
        self.runtime.shards.epoch(0).is_some() || self.runtime.shards.is_bypassed(0)
    }

    /// Every shard of the sale.
    pub(super) fn shards(&self) -> impl Iterator<Item = ShardId> + '_ {
        (0..self.sale.rules.shards).map(|shard| self.shard(shard))
    }

    /// Something happens in the sale.
    pub(super) fn mark_dirty(&self) {
        self.runtime.sweep.mark_dirty();
    }

    /// Units of a sku came back on sale.
    pub(super) fn clear_sold_out(&self, sku: u16) {
        if let Some(sku) = self.runtime.sku(sku) {
            sku.sold_out.clear();
        }
    }

    /// Units of any sku may have come back on sale.
    pub(super) fn clear_all_sold_out(&self) {
        self.runtime.skus.iter().for_each(|sku| sku.sold_out.clear());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::{DERIVATION, Rules, Salt, Switch};

    fn sale(no: i64, id: &str, switch: Switch) -> Sale {
        Sale {
            no: SaleNo(no),
            id: Name::parse(id).unwrap(),
            rules: Rules::default(),
            salt: Salt::new([0; 32]),
            derivation: DERIVATION,
            switch,
            skus: Vec::new(),
            revision: no,
            bypassed: false,
        }
    }

    #[test]
    fn the_listing_has_every_sale_as_it_is_now_in_the_order_they_were_made() {
        let catalog = Catalog::default();
        let listed = || catalog.all().iter().map(|active| (active.sale.no.0, active.sale.switch)).collect::<Vec<_>>();
        assert_eq!(listed(), []);
        catalog.put(sale(2, "b", Switch::Running));
        catalog.put(sale(1, "a", Switch::Running));
        assert_eq!(listed(), [(1, Switch::Running), (2, Switch::Running)]);
        assert!(Arc::ptr_eq(&catalog.all(), &catalog.all()), "made once");
        catalog.put(sale(1, "a", Switch::Paused));
        assert_eq!(listed(), [(1, Switch::Paused), (2, Switch::Running)]);
    }
}
