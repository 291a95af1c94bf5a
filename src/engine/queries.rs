//! Looking at orders, sales and the books. Nothing here changes anything.

use std::sync::Arc;
use std::time::Duration;

use super::catalog::ActiveSale;
use super::core::Core;
use super::stock::Stock;
use super::trouble::ledger_trouble;
use crate::ledger::{Check, PageRequest};
use crate::limits;
use crate::order::{
    Boundary, Code, HistoryView, Identity, Key, OrderNo, OrderView, Refusal, Sale, SaleState, SaleView, UserId,
};

/// Times a gate that seems to sell too much is looked at again: longer than reconciling takes.
const VERIFY_LOOKS: u32 = 10;

/// Answers questions; the methods are documented at [`super::Engine`].
pub(super) struct Queries {
    core: Arc<Core>,
    stock: Arc<Stock>,
}

impl Queries {
    pub(super) fn new(core: Arc<Core>, stock: Arc<Stock>) -> Self {
        Queries { core, stock }
    }

    pub(super) async fn order(&self, user: Option<UserId>, order_no: OrderNo) -> Result<OrderView, Refusal> {
        let found = self.core.ledger.find(user, order_no).await.map_err(|error| ledger_trouble(&error))?;
        found.and_then(|order| self.core.catalog.view(order)).ok_or(Code::OrderNotFound.into())
    }

    pub(super) async fn history(&self, order_no: OrderNo) -> Result<HistoryView, Refusal> {
        let view = self.order(None, order_no).await?;
        let history = self.core.ledger.history(view.order.user, order_no).await;
        Ok(HistoryView { view, history: history.map_err(|error| ledger_trouble(&error))? })
    }

    pub(super) async fn order_by_key(&self, user: UserId, sale_id: &str, key: &Key) -> Result<OrderView, Refusal> {
        let active = self.core.catalog.get(sale_id).ok_or(Code::OrderNotFound)?;
        // In a sale of another boundary a key makes no order.
        if active.sale.rules.boundary != Boundary::Request {
            return Err(Code::OrderNotFound.into());
        }
        let order_no = OrderNo::derive(&active.sale.salt, sale_id, user, Identity::Key(key));
        self.order(Some(user), order_no).await
    }

    pub(super) async fn orders(
        &self,
        user: UserId,
        sale_id: &str,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<OrderView>, Refusal> {
        let Some(active) = self.core.catalog.get(sale_id) else { return Ok(Vec::new()) };
        let page = PageRequest { user, sale: active.sale.no, before, limit };
        let orders = self.core.ledger.list(page).await.map_err(|error| ledger_trouble(&error))?;
        Ok(orders.into_iter().filter_map(|order| self.core.catalog.view(order)).collect())
    }

    pub(super) async fn sale_hint(&self, sale_id: &str) -> Result<(Arc<Sale>, SaleState, Vec<i64>), Refusal> {
        let active = self.core.catalog.get(sale_id).ok_or(Code::SaleNotFound)?;
        self.stock.hint(&active).await
    }

    pub(super) async fn sale(&self, sale_id: &str) -> Result<SaleView, Refusal> {
        let active = self.core.catalog.get(sale_id).ok_or(Code::SaleNotFound)?;
        self.stock.view_sale(&active).await
    }

    pub(super) async fn sales(&self) -> Result<Vec<SaleView>, Refusal> {
        let mut views = Vec::new();
        for active in self.core.catalog.all().iter() {
            views.push(self.stock.view_sale(active).await?);
        }
        Ok(views)
    }

    pub(super) async fn verify(&self, sale_id: Option<&str>) -> Result<Vec<Check>, Refusal> {
        let actives: Arc<[ActiveSale]> = match sale_id {
            Some(id) => [self.core.catalog.get(id).ok_or(Code::SaleNotFound)?].into(),
            None => self.core.catalog.all(),
        };
        let one = sale_id.and_then(|_| actives.first()).map(|active| active.sale.no);
        let mut checks = self.core.ledger.audit(one).await.map_err(|error| ledger_trouble(&error))?;
        let mut findings = Vec::new();
        for active in actives.iter() {
            let excess = self.lasting_excess(active).await?;
            findings.extend(excess.iter().map(|shard| format!("sale {} shard {shard}", active.sale.id)));
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

    /// The shards whose gate sells more than the ledger has at every look. Orders that bypassed the gate, and gates that are
    /// being loaded anew, seem so for a moment: the engines see to it within seconds.
    async fn lasting_excess(&self, active: &ActiveSale) -> Result<Vec<u16>, Refusal> {
        let mut lasting = self.stock.compare(active).await?.drift.excess;
        if lasting.is_empty() {
            return Ok(lasting);
        }
        for _ in 0..VERIFY_LOOKS {
            tokio::time::sleep(Duration::from_millis(limits::STRANDED_MS)).await;
            let excess = self.stock.compare(active).await?.drift.excess;
            lasting.retain(|shard| excess.contains(shard));
        }
        Ok(lasting)
    }
}
