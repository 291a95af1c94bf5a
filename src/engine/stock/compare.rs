//! Gate against ledger, while traffic runs. After a crash in the middle of a move, units may be in no gate; after orders
//! bypassed a gate, it may offer units that are sold. The ledger decides, so no promise breaks; but stranded units never
//! sell, and excess units delay "sold out". A shard that does not fit at two looks gets a new epoch.
//!
//! The order of reading makes a look honest: units leave the gate before the ledger and reach it after, so a gate read
//! *before* the ledger may only seem to have too much, and one read *after* it only too little. Units that come into a
//! shard in between change the total that the ledger gives it, or the count of those that came back from orders: such a
//! shard is not judged.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Stock;
use super::load::levels;
use crate::engine::catalog::{ActiveSale, Drift, Stranded};
use crate::engine::trouble::ledger_trouble;
use crate::gate::Level;
use crate::limits;
use crate::order::{Refusal, SkuLevel};

/// What a comparison found.
pub(in crate::engine) struct Comparison {
    pub(in crate::engine) drift: Drift,
    /// Reservations that are not settled.
    reservations: usize,
}

impl Stock {
    /// Compares gate and ledger of a sale in which something happened; loads anew what does not fit twice.
    pub(in crate::engine) async fn reconcile(&self, active: &ActiveSale) {
        let sweep = &active.runtime.sweep;
        sweep.clear_dirty();
        // The log has the ledger's trouble already; the next look finds what this one did not.
        let Ok(Comparison { drift: mut now, reservations }) = self.compare(active).await else {
            return sweep.mark_dirty();
        };
        if active.runtime.has_moves() {
            // This engine has units on their way; they will be stranded only if it dies.
            now.stranded.clear();
            sweep.mark_dirty();
        }
        now.count_looks(&sweep.drift.lock());
        let before = std::mem::replace(&mut *sweep.drift.lock(), now.clone());
        if reservations > 0 || now != Drift::default() {
            sweep.mark_dirty();
        }
        if now.is_switch_seen_again(&before)
            && let Ok(_lock) = active.runtime.admin_lock.try_lock()
            && let Some(newest) = self.core.catalog.by_no(active.sale.no)
        {
            // Two engines switched it at once, or one died before it had switched every gate.
            tracing::info!(sale = %active.sale.id, "the gate is switched as the ledger says");
            self.switch_gates(&newest, newest.sale.switch).await;
        }
        let anew = now.seen_again(&before);
        if !anew.is_empty()
            && let Ok(_lock) = active.runtime.admin_lock.try_lock()
        {
            // What fails is seen again at the next look.
            self.load_drifted(active, &anew).await.unwrap_or_default();
        }
    }

    /// Frees units that the ledger has and no gate knows of, if they are still there at a second look: until then they
    /// may be on their way between two shards. Runs to completion when detached.
    pub(super) async fn free_stranded(self: Arc<Self>, active: ActiveSale) -> Result<(), Refusal> {
        let searches = &active.runtime.stranded_searches;
        let before_waiting = searches.load(Ordering::SeqCst);
        let _lock = active.runtime.admin_lock.lock().await;
        // Of a crowd that waited, the first has searched for all.
        if searches.fetch_add(1, Ordering::SeqCst) != before_waiting {
            return Ok(());
        }
        let before = self.compare(&active).await?.drift;
        tokio::time::sleep(Duration::from_millis(limits::STRANDED_MS)).await;
        let now = self.compare(&active).await?.drift;
        // Also with none: a shard that is in another epoch than this engine believes fits no comparison.
        self.load_drifted(&active, &now.seen_again(&before)).await
    }

    async fn load_drifted(&self, active: &ActiveSale, anew: &[u16]) -> Result<(), Refusal> {
        if !anew.is_empty() {
            tracing::info!(sale = %active.sale.id, shards = anew.len(), "gate and ledger do not fit: loading anew");
        }
        self.core.metrics.reconciled.add(u64::try_from(anew.len()).unwrap_or(0));
        *active.runtime.sweep.drift.lock() = Drift::default();
        self.load_stale(active, anew).await
    }

