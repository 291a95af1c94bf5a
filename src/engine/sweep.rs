//! Rolls forward: reservations past their lease are handed to the writer again. Appending the same order twice is
//! harmless, so this needs no lock and no fence, and any number of engines may do it. On its rounds the sweeper also
//! settles moves, brings gates back that were out, and compares gate and ledger.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};

use super::Engine;
use super::catalog::ActiveSale;
use super::orders::writer::Job;
use crate::gate::ShardEpoch;
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
        for active in self.catalog.all() {
            // Where this engine did nothing, another one may have died in the middle of something.
            let needs_it =
                wide || active.runtime.is_dirty() || active.runtime.shards_bypassed() > 0 || active.runtime.has_moves();
            if needs_it && !active.runtime.sweeping.swap(true, Ordering::SeqCst) {
                let engine = self.clone();
                self.tasks.spawn(async move {
                    if let Ok(_place) = engine.sweeps.acquire().await {
                        engine.sweep_sale(&active, compare, wide).await;
                    }
                    active.runtime.sweeping.store(false, Ordering::SeqCst);
                });
            }
        }
    }

    async fn sweep_sale(&self, active: &ActiveSale, compare: bool, wide: bool) {
        self.reload_bypassed(active).await;
        self.settle_moves(active).await;
        let idle = !active.runtime.is_dirty();
        if idle && !wide || self.forget_ended(active).await {
            return;
        }
        let shards = stream::iter(active.shards()).map(|at| self.sweep_shard(active, at));
        shards.buffer_unordered(limits::SHARDS_SWEPT_AT_ONCE).collect::<()>().await;
        if compare || wide {
            self.reconcile(active).await;
        }
    }

    async fn sweep_shard(&self, active: &ActiveSale, at: ShardEpoch) {
        if at.epoch == 0 || active.runtime.is_bypassed(at.shard) {
            return;
        }
        let now_ms = self.clock.now_ms();
        // A gate that fails here fails orders too, and is told of there.
        let Ok(reservations) = self.gate.overdue(at, now_ms, limits::SWEEP_ORDERS_MAX).await else { return };
        for reservation in reservations {
            // Without a seat the reservation waits for its next lease to run out.
            let Some(permit) = self.admission.permit() else { break };
            self.metrics.rolled_forward.add(1);
            let job = Job { active: active.clone(), at, reservation, permit, bypass: None, answer: None };
            if self.queue(job).is_err() {
                break;
            }
        }
    }

    /// Frees what the gate keeps of a sale that ended long ago: a new epoch remembers no order, and repeats ask the
    /// ledger. Answers whether there is nothing more to do for the sale.
    async fn forget_ended(&self, active: &ActiveSale) -> bool {
        let now_ms = self.clock.now_ms();
        if active.sale.state(now_ms) != SaleState::Ended {
            return false;
        }
        if !active.is_loaded() {
            return true;
        }
        match active.runtime.ended_for_ms(now_ms) {
            None => true,
            Some(ended_ms) if ended_ms < limits::GATE_KEEPS_ENDED_MS => false,
            Some(_) => {
                let every: Vec<u16> = active.shards().map(|at| at.shard).collect();
                let _alone = active.runtime.admin_lock.lock().await;
                // What fails is tried again at the next wide sweep.
                let forgotten = self.load_stale(active, &every).await.is_ok();
                if forgotten {
                    active.runtime.set_forgotten();
                }
                forgotten
            }
        }
    }

    /// One line when gates are left aside, and one when all are in use again.
    fn tell_of_gates(&self, out_before: usize) -> usize {
        let out = self.shards_bypassed();
        match (out_before, out) {
            (0, 1..) => tracing::error!(shards = out, mode = ?self.options.on_gate_failure, "gate shards are out"),
            (1.., 0) => tracing::info!("every gate shard is in use again"),
            _ => {}
        }
        out
    }
}
