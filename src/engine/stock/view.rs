//! What is left of a sale: the books for operators, a hint for buyers. Nothing here changes anything.

use std::sync::Arc;

use super::Stock;
use super::load::levels;
use crate::engine::catalog::ActiveSale;
use crate::engine::trouble::ledger_trouble;
use crate::gate::Level;
use crate::order::{Refusal, Sale, SaleState, SaleView, SkuView};

impl Stock {
    /// The books of a sale: the ledger's, less what the gate has reserved for orders on their way. What a bypassed gate has is
    /// not known.
    pub(in crate::engine) async fn view_sale(&self, active: &ActiveSale) -> Result<SaleView, Refusal> {
        let mut stock = self.core.ledger.stock(active.sale.no).await.map_err(|error| ledger_trouble(&error))?;
        let levels = levels(self.core.gate.as_ref(), active).await;
        let states = &active.runtime.shards;
        for ((at, id), level) in active.shards().enumerate().zip(levels) {
            let (believed, is_in_use) = (states.epoch(id.shard), !states.is_bypassed(id.shard));
            let Some(level) = level.ok().filter(|level| is_in_use && level.epoch == believed) else { continue };
            for (shards, available) in stock.iter_mut().zip(level.available) {
                if let Some(level) = shards.get_mut(at) {
                    level.held += (level.available() - available).max(0);
                }
            }
        }
        let skus = active.sale.skus.iter().zip(stock);
        let skus = skus.map(|(sku, shards)| SkuView { sku: sku.clone(), shards }).collect();
        let state = active.sale.state(self.core.clock.now_ms());
        Ok(SaleView { sale: active.sale.clone(), state, skus })
    }

    /// A sale and what the gate still has of each sku: old by the time it is read.
    pub(in crate::engine) async fn hint(
        &self,
        active: &ActiveSale,
    ) -> Result<(Arc<Sale>, SaleState, Vec<i64>), Refusal> {
        let state = active.sale.state(self.core.clock.now_ms());
        let left = if active.is_loaded() {
            active.runtime.hint.get(self.left(active)).await?
        } else {
            self.left_in_books(active).await?
        };
        Ok((active.sale.clone(), state, left))
    }

    /// Units of every sku that may still be sold, all shards together.
    async fn left(&self, active: &ActiveSale) -> Result<Vec<i64>, Refusal> {
        let levels: Vec<Level> = levels(self.core.gate.as_ref(), active).await.into_iter().flatten().collect();
        if levels.len() < usize::from(active.sale.rules.shards) {
            return self.left_in_books(active).await;
        }
        let mut left = vec![0; active.sale.skus.len()];
        for level in levels {
            left.iter_mut().zip(level.available).for_each(|(left, units)| *left += units);
        }
        Ok(left)
    }

    async fn left_in_books(&self, active: &ActiveSale) -> Result<Vec<i64>, Refusal> {
        let view = self.view_sale(active).await?;
        Ok(view.skus.iter().map(|sku| sku.sum().available()).collect())
    }
}
