//! Units that came back in the ledger, by a cancellation, an expiry or a refund, go back into the gate.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::join_all;
use tokio::sync::Semaphore;

use crate::engine::catalog::ActiveSale;
use crate::engine::core::Core;
use crate::gate::{ReturnedUnits, ShardEpoch};
use crate::ledger::Returned;
use crate::limits;
use crate::order::Order;

/// Gives units back to the gate.
pub(super) struct Returns {
    core: Arc<Core>,
    /// For batches that are on their way to the gate.
    permits: Arc<Semaphore>,
}

impl Returns {
    pub(super) fn new(core: Arc<Core>) -> Self {
        Returns { core, permits: Arc::new(Semaphore::new(limits::RETURNS_AT_ONCE)) }
    }

    /// Gives units back, then calls `done`. Runs inline if the gate answers at the first poll, as one in memory does;
    /// otherwise continues in a task, so that a slow gate cannot block the caller.
    pub(super) async fn give_back(
        self: &Arc<Self>,
        returned: Vec<(Order, Returned)>,
        done: impl FnOnce() + Send + 'static,
    ) {
        if returned.is_empty() {
            return done();
        }
        let permit = self.permits.clone().acquire_owned().await;
        let returns = self.clone();
        let mut work = Box::pin(async move {
            returns.return_units(returned).await;
            done();
            drop(permit);
        });
        if futures_util::poll!(work.as_mut()).is_pending() {
            self.core.tasks.spawn(work);
        }
    }

    /// Puts units on sale again: a gate in the epoch of [`Returned`] does not know of them, one in a later epoch was
    /// loaded with them and takes nothing. What does not reach the gate is found by comparing.
    async fn return_units(&self, returned: Vec<(Order, Returned)>) {
        let mut by_shard: HashMap<ShardEpoch, Vec<ReturnedUnits>> = HashMap::new();
        let mut on_sale: Vec<(ActiveSale, u16)> = Vec::new();
        for (order, Returned { epoch }) in returned {
            // A sale that this engine does not know yet will be loaded with what the ledger has.
            let Some(active) = self.core.catalog.by_no(order.sale) else { continue };
            let Some(sku) = active.sale.sku_at(order.sku) else { continue };
            let shard = order.user.shard(active.sale.rules.shards);
            if let Some(epoch) = epoch
                && !active.runtime.shards.is_bypassed(shard)
            {
                let at = active.shard(shard).in_epoch(epoch);
                by_shard.entry(at).or_default().push(ReturnedUnits { user: order.user, sku, units: order.quantity });
            }
            active.mark_dirty();
            on_sale.push((active, sku));
        }
        let returns = by_shard.iter().map(|(at, returns)| async move {
            if let Err(error) = self.core.gate.return_units(*at, returns).await {
                let count = returns.len();
                tracing::debug!(%error, sale = at.sale.0, shard = at.shard, "could not return the units of {count} orders");
                self.core.metrics.returns_lost.add(1);
            }
        });
        join_all(returns).await;
        // Last: a count that was made before the gate had them is too low.
        on_sale.iter().for_each(|(active, sku)| active.clear_sold_out(*sku));
    }
}
