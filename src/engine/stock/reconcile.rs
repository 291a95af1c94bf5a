//! Gate against ledger, while traffic runs. Units may be in no gate after a crash in the middle of a move, or in a gate
//! and sold, when orders went past it. Neither harms a promise, the ledger decides; but the first would not sell, and the
//! second makes buyers wait for a "no". A shard that does not fit at two looks gets a new epoch.
//!
//! The order of reading makes a look honest: units leave the gate before the ledger and reach it after, so a gate read
//! *before* the ledger may only seem to have too much, and one read *after* it only too little. Units that come into a
//! shard in between change the total that the ledger gives it, or the count of those that came back from orders: such a
//! shard is not judged.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::load::levels;
use crate::engine::catalog::{ActiveSale, Drift, Stranded};
use crate::engine::{Engine, ledger_trouble};
use crate::gate::Level;
use crate::limits;
use crate::order::{Refusal, SkuLevel};

impl Engine {
    /// Compares what happened in a sale since it was last found in order; loads anew what does not fit twice.
    pub(in crate::engine) async fn reconcile(&self, active: &ActiveSale) {
        active.runtime.clear_dirty();
        let (now, reservations) = match self.compare(active).await {
            Ok(seen) => seen,
            // The ledger's trouble is told elsewhere; the next look finds out.
            Err(_) => return active.runtime.mark_dirty(),
        };
        let mut now = now;
        if active.runtime.has_moves() {
            // This engine has units on their way; they will be stranded only if it dies.
            now.stranded.clear();
            active.runtime.mark_dirty();
        }
        now.count_looks(&active.runtime.drift.lock());
        let before = std::mem::replace(&mut *active.runtime.drift.lock(), now.clone());
        if reservations > 0 || now != Drift::default() {
            active.runtime.mark_dirty();
        }
        if now.switch.iter().any(|shard| before.switch.contains(shard))
            && let Ok(_alone) = active.runtime.admin_lock.try_lock()
            && let Some(newest) = self.catalog.by_no(active.sale.no)
        {
            // Two engines switched it at once, or one died before it had told every gate.
            tracing::info!(sale = %active.sale.id, "the gate is switched as the ledger says");
            self.switch_gates(&newest, newest.sale.switch).await;
        }
        let anew = now.seen_again(&before);
        if !anew.is_empty()
            && let Ok(_alone) = active.runtime.admin_lock.try_lock()
        {
            self.load_misfits(active, &anew).await.unwrap_or_default();
        }
    }

    /// Frees units that the ledger has and no gate knows of, if they are still there at a second look: until then they
    /// may be on their way between two shards. Runs to completion when detached.
    pub(in crate::engine) async fn free_stranded(self: Arc<Self>, active: ActiveSale) -> Result<(), Refusal> {
        let observations = active.runtime.observations.load(Ordering::SeqCst);
        let _alone = active.runtime.admin_lock.lock().await;
        // Of a crowd that waited, somebody has looked for all.
        if active.runtime.observations.fetch_add(1, Ordering::SeqCst) != observations {
            return Ok(());
        }
        let (before, _) = self.compare(&active).await?;
        tokio::time::sleep(Duration::from_millis(limits::STRANDED_MS)).await;
        let (now, _) = self.compare(&active).await?;
        // Also with none: a shard that is in another epoch than this engine believes fits no comparison.
        self.load_misfits(&active, &now.seen_again(&before)).await
    }

    async fn load_misfits(&self, active: &ActiveSale, anew: &[u16]) -> Result<(), Refusal> {
        if !anew.is_empty() {
            tracing::info!(sale = %active.sale.id, shards = anew.len(), "gate and ledger do not fit: loading anew");
        }
        self.metrics.reconciled.add(u64::try_from(anew.len()).unwrap_or(0));
        active.runtime.drift.lock().clone_from(&Drift::default());
        self.load_stale(active, anew).await
    }

    /// One look at every shard whose gate is in use; also answers how many reservations are not settled.
    pub(in crate::engine) async fn compare(&self, active: &ActiveSale) -> Result<(Drift, usize), Refusal> {
        let stock = async || self.ledger.stock(active.sale.no).await.map_err(|error| ledger_trouble(&error));
        let first = stock().await?;
        let before = levels(self.gate.as_ref(), active).await;
        let ledger = stock().await?;
        let after = levels(self.gate.as_ref(), active).await;
        let last = stock().await?;
        let (mut drift, mut reservations) = (Drift::default(), 0);
        for ((at, before), after) in active.shards().zip(before).zip(after) {
            let (Ok(before), Ok(after)) = (before, after) else { continue };
            reservations += after.reservations;
            if active.runtime.is_bypassed(at.shard) || before.epoch != at.epoch || after.epoch != at.epoch {
                continue;
            }
            let of_shard = |stock: &[Vec<SkuLevel>]| -> Vec<(i64, i64)> {
                let of_sku = |level: &SkuLevel| (level.total, level.returned);
                stock.iter().map(|shards| shards.get(usize::from(at.shard)).map_or((0, 0), of_sku)).collect()
            };
            if of_shard(&first) != of_shard(&last) {
                continue;
            }
            let in_ledger: Vec<i64> =
                ledger.iter().map(|shards| shards.get(usize::from(at.shard)).map_or(0, SkuLevel::available)).collect();
            let lacking = lacking(&before, &in_ledger);
            if !lacking.is_empty() {
                let of_shard = of_shard(&ledger);
                let returned = lacking.iter().filter_map(|sku| of_shard.get(*sku)).map(|(_, returned)| returned).sum();
                drift.stranded.push(Stranded { shard: at.shard, returned, observations: 1 });
            }
            if is_excess(&after, &in_ledger) {
                drift.excess.push(at.shard);
            }
            if after.switch != Some(active.sale.switch) {
                drift.switch.push(at.shard);
            }
        }
        Ok((drift, reservations))
    }
}

/// The skus of which the ledger has units that the gate, read before it, neither sells nor holds.
fn lacking(gate: &Level, ledger: &[i64]) -> Vec<usize> {
    let known = gate.available.iter().zip(&gate.reserved).map(|(available, held)| available + held);
    known.zip(ledger).enumerate().filter(|(_, (known, units))| known < *units).map(|(sku, _)| sku).collect()
}

/// Whether the gate, read after the ledger, sells units that the ledger does not have.
fn is_excess(gate: &Level, ledger: &[i64]) -> bool {
    gate.available.iter().zip(ledger).any(|(available, units)| available > units)
}

impl Drift {
    /// Counts the looks at which shards have seemed to lack units, this one included.
    fn count_looks(&mut self, before: &Drift) {
        for now in &mut self.stranded {
            let observations =
                before.stranded.iter().find(|seen| seen.shard == now.shard).map_or(0, |seen| seen.observations);
            now.observations = observations.saturating_add(1);
        }
    }

    /// The shards that did not fit `before` either, and in the same way. Where units keep coming back, it takes more looks
    /// to tell those that are lost from those that are on their way.
    fn seen_again(&self, before: &Drift) -> Vec<u16> {
        let is_certain = |now: &&Stranded| {
            let same = |seen: &Stranded| (seen.shard, seen.returned) == (now.shard, now.returned);
            now.observations >= limits::STRANDED_LOOKS || before.stranded.iter().any(same)
        };
        let stranded = self.stranded.iter().filter(is_certain).map(|seen| &seen.shard);
        let excess = self.excess.iter().filter(|shard| before.excess.contains(shard));
        let mut again: Vec<u16> = stranded.chain(excess).copied().collect();
        again.sort_unstable();
        again.dedup();
        again
    }
}
