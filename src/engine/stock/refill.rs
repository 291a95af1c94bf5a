//! Units for a shard that has run out: taken from a donor's gate, moved in the ledger, put into this gate. One refill
//! per sku and engine at a time; those of other engines are kept apart by the ledger. A crash in between leaves units in no
//! gate, where `compare.rs` finds them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::timeout;

use super::Stock;
use super::load::levels;
use crate::engine::catalog::{ActiveSale, Move, MoveGuard, MoveState, SkuRuntime};
use crate::engine::options::OnGateFailure;
use crate::engine::random::random_bytes;
use crate::engine::trouble::{gate_trouble, ledger_trouble};
use crate::gate::ShardEpoch;
use crate::ledger::{RestockOutcome, Transfer};
use crate::limits;
use crate::order::{Code, Refusal, SkuNo};

/// Units that an order needs in its shard.
#[derive(Clone, Copy)]
pub(in crate::engine) struct Need {
    pub(in crate::engine) shard: u16,
    pub(in crate::engine) sku: u16,
    pub(in crate::engine) quantity: u32,
    /// Whether another request's refill may be enough for this order too.
    pub(in crate::engine) may_hope: bool,
}

/// What a request does that has waited for the right to move units.
#[derive(Debug, PartialEq, Eq)]
enum AfterWait {
    SoldOut,
    AskAgain,
    Refill,
}

/// What a refill came to.
#[derive(Debug, PartialEq, Eq)]
enum RefillOutcome {
    /// The shard has units again: ask it once more.
    AskAgain,
    /// All shards together have fewer units than were asked for.
    SoldOut,
    /// The gates have too few, but the ledger has units that no gate knows of.
    Stranded,
}

impl Stock {
    /// Brings units into a shard that has too few, or refuses because all shards together have too few. Cancel-safe.
    pub(in crate::engine) async fn gather(self: &Arc<Self>, active: &ActiveSale, need: Need) -> Result<(), Refusal> {
        let runtime = active.runtime.sku(need.sku).ok_or(Code::SkuNotFound)?;
        if runtime.sold_out.is_sold_out(need.quantity, self.core.clock.now_ms()) {
            return Err(Code::SoldOut.into());
        }
        let refills_before = runtime.refills.load(Ordering::SeqCst);
        // The right is waited for here, where a client that hangs up leaves nothing behind.
        let patience = Duration::from_millis(limits::REFILL_WAIT_MS_MAX);
        let moves = timeout(patience, self.lock_moves(active, need.sku)).await.map_err(|_| Code::Overloaded)??;
        let is_refilled = runtime.refills.load(Ordering::SeqCst) != refills_before;
        match after_wait(is_refilled, runtime.sold_out.was_sold_out(need.quantity), need.may_hope) {
            AfterWait::SoldOut => Err(Code::SoldOut.into()),
            AfterWait::AskAgain => Ok(()),
            AfterWait::Refill => self.refill_detached(active, moves, need).await,
        }
    }

    async fn refill_detached(
        self: &Arc<Self>,
        active: &ActiveSale,
        moves: MoveGuard,
        need: Need,
    ) -> Result<(), Refusal> {
        match self.core.detached(Box::pin(self.clone().refill(active.clone(), moves, need))).await?? {
            RefillOutcome::AskAgain => Ok(()),
            RefillOutcome::SoldOut => Err(Code::SoldOut.into()),
            RefillOutcome::Stranded => self.core.detached(Box::pin(self.clone().free_stranded(active.clone()))).await?,
        }
    }

    /// Gathers at least the needed units in the shard. Runs to completion when detached.
    async fn refill(
        self: Arc<Self>,
        active: ActiveSale,
        mut moves: MoveGuard,
        need: Need,
    ) -> Result<RefillOutcome, Refusal> {
        self.settle_move(&active, need.sku, &mut moves).await?;
        let (Some(runtime), Some(sku)) = (active.runtime.sku(need.sku), active.sale.skus.get(usize::from(need.sku)))
        else {
            return Err(Code::SkuNotFound.into());
        };
        let supply = self.count_supply(&active, need.sku, runtime).await?;
        let Some(outcome) = supply.outcome_without_moves(need) else {
            let to = active.at(need.shard);
            let refill =
                Refill { active: &active, moves: &mut moves, shard: need.shard, to, sku: need.sku, sku_no: sku.no };
            self.move_from_donors(refill, supply.plan(need), supply.donors_for(need)).await?;
            return Ok(RefillOutcome::AskAgain);
        };
        if matches!(outcome, RefillOutcome::SoldOut) {
            runtime.sold_out.set(supply.total(), supply.returns, supply.now_ms);
        }
        Ok(outcome)
    }

