//! Purchase tokens: giving them out, and the orders that come with one.

use tokio::time::Instant;

use super::replies::repeat;
use super::request::IdentifiedOrder;
use super::{Orders, TURNS_MAX};
use crate::clock::UnixMs;
use crate::engine::catalog::ActiveSale;
use crate::engine::random::random_bytes;
use crate::engine::trouble::gate_trouble;
use crate::gate::ReserveOutcome;
use crate::limits;
use crate::order::{Code, Epoch, Outcome, Refusal, Sale, SaleState, UserId};
use crate::token::VerifiedToken;

/// A purchase token that was given out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PurchaseToken {
    /// What the client sends with its order.
    pub token: String,
    /// From then on it makes no new order.
    pub expires_at: UnixMs,
}

impl Orders {
    /// Gives a user a token for one order in a sale that has not ended. Each call draws another token; none is kept.
    pub(in crate::engine) fn purchase_token(&self, user: UserId, sale_id: &str) -> Result<PurchaseToken, Refusal> {
        let active = self.core.catalog.get(sale_id).ok_or(Code::SaleNotFound)?;
        let (sale, options, now_ms) = (&active.sale, &self.core.options, self.core.clock.now_ms());
        if sale.state(now_ms) == SaleState::Ended {
            return Err(Code::SaleEnded.into());
        }
        let id = random_bytes()?;
        let ttl_over = now_ms.saturating_add(options.token_ttl_ms);
        let expires_at = sale.rules.ends_at.map_or(ttl_over, |ends_at| ends_at.min(ttl_over));
        Ok(PurchaseToken { token: options.tokens.issue(sale, user, expires_at, id), expires_at })
    }

    /// The token of a request, if there is one. Asks neither gate nor ledger: a request without a good one costs nothing.
    pub(super) fn token_of(
        &self,
        sale: &Sale,
        user: UserId,
        text: Option<&str>,
    ) -> Result<Option<VerifiedToken>, Refusal> {
        match text {
            Some(text) => match self.core.options.tokens.verify(text, sale, user) {
                Some(verified) => Ok(Some(verified)),
                None => Err(Code::TokenInvalid.into()),
            },
            None if sale.rules.require_token => Err(Code::TokenRequired.into()),
            None => Ok(None),
        }
    }

    /// The answer to a token that has expired: the order that it made, or no. It makes no new order.
    pub(super) async fn after_expiry(
        &self,
        active: &ActiveSale,
        order: &IdentifiedOrder,
        expires_at: UnixMs,
        deadline: Instant,
    ) -> Result<Outcome, Refusal> {
        for _ in 0..TURNS_MAX {
            let no = match self.look(active, order).await {
                Ok(ReserveOutcome::Recorded { created_at }) => {
                    return repeat(active, order, order.fingerprint, created_at);
                }
                Ok(ReserveOutcome::OtherContent) => return Err(Code::IdempotencyKeyReused.into()),
                Ok(ReserveOutcome::InFlight) => {
                    self.settled(active, order, deadline).await?;
                    continue;
                }
                Ok(ReserveOutcome::NotFound) if self.gate_knows_all(active, order) => Code::TokenInvalid,
                Ok(ReserveOutcome::NotFound | ReserveOutcome::StaleEpoch) => Code::UnknownOutcome,
                Ok(ReserveOutcome::Reserved { .. } | ReserveOutcome::Denied { .. }) => {
                    crate::bug!("the gate answered a look at order {} as if it were to reserve it", order.order_no);
                    Code::UnknownOutcome
                }
                Err(error) => gate_trouble(&error),
            };
            if let Some(known) = self.known_to_ledger(active, order).await? {
                return known;
            }
            // An order that was sent in time may still be on its way, and only a gate that has seen all would know.
            let is_settled = self.core.clock.now_ms() >= expires_at.saturating_add(IN_FLIGHT_MS);
            return Err(if is_settled { Code::TokenInvalid } else { no }.into());
        }
        Err(Code::Overloaded.into())
    }

    /// Whether no order of the user's shard can be on its way without its gate knowing: it was never loaded anew, except
    /// by the start of the one engine that it lives in, before which nothing was on its way, and none bypassed it.
    fn gate_knows_all(&self, active: &ActiveSale, order: &IdentifiedOrder) -> bool {
        let shard = order.user.shard(active.sale.rules.shards);
        let shards = &active.runtime.shards;
        let is_first = shards.epoch(shard).is_some_and(Epoch::is_first);
        let forgot_nothing = is_first || (!self.core.gate.is_shared() && !shards.is_reloaded(shard));
        forgot_nothing
            && !shards.is_bypassed(shard)
            && !active.runtime.bypass_notice.may_bypass()
            && self.trusts_gate(active)
    }
}

/// How long after its request an order may still be recorded by itself, in ms: an answer's wait, and a lease that has to
/// run out before the sweeper completes it.
const IN_FLIGHT_MS: i64 = limits::ANSWER_MS_MAX.cast_signed() + limits::LEASE_MS;