    /// One look at every shard whose gate is in use.
    pub(in crate::engine) async fn compare(&self, active: &ActiveSale) -> Result<Comparison, Refusal> {
        let (gate, ledger) = (self.core.gate.as_ref(), &self.core.ledger);
        let stock = async || ledger.stock(active.sale.no).await.map_err(|error| ledger_trouble(&error));
        let first = stock().await?;
        let before = levels(gate, active).await;
        let in_ledger = stock().await?;
        let after = levels(gate, active).await;
        let last = stock().await?;
        let (mut drift, mut reservations) = (Drift::default(), 0);
        for ((id, before), after) in active.shards().zip(before).zip(after) {
            let (Ok(before), Ok(after)) = (before, after) else { continue };
            reservations += after.reservations;
            let believed = active.runtime.shards.epoch(id.shard);
            let is_in_use = !active.runtime.shards.is_bypassed(id.shard);
            let is_believed = before.epoch == believed && after.epoch == believed;
            let is_quiet = incoming(&first, id.shard) == incoming(&last, id.shard);
            if !(is_in_use && is_believed && is_quiet) {
                continue;
            }
            let unsold = unsold(&in_ledger, id.shard);
            let lacking = lacking(&before, &unsold);
            if !lacking.is_empty() {
                let incoming = incoming(&in_ledger, id.shard);
                let returned = lacking.iter().filter_map(|sku| incoming.get(*sku)).map(|(_, returned)| returned).sum();
                drift.stranded.push(Stranded { shard: id.shard, returned, looks: 1 });
            }
            if is_excess(&after, &unsold) {
                drift.excess.push(id.shard);
            }
            if after.switch != Some(active.sale.switch) {
                drift.switch.push(id.shard);
            }
        }
        Ok(Comparison { drift, reservations })
    }
}

/// Per sku, the counts that grow when units come into a shard: its total, and the units that came back from orders.
fn incoming(stock: &[Vec<SkuLevel>], shard: u16) -> Vec<(i64, i64)> {
    of_shard(stock, shard).map(|level| level.map_or((0, 0), |level| (level.total, level.returned))).collect()
}

/// Per sku, the units that the ledger can still sell in a shard.
fn unsold(stock: &[Vec<SkuLevel>], shard: u16) -> Vec<i64> {
    of_shard(stock, shard).map(|level| level.map_or(0, SkuLevel::available)).collect()
}

fn of_shard(stock: &[Vec<SkuLevel>], shard: u16) -> impl Iterator<Item = Option<&SkuLevel>> {
    stock.iter().map(move |shards| shards.get(usize::from(shard)))
}

/// The skus of which the ledger has units that the gate, read before it, neither sells nor has reserved.
fn lacking(gate: &Level, in_ledger: &[i64]) -> Vec<usize> {
    let known = gate.available.iter().zip(&gate.reserved).map(|(available, reserved)| available + reserved);
    known.zip(in_ledger).enumerate().filter(|(_, (known, units))| known < *units).map(|(sku, _)| sku).collect()
}

/// Whether the gate, read after the ledger, sells units that the ledger does not have.
fn is_excess(gate: &Level, in_ledger: &[i64]) -> bool {
    gate.available.iter().zip(in_ledger).any(|(available, units)| available > units)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_lacks_units_that_it_neither_sells_nor_has_reserved() {
        let gate = Level { available: vec![3, 0, 5], reserved: vec![2, 0, 0], ..Level::default() };
        for (in_ledger, expected) in
            [([5, 0, 5], vec![]), ([6, 0, 5], vec![0]), ([5, 1, 6], vec![1, 2]), ([0, 0, 0], vec![])]
        {
            assert_eq!(lacking(&gate, &in_ledger), expected, "{in_ledger:?}");
        }
    }

    #[test]
    fn a_gate_sells_too_much_when_a_sku_has_more_for_sale_than_the_ledger() {
        let gate = Level { available: vec![3, 0], reserved: vec![9, 9], ..Level::default() };
        for (in_ledger, expected) in [([3, 0], false), ([9, 9], false), ([2, 9], true), ([3, -1], true)] {
            assert_eq!(is_excess(&gate, &in_ledger), expected, "{in_ledger:?}");
        }
    }
}
