//! Filling the gate from the ledger, in a new epoch: at start, when a shard is found empty, and after orders bypassed
//! its gate. Keys are not loaded, only stock: it takes one transaction and one call per shard, while traffic runs.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use tokio::time::Instant;

use super::Stock;
use crate::clock::UnixMs;
use crate::engine::catalog::{ActiveSale, Catalog};
use crate::engine::trouble::ledger_trouble;
use crate::gate::{self, Gate, Level};
use crate::ledger::{self, EpochRequest, EpochStart, Ledger, NewestEpoch};
use crate::limits;
use crate::order::{Epoch, Refusal, Sale, SaleState, SkuLevel};

impl Stock {
    /// Loads every sale that has not ended, so that its first order finds a warm gate. A gate that cannot be reached is
    /// no reason not to start.
    pub(in crate::engine) async fn load_open_sales(&self) -> Result<(), ledger::Error> {
        let (all, now_ms) = (self.core.catalog.all(), self.core.clock.now_ms());
        let open = all.iter().filter(|active| active.sale.state(now_ms) != SaleState::Ended);
        let loads = stream::iter(open).map(|active| async move {
            let _lock = active.runtime.admin_lock.lock().await;
            Load::new(self.core.gate.as_ref(), self.core.ledger.as_ref(), active, &[]).run().await
        });
        let loaded: Vec<_> = loads.buffer_unordered(limits::SALES_LOADED_AT_ONCE).collect().await;
        loaded.into_iter().try_for_each(|loaded| loaded.map(|_| ()))
    }

    /// Loads what is stale in a sale, unless another request has done so since. The gate of `shard` is not in the epoch
    /// that this engine `believed` in. Runs to completion.
    pub(in crate::engine) async fn reload(
        self: &Arc<Self>,
        active: &ActiveSale,
        shard: u16,
        believed: Option<Epoch>,
    ) -> Result<(), Refusal> {
        let (stock, active) = (self.clone(), active.clone());
        let reload = async move {
            let _lock = active.runtime.admin_lock.lock().await;
            let is_stale = active.runtime.shards.epoch(shard) == believed;
            if is_stale { stock.load_stale(&active, &[]).await } else { Ok(()) }
        };
        self.core.detached(Box::pin(reload)).await?
    }

    /// Loads a sale that was never loaded.
    pub(in crate::engine) async fn load(&self, active: &ActiveSale) -> Result<(), Refusal> {
        let _lock = active.runtime.admin_lock.lock().await;
        if active.is_loaded() { Ok(()) } else { self.load_stale(active, &[]).await }
    }

    /// Uses the bypassed gates of a sale again that can be reached again, in new epochs.
    pub(in crate::engine) async fn reload_bypassed(&self, active: &ActiveSale) {
        if active.runtime.shards.count_bypassed() > 0
            && let Ok(_lock) = active.runtime.admin_lock.try_lock()
        {
            // What fails is tried again at the next sweep.
            self.load_stale(active, &[]).await.unwrap_or_default();
        }
    }

    /// Frees what the gate keeps of an ended sale: a new epoch remembers no order, and repeats ask the ledger. Answers
    /// whether that went well.
    pub(in crate::engine) async fn empty_gate(&self, active: &ActiveSale) -> bool {
        let every: Vec<u16> = active.shards().map(|id| id.shard).collect();
        let _lock = active.runtime.admin_lock.lock().await;
        let is_emptied = self.load_stale(active, &every).await.is_ok();
        if is_emptied {
            active.runtime.sweep.set_gate_emptied();
        }
        is_emptied
    }

    /// Loads every shard that is stale or bypassed, and those in `anew` in any case. To be called under the sale's
    /// `admin_lock`.
    pub(super) async fn load_stale(&self, active: &ActiveSale, anew: &[u16]) -> Result<(), Refusal> {
        // Units that this engine moves between shards would be counted where they were.
        let mut locks = Vec::with_capacity(active.sale.skus.len());
        for (sku, _) in (0..).zip(&active.sale.skus) {
            let mut moves = self.lock_moves(active, sku).await?;
            self.settle_move(active, sku, &mut moves).await?;
            locks.push(moves);
        }
        let load = Load::new(self.core.gate.as_ref(), self.core.ledger.as_ref(), active, anew);
        if load.run().await.map_err(|error| ledger_trouble(&error))? > 0 {
            active.clear_all_sold_out();
        }
        Ok(())
    }
}

