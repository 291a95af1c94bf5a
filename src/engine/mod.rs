//! The engine: walks an order from admission to the ledger's commit, and keeps gate and ledger together.
//!
//! `place.rs` is the path and reads top to bottom; `writer.rs` commits in groups; `refill.rs` moves units between
//! shards by the rules of `moves.rs`; `load.rs` fills the gate, `bypass.rs` does without; `sweep.rs` completes what was left
//! behind, `reconcile.rs` finds what does not fit; `probe.rs` finds out when a ledger in trouble is well again; `sync.rs`
//! learns what other engines did; `sales.rs` is what operators do; `tokens.rs` gives out purchase tokens; `queries.rs` only
//! looks. After the order come `lifecycle.rs` (pay, cancel, ship, refund), `expiry.rs` (expire) and `returns.rs` (units
//! that came back go on sale again).
//! The edges call it; it knows the ports, not the adapters.

mod batches;
mod bypass;
mod catalog;
mod expiry;
mod lifecycle;
mod load;
mod moves;
mod options;
mod place;
mod probe;
mod queries;
mod reconcile;
mod refill;
mod returns;
mod sales;
mod sold_out;
mod stall;
mod sweep;
mod sync;
mod tokens;
mod waiters;
mod writer;

pub use bypass::OnGateFailure;
pub use lifecycle::{ReportResult, StepTaken};
pub use load::rebuild;
pub use options::Options;
pub use tokens::PurchaseToken;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::Poll;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::catalog::Catalog;
use self::expiry::ExpiryWatch;
use self::lifecycle::LifecycleJob;
use self::stall::StallWatch;
use self::waiters::InFlightWaiters;
use self::writer::Job;
use crate::admission::Admission;
use crate::clock::Clock;
use crate::gate::Gate;
use crate::ledger::{self, Ledger};
use crate::limits;
use crate::metrics::Metrics;
use crate::order::{Code, Refusal, SaleNo};

/// One engine over one gate and one ledger.
pub struct Engine {
    gate: Arc<dyn Gate>,
    ledger: Arc<dyn Ledger>,
    clock: Clock,
    catalog: Catalog,
    admission: Admission,
    waiters: InFlightWaiters,
    /// Orders on their way to the writer. It has a place for every seat, so a seated order is never turned away.
    queue: mpsc::Sender<Job>,
    /// One for each ledger transaction that may run at once.
    stall_watches: Vec<StallWatch>,
    options: Options,
    started: Instant,
    /// When the last look at the ledger's sales that succeeded was begun, in ms since `started`.
    refreshed_at: AtomicU64,
    /// Changes of orders on their way to the ledger. It has a place for every permit of `lifecycle_permits`.
    changes: mpsc::Sender<LifecycleJob>,
    lifecycle_permits: Arc<Semaphore>,
    /// Places for batches of returned units of which a gate is being told.
    return_permits: Arc<Semaphore>,
    /// Whether orders expire, for the log.
    expiry_watch: Mutex<ExpiryWatch>,
    /// Places for orders that go past the gate.
    bypass: Arc<Semaphore>,
    /// Places for sweeps of one sale each.
    sweeps: Semaphore,
    /// Numbers the asks of this engine, from a random start: see [`crate::gate::ReserveRequest::attempt_id`].
    asked: AtomicU64,
    metrics: Arc<Metrics>,
    tasks: TaskTracker,
    stopping: CancellationToken,
    /// A task without which no order is recorded has panicked.
    failed: CancellationToken,
}

impl Engine {
    /// Starts the engine's tasks and takes up the sales that the ledger has; open ones are loaded into the gate now,
    /// others when somebody asks for them. Must be called inside a tokio runtime.
    pub async fn start(
        gate: Arc<dyn Gate>,
        ledger: Arc<dyn Ledger>,
        clock: Clock,
        metrics: Arc<Metrics>,
        options: impl Into<Options>,
    ) -> Result<Arc<Engine>, ledger::Error> {
        let sales = ledger.sales(0).await?;
        let (queue, jobs) = mpsc::channel(limits::ORDERS_IN_FLIGHT_MAX);
        let (changes, change_jobs) = mpsc::channel(limits::CHANGES_QUEUED_MAX);
        let stall_watches = (0..ledger.appends_at_once().max(1)).map(|_| StallWatch::default()).collect();
        let first_ask =
            getrandom::u64().map_err(|error| ledger::Error::Unavailable(format!("no random numbers: {error}")))?;
        let engine = Arc::new(Engine {
            gate,
            ledger,
            clock,
            catalog: Catalog::default(),
            admission: Admission::default(),
            waiters: InFlightWaiters::default(),
            queue,
            stall_watches,
            options: options.into(),
            started: Instant::now(),
            refreshed_at: AtomicU64::new(0),
            changes,
            lifecycle_permits: Arc::new(Semaphore::new(limits::CHANGES_QUEUED_MAX)),
            return_permits: Arc::new(Semaphore::new(limits::GIVE_BACKS_AT_ONCE)),
            expiry_watch: Mutex::new(ExpiryWatch::default()),
            bypass: Arc::new(Semaphore::new(limits::UNGATED_IN_FLIGHT_MAX)),
            sweeps: Semaphore::new(limits::SALES_SWEPT_AT_ONCE),
            asked: AtomicU64::new(first_ask),
            metrics,
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
            failed: CancellationToken::new(),
        });
        let mut seen = 0;
        for sale in sales {
            seen = seen.max(sale.revision);
            engine.catalog.put(sale);
        }
        engine.load_open_sales().await?;
        engine.keep(writer::run(engine.clone(), jobs));
        engine.keep(lifecycle::run(engine.clone(), change_jobs));
        engine.keep(sweep::run(engine.clone()));
        engine.keep(probe::run(engine.clone()));
        engine.keep(expiry::expire(engine.clone()));
        engine.keep(expiry::forget(engine.clone()));
        engine.keep(sync::run(engine.clone(), seen));
        Ok(engine)
    }

