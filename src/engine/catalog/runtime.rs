//! What the engine keeps beside a sale, by concern: its shards, its skus, the bypass, the hint, the sweeper's notes.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::drift::Drift;
use super::hint::StockHint;
use super::move_lock::MoveLock;
use super::shards::ShardStates;
use super::sold_out::SoldOutCache;
use crate::clock::UnixMs;
use crate::order::Sale;

/// What the engine keeps beside a sale.
pub(in crate::engine) struct SaleRuntime {
    /// Held while the sale is loaded, switched or restocked: one of them at a time. Taken before any
    /// [`SkuRuntime::move_lock`].
    pub(in crate::engine) admin_lock: tokio::sync::Mutex<()>,
    pub(in crate::engine) shards: ShardStates,
    pub(in crate::engine) skus: Vec<SkuRuntime>,
    pub(in crate::engine) bypass_notice: BypassNotice,
    pub(in crate::engine) hint: StockHint,
    pub(in crate::engine) sweep: SweepState,
    /// Counts the searches for stranded units: a request that waited for one need not search again.
    pub(in crate::engine) stranded_searches: AtomicU64,
}

/// What the engine keeps beside a sku.
#[derive(Default)]
pub(in crate::engine) struct SkuRuntime {
    /// Held while units move between shards.
    pub(in crate::engine) move_lock: MoveLock,
    pub(in crate::engine) sold_out: SoldOutCache,
    /// Counts refills: a request that waited for one need not count the units again.
    pub(in crate::engine) refills: AtomicU64,
}

impl SaleRuntime {
    pub(super) fn new(sale: &Sale) -> Self {
        SaleRuntime {
            admin_lock: tokio::sync::Mutex::default(),
            shards: ShardStates::new(sale.rules.shards),
            skus: sale.skus.iter().map(|_| SkuRuntime::default()).collect(),
            bypass_notice: BypassNotice::default(),
            hint: StockHint::default(),
            sweep: SweepState::default(),
            stranded_searches: AtomicU64::new(0),
        }
    }

    pub(in crate::engine) fn sku(&self, sku: u16) -> Option<&SkuRuntime> {
        self.skus.get(usize::from(sku))
    }

    /// Whether units of any sku are being moved, or were and it is not known how that ended.
    pub(in crate::engine) fn has_moves(&self) -> bool {
        self.skus.iter().any(|sku| sku.move_lock.try_lock().map_or(true, |moves| moves.is_unsettled()))
    }
}

/// Whether orders of the sale bypass its gate, in any engine.
#[derive(Default)]
pub(in crate::engine) struct BypassNotice {
    /// Whether any engine lets, or ever let, orders bypass the gate.
    may_bypass: AtomicBool,
    /// Whether every engine has had the time to learn so.
    is_announced: AtomicBool,
    /// Held while this engine announces it.
    announcement: tokio::sync::Mutex<()>,
}

impl BypassNotice {
    pub(in crate::engine) fn may_bypass(&self) -> bool {
        self.may_bypass.load(Ordering::SeqCst)
    }

    /// An engine lets orders bypass the gate.
    pub(super) fn set_may_bypass(&self) {
        self.may_bypass.store(true, Ordering::SeqCst);
    }

    /// Returns when every engine knows that orders bypass the gate; `announce` lets them know, unless they know already.
    pub(in crate::engine) async fn announced<E>(&self, announce: impl Future<Output = Result<(), E>>) -> Result<(), E> {
        if self.is_announced.load(Ordering::SeqCst) {
            return Ok(());
        }
        let _lock = self.announcement.lock().await;
        if !self.is_announced.load(Ordering::SeqCst) {
            announce.await?;
            self.set_may_bypass();
            self.is_announced.store(true, Ordering::SeqCst);
        }
        Ok(())
    }
}

/// What the sweeper remembers of a sale from round to round.
pub(in crate::engine) struct SweepState {
    /// Whether anything may have happened in the sale since it was last found in order.
    is_dirty: AtomicBool,
    /// Whether a sweep of the sale is under way.
    is_sweeping: AtomicBool,
    end: Mutex<SaleEnd>,
    /// What did not fit when gate and ledger were last compared.
    pub(in crate::engine) drift: Mutex<Drift>,
}

/// What this engine knows of the end of a sale.
#[derive(Clone, Copy, Default)]
enum SaleEnd {
    #[default]
    NotSeen,
    /// This engine first saw it then.
    SeenAt(UnixMs),
    /// The gate has forgotten the orders of the sale.
    GateEmptied,
}

impl Default for SweepState {
    fn default() -> Self {
        SweepState {
            is_dirty: AtomicBool::new(true),
            is_sweeping: AtomicBool::new(false),
            end: Mutex::default(),
            drift: Mutex::default(),
        }
    }
}

impl SweepState {
    /// Something happens in the sale.
    pub(in crate::engine) fn mark_dirty(&self) {
        // Most of the time it is set: a plain load does not take the cache line from the other cores.
        if !self.is_dirty.load(Ordering::Relaxed) {
            self.is_dirty.store(true, Ordering::Relaxed);
        }
    }

    pub(in crate::engine) fn is_dirty(&self) -> bool {
        self.is_dirty.load(Ordering::Relaxed)
    }

    /// The sale is about to be looked at; what happens from now on marks it again.
    pub(in crate::engine) fn clear_dirty(&self) {
        self.is_dirty.store(false, Ordering::Relaxed);
    }

    /// Begins a sweep, to be ended with [`SweepState::end_sweep`]; `false` if one is under way.
    pub(in crate::engine) fn begin_sweep(&self) -> bool {
        !self.is_sweeping.swap(true, Ordering::SeqCst)
    }

    pub(in crate::engine) fn end_sweep(&self) {
        self.is_sweeping.store(false, Ordering::SeqCst);
    }

    /// To be called of an ended sale: how long ago this engine first saw its end; `None` when its gate was emptied since.
    pub(in crate::engine) fn ended_for_ms(&self, now_ms: UnixMs) -> Option<i64> {
        let mut end = self.end.lock();
        match *end {
            SaleEnd::NotSeen => {
                *end = SaleEnd::SeenAt(now_ms);
                Some(0)
            }
            SaleEnd::SeenAt(ended_at) => Some(now_ms.saturating_sub(ended_at)),
            SaleEnd::GateEmptied => None,
        }
    }

    /// The gate of the ended sale was emptied.
    pub(in crate::engine) fn set_gate_emptied(&self) {
        *self.end.lock() = SaleEnd::GateEmptied;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_counted_from_the_first_sight_of_it() {
        let sweep = SweepState::default();
        assert_eq!(sweep.ended_for_ms(UnixMs::MAX - 5), Some(0));
        assert_eq!(sweep.ended_for_ms(UnixMs::MAX), Some(5));
        sweep.set_gate_emptied();
        assert_eq!(sweep.ended_for_ms(UnixMs::MAX), None);
    }
}
