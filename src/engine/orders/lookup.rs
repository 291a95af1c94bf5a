//! Repeats: whether the gate or the ledger knows an order, and waiting for one in flight.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::Orders;
use super::replies::repeat;
use super::request::IdentifiedOrder;
use crate::engine::catalog::ActiveSale;
use crate::engine::trouble::ledger_trouble;
use crate::gate::{self, ReserveMode, ReserveOutcome, ReserveRequest, ShardEpoch};
use crate::limits;
use crate::order::{Code, Outcome, Refusal, Reservation};

impl Orders {
    /// Asks the gate; if its answer is lost, once more: it knows the attempt and answers the same.
    pub(super) async fn ask(
        &self,
        at: ShardEpoch,
        reservation: Reservation,
        mode: ReserveMode,
    ) -> Result<ReserveOutcome, gate::Error> {
        let attempt_id = self.attempts.fetch_add(1, Ordering::Relaxed);
        let (gate, clock) = (&self.core.gate, &self.core.clock);
        let request = [ReserveRequest { reservation, mode, attempt_id }];
        let outcomes = match gate.reserve(at, clock.now_ms(), &request).await {
            Err(gate::Error::Unknown(_)) => gate.reserve(at, clock.now_ms(), &request).await?,
            outcomes => outcomes?,
        };
        outcomes.first().copied().ok_or_else(|| gate::Error::Unknown("no answer among the answers".to_owned()))
    }

    /// Asks the gate what it knows of an order, without taking anything. A shard that was never loaded is not asked.
    pub(super) async fn look(
        &self,
        active: &ActiveSale,
        order: &IdentifiedOrder,
    ) -> Result<ReserveOutcome, gate::Error> {
        let at = active.at(order.user.shard(active.sale.rules.shards));
        let Some(at) = at else { return Ok(ReserveOutcome::StaleEpoch) };
        self.ask(at, order.for_look(), ReserveMode::Look).await
    }

    /// Asks the ledger whether the order exists, for a gate that does not remember every order.
    pub(super) async fn known_to_ledger(
        &self,
        active: &ActiveSale,
        order: &IdentifiedOrder,
    ) -> Result<Option<Result<Outcome, Refusal>>, Refusal> {
        let found = self.core.ledger.find(Some(order.user), order.order_no).await;
        let found = found.map_err(|error| ledger_trouble(&error))?;
        Ok(found.map(|known| repeat(active, order, known.fingerprint, known.created_at)))
    }

    /// The answer to a sku that the sale does not have: a new operation fails for that, a known one for its content.
    pub(super) async fn sku_not_found(&self, active: &ActiveSale, order: &IdentifiedOrder) -> Refusal {
        let in_gate = self.look(active, order).await == Ok(ReserveOutcome::OtherContent);
        match self.known_to_ledger(active, order).await {
            _ if in_gate => Code::IdempotencyKeyReused.into(),
            Ok(Some(_)) => Code::IdempotencyKeyReused.into(),
            Ok(None) => Code::SkuNotFound.into(),
            Err(refusal) => refusal,
        }
    }

    /// Waits until the order in flight is settled; refuses when the client did not ask to wait, or waited in vain.
    pub(super) async fn settled(
        &self,
        active: &ActiveSale,
        order: &IdentifiedOrder,
        deadline: Instant,
    ) -> Result<(), Refusal> {
        let _permit = self.waiters.permit().ok_or(Code::IdempotencyInProgress)?;
        loop {
            let wake = self.waiters.next_wake(&order.order_no).ok_or(Code::IdempotencyInProgress)?;
            tokio::pin!(wake);
            wake.as_mut().enable();
            if !self.is_in_flight(active, order).await {
                return Ok(());
            }
            let now = Instant::now();
            if now >= deadline {
                return Err(Code::IdempotencyInProgress.into());
            }
            let look_at = now + Duration::from_millis(limits::WAIT_POLL_MS);
            // Woken or not, the next turn looks again: many orders share a waker.
            timeout_at(deadline.min(look_at), wake).await.unwrap_or_default();
        }
    }

    /// Whether another request is getting the order recorded. Only looks: an order past its lease is not taken over. A
    /// gate that fails keeps no client waiting.
    async fn is_in_flight(&self, active: &ActiveSale, order: &IdentifiedOrder) -> bool {
        self.look(active, order).await.is_ok_and(|outcome| outcome == ReserveOutcome::InFlight)
    }
}
