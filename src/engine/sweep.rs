//! Rolls forward: reservations past their lease are handed to the writer again. Appending the same order twice is
//! harmless, so this needs no lock and no fence, and any number of engines may do it. On its rounds the sweeper also
//! settles moves, loads bypassed gates again, and compares gate and ledger.
//!
//! It stands above the rooms: `orders` roll forward what it finds, `stock` mends the rest.

use std::sync::Arc;

use futures_util::stream::{self, StreamExt};
use tokio::sync::Semaphore;

use super::catalog::ActiveSale;
use super::core::Core;
use super::orders::Orders;
use super::stock::Stock;
use crate::gate::ShardId;
use crate::limits;
use crate::order::SaleState;

/// Visits the sales that may need it.
pub(super) struct Sweeper {
    core: Arc<Core>,
    stock: Arc<Stock>,
    orders: Arc<Orders>,
    /// For sweeps of one sale each.
    permits: Semaphore,
}

/// What a round does beside its usual work.
#[derive(Clone, Copy)]
struct Round {
    /// Visits every sale: where this engine did nothing, another one may have died in the middle of something.
    is_wide: bool,
    /// Compares gate and ledger.
    compares: bool,
}

impl Round {
    fn of(number: u64) -> Self {
        let is_wide = number.is_multiple_of(limits::SWEEPS_WIDE);
        Round { is_wide, compares: is_wide || number.is_multiple_of(limits::SWEEPS_COMPARE) }
    }
}

impl Sweeper {
    pub(super) fn new(core: Arc<Core>, stock: Arc<Stock>, orders: Arc<Orders>) -> Self {
        Sweeper { core, stock, orders, permits: Semaphore::new(limits::SALES_SWEPT_AT_ONCE) }
    }

    /// Sweeps until the engine stops.
    pub(super) async fn run(self: Arc<Self>) {
        let mut rounds = self.core.rounds(limits::SWEEP_MS);
        let (mut number, mut bypassed_before) = (0_u64, 0);
        while rounds.next().await {
            self.sweep(Round::of(number));
            number += 1;
            bypassed_before = self.log_bypass(bypassed_before);
        }
    }

    /// Begins a sweep of every sale that needs one, each in its own task: a slow sale holds up no other.
    fn sweep(self: &Arc<Self>, round: Round) {
        for active in self.core.catalog.all().iter() {
            let runtime = &active.runtime;
            let needs_it =
                round.is_wide || runtime.sweep.is_dirty() || runtime.shards.count_bypassed() > 0 || runtime.has_moves();
            if needs_it && runtime.sweep.begin_sweep() {
                let (sweeper, active) = (self.clone(), active.clone());
                self.core.tasks.spawn(async move {
                    if let Ok(_permit) = sweeper.permits.acquire().await {
                        sweeper.sweep_sale(&active, round).await;
                    }
                    active.runtime.sweep.end_sweep();
                });
            }
        }
    }

    async fn sweep_sale(&self, active: &ActiveSale, round: Round) {
        self.stock.reload_bypassed(active).await;
        self.stock.settle_moves(active).await;
        let is_idle = !active.runtime.sweep.is_dirty();
        if (is_idle && !round.is_wide) || self.is_over(active).await {
            return;
        }
        let shards = stream::iter(active.shards()).map(|id| self.sweep_shard(active, id));
        shards.buffer_unordered(limits::SHARDS_SWEPT_AT_ONCE).collect::<()>().await;
        if round.compares {
            self.stock.reconcile(active).await;
        }
    }

    async fn sweep_shard(&self, active: &ActiveSale, id: ShardId) {
        let Some(at) = active.at(id.shard).filter(|at| !active.runtime.shards.is_bypassed(at.shard)) else { return };
        let now_ms = self.core.clock.now_ms();
        // A gate that fails here fails orders too, and the log has it from there.
        let Ok(reservations) = self.core.gate.overdue(at, now_ms, limits::SWEEP_ORDERS_MAX).await else { return };
        for reservation in reservations {
            if !self.orders.roll_forward(active, at, reservation) {
                break;
            }
        }
    }

    /// Whether there is nothing more to do for the sale. Of one that ended long ago the gate is emptied first.
    async fn is_over(&self, active: &ActiveSale) -> bool {
        let now_ms = self.core.clock.now_ms();
        if active.sale.state(now_ms) != SaleState::Ended {
            return false;
        }
        if !active.is_loaded() {
            return true;
        }
        match active.runtime.sweep.ended_for_ms(now_ms) {
            None => true,
            Some(ended_ms) if ended_ms < limits::GATE_KEEPS_ENDED_MS => false,
            // What fails is tried again at the next wide sweep.
            Some(_) => self.stock.empty_gate(active).await,
        }
    }

    /// One line when orders begin to bypass gates, and one when all gates are in use again.
    fn log_bypass(&self, before: usize) -> usize {
        let now = self.core.catalog.count_bypassed();
        match (before, now) {
            (0, 1..) => {
                let mode = self.core.options.on_gate_failure;
                tracing::error!(shards = now, ?mode, "orders of {now} shards bypass their gate, which cannot be used");
            }
            (1.., 0) => tracing::info!("every gate shard is in use again"),
            (0, 0) | (1.., 1..) => {}
        }
        now
    }
}
