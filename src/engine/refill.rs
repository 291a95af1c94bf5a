//! Units for a shard that has run out: taken from a donor's gate, moved in the ledger, put into this gate. One refill
//! per sku at a time. A crash in between takes the gate with it, and the next epoch counts from the ledger.

use std::sync::Arc;

use tokio::sync::OwnedMutexGuard;

use super::catalog::Offer;
use super::moves::{Move, Moving};
use super::{Engine, gate_trouble};
use crate::gate::At;
use crate::ledger::{Restocked, Transfer};
use crate::order::{Code, Refusal, SkuNo};

/// What a refill came to.
pub(super) enum Refilled {
    /// The shard has units again: ask it once more.
    TryAgain,
    /// All shards together have fewer units than were asked for.
    SoldOut,
}

impl Engine {
    /// Gathers at least `quantity` units of a sku in `shard`. Runs to completion when detached.
    pub(super) async fn refill(
        self: Arc<Self>,
        offer: Offer,
        mut moving: OwnedMutexGuard<Moving>,
        shard: u16,
        sku: u16,
        quantity: u32,
    ) -> Result<Refilled, Refusal> {
        self.settle_move(&offer, sku, &mut moving).await?;
        let (Some(live), Some(sku_no)) = (offer.live.sku(sku), offer.sale.skus.get(usize::from(sku)).map(|sku| sku.no))
        else {
            return Err(Code::SkuNotFound.into());
        };
        let returns = live.latch.returns();
        let mut donors = self.available(&offer, sku).await?;
        let quantity = i64::from(quantity);
        let total: i64 = donors.iter().map(|donor| donor.units).sum();
        let own = donors.iter().find(|donor| donor.at.shard == shard).map_or(0, |donor| donor.units);
        if own >= quantity {
            return Ok(Refilled::TryAgain);
        }
        if total < quantity {
            live.latch.set(total, returns);
            return Ok(Refilled::SoldOut);
        }
        // An even share, so that the next customers of this shard need no refill, but at least what is needed now.
        let needed = quantity - own;
        let share = total / i64::from(offer.sale.rules.shards) - own;
        donors.retain(|donor| donor.at.shard != shard && donor.units > 0);
        donors.sort_by_key(|donor| -donor.units);
        let mut plan = Plan { needed, wanted: needed.max(share) };
        for half in [true, false] {
            for donor in &mut donors {
                let units = plan.ask_of(donor, half);
                if units > 0 {
                    let (from, to) = (donor.at, offer.at(shard));
                    donor.units -= units;
                    plan.got(self.move_units(&offer, &mut moving, from, to, sku, sku_no, units).await?);
                }
            }
        }
        Ok(Refilled::TryAgain)
    }

    /// What every shard has of a sku.
    async fn available(&self, offer: &Offer, sku: u16) -> Result<Vec<Donor>, Refusal> {
        let mut donors = Vec::with_capacity(usize::from(offer.sale.rules.shards));
        for at in offer.shards() {
            let level = self.gate.level(at).await.map_err(|error| gate_trouble(&error))?;
            let units = level.available.get(usize::from(sku)).copied().unwrap_or(0);
            donors.push(Donor { at, units });
        }
        Ok(donors)
    }

    /// Moves up to `units` from one shard to another; answers how many arrived.
    #[allow(clippy::too_many_arguments, reason = "from, to and what are all there is to a move")]
    async fn move_units(
        &self,
        offer: &Offer,
        moving: &mut Moving,
        from: At,
        to: At,
        sku: u16,
        sku_no: SkuNo,
        units: i64,
    ) -> Result<i64, Refusal> {
        let id = random_id()?;
        let taken = self.gate.adjust(from, sku, -units).await.map_err(|error| gate_trouble(&error))?;
        if taken == 0 {
            return Ok(0);
        }
        let now_ms = self.clock.now_ms();
        let transfer = Transfer { id, sku: sku_no, from: from.shard, to: to.shard, units: taken, now_ms };
        let outcome = self.carry_out(offer, sku, moving, Move::Transfer { transfer, from, to }).await?;
        Ok(if outcome == Restocked::Applied { taken } else { 0 })
    }
}

struct Donor {
    at: At,
    units: i64,
}

/// How many units a refill still needs, and how many it would like.
struct Plan {
    needed: i64,
    wanted: i64,
}

impl Plan {
    /// What to ask of a donor: first half of what it has, so that it does not run out next; then, if the order
    /// still cannot be served, all of it.
    fn ask_of(&self, donor: &Donor, half: bool) -> i64 {
        if half { self.wanted.min((donor.units + 1) / 2).max(0) } else { self.needed.min(donor.units).max(0) }
    }

    fn got(&mut self, units: i64) {
        self.needed -= units;
        self.wanted -= units;
    }
}

/// A number that no other transfer has.
fn random_id() -> Result<u128, Refusal> {
    let mut id = [0; 16];
    getrandom::fill(&mut id)
        .map_err(|error| Refusal::because(Code::Overloaded, format!("no random numbers: {error}")))?;
    Ok(u128::from_be_bytes(id))
}
