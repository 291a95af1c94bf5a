//! Filling the gate from the ledger, in a new epoch: at start, and whenever a shard is found stale.

use super::catalog::Offer;
use super::{Engine, gate_trouble, ledger_trouble};
use crate::gate::At;
use crate::ledger;
use crate::order::{Code, Refusal, SaleState, SkuLevel};

impl Engine {
    /// Loads every sale that has not ended, so that its first order finds a warm gate.
    pub(super) async fn load_open_sales(&self) -> Result<(), ledger::Error> {
        for offer in self.catalog.all() {
            if offer.sale.state(self.clock.now_ms()) != SaleState::Ended {
                let loaded = self.load(&offer).await;
                if let Err(refusal) = loaded {
                    let text = format!("load sale {}: {}", offer.sale.id, refusal.code.as_str());
                    return Err(ledger::Error::Unavailable(text));
                }
            }
        }
        Ok(())
    }

    /// Loads a sale of which `stale` was refused by the gate, unless somebody else has done so since.
    pub(super) async fn reload(&self, offer: &Offer, stale: At) -> Result<(), Refusal> {
        let _alone = offer.live.changing.lock().await;
        if offer.at(stale.shard) == stale { self.load_all(offer).await } else { Ok(()) }
    }

    /// Loads a sale that was never loaded.
    pub(super) async fn load(&self, offer: &Offer) -> Result<(), Refusal> {
        let _alone = offer.live.changing.lock().await;
        if offer.is_loaded() { Ok(()) } else { self.load_all(offer).await }
    }

    /// Begins a new epoch in every shard: the gate forgets, and sells what the ledger has not.
    async fn load_all(&self, offer: &Offer) -> Result<(), Refusal> {
        // Units that move between shards would be counted where they were.
        let mut still = Vec::with_capacity(offer.sale.skus.len());
        for sku in 0..u16::try_from(offer.sale.skus.len()).map_err(|_| Code::SkuNotFound)? {
            let mut moving = self.right_to_move(offer, sku).await?;
            self.settle_move(offer, sku, &mut moving).await?;
            still.push(moving);
        }
        let shards = 0..offer.sale.rules.shards;
        let epochs = self.ledger.begin_epochs(offer.sale.no, shards.clone()).await;
        let epochs = epochs.map_err(|error| ledger_trouble(&error))?;
        // The sale may have been switched since this offer was looked up.
        let sale = self.catalog.by_no(offer.sale.no).map_or_else(|| offer.sale.clone(), |offer| offer.sale);
        for (shard, epoch) in shards.zip(epochs) {
            let available: Vec<i64> = epoch.levels.iter().map(SkuLevel::available).collect();
            let at = At { epoch: epoch.epoch, ..offer.at(shard) };
            self.gate.load(at, &sale, &available, epoch.first).await.map_err(|error| gate_trouble(&error))?;
            // Only now: who is refused for the old epoch waits for the load instead of beginning another.
            offer.live.set_epoch(shard, epoch.epoch);
        }
        for sku in 0..u16::try_from(sale.skus.len()).map_err(|_| Code::SkuNotFound)? {
            offer.units_came_back(sku);
        }
        tracing::info!(sale = %sale.id, shards = sale.rules.shards, "gate loaded from the ledger");
        Ok(())
    }
}
