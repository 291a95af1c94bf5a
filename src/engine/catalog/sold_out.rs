//! "Sold out", remembered for a moment, so that a crowd that comes too late costs no search.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::clock::UnixMs;
use crate::limits;

/// Remembers that all shards together are down to a few units, so that a sold-out sku costs no search.
pub(in crate::engine) struct SoldOutCache {
    left_at_most: AtomicI64,
    /// When the units were last counted, or a caller was last sent to count them.
    counted_at: AtomicI64,
    /// Counts the times units came back.
    returns: AtomicU64,
}

impl Default for SoldOutCache {
    fn default() -> Self {
        SoldOutCache {
            left_at_most: AtomicI64::new(i64::MAX),
            counted_at: AtomicI64::new(UnixMs::MIN),
            returns: AtomicU64::new(0),
        }
    }
}

impl SoldOutCache {
    /// Whether fewer than `quantity` units are known to be left. Units may come back through another engine, so now and
    /// then one caller gets `false` and has to count again, while the others go on with what is known.
    pub(in crate::engine) fn is_sold_out(&self, quantity: u32, now_ms: UnixMs) -> bool {
        if self.left_at_most.load(Ordering::SeqCst) >= i64::from(quantity) {
            return false;
        }
        let counted_at = self.counted_at.load(Ordering::SeqCst);
        let age_ms = now_ms.saturating_sub(counted_at);
        let is_fresh = (0..limits::SOLD_OUT_CACHE_MS).contains(&age_ms);
        let mine = || self.counted_at.compare_exchange(counted_at, now_ms, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        is_fresh || !mine()
    }

    /// Whether fewer than `quantity` units were left when they were last counted, however long ago.
    pub(in crate::engine) fn was_sold_out(&self, quantity: u32) -> bool {
        self.left_at_most.load(Ordering::SeqCst) < i64::from(quantity)
    }

    /// To be read before the units are counted.
    pub(in crate::engine) fn returns(&self) -> u64 {
        self.returns.load(Ordering::SeqCst)
    }

    /// Remembers a count that began when [`SoldOutCache::returns`] was `returns`, unless units came back since.
    pub(in crate::engine) fn set(&self, left: i64, returns: u64, now_ms: UnixMs) {
        self.counted_at.store(now_ms, Ordering::SeqCst);
        self.left_at_most.store(left, Ordering::SeqCst);
        if self.returns() != returns {
            self.left_at_most.store(i64::MAX, Ordering::SeqCst);
        }
    }

    /// Units came back: nothing is known any more.
    pub(in crate::engine) fn clear(&self) {
        self.returns.fetch_add(1, Ordering::SeqCst);
        self.left_at_most.store(i64::MAX, Ordering::SeqCst);
    }
}