    /// Counts what every shard can still sell of a sku.
    async fn count_supply(&self, active: &ActiveSale, sku: u16, runtime: &SkuRuntime) -> Result<Supply, Refusal> {
        runtime.refills.fetch_add(1, Ordering::SeqCst);
        // Both are read before the units: what comes back in between makes the count void.
        let (returns, now_ms) = (runtime.sold_out.returns(), self.core.clock.now_ms());
        let mut supply = Supply { shards: Vec::new(), stranded: 0, returns, now_ms };
        // The gates first: what they have and have not sold then is at most what the ledger still has now, unless
        // units are in no gate.
        let levels = levels(self.core.gate.as_ref(), active).await;
        let ledger = self.core.ledger.stock(active.sale.no).await.map_err(|error| ledger_trouble(&error))?;
        let in_ledger = ledger.into_iter().nth(usize::from(sku)).unwrap_or_default();
        for ((id, level), in_ledger) in active.shards().zip(levels).zip(in_ledger) {
            let at = active.at(id.shard);
            let in_ledger = in_ledger.available();
            if level.is_err() {
                // What moves from here on bypasses its gate.
                active.runtime.shards.bypass(id.shard);
            }
            let is_bypassed = active.runtime.shards.is_bypassed(id.shard);
            let units = match level {
                Ok(level) if !is_bypassed && level.epoch == at.map(|at| at.epoch) => {
                    let of_sku = |units: &[i64]| units.get(usize::from(sku)).copied().unwrap_or(0);
                    let (available, reserved) = (of_sku(&level.available), of_sku(&level.reserved));
                    supply.stranded += (in_ledger - available - reserved).max(0);
                    available
                }
                // It is being loaded, by this engine or another: until then nothing is known of it.
                Ok(_) if !is_bypassed => {
                    supply.stranded += in_ledger;
                    0
                }
                Ok(_) | Err(_) if self.core.options.on_gate_failure == OnGateFailure::Ledger => in_ledger,
                Ok(_) | Err(_) if in_ledger > 0 => return Err(Code::GateUnavailable.into()),
                Ok(_) | Err(_) => 0,
            };
            supply.shards.push(Donor { shard: id.shard, at, units });
        }
        Ok(supply)
    }

    /// Moves what the plan asks for: first half of what each donor has, so that it does not run out next; then, if the
    /// order still cannot be served, all of it.
    async fn move_from_donors(
        &self,
        mut refill: Refill<'_>,
        mut plan: Plan,
        mut donors: Vec<Donor>,
    ) -> Result<(), Refusal> {
        for share in [Share::Half, Share::All] {
            for donor in &mut donors {
                let units = plan.units_from(donor, share);
                if units > 0 {
                    donor.units -= units;
                    let arrived = self.move_units(&mut refill, donor, units).await?;
                    plan.count_arrived(arrived);
                }
            }
        }
        Ok(())
    }

    /// Moves up to `units` from a donor; answers how many arrived.
    async fn move_units(&self, refill: &mut Refill<'_>, donor: &Donor, units: i64) -> Result<i64, Refusal> {
        let Refill { active, moves, shard, to, sku, sku_no } = refill;
        let id = u128::from_be_bytes(random_bytes()?);
        let taken = match donor.at {
            // Its gate is loaded anew before it sells again.
            _ if active.runtime.shards.is_bypassed(donor.shard) => units,
            Some(from) => self.core.gate.adjust(from, *sku, -units).await.map_err(|error| gate_trouble(&error))?,
            None => 0,
        };
        if taken == 0 {
            return Ok(0);
        }
        let now_ms = self.core.clock.now_ms();
        let transfer = Transfer { id, sku: *sku_no, from: donor.shard, to: *shard, units: taken, now_ms };
        let outcome =
            self.commit_move(active, *sku, moves, Move::Transfer { transfer, from: donor.at, to: *to }).await?;
        Ok(if outcome == RestockOutcome::Applied { taken } else { 0 })
    }
}

/// Decides for a request that waited for the right to move units, possibly through another request's refill.
fn after_wait(is_refilled: bool, was_sold_out: bool, may_hope: bool) -> AfterWait {
    if is_refilled && was_sold_out {
        // Of a crowd that waited, the first has counted for all.
        AfterWait::SoldOut
    } else if is_refilled && may_hope {
        // Perhaps it has brought enough for all; a request that came too late for that refills by itself.
        AfterWait::AskAgain
    } else {
        AfterWait::Refill
    }
}

/// What a refill works on while it holds the right to move the sku's units.
struct Refill<'a> {
    active: &'a ActiveSale,
    moves: &'a mut MoveState,
    /// The receiver.
    shard: u16,
    /// The receiver's gate; `None` if it was never loaded.
    to: Option<ShardEpoch>,
    sku: u16,
    sku_no: SkuNo,
}

/// What there is of a sku.
struct Supply {
    /// What each shard can still sell: by its gate, or by the ledger where the gate is bypassed.
    shards: Vec<Donor>,
    /// Units that the ledger has and no gate sells or has reserved, over all shards.
    stranded: i64,
    /// How often units had come back before they were counted.
    returns: u64,
    now_ms: i64,
}

