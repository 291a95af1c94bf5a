//! Units: from the ledger into the gate, between shards, into a sale and out of it, and the comparison of gate and ledger.
//! The room asks the gate and the ledger and knows no order; orders, operators and the sweeper call it.

mod compare;
mod load;
mod moves;
mod refill;
mod restock;
mod view;

pub use load::rebuild;
pub(super) use refill::Need;

use std::sync::Arc;

use futures_util::future::join_all;

use super::catalog::ActiveSale;
use super::core::Core;
use crate::order::Switch;

/// Keeps the units of gate and ledger together. What it keeps of a sale, locks included, stands beside the sale in the
/// catalogue.
pub(super) struct Stock {
    core: Arc<Core>,
}

impl Stock {
    pub(super) fn new(core: Arc<Core>) -> Self {
        Stock { core }
    }

    /// Switches every gate shard. One that does not answer is bypassed until it is loaded anew, switch included.
    pub(super) async fn switch_gates(&self, active: &ActiveSale, switch: Switch) {
        let gate = &self.core.gate;
        let switches = active.shards().map(|id| async move { (id.shard, gate.switch(id, switch).await) });
        for (shard, switched) in join_all(switches).await {
            if let Err(error) = switched {
                let sale = &active.sale.id;
                tracing::warn!(%error, %sale, shard, "could not switch the gate of shard {shard} of sale {sale}");
                active.runtime.shards.bypass(shard);
            }
        }
    }
}
