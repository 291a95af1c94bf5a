//! Purchase tokens: giving them out, and the orders that come with one.

use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::place::{TURNS_MAX, repeat};
use crate::clock::UnixMs;
use crate::engine::catalog::ActiveSale;
use crate::engine::{Engine, gate_trouble};
use crate::gate::ReserveOutcome;
use crate::limits;
use crate::order::{Code, Outcome, Refusal, Reservation, Sale, SaleState, UserId};
use crate::token::VerifiedToken;

/// A purchase token that was given out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PurchaseToken {
    /// What the client sends with its order.
    pub token: String,
    /// From then on it makes no new order.
    pub expires_at: UnixMs,
}

impl Engine {
    /// Gives a user a token for one order in a sale that has not ended. Each call draws another token; none is kept.
    pub fn purchase_token(&self, user: UserId, sale_id: &str) -> Result<PurchaseToken, Refusal> {
        let active = self.catalog.get(sale_id).ok_or(Code::SaleNotFound)?;
        let (sale, now_ms) = (&active.sale, self.clock.now_ms());
        if sale.state(now_ms) == SaleState::Ended {
            return Err(Code::SaleEnded.into());
        }
        let mut id = [0; 16];
        getrandom::fill(&mut id)
            .map_err(|error| Refusal::because(Code::Overloaded, format!("no random numbers: {error}")))?;
        let ttl_over = now_ms.saturating_add(self.options.token_ttl_ms);
        let expires_at = sale.rules.ends_at.map_or(ttl_over, |ends_at| ends_at.min(ttl_over));
        Ok(PurchaseToken { token: self.options.tokens.issue(sale, user, expires_at, id), expires_at })
    }

    /// The token of a request, if there is one. Neither gate nor ledger is asked: whoever has none costs nothing.
    pub(in crate::engine) fn token_of(
        &self,
        sale: &Sale,
        user: UserId,
        text: Option<&str>,
    ) -> Result<Option<VerifiedToken>, Refusal> {
        match text {
            Some(text) => match self.options.tokens.verify(text, sale, user) {
                Some(genuine) => Ok(Some(genuine)),
                None => Err(Code::TokenInvalid.into()),
            },
            None if sale.rules.require_token => Err(Code::TokenRequired.into()),
            None => Ok(None),
        }
    }

    /// The answer to a token whose time is over: the order that it made, or no. Nothing is made any more.
    pub(in crate::engine) async fn after_expiry(
        &self,
        active: &ActiveSale,
        reservation: &Reservation,
        expires_at: UnixMs,
        deadline: Instant,
    ) -> Result<Outcome, Refusal> {
        for _ in 0..TURNS_MAX {
            let no = match self.look(active, reservation).await {
                Ok(ReserveOutcome::Recorded { created_at }) => {
                    return repeat(active, reservation, reservation.fingerprint, created_at);
                }
                Ok(ReserveOutcome::OtherContent) => return Err(Code::IdempotencyKeyReused.into()),
                Ok(ReserveOutcome::InFlight) => {
                    self.settled(active, reservation, deadline).await?;
                    continue;
                }
                Ok(ReserveOutcome::NotFound) if self.gate_knows_all(active, reservation) => Code::TokenInvalid,
                Ok(_) => Code::UnknownOutcome,
                Err(error) => gate_trouble(&error),
            };
            if let Some(known) = self.known_to_ledger(active, reservation).await? {
                return known;
            }
            // An order that was sent in time may still be on its way, and only a gate that has seen all would know.
            let is_settled = self.clock.now_ms() >= expires_at.saturating_add(IN_FLIGHT_MS);
            return Err(if is_settled { Code::TokenInvalid } else { no }.into());
        }
        Err(Code::Overloaded.into())
    }

    /// Whether no order of the hold's shard can be on its way without its gate knowing: it was never loaded anew, except by
    /// the start of the one engine that it lives in, before which nothing was on its way, and none went past it.
    fn gate_knows_all(&self, active: &ActiveSale, reservation: &Reservation) -> bool {
        let at = active.at(reservation.user.shard(active.sale.rules.shards));
        let forgot_nothing = at.epoch == 1 || (!self.gate.is_shared() && !active.runtime.is_reloaded(at.shard));
        forgot_nothing
            && !active.runtime.is_bypassed(at.shard)
            && !active.runtime.may_bypass.load(Ordering::SeqCst)
            && self.trusts_gate(active)
    }
}

/// How long after its request an order may still be recorded by itself, in ms: an answer's wait, and a lease that has to
/// run out before somebody completes it.
const IN_FLIGHT_MS: i64 = limits::ANSWER_MS_MAX.cast_signed() + limits::LEASE_MS;
