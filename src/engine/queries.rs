//! Looking at orders, sales and the books. Nothing here changes anything.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::catalog::ActiveSale;
use super::stock::load::levels;
use super::{Engine, ledger_trouble};
use crate::gate::Level;
use crate::ledger::{Check, PageRequest};
use crate::limits;
use crate::order::{
    Boundary, Code, HistoryView, Identity, Key, Order, OrderNo, OrderView, Refusal, Sale, SaleState, SaleView, SkuView,
    UserId,
};

impl Engine {
    /// The order with this number; with a user, only if it is theirs. Cancel-safe.
    pub async fn order(&self, user: Option<UserId>, order_no: OrderNo) -> Result<OrderView, Refusal> {
        let found = self.ledger.find(user, order_no).await.map_err(|error| ledger_trouble(&error))?;
        found.and_then(|order| self.view(order)).ok_or(Code::OrderNotFound.into())
    }

    /// The order with this number and everything that happened to it, for operators. Cancel-safe.
    pub async fn history(&self, order_no: OrderNo) -> Result<HistoryView, Refusal> {
        let view = self.order(None, order_no).await?;
        let history = self.ledger.history(view.order.user, order_no).await.map_err(|error| ledger_trouble(&error))?;
        Ok(HistoryView { view, history })
    }

    /// The order that this key made. Cancel-safe.
    pub async fn order_by_key(&self, user: UserId, sale_id: &str, key: &Key) -> Result<OrderView, Refusal> {
        let active = self.catalog.get(sale_id).ok_or(Code::OrderNotFound)?;
        // In a sale of another boundary a key makes no order.
        if active.sale.rules.boundary != Boundary::Request {
            return Err(Code::OrderNotFound.into());
        }
        let order_no = OrderNo::derive(&active.sale.salt, sale_id, user, Identity::Key(key));
        self.order(Some(user), order_no).await
    }

