//! Units that came back in the ledger, by a cancellation, an expiry or a refund, go back into the gate.

use std::collections::HashMap;

use futures_util::future::join_all;

use super::Engine;
use super::catalog::Offer;
use crate::gate::{At, Return};
use crate::order::Order;

impl Engine {
    /// Puts units on sale again. `returned` are the orders with the epoch that was the newest of their shard when the
    /// ledger took the units back: a gate in that epoch does not know of them, one in a later epoch was loaded with them
    /// and takes nothing. What does not reach the gate is found by reconciling.
    pub(super) async fn give_back(&self, returned: Vec<(Order, i64)>) {
        let mut by_shard: HashMap<At, Vec<Return>> = HashMap::new();
        let mut on_sale: Vec<(Offer, u16)> = Vec::new();
        for (order, epoch) in returned {
            // A sale that this engine does not know yet will be loaded with what the ledger has.
            let Some(offer) = self.catalog.by_no(order.sale) else { continue };
            let Some(sku) = offer.sale.sku_at(order.sku) else { continue };
            let shard = order.user.shard(offer.sale.rules.shards);
            if epoch > 0 && !offer.live.is_out(shard) {
                let at = At { sale: order.sale, shard, epoch };
                by_shard.entry(at).or_default().push(Return { user: order.user, sku, units: order.quantity });
            }
            offer.live.stir();
            on_sale.push((offer, sku));
        }
        let gives = by_shard.iter().map(|(at, returns)| async move {
            if let Err(error) = self.gate.give_back(*at, returns).await {
                tracing::debug!(%error, sale = at.sale.0, shard = at.shard, "give units back to the gate");
                self.metrics.returns_lost.add(1);
            }
        });
        join_all(gives).await;
        // Last: whoever counted before the gate was told has counted too few.
        on_sale.iter().for_each(|(offer, sku)| offer.units_came_back(*sku));
    }
}