/// Loads every shard of every sale that has not ended anew, for an operator. Running engines notice by themselves.
/// Answers each sale with its shards, and how many of those could not be loaded.
pub async fn rebuild(
    gate: &dyn Gate,
    ledger: &dyn Ledger,
    now_ms: UnixMs,
) -> Result<Vec<(Arc<Sale>, usize)>, ledger::Error> {
    let catalog = Catalog::default();
    let mut rebuilt = Vec::new();
    for sale in ledger.sales(0).await? {
        if sale.state(now_ms) == SaleState::Ended {
            continue;
        }
        let active = catalog.put(sale);
        let every: Vec<u16> = (0..active.sale.rules.shards).collect();
        Load::new(gate, ledger, &active, &every).run().await?;
        rebuilt.push((active.sale.clone(), active.runtime.shards.count_bypassed()));
    }
    Ok(rebuilt)
}

/// What the gate of every shard of a sale has, asked all at once.
pub(super) async fn levels(gate: &dyn Gate, active: &ActiveSale) -> Vec<Result<Level, gate::Error>> {
    join_all(active.shards().map(|id| gate.level(id))).await
}

/// Brings the epochs that this engine believes in, the ledger's and the gate's together. Of several engines that find
/// the same shard stale, the ledger lets one begin the new epoch; the others take it over and wait for the load.
struct Load<'a> {
    gate: &'a dyn Gate,
    ledger: &'a dyn Ledger,
    active: &'a ActiveSale,
    /// Shards to load in any case.
    anew: BTreeSet<u16>,
    /// The epochs that other engines began, by shard.
    begun_elsewhere: HashMap<u16, BegunElsewhere>,
    loaded: usize,
}

/// An epoch that another engine began, and until when it is left to that engine to load it.
struct BegunElsewhere {
    epoch: Epoch,
    until: Instant,
}

/// What a look at every shard came to.
#[derive(Default)]
struct Look {
    requests: Vec<EpochRequest>,
    /// Whether a shard is left to the engine that loads it.
    must_wait: bool,
}

/// What one shard shows.
#[derive(Clone, Copy)]
struct ShardLook {
    must_load: bool,
    /// Its gate is in the epoch that this engine believes in.
    fits: bool,
    is_bypassed: bool,
    /// Another engine began its epoch a moment ago.
    is_left_to_another: bool,
}

/// What is done about one shard.
#[derive(Debug, PartialEq, Eq)]
enum LoadStep {
    Leave,
    Wait,
    BeginEpoch,
}

impl ShardLook {
    fn step(self) -> LoadStep {
        if self.must_load {
            LoadStep::BeginEpoch
        } else if self.fits || self.is_bypassed {
            LoadStep::Leave
        } else if self.is_left_to_another {
            // Beginning the next epoch would make the other engine's load worthless, and ours to the next engine.
            LoadStep::Wait
        } else {
            LoadStep::BeginEpoch
        }
    }
}

impl<'a> Load<'a> {
    fn new(gate: &'a dyn Gate, ledger: &'a dyn Ledger, active: &'a ActiveSale, anew: &[u16]) -> Self {
        let anew = anew.iter().copied().collect();
        Load { gate, ledger, active, anew, begun_elsewhere: HashMap::new(), loaded: 0 }
    }

    /// Answers how many shards it loaded.
    async fn run(mut self) -> Result<usize, ledger::Error> {
        for _ in 0..limits::LOAD_LOOKS_MAX {
            let Look { requests, must_wait } = self.look().await;
            let is_refused = self.begin_epochs(requests).await?;
            if !must_wait && !is_refused {
                break;
            }
            tokio::time::sleep(Duration::from_millis(limits::LOAD_PAUSE_MS)).await;
        }
        if self.loaded > 0 {
            tracing::info!(sale = %self.active.sale.id, shards = self.loaded, "gate loaded from the ledger");
        }
        Ok(self.loaded)
    }

    async fn look(&self) -> Look {
        let shards = &self.active.runtime.shards;
        let mut look = Look::default();
        for (id, level) in self.active.shards().zip(levels(self.gate, self.active).await) {
            let Ok(level) = level else {
                shards.bypass(id.shard);
                continue;
            };
            let believed = shards.epoch(id.shard);
            let shard = ShardLook {
                must_load: self.anew.contains(&id.shard) || shards.may_reload(id.shard),
                fits: believed.is_some() && level.epoch == believed,
                is_bypassed: shards.is_bypassed(id.shard),
                is_left_to_another: self.is_left_to_another(id.shard, believed),
            };
            match shard.step() {
                LoadStep::Leave => {}
                LoadStep::Wait => look.must_wait = true,
                LoadStep::BeginEpoch => look.requests.push(EpochRequest { shard: id.shard, after: believed }),
            }
        }
        look
    }

