//! Units that came back in the ledger, by a cancellation, an expiry or a refund, go back into the gate.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::join_all;

use crate::engine::Engine;
use crate::engine::catalog::ActiveSale;
use crate::gate::{ReturnedUnits, ShardEpoch};
use crate::order::Order;

impl Engine {
    /// Gives units back as [`Engine::return_units`] does, then calls `done`. A gate that answers at once, as one in memory
    /// does, is waited for; with any other this goes on beside the caller, whom a slow gate must not hold up.
    pub(in crate::engine) async fn return_units_beside(
        self: &Arc<Self>,
        returned: Vec<(Order, i64)>,
        done: impl FnOnce() + Send + 'static,
    ) {
        if returned.is_empty() {
            return done();
        }
        let place = self.return_permits.clone().acquire_owned().await;
        let engine = self.clone();
        let mut work = Box::pin(async move {
            engine.return_units(returned).await;
            done();
            drop(place);
        });
        if futures_util::poll!(work.as_mut()).is_pending() {
            self.tasks.spawn(work);
        }
    }

    /// It is not known whether units came back of which no gate was told, nor in which sale: to be compared soon.
    pub(in crate::engine) fn mark_all_dirty(&self) {
        self.catalog.all().iter().for_each(|active| active.runtime.mark_dirty());
    }

    /// Puts units on sale again. `returned` are the orders with the epoch that was the newest of their shard when the
    /// ledger took the units back: a gate in that epoch does not know of them, one in a later epoch was loaded with them
    /// and takes nothing. What does not reach the gate is found by reconciling.
    pub(in crate::engine) async fn return_units(&self, returned: Vec<(Order, i64)>) {
        let mut by_shard: HashMap<ShardEpoch, Vec<ReturnedUnits>> = HashMap::new();
        let mut on_sale: Vec<(ActiveSale, u16)> = Vec::new();
        for (order, epoch) in returned {
            // A sale that this engine does not know yet will be loaded with what the ledger has.
            let Some(active) = self.catalog.by_no(order.sale) else { continue };
            let Some(sku) = active.sale.sku_at(order.sku) else { continue };
            let shard = order.user.shard(active.sale.rules.shards);
            if epoch > 0 && !active.runtime.is_bypassed(shard) {
                let at = ShardEpoch { sale: order.sale, shard, epoch };
                by_shard.entry(at).or_default().push(ReturnedUnits { user: order.user, sku, units: order.quantity });
            }
            active.runtime.mark_dirty();
            on_sale.push((active, sku));
        }
        let gives = by_shard.iter().map(|(at, returns)| async move {
            if let Err(error) = self.gate.return_units(*at, returns).await {
                tracing::debug!(%error, sale = at.sale.0, shard = at.shard, "give units back to the gate");
                self.metrics.returns_lost.add(1);
            }
        });
        join_all(gives).await;
        // Last: whoever counted before the gate was told has counted too few.
        on_sale.iter().for_each(|(active, sku)| active.clear_sold_out(*sku));
    }
}
