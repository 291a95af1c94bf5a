//! Sales that other engines make and change: this engine learns of them from the ledger, several times a second.

use std::sync::Arc;
use std::time::Duration;

use super::Engine;
use crate::limits;
use crate::order::{Sale, SaleState};

/// Looks until the engine stops. `seen` is the newest revision it knows.
pub(super) async fn run(engine: Arc<Engine>, mut seen: i64) {
    let mut tick = tokio::time::interval(Duration::from_millis(limits::REFRESH_MS));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = engine.stopping.cancelled() => return,
        }
        // The ledger's trouble is told elsewhere; the next look finds what this one did not.
        let Ok(changed) = engine.ledger.sales(seen).await else { continue };
        for sale in changed {
            seen = seen.max(sale.revision);
            engine.refresh(sale).await;
        }
    }
}

impl Engine {
    /// Takes over a sale as the ledger has it now.
    async fn refresh(&self, sale: Sale) {
        let Some(known) = self.catalog.by_no(sale.no) else {
            let is_ended = sale.state(self.clock.now_ms()) == SaleState::Ended;
            let offer = self.catalog.put(sale);
            if !is_ended {
                // Failing that, its first order loads it.
                self.load(&offer).await.unwrap_or_default();
            }
            return;
        };
        let _alone = known.live.changing.lock().await;
        let newest = self.catalog.by_no(sale.no).map_or(0, |offer| offer.sale.revision);
        if sale.revision <= newest {
            return;
        }
        let switched = known.sale.switch != sale.switch;
        let offer = self.catalog.put(sale);
        offer.all_units_came_back();
        offer.live.stir();
        if switched {
            // Whoever switched it has told the gates; not those that only this engine reaches.
            self.switch_gates(&offer, offer.sale.switch).await;
        }
    }
}
