//! Filling the gate from the ledger, in a new epoch: at start, when a shard is found empty, and after orders went past
//! its gate. Keys are not loaded, only stock: it takes one transaction and one call per shard, while traffic runs.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use tokio::time::Instant;

use crate::engine::catalog::{ActiveSale, Catalog};
use crate::engine::{Engine, ledger_trouble};
use crate::gate::{self, Gate, Level, ShardEpoch};
use crate::ledger::{self, EpochRequest, EpochStart, Ledger, NewestEpoch};
use crate::limits;
use crate::order::{Refusal, Sale, SaleState};

impl Engine {
    /// Loads every sale that has not ended, so that its first order finds a warm gate. A gate that cannot be reached is
    /// no reason not to start.
    pub(in crate::engine) async fn load_open_sales(&self) -> Result<(), ledger::Error> {
        let now_ms = self.clock.now_ms();
        let open = self.catalog.all().into_iter().filter(|active| active.sale.state(now_ms) != SaleState::Ended);
        let loads = stream::iter(open).map(|active| async move {
            let _alone = active.runtime.admin_lock.lock().await;
            load_shards(self.gate.as_ref(), self.ledger.as_ref(), &active, &[]).await
        });
        let loaded: Vec<_> = loads.buffer_unordered(limits::SALES_LOADED_AT_ONCE).collect().await;
        loaded.into_iter().try_for_each(|loaded| loaded.map(|_| ()))
    }

    /// Loads what is stale in a sale of which the gate refused `stale`, unless somebody else has done so since. Runs to
    /// completion.
    pub(in crate::engine) async fn reload(
        self: &Arc<Self>,
        active: &ActiveSale,
        stale: ShardEpoch,
    ) -> Result<(), Refusal> {
        let (engine, active) = (self.clone(), active.clone());
        self.detached(async move {
            let _alone = active.runtime.admin_lock.lock().await;
            if active.at(stale.shard) == stale { engine.load_stale(&active, &[]).await } else { Ok(()) }
        })
        .await?
    }

    /// Loads a sale that was never loaded.
    pub(in crate::engine) async fn load(&self, active: &ActiveSale) -> Result<(), Refusal> {
        let _alone = active.runtime.admin_lock.lock().await;
        if active.is_loaded() { Ok(()) } else { self.load_stale(active, &[]).await }
    }