    /// A page of a user's orders in a sale, newest first; an unknown sale has none. Cancel-safe.
    pub async fn orders(
        &self,
        user: UserId,
        sale_id: &str,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<OrderView>, Refusal> {
        let Some(active) = self.catalog.get(sale_id) else { return Ok(Vec::new()) };
        let page = PageRequest { user, sale: active.sale.no, before, limit };
        let orders = self.ledger.list(page).await.map_err(|error| ledger_trouble(&error))?;
        Ok(orders.into_iter().filter_map(|order| self.view(order)).collect())
    }

    pub(super) fn view(&self, order: Order) -> Option<OrderView> {
        let sale = self.catalog.by_no(order.sale)?.sale;
        let sku = sale.sku_at(order.sku).and_then(|at| sale.skus.get(usize::from(at)).cloned())?;
        Some(OrderView { order, sale, sku })
    }

    /// A sale and what the gate still has of each sku: a hint, old by the time it is read. Cancel-safe.
    pub async fn sale_hint(&self, sale_id: &str) -> Result<(Arc<Sale>, SaleState, Vec<i64>), Refusal> {
        let active = self.catalog.get(sale_id).ok_or(Code::SaleNotFound)?;
        let state = active.sale.state(self.clock.now_ms());
        if !active.is_loaded() {
            let view = self.view_sale(&active).await?;
            return Ok((view.sale, state, view.skus.iter().map(|sku| sku.sum().available()).collect()));
        }
        // A crowd that reloads the page shares a look: each takes one that began after it came.
        let looks = active.runtime.hints_begun.load(Ordering::SeqCst);
        let mut hint = active.runtime.hint.lock().await;
        if hint.0 <= looks {
            let look = active.runtime.hints_begun.fetch_add(1, Ordering::SeqCst) + 1;
            *hint = (look, self.left(&active).await?);
        }
        Ok((active.sale.clone(), state, hint.1.clone()))
    }

    /// Units of every sku that may still be sold, all shards together.
    async fn left(&self, active: &ActiveSale) -> Result<Vec<i64>, Refusal> {
        let levels: Vec<Level> = levels(self.gate.as_ref(), active).await.into_iter().flatten().collect();
        if levels.len() < usize::from(active.sale.rules.shards) {
            let view = self.view_sale(active).await?;
            return Ok(view.skus.iter().map(|sku| sku.sum().available()).collect());
        }
        let mut left = vec![0; active.sale.skus.len()];
        for level in levels {
            left.iter_mut().zip(level.available).for_each(|(left, units)| *left += units);
        }
        Ok(left)
    }

    /// A sale with its stock. Cancel-safe.
    pub async fn sale(&self, sale_id: &str) -> Result<SaleView, Refusal> {
        let active = self.catalog.get(sale_id).ok_or(Code::SaleNotFound)?;
        self.view_sale(&active).await
    }

    /// Every sale with its stock, in the order they were made. Cancel-safe.
    pub async fn sales(&self) -> Result<Vec<SaleView>, Refusal> {
        let mut views = Vec::new();
        for active in self.catalog.all() {
            views.push(self.view_sale(&active).await?);
        }
        Ok(views)
    }

    /// The books of a sale: the ledger's, less what the gate holds for orders on their way. A gate that is out holds
    /// nothing that is known.
    pub(super) async fn view_sale(&self, active: &ActiveSale) -> Result<SaleView, Refusal> {
        let mut stock = self.ledger.stock(active.sale.no).await.map_err(|error| ledger_trouble(&error))?;
        let levels = levels(self.gate.as_ref(), active).await;
        for ((shard, at), level) in active.shards().enumerate().zip(levels) {
            let Some(level) =
                level.ok().filter(|level| level.epoch == at.epoch && !active.runtime.is_bypassed(at.shard))
            else {
                continue;
            };
            for (shards, available) in stock.iter_mut().zip(level.available) {
                if let Some(level) = shards.get_mut(shard) {
                    level.held += (level.available() - available).max(0);
                }
            }
        }
        let skus =
            active.sale.skus.iter().zip(stock).map(|(sku, shards)| SkuView { sku: sku.clone(), shards }).collect();
        Ok(SaleView { sale: active.sale.clone(), state: active.sale.state(self.clock.now_ms()), skus })
    }

    /// Audits one sale, or all: the ledger against itself, then the gate against the ledger. Cancel-safe.
    pub async fn verify(&self, sale_id: Option<&str>) -> Result<Vec<Check>, Refusal> {
        let actives = match sale_id {
            Some(id) => vec![self.catalog.get(id).ok_or(Code::SaleNotFound)?],
            None => self.catalog.all(),
        };
        let one = sale_id.and_then(|_| actives.first()).map(|active| active.sale.no);
        let mut checks = self.ledger.audit(one).await.map_err(|error| ledger_trouble(&error))?;
        let mut findings = Vec::new();
        for active in &actives {
            let excess = self.compare(active).await?.0.excess;
            if excess.is_empty() {
                continue;
            }
            // Orders that went past the gate, and gates being loaded anew: the engines see to it within seconds.
            let mut again = excess;
            for _ in 0..VERIFY_LOOKS {
                tokio::time::sleep(Duration::from_millis(limits::STRANDED_MS)).await;
                let excess = self.compare(active).await?.0.excess;
                again.retain(|shard| excess.contains(shard));
            }
            findings.extend(again.iter().map(|shard| format!("sale {} shard {shard}", active.sale.id)));
        }
        checks.push(Check {
            name: "gate_within_ledger",
            ok: findings.is_empty(),
            detail: if findings.is_empty() {
                "no shard of the gate sells more than the ledger has".to_owned()
            } else {
                format!("the gate sells more than the ledger has: {}", findings.join("; "))
            },
        });
        Ok(checks)
    }
}

/// Times a gate that seems to sell too much is looked at again: longer than reconciling takes.
const VERIFY_LOOKS: u32 = 10;
