//! The engine: walks an order from admission to the ledger's commit, and keeps gate and ledger together.
//!
//! [`Engine`] is a façade: it starts the rooms and their tasks, drains them, says whether they are ready, and hands each
//! call to its room. The work is in the rooms, which own their queues and permits over the shared [`core`]:
//!
//! - `orders`: an order on its way; `orders/place.rs` is the path and reads top to bottom;
//! - `lifecycle`: an order after it was made: steps, reports of payment providers, expiry, returned units;
//! - `stock`: units between gate and ledger: loading, refills, moves, restocks, comparing;
//! - `catalog`: the sales, and what the engine keeps beside each.
//!
//! `catalog` ← `core` ← `stock` ← `orders`, and `core` ← `lifecycle`. Above the rooms stand `sweep.rs`, which mends with
//! `stock` and `orders`, `sync.rs`, which learns what other engines did, `sales.rs`, which is what operators do, and
//! `queries.rs`, which only looks. The edges call the façade; the engine knows the ports, not the adapters.

mod catalog;
mod core;
mod lifecycle;
mod options;
mod orders;
mod queries;
mod random;
mod sales;
mod stock;
mod sweep;
mod sync;
mod trouble;

pub use lifecycle::{ReportResult, StepTaken};
pub use options::{OnGateFailure, Options};
pub use orders::PurchaseToken;
pub use stock::rebuild;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::Span;

use self::core::Core;
use self::lifecycle::Lifecycle;
use self::orders::{Orders, probe, writer};
use self::queries::Queries;
use self::random::random_bytes;
use self::sales::SaleAdmin;
use self::stock::Stock;
use self::sweep::Sweeper;
use crate::clock::Clock;
use crate::command::{PlaceOrder, RestockSale, TakeStep};
use crate::gate::Gate;
use crate::ledger::{self, Check, Ledger};
use crate::metrics::{GateMetrics, Metrics};
use crate::order::{
    HistoryView, Key, NewSale, OrderNo, OrderView, Outcome, Refusal, Report, Sale, SaleNo, SaleState, SaleView, Switch,
    UserId,
};

/// One engine over one gate and one ledger.
pub struct Engine {
    core: Arc<Core>,
    orders: Arc<Orders>,
    lifecycle: Arc<Lifecycle>,
    sale_admin: Arc<SaleAdmin>,
    queries: Queries,
}

/// Start, readiness and end.
impl Engine {
    /// Starts the engine's tasks and takes up the sales that the ledger has; open ones are loaded into the gate now,
    /// others with their first order. Must be called inside a tokio runtime.
    pub async fn start(
        gate: Arc<dyn Gate>,
        ledger: Arc<dyn Ledger>,
        clock: Clock,
        metrics: Arc<Metrics>,
        options: Options,
    ) -> Result<Arc<Engine>, ledger::Error> {
        let first_attempt = random_bytes().map_err(|error| ledger::Error::Unavailable(error.to_string()))?;
        let core = Arc::new(Core::new(gate, ledger, clock, metrics, options));
        let mut seen = 0;
        for sale in core.ledger.sales(0).await? {
            seen = seen.max(sale.revision);
            core.catalog.put(sale);
        }
        let stock = Arc::new(Stock::new(core.clone()));
        stock.load_open_sales().await?;
        let (orders, jobs) = Orders::new(core.clone(), stock.clone(), u64::from_ne_bytes(first_attempt));
        let (lifecycle, lifecycle_jobs) = Lifecycle::new(core.clone());
        let sweeper = Arc::new(Sweeper::new(core.clone(), stock.clone(), orders.clone()));
        core.keep("writer", writer::run(orders.clone(), jobs));
        core.keep("lifecycle", lifecycle::run(lifecycle.clone(), lifecycle_jobs));
        core.keep("sweep", sweeper.run());
        core.keep("probe", probe::run(orders.clone()));
        core.keep("expiry", lifecycle::expire(lifecycle.clone()));
        core.keep("key sweep", lifecycle::sweep_keys(lifecycle.clone()));
        core.keep("sync", sync::run(core.clone(), stock.clone(), seen));
        Ok(Arc::new(Engine {
            orders,
            lifecycle,
            sale_admin: SaleAdmin::new(core.clone(), stock.clone()),
            queries: Queries::new(core.clone(), stock),
            core,
        }))
    }

    /// Resolves to the name of an engine task that panicked, which is a bug. What the engine acknowledged is in the ledger:
    /// drain the engine and start it anew. Cancel-safe.
    pub async fn failed(&self) -> &'static str {
        self.core.failed_task().await
    }

    /// Whether the ledger takes orders.
    pub fn is_well(&self) -> bool {
        self.orders.is_ledger_well()
    }

    /// Whether the ledger takes orders and can be read. Cancel-safe.
    pub async fn is_ready(&self) -> bool {
        let takes_orders = self.orders.are_recorded() && !self.core.has_failed();
        // No sale has this number: the answer is empty, and it is the cheapest one there is.
        takes_orders && self.core.ledger.stock(SaleNo(0)).await.is_ok()
    }

    /// Finishes what is in flight, stops the tasks and closes the ledger, which may block. To be called when no new
    /// request can come. Answers whether everything was finished by `deadline`.
    pub async fn drain(&self, deadline: Instant) -> bool {
        let finished = tokio::time::timeout_at(deadline, async {
            while self.orders.in_flight() > 0 || !self.lifecycle.is_idle() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            self.core.stopping.cancel();
            self.core.tasks.close();
            self.core.tasks.wait().await;
        });
        let finished = finished.await.is_ok();
        self.core.stopping.cancel();
        self.core.ledger.close().await;
        finished
    }
}