    /// Loads every shard that is stale or out, and those in `anew` in any case. To be called under
    /// [`crate::engine::catalog::SaleRuntime::admin_lock`].
    pub(in crate::engine) async fn load_stale(&self, active: &ActiveSale, anew: &[u16]) -> Result<(), Refusal> {
        // Units that this engine moves between shards would be counted where they were.
        let mut still = Vec::with_capacity(active.sale.skus.len());
        for (sku, _) in (0..).zip(&active.sale.skus) {
            let mut moving = self.lock_moves(active, sku).await?;
            self.settle_move(active, sku, &mut moving).await?;
            still.push(moving);
        }
        let loaded = load_shards(self.gate.as_ref(), self.ledger.as_ref(), active, anew).await;
        if loaded.map_err(|error| ledger_trouble(&error))? > 0 {
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
    now_ms: crate::clock::UnixMs,
) -> Result<Vec<(Arc<Sale>, usize)>, ledger::Error> {
    let catalog = Catalog::default();
    let mut rebuilt = Vec::new();
    for sale in ledger.sales(0).await? {
        if sale.state(now_ms) == SaleState::Ended {
            continue;
        }
        let active = catalog.put(sale);
        let every: Vec<u16> = (0..active.sale.rules.shards).collect();
        load_shards(gate, ledger, &active, &every).await?;
        rebuilt.push((active.sale.clone(), active.runtime.shards_bypassed()));
    }
    Ok(rebuilt)
}

/// What every shard of a sale holds, asked all at once.
pub(in crate::engine) async fn levels(gate: &dyn Gate, active: &ActiveSale) -> Vec<Result<Level, gate::Error>> {
    join_all(active.shards().map(|at| gate.level(at))).await
}

/// Brings the epochs that this engine believes in, the ledger's and the gate's together. Of several engines that find
/// the same shard stale, the ledger lets one begin the new epoch; the others take it over and wait for the load. Answers
/// how many shards it loaded.
async fn load_shards(
    gate: &dyn Gate,
    ledger: &dyn Ledger,
    active: &ActiveSale,
    anew: &[u16],
) -> Result<usize, ledger::Error> {
    let mut anew: BTreeSet<u16> = anew.iter().copied().collect();
    // Epochs that others began, with the time until which they are left to load them.
    let mut theirs: HashMap<u16, (i64, Instant)> = HashMap::new();
    let mut loaded = 0;
    for _ in 0..limits::LOAD_LOOKS_MAX {
        let (mut begins, mut waits) = (Vec::new(), false);
        for (at, level) in active.shards().zip(levels(gate, active).await) {
            let Ok(level) = level else {
                active.runtime.bypass(at.shard);
                continue;
            };
            let must = anew.contains(&at.shard) || active.runtime.may_reload(at.shard);
            let fits = at.epoch > 0 && level.epoch == at.epoch;
            let left_to_them =
                theirs.get(&at.shard).is_some_and(|(epoch, until)| *epoch == at.epoch && Instant::now() < *until);
            if !must && (fits || active.runtime.is_bypassed(at.shard)) {
                continue;
            }
            // Beginning the next epoch over their heads would make their load worthless, and ours to somebody else.
            if left_to_them && !must {
                waits = true;
            } else {
                begins.push(EpochRequest { shard: at.shard, after: at.epoch });
            }
        }
        if begins.is_empty() && !waits {
            break;
        }
        if !begins.is_empty() {
            let asked = begins.clone();
            let epochs = ledger.begin_epochs(active.sale.no, begins).await?;
            for (begin, epoch) in asked.iter().zip(&epochs).filter(|(_, epoch)| epoch.begun.is_none()) {
                waits = true;
                active.runtime.set_epoch(begin.shard, epoch.epoch);
                // An epoch found by an engine that knew none may be old, unless it is the first.
                if gate.is_shared() && (begin.after > 0 || epoch.is_first()) {
                    let until = Instant::now() + Duration::from_millis(limits::LOAD_MS_MAX);
                    theirs.insert(begin.shard, (epoch.epoch, until));
                }
                if begin.after > 0 {
                    // It began after this engine last knew, so it counts what this engine saw go past the gate.
                    anew.remove(&begin.shard);
                    active.runtime.end_bypass(begin.shard);
                }
            }
            let loads = asked.iter().zip(&epochs).map(|(begin, epoch)| load_one(gate, active, begin.shard, epoch));
            for shard in join_all(loads).await.into_iter().flatten() {
                anew.remove(&shard);
                loaded += 1;
            }
        }
        if !waits {
            break;
        }
        tokio::time::sleep(Duration::from_millis(limits::LOAD_PAUSE_MS)).await;
    }
    if loaded > 0 {
        tracing::info!(sale = %active.sale.id, shards = loaded, "gate loaded from the ledger");
    }
    Ok(loaded)
}

/// Loads one shard if its epoch was begun for us; answers the shard if that went well.
async fn load_one(gate: &dyn Gate, active: &ActiveSale, shard: u16, epoch: &NewestEpoch) -> Option<u16> {
    let at = ShardEpoch { epoch: epoch.epoch, ..active.at(shard) };
    let EpochStart { levels, switch } = epoch.begun.as_ref()?;
    let available: Vec<i64> = levels.iter().map(crate::order::SkuLevel::available).collect();
    let sale = Sale { switch: *switch, ..active.sale.as_ref().clone() };
    active.runtime.begin_load(shard);
    let loaded = gate.load(at, &sale, &available, epoch.is_first()).await;
    // Only now: who is refused for the old epoch waits for the load instead of beginning another.
    active.runtime.set_epoch(shard, epoch.epoch);
    match loaded {
        Ok(()) => {
            active.runtime.end_bypass(shard);
            Some(shard)
        }
        Err(error) => {
            active.runtime.bypass(shard);
            tracing::warn!(%error, sale = %active.sale.id, shard, "load the gate");
            None
        }
    }
}
