//! Units for a shard that has run out: taken from a donor's gate, moved in the ledger, put into this gate. One refill
//! per sku at a time. A crash in between leaves units outside every gate, which is safe, until the next epoch.

use std::sync::Arc;

use super::catalog::Offer;
use super::{Engine, gate_trouble, ledger_trouble};
use crate::gate::At;
use crate::ledger::{self, Transfer};
use crate::order::{Code, Refusal, SkuNo};

/// What a refill came to.
pub(super) enum Refilled {
    /// The shard has units again: ask it once more.
    TryAgain,
    /// All shards together have fewer units than were asked for.
    SoldOut,
}

/// Attempts to learn whether a move was recorded.
const SETTLE_ATTEMPTS: usize = 3;

impl Engine {
    /// Gathers at least `quantity` units of a sku in `shard`. Runs to completion when detached.
    pub(super) async fn refill(
        self: Arc<Self>,
        offer: Offer,
        shard: u16,
        sku: u16,
        quantity: u32,
    ) -> Result<Refilled, Refusal> {
        let (Some(live), Some(sku_no)) = (offer.live.sku(sku), offer.sale.skus.get(usize::from(sku)).map(|sku| sku.no))
        else {
            return Err(Code::SkuNotFound.into());
        };
        let _alone = live.moving.lock().await;
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
                    let moved = self.move_units(donor.at, offer.at(shard), sku, sku_no, units).await?;
                    donor.units -= units;
                    plan.got(moved);
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
    async fn move_units(&self, from: At, to: At, sku: u16, sku_no: SkuNo, units: i64) -> Result<i64, Refusal> {
        let taken = self.gate.adjust(from, sku, -units).await.map_err(|error| gate_trouble(&error))?;
        if taken == 0 {
            return Ok(0);
        }
        let id = random_id()?;
        let now_ms = self.clock.now_ms();
        let transfer = Transfer { id, sku: sku_no, from: from.shard, to: to.shard, units: taken, now_ms };
        match self.settle_transfer(transfer).await {
            Ok(true) => {
                self.metrics.transfers.add(1);
                Ok(self.gate.adjust(to, sku, taken).await.map_err(|error| gate_trouble(&error))?)
            }
            // The donor's gate had units that its ledger segment does not have: they are not put anywhere.
            Ok(false) => Ok(0),
            Err(error @ (ledger::Error::Unavailable(_) | ledger::Error::Busy | ledger::Error::Corrupt(_))) => {
                self.gate.adjust(from, sku, taken).await.map_err(|error| gate_trouble(&error))?;
                Err(ledger_trouble(&error).into())
            }
            Err(error @ ledger::Error::Unknown(_)) => {
                tracing::error!(%error, units = taken, "units are in no shard until the next start");
                self.metrics.stranded_units.add(u64::try_from(taken).unwrap_or(0));
                Err(ledger_trouble(&error).into())
            }
        }
    }

    /// Records a move; the same id again settles an unknown outcome.
    async fn settle_transfer(&self, transfer: Transfer) -> Result<bool, ledger::Error> {
        let mut outcome = self.ledger.transfer(transfer).await;
        for _ in 1..SETTLE_ATTEMPTS {
            match outcome {
                Err(ledger::Error::Unknown(_)) => outcome = self.ledger.transfer(transfer).await,
                known => return known,
            }
        }
        outcome
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
