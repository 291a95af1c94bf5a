//! Orders of a shard whose gate cannot be used. The ledger alone is correct, so they may go straight to it, a few at a
//! time: it is not made for a crowd. Or they are refused; that is the operator's choice.

use std::time::Duration;

use tokio::sync::oneshot;

use super::Orders;
use super::job::{Attempt, Job, ReserveStep};
use crate::engine::catalog::ActiveSale;
use crate::engine::options::OnGateFailure;
use crate::engine::trouble::{gate_trouble, ledger_trouble};
use crate::gate::{self, Denial};
use crate::limits;
use crate::order::{Code, Refusal, SaleState};
use crate::trace;

impl Orders {
    /// Goes on without the gate of the order's shard, or refuses. `error` is what the gate said, if it was asked.
    pub(super) async fn bypass_gate(
        &self,
        attempt: Attempt,
        error: Option<gate::Error>,
    ) -> Result<ReserveStep, Refusal> {
        if self.core.options.on_gate_failure == OnGateFailure::Shed {
            return Err(error.as_ref().map_or(Code::GateUnavailable, gate_trouble).into());
        }
        let Attempt { active, shard, reservation, admitted, span, .. } = attempt;
        if let Some(code) = admitted.no_new {
            return Err(code.into());
        }
        let (Some(permit), Ok(bypass)) = (admitted.permit, self.bypass_permits.clone().try_acquire_owned()) else {
            return Err(Code::GateUnavailable.into());
        };
        let state = active.sale.state(self.core.clock.now_ms());
        if state != SaleState::Open {
            return Ok(ReserveStep::Denied { why: Denial::NotOpen(state), remembers_all: false });
        }
        active.runtime.bypass_notice.announced(self.announce_bypass(&active)).await?;
        // Before the order is recorded: from now on the gate sells what may be gone, until it is loaded anew.
        active.runtime.shards.bypass(shard.shard);
        self.core.metrics.bypassed_orders.add(1);
        let (answer, recorded) = oneshot::channel();
        let (epoch, bypass, answer, span) = (None, Some(bypass), Some(answer), trace::record(&span));
        self.queue(Job { active, shard, epoch, reservation, permit, bypass, answer, span })?;
        Ok(ReserveStep::Queued { recorded, gated: false })
    }

    /// Before the first order of a sale bypasses its gate, every engine must know: a gate that remembers all *its* orders
    /// does not know this one, and would let its repeat be refused as a new order.
    async fn announce_bypass(&self, active: &ActiveSale) -> Result<(), Refusal> {
        self.core.ledger.mark_bypassed(active.sale.no).await.map_err(|error| ledger_trouble(&error))?;
        tokio::time::sleep(Duration::from_millis(limits::BYPASS_AFTER_MS)).await;
        Ok(())
    }

    /// Whether a gate that says it remembers every order of a sale may be believed: no engine lets orders bypass it, as
    /// far as this one has looked, and it has looked since any other could have begun to.
    pub(super) fn trusts_gate(&self, active: &ActiveSale) -> bool {
        if !self.core.gate.is_shared() {
            return true;
        }
        self.core.catalog.age_ms() <= limits::REFRESH_TRUST_MS && !active.runtime.bypass_notice.may_bypass()
    }
}
