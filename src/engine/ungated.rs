//! Orders of a shard whose gate cannot be used. The ledger alone is correct, so they may go straight to it, a few at a
//! time: it is not made for a crowd. Or they are refused; that is the operator's choice.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::catalog::Offer;
use super::place::Step;
use super::writer::Job;
use super::{Engine, gate_trouble, ledger_trouble};
use crate::admission::Seat;
use crate::gate::{self, At, Held, No};
use crate::limits;
use crate::order::{Code, Hold, Refusal, SaleState};

/// What becomes of orders whose gate cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnGateFailure {
    /// They go straight to the ledger, up to [`crate::limits::UNGATED_IN_FLIGHT_MAX`] at a time.
    Ledger,
    /// They are refused with [`Code::GateUnavailable`].
    Shed,
}

/// A place among the orders that go past the gate.
pub(super) type Ungated = OwnedSemaphorePermit;

impl Engine {
    /// Goes on without the gate of `at`'s shard, or refuses. `error` is what the gate said, if it was asked.
    pub(super) async fn without_gate(
        &self,
        offer: Offer,
        at: At,
        hold: Hold,
        seat: Option<Seat>,
        no_new: Option<Code>,
        error: Option<gate::Error>,
    ) -> Result<Step, Refusal> {
        if self.options.on_gate_failure == OnGateFailure::Shed {
            return Err(error.as_ref().map_or(Code::GateUnavailable, gate_trouble).into());
        }
        if let Some(code) = no_new {
            return Err(code.into());
        }
        let (Some(seat), Ok(place)) = (seat, self.ungated.clone().try_acquire_owned()) else {
            return Err(Code::GateUnavailable.into());
        };
        let state = offer.sale.state(self.clock.now_ms());
        if state != SaleState::Open {
            return Ok(Step::Held(Held::Refused { why: No::NotOpen(state), remembers_all: false }));
        }
        self.tell_ungated(&offer).await?;
        // Before the order is recorded: from now on the gate sells what may be gone, until it is loaded anew.
        offer.live.set_out(at.shard);
        self.metrics.ungated.add(1);
        let (answer, recorded) = oneshot::channel();
        let at = At { epoch: 0, ..at };
        self.queue(Job { offer, at, hold, seat, ungated: Some(place), answer: Some(answer) })?;
        Ok(Step::Queued { recorded, gated: false })
    }

    /// Before the first order of a sale goes past its gate, every engine must know: a gate that remembers all *its* orders
    /// does not know this one, and would let its repeat be refused as a new order.
    async fn tell_ungated(&self, offer: &Offer) -> Result<(), Refusal> {
        if offer.live.may_go_ungated.load(Ordering::SeqCst) {
            return Ok(());
        }
        let _alone = offer.live.telling.lock().await;
        if !offer.live.may_go_ungated.load(Ordering::SeqCst) {
            self.ledger.mark_ungated(offer.sale.no).await.map_err(|error| ledger_trouble(&error))?;
            tokio::time::sleep(Duration::from_millis(limits::UNGATED_AFTER_MS)).await;
            offer.live.is_ungated.store(true, Ordering::SeqCst);
            offer.live.may_go_ungated.store(true, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Whether a gate that says it remembers every order of a sale may be believed: no engine lets orders past it, as far
    /// as this one has looked, and it has looked since any other could have begun to.
    pub(super) fn trusts_gate(&self, offer: &Offer) -> bool {
        if !self.gate.is_shared() {
            return true;
        }
        let age_ms = self.elapsed_ms().saturating_sub(self.refreshed_at.load(Ordering::SeqCst));
        age_ms <= limits::REFRESH_TRUST_MS && !offer.live.is_ungated.load(Ordering::SeqCst)
    }

    /// Milliseconds since the engine was started.
    pub(super) fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Shards whose gate is left aside, over all sales.
    pub fn shards_out(&self) -> usize {
        self.catalog.all().iter().map(|offer| offer.live.shards_out()).sum()
    }

    /// Servers of the gate that cannot be used now.
    pub fn gate_servers_down(&self) -> usize {
        self.gate.servers_down()
    }

    /// Uses the gates of a sale again that can be reached again, in new epochs.
    pub(super) async fn bring_back(&self, offer: &Offer) {
        if offer.live.shards_out() > 0
            && let Ok(_alone) = offer.live.changing.try_lock()
        {
            // What fails is tried again at the next sweep.
            self.load_stale(offer, &[]).await.unwrap_or_default();
        }
    }
}
