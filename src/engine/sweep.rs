//! Rolls forward: reservations past their lease are handed to the writer again. Appending the same order twice is
//! harmless, so this needs no lock and no fence, and any number of engines may do it.

use std::sync::Arc;
use std::time::Duration;

use super::Engine;
use super::catalog::Offer;
use super::writer::Job;
use crate::gate::At;
use crate::limits;

/// Sweeps until the engine stops.
pub(super) async fn run(engine: Arc<Engine>) {
    let mut tick = tokio::time::interval(Duration::from_millis(limits::SWEEP_MS));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => engine.sweep().await,
            () = engine.stopping.cancelled() => return,
        }
    }
}

impl Engine {
    async fn sweep(&self) {
        let mut found = 0;
        for offer in self.catalog.all() {
            for at in offer.shards() {
                found += self.sweep_shard(&offer, at).await;
            }
            self.settle_moves(&offer).await;
            // A gate in memory answers at once: thousands of sales must not keep a worker to themselves.
            tokio::task::yield_now().await;
        }
        // With nothing left to try again, the next new order has to find out how the ledger is.
        if found == 0 && !self.admission.is_ledger_well() && self.admission.in_flight() == 0 {
            self.admission.ledger_is(true);
        }
    }

    async fn sweep_shard(&self, offer: &Offer, at: At) -> usize {
        let now_ms = self.clock.now_ms();
        let holds = match self.gate.overdue(at, now_ms, limits::SWEEP_ORDERS_MAX).await {
            Ok(holds) => holds,
            Err(error) => {
                tracing::warn!(%error, sale = %offer.sale.id, shard = at.shard, "look for overdue reservations");
                return 0;
            }
        };
        let found = holds.len();
        for hold in holds {
            // Without a seat the reservation waits for its next lease to run out.
            let Some(seat) = self.admission.seat() else { break };
            self.metrics.rolled_forward.add(1);
            let job = Job { offer: offer.clone(), at, hold, seat, answer: None };
            if self.queue.try_send(job).is_err() {
                break;
            }
        }
        found
    }
}
