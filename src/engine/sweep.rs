//! Rolls forward: reservations past their lease are handed to the writer again. Appending the same order twice is
//! harmless, so this needs no lock and no fence, and any number of engines may do it. On its rounds the sweeper also
//! settles moves, brings gates back that were out, and compares gate and ledger.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};

use super::Engine;
use super::catalog::Offer;
use super::writer::Job;
use crate::gate::At;
use crate::limits;
use crate::order::SaleState;

/// Sweeps until the engine stops.
pub(super) async fn run(engine: Arc<Engine>) {
    let mut tick = tokio::time::interval(Duration::from_millis(limits::SWEEP_MS));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut round, mut out_before) = (0_u64, 0);
    loop {
        tokio::select! {
            _ = tick.tick() => engine.sweep(round),
            () = engine.stopping.cancelled() => return,
        }
        round += 1;
        out_before = engine.tell_of_gates(out_before);
    }
}

impl Engine {
    /// Begins a sweep of every sale that needs one, each on its own: what holds one up holds up no other.
    fn sweep(self: &Arc<Self>, round: u64) {
        let (wide, compare) = (round.is_multiple_of(limits::SWEEPS_WIDE), round.is_multiple_of(limits::SWEEPS_COMPARE));
        for offer in self.catalog.all() {
            // Where this engine did nothing, another one may have died in the middle of something.
            let needs_it = wide || offer.live.is_stirred() || offer.live.shards_out() > 0 || offer.live.has_moves();
            if needs_it && !offer.live.sweeping.swap(true, Ordering::SeqCst) {
                let engine = self.clone();
                self.tasks.spawn(async move {
                    if let Ok(_place) = engine.sweeps.acquire().await {
                        engine.sweep_sale(&offer, compare, wide).await;
                    }
                    offer.live.sweeping.store(false, Ordering::SeqCst);
                });
            }
        }
    }

    async fn sweep_sale(&self, offer: &Offer, compare: bool, wide: bool) {
        self.bring_back(offer).await;
        self.settle_moves(offer).await;
        let idle = !offer.live.is_stirred();
        if idle && !wide || self.forget_ended(offer).await {
            return;
        }
        let shards = stream::iter(offer.shards()).map(|at| self.sweep_shard(offer, at));
        shards.buffer_unordered(limits::SHARDS_SWEPT_AT_ONCE).collect::<()>().await;
        if compare || wide {
            self.reconcile(offer).await;
        }
    }

    async fn sweep_shard(&self, offer: &Offer, at: At) {
        if at.epoch == 0 || offer.live.is_out(at.shard) {
            return;
        }
        let now_ms = self.clock.now_ms();
        // A gate that fails here fails orders too, and is told of there.
        let Ok(holds) = self.gate.overdue(at, now_ms, limits::SWEEP_ORDERS_MAX).await else { return };
        for hold in holds {
            // Without a seat the reservation waits for its next lease to run out.
            let Some(seat) = self.admission.seat() else { break };
            self.metrics.rolled_forward.add(1);
            let job = Job { offer: offer.clone(), at, hold, seat, ungated: None, answer: None };
            if self.queue(job).is_err() {
                break;
            }
        }
    }

    /// Frees what the gate keeps of a sale that ended long ago: a new epoch remembers no order, and repeats ask the
    /// ledger. Answers whether there is nothing more to do for the sale.
    async fn forget_ended(&self, offer: &Offer) -> bool {
        let now_ms = self.clock.now_ms();
        if offer.sale.state(now_ms) != SaleState::Ended {
            return false;
        }
        if !offer.is_loaded() {
            return true;
        }
        match offer.live.ended_for_ms(now_ms) {
            None => true,
            Some(ended_ms) if ended_ms < limits::GATE_KEEPS_ENDED_MS => false,
            Some(_) => {
                let every: Vec<u16> = offer.shards().map(|at| at.shard).collect();
                let _alone = offer.live.changing.lock().await;
                // What fails is tried again at the next wide sweep.
                let forgotten = self.load_stale(offer, &every).await.is_ok();
                if forgotten {
                    offer.live.set_forgotten();
                }
                forgotten
            }
        }
    }

    /// One line when gates are left aside, and one when all are in use again.
    fn tell_of_gates(&self, out_before: usize) -> usize {
        let out = self.shards_out();
        match (out_before, out) {
            (0, 1..) => tracing::error!(shards = out, mode = ?self.options.on_gate_failure, "gate shards are out"),
            (1.., 0) => tracing::info!("every gate shard is in use again"),
            _ => {}
        }
        out
    }
}
