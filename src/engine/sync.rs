//! Sales that other engines make and change: this engine learns of them from the ledger, several times a second.

use std::sync::Arc;
use std::sync::atomic::Ordering;
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
        let begun_at = engine.elapsed_ms();
        let Ok(changed) = engine.ledger.sales(seen).await else { continue };
        for sale in changed {
            seen = seen.max(sale.revision);
            engine.refresh(sale);
        }
        engine.refreshed_at.store(begun_at, Ordering::SeqCst);
    }
}

impl Engine {
    /// Takes over a sale as the ledger has it now; its gate is told beside, so that no sale waits for another's gate.
    fn refresh(self: &Arc<Self>, sale: Sale) {
        let known = self.catalog.by_no(sale.no);
        if known.as_ref().is_some_and(|known| known.sale.revision >= sale.revision) {
            return;
        }
        let is_ended = sale.state(self.clock.now_ms()) == SaleState::Ended;
        let switched = known.as_ref().is_some_and(|known| known.sale.switch != sale.switch);
        let active = self.catalog.put(sale);
        active.clear_all_sold_out();
        active.runtime.mark_dirty();
        let engine = self.clone();
        if known.is_none() && !is_ended {
            // Failing that, its first order loads it.
            self.tasks.spawn(async move { engine.load(&active).await.unwrap_or_default() });
        } else if switched {
            self.tasks.spawn(async move {
                let _alone = active.runtime.admin_lock.lock().await;
                // Whoever switched it has told the gates; not those that only this engine reaches.
                if let Some(now) = engine.catalog.by_no(active.sale.no) {
                    engine.switch_gates(&now, now.sale.switch).await;
                }
            });
        }
    }
}