    /// Runs a task that must live as long as the engine.
    fn keep(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let (engine, task) = (self.clone(), self.tasks.spawn(task));
        self.tasks.spawn(async move {
            if task.await.is_err() {
                tracing::error!("a task of the engine panicked; no order can be recorded");
                engine.failed.cancel();
            }
        });
    }

    /// Waits until the engine can go on no more, by a bug of ours. What it acknowledged is in the ledger, so the right
    /// thing to do is to start it anew. Cancel-safe.
    pub async fn failed(&self) {
        self.failed.cancelled().await;
    }

    /// Whether the ledger takes orders.
    pub fn is_well(&self) -> bool {
        self.admission.is_ledger_well()
    }

    /// Whether the ledger takes orders and can be read. Cancel-safe.
    pub async fn is_ready(&self) -> bool {
        // No sale has this number: the answer is empty, and it is the cheapest one there is.
        let stuck = self.stall_watches.iter().any(StallWatch::is_stuck);
        let writes = self.is_well() && !stuck && !self.failed.is_cancelled();
        writes && self.ledger.stock(SaleNo(0)).await.is_ok()
    }

    /// A handler panicked: our bug, and its client does not know what became of the request.
    pub fn count_panic(&self) {
        self.metrics.panics.add(1);
        tracing::error!("a request handler panicked");
    }

    /// Orders between reservation and answer, and requests that wait for one.
    pub fn depths(&self) -> (usize, usize) {
        (self.admission.in_flight(), self.waiters.waiting())
    }

    /// What is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The engine's clock.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Finishes what is in flight, stops the tasks and closes the ledger, which may block. To be called when no new
    /// request can come. Answers whether everything was finished by `deadline`.
    pub async fn drain(&self, deadline: Instant) -> bool {
        let finished = tokio::time::timeout_at(deadline, async {
            while self.admission.in_flight() > 0
                || self.lifecycle_permits.available_permits() < limits::CHANGES_QUEUED_MAX
            {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            self.stopping.cancel();
            self.tasks.close();
            self.tasks.wait().await;
        });
        let finished = finished.await.is_ok();
        self.stopping.cancel();
        self.ledger.close().await;
        finished
    }

    /// Runs `work` to its end even if the returned future is dropped: what does not finish at its first poll goes on
    /// as a task of the engine. The future of a client that hangs up may be dropped at any await.
    async fn detached<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Result<T, Refusal> {
        let mut work = Box::pin(work);
        match futures_util::poll!(work.as_mut()) {
            Poll::Ready(done) => Ok(done),
            // A task that panicked leaves its order to the sweeper; its client does not know.
            Poll::Pending => self.tasks.spawn(work).await.map_err(|_| Code::UnknownOutcome.into()),
        }
    }
}

/// What the client hears of trouble with the ledger.
fn ledger_trouble(error: &ledger::Error) -> Code {
    match error {
        ledger::Error::Busy => Code::Overloaded,
        ledger::Error::Unavailable(_) | ledger::Error::Corrupt(_) => Code::LedgerUnavailable,
        ledger::Error::Unknown(_) => Code::UnknownOutcome,
    }
}

/// What the client hears of trouble with the gate. A reservation that perhaps happened is no answer yet either.
fn gate_trouble(error: &crate::gate::Error) -> Code {
    match error {
        crate::gate::Error::Unavailable(_) => Code::GateUnavailable,
        crate::gate::Error::Unknown(_) => Code::UnknownOutcome,
        crate::gate::Error::Busy => Code::Overloaded,
    }
}