    fn is_left_to_another(&self, shard: u16, believed: Option<Epoch>) -> bool {
        let elsewhere = self.begun_elsewhere.get(&shard);
        elsewhere.is_some_and(|begun| Some(begun.epoch) == believed && Instant::now() < begun.until)
    }

    /// Begins epochs and loads the shards; answers whether another engine had begun one of them.
    async fn begin_epochs(&mut self, requests: Vec<EpochRequest>) -> Result<bool, ledger::Error> {
        if requests.is_empty() {
            return Ok(false);
        }
        let newest = self.ledger.begin_epochs(self.active.sale.no, requests.clone()).await?;
        let (mut loads, mut is_refused) = (Vec::new(), false);
        for (request, newest) in requests.iter().zip(&newest) {
            match &newest.begun {
                Some(start) => loads.push((request.shard, newest, start)),
                None => {
                    is_refused = true;
                    self.take_over(request, newest);
                }
            }
        }
        let (gate, active) = (self.gate, self.active);
        let loads = loads.into_iter().map(|(shard, newest, start)| load_shard(gate, active, shard, newest, start));
        for shard in join_all(loads).await.into_iter().flatten() {
            self.anew.remove(&shard);
            self.loaded += 1;
        }
        Ok(is_refused)
    }

    /// Believes in an epoch that another engine began.
    fn take_over(&mut self, request: &EpochRequest, newest: &NewestEpoch) {
        let shards = &self.active.runtime.shards;
        shards.set_epoch(request.shard, newest.epoch);
        let this_engine_knew_one = request.after.is_some();
        // An epoch found by an engine that knew none may be old, unless it is the first.
        if self.gate.is_shared() && (this_engine_knew_one || newest.is_first()) {
            let until = Instant::now() + Duration::from_millis(limits::LOAD_MS_MAX);
            self.begun_elsewhere.insert(request.shard, BegunElsewhere { epoch: newest.epoch, until });
        }
        if this_engine_knew_one {
            // It began after this engine last knew, so it counts the orders that this engine saw bypass the gate.
            self.anew.remove(&request.shard);
            shards.end_bypass(request.shard);
        }
    }
}

/// Loads one shard in an epoch that was begun for this engine; answers the shard if that went well.
async fn load_shard(
    gate: &dyn Gate,
    active: &ActiveSale,
    shard: u16,
    newest: &NewestEpoch,
    start: &EpochStart,
) -> Option<u16> {
    let at = active.shard(shard).in_epoch(newest.epoch);
    let available: Vec<i64> = start.levels.iter().map(SkuLevel::available).collect();
    let sale = Sale { switch: start.switch, ..active.sale.as_ref().clone() };
    let shards = &active.runtime.shards;
    shards.begin_load(shard);
    let loaded = gate.load(at, &sale, &available, newest.is_first()).await;
    // Only now: a request that is refused for the old epoch waits for this load instead of beginning another.
    shards.set_epoch(shard, newest.epoch);
    match loaded {
        Ok(()) => {
            shards.end_bypass(shard);
            Some(shard)
        }
        Err(error) => {
            shards.bypass(shard);
            let sale = &active.sale.id;
            tracing::warn!(%error, %sale, shard, "could not load the gate of shard {shard} of sale {sale}");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_loaded_when_it_must_be_or_is_stale_and_no_other_engine_loads_it() {
        use LoadStep::{BeginEpoch, Leave, Wait};
        let of = |must_load, fits, is_bypassed, is_left_to_another| {
            ShardLook { must_load, fits, is_bypassed, is_left_to_another }.step()
        };
        let (yes, no) = (true, false);
        let rows = [
            (of(no, yes, no, no), Leave, "in order"),
            (of(no, no, no, no), BeginEpoch, "stale"),
            (of(no, no, no, yes), Wait, "another engine loads it"),
            (of(no, no, yes, no), Leave, "bypassed, and too early to load it again"),
            (of(no, no, yes, yes), Leave, "bypassed, and another engine loads it"),
            (of(yes, no, yes, no), BeginEpoch, "bypassed, and to be loaded again"),
            (of(yes, yes, no, no), BeginEpoch, "does not fit the ledger"),
            (of(yes, no, no, yes), BeginEpoch, "what the other engine loads may not count all"),
        ];
        for (step, expected, why) in rows {
            assert_eq!(step, expected, "{why}");
        }
    }
}