/// Counters.
impl Engine {
    /// What is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.core.metrics
    }

    /// The engine's clock.
    pub fn clock(&self) -> &Clock {
        &self.core.clock
    }

    /// Orders between reservation and answer, and requests that wait for one.
    pub fn depths(&self) -> (usize, usize) {
        (self.orders.in_flight(), self.orders.waiting())
    }

    /// Shards that bypass their gate, over all sales.
    pub fn shards_bypassed(&self) -> usize {
        self.core.catalog.count_bypassed()
    }

    /// What the gate counts, if it has servers.
    pub fn gate_metrics(&self) -> Option<&GateMetrics> {
        self.core.gate.metrics()
    }

    /// Servers of the gate that cannot be used now.
    pub fn gate_servers_down(&self) -> usize {
        self.core.gate.servers_down()
    }

    /// A handler panicked: our bug, and its client does not know what became of the request.
    pub fn count_panic(&self) {
        self.core.metrics.panics.add(1);
        tracing::error!("a request handler panicked");
    }
}

/// Orders.
impl Engine {
    /// Places an order, or answers the one that the same operation made before.
    ///
    /// Cancel-safe: whatever was begun is finished by the engine, and the same request finds it.
    pub async fn place(&self, request: &PlaceOrder<'_>) -> Result<Outcome, Refusal> {
        self.orders.place(request).await
    }

    /// Gives a user a token for one order in a sale that has not ended. Each call draws another token; none is kept.
    pub fn purchase_token(&self, user: UserId, sale_id: &str) -> Result<PurchaseToken, Refusal> {
        self.orders.purchase_token(user, sale_id)
    }

    /// Takes a step in the life of an order, once per key.
    ///
    /// Cancel-safe: once polled, the step is taken whether or not the client waits for the answer.
    pub async fn take_step(&self, request: TakeStep) -> Result<StepTaken, Refusal> {
        self.lifecycle.take_step(request).await
    }

    /// Records a verified report of a payment provider. `Ok` with what became of it when it is stored, now or before;
    /// `order_not_found` if there is no such order. `span` is the operation's.
    ///
    /// Cancel-safe: once polled, the report is recorded whether or not the provider waits for the answer.
    pub async fn record_report(&self, report: Report, span: &Span) -> Result<ReportResult, Refusal> {
        self.lifecycle.record_report(report, span).await
    }

    /// Expires every order whose time to pay is over. The engine does so by itself twice a second; this is for a caller
    /// that moves a manual clock and does not want to wait. Trouble with the ledger is left to the next round.
    pub async fn expire(&self) {
        self.lifecycle.expire_all().await;
    }
}

/// What operators do to sales. Each call runs to completion and is idempotent by itself.
impl Engine {
    /// Makes a sale; `true` if it is new, `false` if the same one existed.
    pub async fn create_sale(&self, new: NewSale) -> Result<(bool, SaleView), Refusal> {
        self.sale_admin.create_sale(new).await
    }

    /// Pauses, resumes or ends a sale. An ended sale can only be ended again.
    pub async fn switch_sale(&self, sale_id: &str, switch: Switch) -> Result<SaleView, Refusal> {
        self.sale_admin.switch_sale(sale_id, switch).await
    }

    /// Changes the stock of a sku, once per `change_id`.
    pub async fn restock_sale(&self, sale_id: &str, change: RestockSale) -> Result<SaleView, Refusal> {
        self.sale_admin.restock_sale(sale_id, change).await
    }
}

/// Questions. All of them are cancel-safe.
impl Engine {
    /// The order with this number; with a user, only if it is theirs.
    pub async fn order(&self, user: Option<UserId>, order_no: OrderNo) -> Result<OrderView, Refusal> {
        self.queries.order(user, order_no).await
    }

    /// The order with this number and everything that happened to it, for operators.
    pub async fn history(&self, order_no: OrderNo) -> Result<HistoryView, Refusal> {
        self.queries.history(order_no).await
    }

    /// The order that this key made.
    pub async fn order_by_key(&self, user: UserId, sale_id: &str, key: &Key) -> Result<OrderView, Refusal> {
        self.queries.order_by_key(user, sale_id, key).await
    }

    /// A page of a user's orders in a sale, newest first; an unknown sale has none.
    pub async fn orders(
        &self,
        user: UserId,
        sale_id: &str,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<OrderView>, Refusal> {
        self.queries.orders(user, sale_id, before, limit).await
    }

    /// A sale and what the gate still has of each sku: a hint, old by the time it is read.
    pub async fn sale_hint(&self, sale_id: &str) -> Result<(Arc<Sale>, SaleState, Vec<i64>), Refusal> {
        self.queries.sale_hint(sale_id).await
    }

    /// A sale with its stock.
    pub async fn sale(&self, sale_id: &str) -> Result<SaleView, Refusal> {
        self.queries.sale(sale_id).await
    }

    /// Every sale with its stock, in the order they were made.
    pub async fn sales(&self) -> Result<Vec<SaleView>, Refusal> {
        self.queries.sales().await
    }

    /// Audits one sale, or all: the ledger against itself, then the gate against the ledger.
    pub async fn verify(&self, sale_id: Option<&str>) -> Result<Vec<Check>, Refusal> {
        self.queries.verify(sale_id).await
    }
}
