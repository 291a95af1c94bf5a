//! Filling the gate from the ledger, in a new epoch: at start, when a shard is found empty, and after orders went past
//! its gate. Keys are not loaded, only stock: it takes one transaction and one call per shard, while traffic runs.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use tokio::time::Instant;

use super::catalog::{Catalog, Offer};
use super::{Engine, ledger_trouble};
use crate::gate::{self, At, Gate, Level};
use crate::ledger::{self, Begin, Begun, Epoch, Ledger};
use crate::limits;
use crate::order::{Refusal, Sale, SaleState};

impl Engine {
    /// Loads every sale that has not ended, so that its first order finds a warm gate. A gate that cannot be reached is
    /// no reason not to start.
    pub(super) async fn load_open_sales(&self) -> Result<(), ledger::Error> {
        let now_ms = self.clock.now_ms();
        let open = self.catalog.all().into_iter().filter(|offer| offer.sale.state(now_ms) != SaleState::Ended);
        let loads = stream::iter(open).map(|offer| async move {
            let _alone = offer.live.changing.lock().await;
            load_shards(self.gate.as_ref(), self.ledger.as_ref(), &offer, &[]).await
        });
        let loaded: Vec<_> = loads.buffer_unordered(limits::SALES_LOADED_AT_ONCE).collect().await;
        loaded.into_iter().try_for_each(|loaded| loaded.map(|_| ()))
    }

    /// Loads what is stale in a sale of which the gate refused `stale`, unless somebody else has done so since. Runs to
    /// completion.
    pub(super) async fn reload(self: &Arc<Self>, offer: &Offer, stale: At) -> Result<(), Refusal> {
        let (engine, offer) = (self.clone(), offer.clone());
        self.detached(async move {
            let _alone = offer.live.changing.lock().await;
            if offer.at(stale.shard) == stale { engine.load_stale(&offer, &[]).await } else { Ok(()) }
        })
        .await?
    }

    /// Loads a sale that was never loaded.
    pub(super) async fn load(&self, offer: &Offer) -> Result<(), Refusal> {
        let _alone = offer.live.changing.lock().await;
        if offer.is_loaded() { Ok(()) } else { self.load_stale(offer, &[]).await }
    }

    /// Loads every shard that is stale or out, and those in `anew` in any case. To be called under
    /// [`super::catalog::Live::changing`].
    pub(super) async fn load_stale(&self, offer: &Offer, anew: &[u16]) -> Result<(), Refusal> {
        // Units that this engine moves between shards would be counted where they were.
        let mut still = Vec::with_capacity(offer.sale.skus.len());
        for (sku, _) in (0..).zip(&offer.sale.skus) {
            let mut moving = self.right_to_move(offer, sku).await?;
            self.settle_move(offer, sku, &mut moving).await?;
            still.push(moving);
        }
        let loaded = load_shards(self.gate.as_ref(), self.ledger.as_ref(), offer, anew).await;
        if loaded.map_err(|error| ledger_trouble(&error))? > 0 {
            offer.all_units_came_back();
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
        let offer = catalog.put(sale);
        let every: Vec<u16> = (0..offer.sale.rules.shards).collect();
        load_shards(gate, ledger, &offer, &every).await?;
        rebuilt.push((offer.sale.clone(), offer.live.shards_out()));
    }
    Ok(rebuilt)
}

/// What every shard of a sale holds, asked all at once.
pub(super) async fn levels(gate: &dyn Gate, offer: &Offer) -> Vec<Result<Level, gate::Error>> {
    join_all(offer.shards().map(|at| gate.level(at))).await
}

/// Brings the epochs that this engine believes in, the ledger's and the gate's together. Of several engines that find
/// the same shard stale, the ledger lets one begin the new epoch; the others take it over and wait for the load. Answers
/// how many shards it loaded.
async fn load_shards(
    gate: &dyn Gate,
    ledger: &dyn Ledger,
    offer: &Offer,
    anew: &[u16],
) -> Result<usize, ledger::Error> {
    let mut anew: BTreeSet<u16> = anew.iter().copied().collect();
    // Epochs that others began, with the time until which they are left to load them.
    let mut theirs: HashMap<u16, (i64, Instant)> = HashMap::new();
    let mut loaded = 0;
    for _ in 0..limits::LOAD_LOOKS_MAX {
        let (mut begins, mut waits) = (Vec::new(), false);
        for (at, level) in offer.shards().zip(levels(gate, offer).await) {
            let Ok(level) = level else {
                offer.live.set_out(at.shard);
                continue;
            };
            let must = anew.contains(&at.shard) || offer.live.is_due(at.shard);
            let fits = at.epoch > 0 && level.epoch == at.epoch;
            let left_to_them =
                theirs.get(&at.shard).is_some_and(|(epoch, until)| *epoch == at.epoch && Instant::now() < *until);
            if !must && (fits || offer.live.is_out(at.shard)) {
                continue;
            }
            // Beginning the next epoch over their heads would make their load worthless, and ours to somebody else.
            if left_to_them && !must {
                waits = true;
            } else {
                begins.push(Begin { shard: at.shard, after: at.epoch });
            }
        }
        if begins.is_empty() && !waits {
            break;
        }
        if !begins.is_empty() {
            let asked = begins.clone();
            let epochs = ledger.begin_epochs(offer.sale.no, begins).await?;
            for (begin, epoch) in asked.iter().zip(&epochs).filter(|(_, epoch)| epoch.begun.is_none()) {
                waits = true;
                offer.live.set_epoch(begin.shard, epoch.epoch);
                // An epoch found by an engine that knew none may be old, unless it is the first.
                if gate.is_shared() && (begin.after > 0 || epoch.is_first()) {
                    let until = Instant::now() + Duration::from_millis(limits::LOAD_MS_MAX);
                    theirs.insert(begin.shard, (epoch.epoch, until));
                }
                if begin.after > 0 {
                    // It began after this engine last knew, so it counts what this engine saw go past the gate.
                    anew.remove(&begin.shard);
                    offer.live.set_in(begin.shard);
                }
            }
            let loads = asked.iter().zip(&epochs).map(|(begin, epoch)| load_one(gate, offer, begin.shard, epoch));
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
        tracing::info!(sale = %offer.sale.id, shards = loaded, "gate loaded from the ledger");
    }
    Ok(loaded)
}

/// Loads one shard if its epoch was begun for us; answers the shard if that went well.
async fn load_one(gate: &dyn Gate, offer: &Offer, shard: u16, epoch: &Epoch) -> Option<u16> {
    let at = At { epoch: epoch.epoch, ..offer.at(shard) };
    let Begun { levels, switch } = epoch.begun.as_ref()?;
    let available: Vec<i64> = levels.iter().map(crate::order::SkuLevel::available).collect();
    let sale = Sale { switch: *switch, ..offer.sale.as_ref().clone() };
    offer.live.begin_load(shard);
    let loaded = gate.load(at, &sale, &available, epoch.is_first()).await;
    // Only now: who is refused for the old epoch waits for the load instead of beginning another.
    offer.live.set_epoch(shard, epoch.epoch);
    match loaded {
        Ok(()) => {
            offer.live.set_in(shard);
            Some(shard)
        }
        Err(error) => {
            offer.live.set_out(shard);
            tracing::warn!(%error, sale = %offer.sale.id, shard, "load the gate");
            None
        }
    }
}
