//! Sales that other engines make and change: this engine learns of them from the ledger, several times a second.

use std::sync::Arc;

use super::core::Core;
use super::stock::Stock;
use crate::limits;
use crate::order::{Sale, SaleState};

/// Looks until the engine stops. `seen` is the newest revision it knows.
pub(super) async fn run(core: Arc<Core>, stock: Arc<Stock>, mut seen: i64) {
    let mut rounds = core.rounds(limits::REFRESH_MS);
    while rounds.next().await {
        // The log has the ledger's trouble already; the next look finds what this one did not.
        let begun_at_ms = core.catalog.elapsed_ms();
        let Ok(changed) = core.ledger.sales(seen).await else { continue };
        for sale in changed {
            seen = seen.max(sale.revision);
            take_over(&core, &stock, sale);
        }
        core.catalog.set_refreshed(begun_at_ms);
    }
}

/// Takes over a sale as the ledger has it now; its gate follows in a task, so that no sale waits for another's gate.
fn take_over(core: &Arc<Core>, stock: &Arc<Stock>, sale: Sale) {
    let known = core.catalog.by_no(sale.no);
    if known.as_ref().is_some_and(|known| known.sale.revision >= sale.revision) {
        return;
    }
    let is_ended = sale.state(core.clock.now_ms()) == SaleState::Ended;
    let is_switched = known.as_ref().is_some_and(|known| known.sale.switch != sale.switch);
    let active = core.catalog.put(sale);
    active.clear_all_sold_out();
    active.mark_dirty();
    let (tasks, core, stock) = (&core.tasks, core.clone(), stock.clone());
    if known.is_none() && !is_ended {
        // Failing that, its first order loads it.
        tasks.spawn(async move { stock.load(&active).await.unwrap_or_default() });
    } else if is_switched {
        tasks.spawn(async move {
            let _lock = active.runtime.admin_lock.lock().await;
            // The engine that switched it has switched the gates, but not those that only this engine reaches.
            if let Some(newest) = core.catalog.by_no(active.sale.no) {
                stock.switch_gates(&newest, newest.sale.switch).await;
            }
        });
    }
}