/// A shard with units to give.
#[derive(Clone, Copy)]
struct Donor {
    shard: u16,
    /// Its gate; `None` if it was never loaded.
    at: Option<ShardEpoch>,
    units: i64,
}

impl Supply {
    fn total(&self) -> i64 {
        self.shards.iter().map(|shard| shard.units).sum()
    }

    fn units_in(&self, shard: u16) -> i64 {
        self.shards.iter().find(|donor| donor.shard == shard).map_or(0, |donor| donor.units)
    }

    /// The outcome, where no unit has to be moved or none can be.
    fn outcome_without_moves(&self, need: Need) -> Option<RefillOutcome> {
        let (quantity, total) = (i64::from(need.quantity), self.total());
        if self.units_in(need.shard) >= quantity {
            Some(RefillOutcome::AskAgain)
        } else if total >= quantity {
            None
        } else if total + self.stranded >= quantity {
            Some(RefillOutcome::Stranded)
        } else {
            Some(RefillOutcome::SoldOut)
        }
    }

    /// An even share, so that the next customers of this shard need no refill, but at least what is needed now.
    fn plan(&self, need: Need) -> Plan {
        let own = self.units_in(need.shard);
        let needed = i64::from(need.quantity) - own;
        let even = i64::try_from(self.shards.len()).ok().and_then(|shards| self.total().checked_div(shards));
        Plan { needed, wanted: needed.max(even.unwrap_or(0) - own) }
    }

    /// The other shards that have units, the richest first.
    fn donors_for(&self, need: Need) -> Vec<Donor> {
        let mut donors = self.shards.clone();
        donors.retain(|donor| donor.shard != need.shard && donor.units > 0);
        donors.sort_by_key(|donor| -donor.units);
        donors
    }
}

/// How many units a refill still needs, and how many it would like.
struct Plan {
    needed: i64,
    wanted: i64,
}

/// How much a donor is asked for.
#[derive(Clone, Copy)]
enum Share {
    Half,
    All,
}

impl Plan {
    fn units_from(&self, donor: &Donor, share: Share) -> i64 {
        match share {
            Share::Half => self.wanted.min((donor.units + 1) / 2).max(0),
            Share::All => self.needed.min(donor.units).max(0),
        }
    }

    fn count_arrived(&mut self, units: i64) {
        self.needed -= units;
        self.wanted -= units;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn supply(units: &[i64], stranded: i64) -> Supply {
        let donor = |(shard, units)| Donor { shard, at: None, units };
        Supply { shards: (0..).zip(units.iter().copied()).map(donor).collect(), stranded, returns: 0, now_ms: 0 }
    }

    fn need(quantity: u32) -> Need {
        Need { shard: 0, sku: 0, quantity, may_hope: true }
    }

    #[test]
    fn a_request_that_waited_refills_unless_another_request_did() {
        let rows = [
            ((false, false, true), AfterWait::Refill),
            ((false, true, true), AfterWait::Refill),
            ((true, true, true), AfterWait::SoldOut),
            ((true, true, false), AfterWait::SoldOut),
            ((true, false, true), AfterWait::AskAgain),
            ((true, false, false), AfterWait::Refill),
        ];
        for ((is_refilled, was_sold_out, may_hope), expected) in rows {
            assert_eq!(after_wait(is_refilled, was_sold_out, may_hope), expected);
        }
    }

    #[test]
    fn units_are_moved_only_where_all_shards_together_have_enough_and_this_one_has_not() {
        let rows: [(&[i64], i64, u32, Option<RefillOutcome>); 6] = [
            (&[3, 9], 0, 3, Some(RefillOutcome::AskAgain)),
            (&[1, 9], 0, 3, None),
            (&[1, 1], 0, 3, Some(RefillOutcome::SoldOut)),
            (&[1, 1], 1, 3, Some(RefillOutcome::Stranded)),
            (&[1, 1], 1, 4, Some(RefillOutcome::SoldOut)),
            (&[], 0, 1, Some(RefillOutcome::SoldOut)),
        ];
        for (units, stranded, quantity, expected) in rows {
            assert_eq!(supply(units, stranded).outcome_without_moves(need(quantity)), expected, "{units:?} {stranded}");
        }
    }

    #[test]
    fn half_of_each_donor_goes_first_and_the_rest_only_for_this_order() {
        let supply = supply(&[1, 3, 10, 0], 0);
        let (mut plan, donors) = (supply.plan(need(4)), supply.donors_for(need(4)));
        assert_eq!(
            (plan.needed, plan.wanted),
            (3, 3),
            "what is needed is more than an even share of 14 over 4, less 1"
        );
        assert_eq!(donors.iter().map(|donor| donor.units).collect::<Vec<_>>(), [10, 3], "the richest first");
        assert_eq!(plan.units_from(&donors[0], Share::Half), 3);
        plan.count_arrived(1);
        assert_eq!(plan.units_from(&donors[1], Share::Half), 2);
        plan.count_arrived(0);
        assert_eq!(plan.units_from(&donors[1], Share::All), 2, "no more than is needed");
    }
}
