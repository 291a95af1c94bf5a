//! Filling the gate from the ledger, in a new epoch: at start, and whenever a shard is found stale.

use super::catalog::Offer;
use super::{Engine, gate_trouble, ledger_trouble};
use crate::ledger;
use crate::order::{Code, Refusal, SaleState, SkuLevel, UserId};

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

    /// Loads the user's shard, found stale, unless somebody else does so meanwhile.
    pub(super) async fn reload(&self, offer: &Offer, user: UserId) -> Result<(), Refusal> {
        let shard = user.shard(offer.sale.rules.shards);
        let stale = offer.at(shard);
        let _alone = offer.live.changing.lock().await;
        if offer.at(shard) == stale { self.load_all(offer).await } else { Ok(()) }
    }

    /// Loads a sale that was never loaded.
    pub(super) async fn load(&self, offer: &Offer) -> Result<(), Refusal> {
        let _alone = offer.live.changing.lock().await;
        if offer.is_loaded() { Ok(()) } else { self.load_all(offer).await }
    }

    /// Begins a new epoch in every shard: the gate forgets, and sells what the ledger has not.
    async fn load_all(&self, offer: &Offer) -> Result<(), Refusal> {
        // Units that move between shards would be counted where they were.
        let _still = offer.live.hold_still().await;
        let shards = 0..offer.sale.rules.shards;
        let epochs = self.ledger.begin_epochs(offer.sale.no, shards.clone()).await;
        let epochs = epochs.map_err(|error| ledger_trouble(&error))?;
        // The sale may have been switched since this offer was looked up.
        let sale = self.catalog.by_no(offer.sale.no).map_or_else(|| offer.sale.clone(), |offer| offer.sale);
        for (shard, epoch) in shards.zip(epochs) {
            let available: Vec<i64> = epoch.levels.iter().map(SkuLevel::available).collect();
            offer.live.set_epoch(shard, epoch.epoch);
            let loaded = self.gate.load(offer.at(shard), &sale, &available, epoch.first).await;
            loaded.map_err(|error| gate_trouble(&error))?;
        }
        for sku in 0..u16::try_from(sale.skus.len()).map_err(|_| Code::SkuNotFound)? {
            offer.units_came_back(sku);
        }
        tracing::info!(sale = %sale.id, shards = sale.rules.shards, "gate loaded from the ledger");
        Ok(())
    }
}
