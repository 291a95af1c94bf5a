//! Units for a shard that has run out: taken from a donor's gate, moved in the ledger, put into this gate. One refill
//! per sku and engine at a time; those of other engines are kept apart by the ledger. A crash in between leaves units in no
//! gate, where `reconcile.rs` finds them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::OwnedMutexGuard;

use super::moves::{Move, MoveState};
use crate::engine::catalog::ActiveSale;
use crate::engine::{Engine, OnGateFailure, gate_trouble, ledger_trouble};
use crate::gate::ShardEpoch;
use crate::ledger::{RestockOutcome, Transfer};
use crate::order::{Code, Refusal, SkuNo};

/// What a refill came to.
pub(in crate::engine) enum RefillOutcome {
    /// The shard has units again: ask it once more.
    TryAgain,
    /// All shards together have fewer units than were asked for.
    SoldOut,
    /// The gates have too few, but the ledger has units that no gate knows of.
    Stranded,
}

impl Engine {
    /// Gathers at least `quantity` units of a sku in `shard`. Runs to completion when detached.
    pub(in crate::engine) async fn refill(
        self: Arc<Self>,
        active: ActiveSale,
        mut moving: OwnedMutexGuard<MoveState>,
        shard: u16,
        sku: u16,
        quantity: u32,
    ) -> Result<RefillOutcome, Refusal> {
        self.settle_move(&active, sku, &mut moving).await?;
        let (Some(runtime), Some(sku_no)) =
            (active.runtime.sku(sku), active.sale.skus.get(usize::from(sku)).map(|sku| sku.no))
        else {
            return Err(Code::SkuNotFound.into());
        };
        runtime.refills.fetch_add(1, Ordering::SeqCst);
        let returns = runtime.sold_out.returns();
        let now_ms = self.clock.now_ms();
        let Stock { mut donors, stranded } = self.stock_by_shard(&active, sku).await?;
        let quantity = i64::from(quantity);
        let total: i64 = donors.iter().map(|donor| donor.units).sum();
        let own = donors.iter().find(|donor| donor.at.shard == shard).map_or(0, |donor| donor.units);
        if own >= quantity {
            return Ok(RefillOutcome::TryAgain);
        }
        if total < quantity && total + stranded >= quantity {
            return Ok(RefillOutcome::Stranded);
        }
        if total < quantity {
            runtime.sold_out.set(total, returns, now_ms);
            return Ok(RefillOutcome::SoldOut);
        }
        // An even share, so that the next customers of this shard need no refill, but at least what is needed now.
        let needed = quantity - own;
        let share = total / i64::from(active.sale.rules.shards) - own;
        donors.retain(|donor| donor.at.shard != shard && donor.units > 0);
        donors.sort_by_key(|donor| -donor.units);
        let mut plan = Plan { needed, wanted: needed.max(share) };
        for half in [true, false] {
            for donor in &mut donors {
                let units = plan.ask_of(donor, half);
                if units > 0 {
                    let (from, to) = (donor.at, active.at(shard));
                    donor.units -= units;
                    plan.got(self.move_units(&active, &mut moving, from, to, sku, sku_no, units).await?);
                }
            }
        }
        Ok(RefillOutcome::TryAgain)
    }

    /// What every shard can still sell of a sku: by its gate, or by the ledger where the gate is out.
    async fn stock_by_shard(&self, active: &ActiveSale, sku: u16) -> Result<Stock, Refusal> {
        // The gates first: what they hold and have not sold then is at most what the ledger still has now, unless
        // units are in no gate.
        let levels = super::load::levels(self.gate.as_ref(), active).await;
        let ledger = self.ledger.stock(active.sale.no).await.map_err(|error| ledger_trouble(&error))?;
        let in_ledger = ledger.into_iter().nth(usize::from(sku)).unwrap_or_default();
        let mut stock = Stock::default();
        for ((at, level), in_ledger) in active.shards().zip(levels).zip(in_ledger) {
            let in_ledger = in_ledger.available();
            if level.is_err() {
                // What moves from here on goes past its gate.
                active.runtime.bypass(at.shard);
            }
            let is_bypassed = active.runtime.is_bypassed(at.shard);
            let units = match level {
                Ok(level) if !is_bypassed && level.epoch == at.epoch => {
                    let of_sku = |units: &[i64]| units.get(usize::from(sku)).copied().unwrap_or(0);
                    let (available, held) = (of_sku(&level.available), of_sku(&level.reserved));
                    stock.stranded += (in_ledger - available - held).max(0);
                    available
                }
                // It is being loaded, by this engine or another: until then nothing is known of it.
                Ok(_) if !is_bypassed => {
                    stock.stranded += in_ledger;
                    0
                }
                _ if self.options.on_gate_failure == OnGateFailure::Ledger => in_ledger,
                _ if in_ledger > 0 => return Err(Code::GateUnavailable.into()),
                _ => 0,
            };
            stock.donors.push(Donor { at, units });
        }
        Ok(stock)
    }

    /// Moves up to `units` from one shard to another; answers how many arrived.
    #[allow(clippy::too_many_arguments, reason = "from, to and what are all there is to a move")]
    async fn move_units(
        &self,
        active: &ActiveSale,
        moving: &mut MoveState,
        from: ShardEpoch,
        to: ShardEpoch,
        sku: u16,
        sku_no: SkuNo,
        units: i64,
    ) -> Result<i64, Refusal> {
        let id = random_id()?;
        let taken = if active.runtime.is_bypassed(from.shard) {
            // Its gate is loaded anew before it sells again.
            units
        } else {
            self.gate.adjust(from, sku, -units).await.map_err(|error| gate_trouble(&error))?
        };
        if taken == 0 {
            return Ok(0);
        }
        let now_ms = self.clock.now_ms();
        let transfer = Transfer { id, sku: sku_no, from: from.shard, to: to.shard, units: taken, now_ms };
        let outcome = self.commit_move(active, sku, moving, Move::Transfer { transfer, from, to }).await?;
        Ok(if outcome == RestockOutcome::Applied { taken } else { 0 })
    }
}

/// What there is of a sku.
#[derive(Default)]
struct Stock {
    donors: Vec<Donor>,
    /// Units that the ledger has and no gate sells or holds, over all shards.
    stranded: i64,
}

struct Donor {
    at: ShardEpoch,
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
