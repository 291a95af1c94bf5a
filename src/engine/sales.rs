//! What operators do to sales. Each call is idempotent by itself: by the sale's id, by the change's id, or because
//! doing it twice is doing it once.

use std::sync::Arc;

use futures_util::future::join_all;

use super::catalog::ActiveSale;
use super::moves::Move;
use super::{Engine, gate_trouble, ledger_trouble};
use crate::command::RestockSale;
use crate::gate::ShardEpoch;
use crate::ledger::{CreateOutcome, Restock, RestockOutcome};
use crate::limits;
use crate::order::{Code, NewSale, Refusal, SaleState, SaleView, Salt, Switch, even_split};

impl Engine {
    /// Makes a sale; `true` if it is new, `false` if the same one existed. Runs to completion.
    pub async fn create_sale(self: &Arc<Self>, new: NewSale) -> Result<(bool, SaleView), Refusal> {
        let engine = self.clone();
        self.detached(async move {
            if engine.catalog.len() >= limits::SALES_MAX && engine.catalog.get(new.id.as_str()).is_none() {
                return Err(Refusal::because(Code::Overloaded, format!("at most {} sales", limits::SALES_MAX)));
            }
            let mut salt = [0; 32];
            getrandom::fill(&mut salt)
                .map_err(|error| Refusal::because(Code::Overloaded, format!("no random numbers: {error}")))?;
            let created = engine.ledger.create_sale(new, Salt::new(salt), engine.clock.now_ms()).await;
            let (is_new, sale) = match created.map_err(|error| ledger_trouble(&error))? {
                CreateOutcome::New(sale) => (true, sale),
                CreateOutcome::Same(sale) => (false, sale),
                CreateOutcome::Different => return Err(Code::SaleExists.into()),
            };
            let active = engine.catalog.get(sale.id.as_str()).unwrap_or_else(|| engine.catalog.put(sale));
            engine.load(&active).await?;
            Ok((is_new, engine.view_sale(&active).await?))
        })
        .await?
    }

    /// Pauses, resumes or ends a sale. An ended sale can only be ended again. Runs to completion.
    pub async fn switch_sale(self: &Arc<Self>, sale_id: &str, switch: Switch) -> Result<SaleView, Refusal> {
        let engine = self.clone();
        let active = self.catalog.get(sale_id).ok_or(Code::SaleNotFound)?;
        self.detached(async move { engine.switch(&active, switch).await }).await?
    }

    async fn switch(&self, active: &ActiveSale, switch: Switch) -> Result<SaleView, Refusal> {
        let _alone = active.runtime.admin_lock.lock().await;
        let now = self.catalog.get(active.sale.id.as_str()).ok_or(Code::SaleNotFound)?;
        let ended = || Refusal::because(Code::InvalidTransition, "the sale has ended, and an end is final");
        if switch != Switch::Ended && now.sale.state(self.clock.now_ms()) == SaleState::Ended {
            return Err(ended());
        }
        // The ledger first: what it says survives a crash, and it refuses orders of an ended sale by itself. Another
        // engine may have ended the sale a moment ago.
        let stands = self.ledger.switch(now.sale.no, switch).await.map_err(|error| ledger_trouble(&error))?;
        let switched = self.catalog.put(crate::order::Sale {
            switch: stands.switch,
            revision: stands.revision,
            ..now.sale.as_ref().clone()
        });
        self.switch_gates(&switched, stands.switch).await;
        if stands.switch != switch {
            return Err(ended());
        }
        tracing::info!(sale = %switched.sale.id, switch = switch.as_str(), "sale switched");
        self.view_sale(&switched).await
    }

    /// Switches every gate shard. One that cannot be told is left aside until it is loaded anew, switch included.
    pub(super) async fn switch_gates(&self, active: &ActiveSale, switch: Switch) {
        let told = join_all(active.shards().map(|at| async move { (at.shard, self.gate.switch(at, switch).await) }));
        for (shard, told) in told.await {
            if let Err(error) = told {
                tracing::warn!(%error, sale = %active.sale.id, shard, "switch the gate");
                active.runtime.bypass(shard);
            }
        }
    }

    /// Changes the stock of a sku, once per `change_id`. Runs to completion.
    pub async fn restock_sale(self: &Arc<Self>, sale_id: &str, change: RestockSale) -> Result<SaleView, Refusal> {
        let engine = self.clone();
        let active = self.catalog.get(sale_id).ok_or(Code::SaleNotFound)?;
        self.detached(async move {
            engine.restock(&active, change).await?;
            engine.view_sale(&active).await
        })
        .await?
    }

    async fn restock(&self, active: &ActiveSale, change: RestockSale) -> Result<(), Refusal> {
        let Some((sku, found)) = active.sale.sku(change.sku_id.as_str()) else {
            // A used change_id is told of first, whatever the other change is.
            let before = self.ledger.restocked(active.sale.no, change.change_id).await;
            let is_used = before.map_err(|error| ledger_trouble(&error))?.is_some();
            return Err(if is_used { Code::ChangeExists } else { Code::SkuNotFound }.into());
        };
        let sku_no = found.no;
        let _alone = active.runtime.admin_lock.lock().await;
        // A gate that has forgotten its units would seem to have none to take away.
        self.load_stale(active, &[]).await?;
        let mut moving = self.lock_moves(active, sku).await?;
        self.settle_move(active, sku, &mut moving).await?;

        let before = self.ledger.restocked(active.sale.no, change.change_id.clone()).await;
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
            now_ms: self.clock.now_ms(),
        };
        match self.commit_move(active, sku, &mut moving, Move::Restock(restock)).await? {
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
        for at in active.shards() {
            if missing == 0 {
                return Ok(taken);
            }
            match self.gate.adjust(at, sku, -missing).await {
                Ok(got) if got > 0 => {
                    taken.push((at.shard, -got));
                    missing -= got;
                }
                Ok(_) => {}
                // Others may have enough. What this one lost without a word is found by reconciling.
                Err(error) => trouble = Some(gate_trouble(&error)),
            }
        }
        if missing == 0 {
            return Ok(taken);
        }
        let back: Vec<(ShardEpoch, i64)> = taken.iter().map(|(shard, units)| (active.at(*shard), -units)).collect();
        self.put(active, sku, &back).await?;
        Err(trouble.unwrap_or(Code::NotEnoughStock).into())
    }
}
