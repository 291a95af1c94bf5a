//! What every room of the engine shares: the two ports, the clock, the catalogue, the counters and the tasks. The core
//! knows no room; a room owns its queues and permits and holds the core beside them.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::SetOnce;
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::catalog::Catalog;
use super::options::Options;
use crate::clock::Clock;
use crate::gate::Gate;
use crate::ledger::Ledger;
use crate::metrics::Metrics;
use crate::order::{Code, Refusal};

/// The shared ground of the rooms.
pub(super) struct Core {
    pub(super) gate: Arc<dyn Gate>,
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) clock: Clock,
    pub(super) catalog: Catalog,
    pub(super) metrics: Arc<Metrics>,
    pub(super) options: Options,
    /// Every task of the engine; a drain waits for all of them.
    pub(super) tasks: TaskTracker,
    /// Cancelled when nothing is in flight any more and the tasks are to end.
    pub(super) stopping: CancellationToken,
    /// The name of the first task that panicked, of those that must live as long as the engine.
    failed_task: SetOnce<&'static str>,
}

impl Core {
    pub(super) fn new(
        gate: Arc<dyn Gate>,
        ledger: Arc<dyn Ledger>,
        clock: Clock,
        metrics: Arc<Metrics>,
        options: Options,
    ) -> Self {
        Core {
            gate,
            ledger,
            clock,
            catalog: Catalog::default(),
            metrics,
            options,
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
            failed_task: SetOnce::new(),
        }
    }

    /// Runs a task that must live as long as the engine. If it panics, the log names it and [`Core::failed_task`] resolves.
    pub(super) fn keep(self: &Arc<Self>, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let (core, task) = (self.clone(), self.tasks.spawn(task));
        self.tasks.spawn(async move {
            if task.await.is_err() {
                tracing::error!(task = name, "the engine's task {name} panicked: the engine has to be started anew");
                // Set before, if another task panicked first.
                core.failed_task.set(name).unwrap_or_default();
            }
        });
    }

    /// Resolves to the name of a task that panicked. Cancel-safe.
    pub(super) async fn failed_task(&self) -> &'static str {
        self.failed_task.wait().await
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed_task.get().is_some()
    }

    /// Runs `work` to its end even if the returned future is dropped: what does not finish at its first poll goes on
    /// as a task of the engine. The future of a client that hangs up may be dropped at any await.
    ///
    /// It takes a box, because every move of the work on the way to one would copy it.
    pub(super) async fn detached<T: Send + 'static>(
        &self,
        mut work: Pin<Box<impl Future<Output = T> + Send + 'static>>,
    ) -> Result<T, Refusal> {
        match futures_util::poll!(work.as_mut()) {
            Poll::Ready(done) => Ok(done),
            // A task that panicked leaves its order to the sweeper; its client does not know.
            Poll::Pending => self.tasks.spawn(work).await.map_err(|_| Code::UnknownOutcome.into()),
        }
    }

    /// Rounds of a task, one every `period_ms` and the first at once, until the engine stops.
    pub(super) fn rounds(&self, period_ms: u64) -> Rounds {
        let mut interval = tokio::time::interval(Duration::from_millis(period_ms));
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Rounds { interval, stopping: self.stopping.clone() }
    }
}

/// The rounds of a task that does something every so often. Rounds that were missed are not made up for.
pub(super) struct Rounds {
    interval: Interval,
    stopping: CancellationToken,
}

impl Rounds {
    /// Waits for the next round; `false` when the engine stops.
    pub(super) async fn next(&mut self) -> bool {
        tokio::select! {
            _ = self.interval.tick() => true,
            () = self.stopping.cancelled() => false,
        }
    }
}
