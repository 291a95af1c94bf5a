//! Units that an operator brings into a sale or takes out of it, once per `change_id`.

use super::Stock;
use crate::command::RestockSale;
use crate::engine::catalog::{ActiveSale, Move};
use crate::engine::trouble::{gate_trouble, ledger_trouble};
use crate::gate::ShardEpoch;
use crate::ledger::{Restock, RestockOutcome};
use crate::limits;
use crate::order::{Code, Refusal, even_split};

impl Stock {
    /// Changes the stock of a sku. Runs to completion when detached.
    pub(in crate::engine) async fn restock(&self, active: &ActiveSale, change: RestockSale) -> Result<(), Refusal> {
        let Some((sku, found)) = active.sale.sku(change.sku_id.as_str()) else {
            // A used change_id comes before an unknown sku, whatever the other change is.
            let before = self.core.ledger.restocked(active.sale.no, change.change_id).await;
            let is_used = before.map_err(|error| ledger_trouble(&error))?.is_some();
            return Err(if is_used { Code::ChangeExists } else { Code::SkuNotFound }.into());
        };
        let sku_no = found.no;
        let _lock = active.runtime.admin_lock.lock().await;
        // A gate that has forgotten its units would seem to have none to take away.
        self.load_stale(active, &[]).await?;
        let mut moves = self.lock_moves(active, sku).await?;
        self.settle_move(active, sku, &mut moves).await?;

        let before = self.core.ledger.restocked(active.sale.no, change.change_id.clone()).await;
        match before.map_err(|error| ledger_trouble(&error))? {
            Some(before) if before == (sku_no, change.units) => return Ok(()),
            Some(_) => return Err(Code::ChangeExists.into()),
            None => {}
        }
        // Units leave the gate before the ledger and reach it after: the gate never sells what the ledger lacks.
        let by_shard = if change.units > 0 {
            let split = even_split(change.units, active.sale.rules.shards);
            (0..).zip(split).filter(|(_, units)| *units != 0).collect()
        } else {
            self.take_unsold(active, sku, -change.units).await?
        };
        let restock = Restock {
            sale: active.sale.no,
            change_id: change.change_id,
            sku: sku_no,
            units: change.units,
            by_shard,
            now_ms: self.core.clock.now_ms(),
        };
        match self.commit_move(active, sku, &mut moves, Move::Restock(restock)).await? {
            RestockOutcome::Applied | RestockOutcome::Before => Ok(()),
            RestockOutcome::Different => Err(Code::ChangeExists.into()),
            RestockOutcome::NotPossible if change.units > 0 => {
                let detail = format!("a sku holds at most {} units", limits::STOCK_UNITS_MAX);
                Err(Refusal::because(Code::MalformedRequest, detail))
            }
            RestockOutcome::NotPossible => Err(Code::NotEnoughStock.into()),
        }
    }

    /// Takes `units` unsold units out of the gate, wherever they are; answers them by shard, as negative numbers.
    async fn take_unsold(&self, active: &ActiveSale, sku: u16, units: i64) -> Result<Vec<(u16, i64)>, Refusal> {
        let mut taken = Vec::new();
        let (mut missing, mut trouble) = (units, None);
        for id in active.shards() {
            if missing == 0 {
                return Ok(taken);
            }
            let Some(at) = active.at(id.shard) else {
                // Its gate was to be loaded before this, and could not be.
                trouble = Some(Code::GateUnavailable);
                continue;
            };
            match self.core.gate.adjust(at, sku, -missing).await {
                Ok(units) if units > 0 => {
                    taken.push((at.shard, -units));
                    missing -= units;
                }
                Ok(_) => {}
                // Others may have enough. What this one gave without an answer is found by comparing.
                Err(error) => trouble = Some(gate_trouble(&error)),
            }
        }
        if missing == 0 {
            return Ok(taken);
        }
        let back: Vec<(Option<ShardEpoch>, i64)> =
            taken.iter().map(|(shard, units)| (active.at(*shard), -units)).collect();
        self.put(active, sku, &back).await;
        Err(trouble.unwrap_or(Code::NotEnoughStock).into())
    }
}
