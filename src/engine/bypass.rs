//! Orders of a shard whose gate cannot be used. The ledger alone is correct, so they may go straight to it, a few at a
//! time: it is not made for a crowd. Or they are refused; that is the operator's choice.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::catalog::ActiveSale;
use super::place::ReserveStep;
use super::writer::Job;
use super::{Engine, gate_trouble, ledger_trouble};
use crate::admission::InFlightPermit;
use crate::gate::{self, Denial, ReserveOutcome, ShardEpoch};
use crate::limits;
use crate::metrics::GateMetrics;
use crate::order::{Code, Refusal, Reservation, SaleState};

/// What becomes of orders whose gate cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnGateFailure {
    /// They go straight to the ledger, up to [`crate::limits::UNGATED_IN_FLIGHT_MAX`] at a time.
    Ledger,
    /// They are refused with [`Code::GateUnavailable`].
    Shed,
}

/// A place among the orders that go past the gate.
pub(super) type BypassPermit = OwnedSemaphorePermit;

impl Engine {
    /// Goes on without the gate of `at`'s shard, or refuses. `error` is what the gate said, if it was asked.
    pub(super) async fn bypass_gate(
        &self,
        active: ActiveSale,
        at: ShardEpoch,
        reservation: Reservation,
        permit: Option<InFlightPermit>,
        no_new: Option<Code>,
        error: Option<gate::Error>,
    ) -> Result<ReserveStep, Refusal> {
        if self.options.on_gate_failure == OnGateFailure::Shed {
            return Err(error.as_ref().map_or(Code::GateUnavailable, gate_trouble).into());
        }
        if let Some(code) = no_new {
            return Err(code.into());
        }
        let (Some(permit), Ok(place)) = (permit, self.bypass.clone().try_acquire_owned()) else {
            return Err(Code::GateUnavailable.into());
        };
        let state = active.sale.state(self.clock.now_ms());
        if state != SaleState::Open {
            return Ok(ReserveStep::Answered(ReserveOutcome::Refused {
                why: Denial::NotOpen(state),
                remembers_all: false,
            }));
        }
        self.announce_bypass(&active).await?;
        // Before the order is recorded: from now on the gate sells what may be gone, until it is loaded anew.
        active.runtime.bypass(at.shard);
        self.metrics.bypassed_orders.add(1);
        let (answer, recorded) = oneshot::channel();
        let at = ShardEpoch { epoch: 0, ..at };
        self.queue(Job { active, at, reservation, permit, bypass: Some(place), answer: Some(answer) })?;
        Ok(ReserveStep::Queued { recorded, gated: false })
    }

    /// Before the first order of a sale goes past its gate, every engine must know: a gate that remembers all *its* orders
    /// does not know this one, and would let its repeat be refused as a new order.
    async fn announce_bypass(&self, active: &ActiveSale) -> Result<(), Refusal> {
        if active.runtime.is_bypass_announced.load(Ordering::SeqCst) {
            return Ok(());
        }
        let _alone = active.runtime.announcement.lock().await;
        if !active.runtime.is_bypass_announced.load(Ordering::SeqCst) {
            self.ledger.mark_bypassed(active.sale.no).await.map_err(|error| ledger_trouble(&error))?;
            tokio::time::sleep(Duration::from_millis(limits::UNGATED_AFTER_MS)).await;
            active.runtime.may_bypass.store(true, Ordering::SeqCst);
            active.runtime.is_bypass_announced.store(true, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Whether a gate that says it remembers every order of a sale may be believed: no engine lets orders past it, as far
    /// as this one has looked, and it has looked since any other could have begun to.
    pub(super) fn trusts_gate(&self, active: &ActiveSale) -> bool {
        if !self.gate.is_shared() {
            return true;
        }
        let age_ms = self.elapsed_ms().saturating_sub(self.refreshed_at.load(Ordering::SeqCst));
        age_ms <= limits::REFRESH_TRUST_MS && !active.runtime.may_bypass.load(Ordering::SeqCst)
    }

    /// Milliseconds since the engine was started.
    pub(super) fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Shards that bypass their gate, over all sales.
    pub fn shards_bypassed(&self) -> usize {
        self.catalog.all().iter().map(|active| active.runtime.shards_bypassed()).sum()
    }

    /// What the gate counts, if it has servers.
    pub fn gate_metrics(&self) -> Option<&GateMetrics> {
        self.gate.metrics()
    }

    /// Servers of the gate that cannot be used now.
    pub fn gate_servers_down(&self) -> usize {
        self.gate.servers_down()
    }

    /// Uses the gates of a sale again that can be reached again, in new epochs.
    pub(super) async fn reload_bypassed(&self, active: &ActiveSale) {
        if active.runtime.shards_bypassed() > 0
            && let Ok(_alone) = active.runtime.admin_lock.try_lock()
        {
            // What fails is tried again at the next sweep.
            self.load_stale(active, &[]).await.unwrap_or_default();
        }
    }
}
