//! What operators do to sales. Each call is idempotent by itself: by the sale's id, by the change's id, or because
//! doing it twice is doing it once.

use std::sync::Arc;

use super::catalog::ActiveSale;
use super::core::Core;
use super::random::random_bytes;
use super::stock::Stock;
use super::trouble::ledger_trouble;
use crate::command::RestockSale;
use crate::ledger::CreateOutcome;
use crate::limits;
use crate::order::{Code, NewSale, Refusal, Sale, SaleState, SaleView, Salt, Switch};

/// Makes, switches and restocks sales.
pub(super) struct SaleAdmin {
    core: Arc<Core>,
    stock: Arc<Stock>,
}

impl SaleAdmin {
    pub(super) fn new(core: Arc<Core>, stock: Arc<Stock>) -> Arc<Self> {
        Arc::new(SaleAdmin { core, stock })
    }

    /// Makes a sale; `true` if it is new, `false` if the same one existed. Runs to completion.
    pub(super) async fn create_sale(self: &Arc<Self>, new: NewSale) -> Result<(bool, SaleView), Refusal> {
        let admin = self.clone();
        self.core.detached(Box::pin(async move { admin.create(new).await })).await?
    }

    async fn create(&self, new: NewSale) -> Result<(bool, SaleView), Refusal> {
        let Core { catalog, ledger, clock, .. } = self.core.as_ref();
        if catalog.len() >= limits::SALES_MAX && catalog.get(new.id.as_str()).is_none() {
            return Err(Refusal::because(Code::Overloaded, format!("at most {} sales", limits::SALES_MAX)));
        }
        let created = ledger.create_sale(new, Salt::new(random_bytes()?), clock.now_ms()).await;
        let (is_new, sale) = match created.map_err(|error| ledger_trouble(&error))? {
            CreateOutcome::New(sale) => (true, sale),
            CreateOutcome::Same(sale) => (false, sale),
            CreateOutcome::Different => return Err(Code::SaleExists.into()),
        };
        let active = catalog.get(sale.id.as_str()).unwrap_or_else(|| catalog.put(sale));
        self.stock.load(&active).await?;
        Ok((is_new, self.stock.view_sale(&active).await?))
    }

    /// Pauses, resumes or ends a sale. An ended sale can only be ended again. Runs to completion.
    pub(super) async fn switch_sale(self: &Arc<Self>, sale_id: &str, switch: Switch) -> Result<SaleView, Refusal> {
        let admin = self.clone();
        let active = self.core.catalog.get(sale_id).ok_or(Code::SaleNotFound)?;
        self.core.detached(Box::pin(async move { admin.switch(&active, switch).await })).await?
    }

    async fn switch(&self, active: &ActiveSale, switch: Switch) -> Result<SaleView, Refusal> {
        let _lock = active.runtime.admin_lock.lock().await;
        let now = self.core.catalog.get(active.sale.id.as_str()).ok_or(Code::SaleNotFound)?;
        let ended = || Refusal::because(Code::InvalidTransition, "the sale has ended, and an end is final");
        if switch != Switch::Ended && now.sale.state(self.core.clock.now_ms()) == SaleState::Ended {
            return Err(ended());
        }
        // The ledger first: what it says survives a crash, and it refuses orders of an ended sale by itself. Another
        // engine may have ended the sale a moment ago.
        let stands = self.core.ledger.switch(now.sale.no, switch).await.map_err(|error| ledger_trouble(&error))?;
        let switched = self.core.catalog.put(Sale {
            switch: stands.switch,
            revision: stands.revision,
            ..now.sale.as_ref().clone()
        });
        self.stock.switch_gates(&switched, stands.switch).await;
        if stands.switch != switch {
            return Err(ended());
        }
        let (sale, switch) = (&switched.sale.id, switch.as_str());
        tracing::info!(%sale, switch, "sale {sale} switched to {switch}");
        self.stock.view_sale(&switched).await
    }

    /// Changes the stock of a sku, once per `change_id`. Runs to completion.
    pub(super) async fn restock_sale(
        self: &Arc<Self>,
        sale_id: &str,
        change: RestockSale,
    ) -> Result<SaleView, Refusal> {
        let admin = self.clone();
        let active = self.core.catalog.get(sale_id).ok_or(Code::SaleNotFound)?;
        let restock = async move {
            admin.stock.restock(&active, change).await?;
            admin.stock.view_sale(&active).await
        };
        self.core.detached(Box::pin(restock)).await?
    }
}
