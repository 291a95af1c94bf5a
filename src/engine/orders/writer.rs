//! Group commit: the orders that arrive while one ledger transaction runs make up the next one. No task sleeps to
//! fill a batch, and no order is answered before its commit.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::join_all;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::Instrument;

use super::Orders;
use super::batches::{Batch, Batches, Shard};
use super::job::{Job, RecordOutcome};
use crate::gate::{Settlement, ShardEpoch};
use crate::ledger::{self, AppendDenial, AppendOutcome, Entry};
use crate::limits;
use crate::order::Code;
use crate::trace;

/// Writes until the engine stops. How many transactions run beside each other is the ledger's choice: on SQLite, whose
/// commits do not overlap, a second one was measured to cost a tenth more CPU per order.
pub(in crate::engine) async fn run(orders: Arc<Orders>, mut jobs: mpsc::Receiver<Job>) {
    let mut batches = Batches::new(orders.stall_watches.len());
    let mut idle: Vec<usize> = (0..orders.stall_watches.len()).collect();
    let mut running = JoinSet::new();
    let mut fresh = Vec::with_capacity(limits::BATCH_ORDERS_MAX);
    loop {
        tokio::select! {
            _ = jobs.recv_many(&mut fresh, limits::BATCH_ORDERS_MAX) => {}
            Some(ended) = running.join_next() => match ended {
                Ok((slot, shards)) => {
                    idle.push(slot);
                    let shards: Vec<Shard> = shards;
                    batches.end(&shards);
                }
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    // The runtime is being shut down.
                    Err(_) => return,
                },
            },
            () = sleep_until(batches.due()) => {}
            // No order is in flight by now, or the time to drain is over: its retry settles what is left.
            () = orders.core.stopping.cancelled() => return,
        }
        for job in fresh.drain(..) {
            batches.add((job.shard.sale, job.shard.shard), job.reservation.order_no, job);
        }
        while let Some(slot) = idle.pop() {
            let Some(Batch { shards, orders: jobs }) = batches.begin(Instant::now()) else {
                idle.push(slot);
                break;
            };
            let orders = orders.clone();
            running.spawn(async move {
                orders.record(slot, jobs).await;
                (slot, shards)
            });
        }
    }
}

/// Sleeps until a time, or for ever.
async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

impl Orders {
    /// Appends one batch in a transaction slot; then settles with the gate and answers every order of it, without keeping
    /// the next batch waiting.
    async fn record(self: &Arc<Self>, slot: usize, jobs: Vec<Job>) {
        let entries = jobs.iter().map(Job::entry).collect();
        let started = Instant::now();
        let stall_watch = self.stall_watches.get(slot);
        stall_watch.inspect(|watch| watch.begin());
        let ledger = self.core.ledger.kind();
        let span = trace::append(jobs.iter().map(|job| &job.span), ledger, jobs.len());
        let appended = self.append(entries).instrument(span.clone()).await;
        // It closes with its transaction; its orders are answered after.
        drop(span);
        stall_watch.inspect(|watch| watch.end());
        let metrics = &self.core.metrics;
        metrics.append_seconds.observe(started.elapsed().as_secs_f64());
        metrics.batch_orders.observe(f64::from(u32::try_from(jobs.len()).unwrap_or(u32::MAX)));

        let outcomes: Vec<RecordOutcome> =
            jobs.iter().zip(appended).map(|(job, appended)| job.outcome(&appended)).collect();
        let created = outcomes.iter().filter(|outcome| matches!(outcome, RecordOutcome::Created { .. })).count();
        metrics.created.add(u64::try_from(created).unwrap_or(0));
        let mut finish = Box::pin(self.clone().finish(jobs, outcomes));
        // A gate in memory settles at once.
        if futures_util::poll!(finish.as_mut()).is_pending() {
            self.core.tasks.spawn(finish);
        }
    }

    /// Tells the gate what became of a batch, then answers every order of it: a repeat of an answered order finds it
    /// settled.
    async fn finish(self: Arc<Self>, jobs: Vec<Job>, mut outcomes: Vec<RecordOutcome>) {
        let lost = self.settle(&jobs, &outcomes).await;
        for (job, outcome) in jobs.iter().zip(&mut outcomes) {
            // The gate still has it, so the order is tried again when its lease is over, and the user's limit may have
            // room by then: that is no final "no".
            if matches!(outcome, RecordOutcome::Denied(AppendDenial::LimitReached))
                && job.at().is_some_and(|at| lost.contains(&at))
            {
                *outcome = RecordOutcome::Trouble(Code::UnknownOutcome);
            }
        }
        let uncounted = uncounted(&jobs, &outcomes);
        for (job, outcome) in jobs.into_iter().zip(outcomes) {
            self.waiters.wake(&job.reservation.order_no);
            if let Some(answer) = job.answer {
                // The client may have hung up; its order is recorded all the same.
                drop(answer.send(outcome));
            }
            drop((job.permit, job.bypass, job.span));
        }
        let gate = &self.core.gate;
        let taken = uncounted.into_iter().map(|((at, sku), units)| async move {
            let taken = gate.adjust(at, sku, -units).await;
            tracing::debug!(?taken, units, sale = at.sale.0, shard = at.shard, "recorded past the gate");
        });
        join_all(taken).await;
    }

    /// Appends the batch; if a row of it is rejected as a whole, halves it until the others are through.
    async fn append(&self, mut entries: Vec<Entry>) -> Vec<Result<AppendOutcome, ledger::Error>> {
        let count = entries.len();
        let error = match self.core.ledger.append(entries.clone()).await {
            Ok(appended) => {
                self.admission.ledger_is(true);
                return appended.into_iter().map(Ok).collect();
            }
            Err(error) => error,
        };
        self.core.metrics.append_failures.add(1);
        tracing::error!(%error, orders = count, "could not append {count} orders to the ledger: {error}");
        match error {
            ledger::Error::Corrupt(_) if count > 1 => {
                let second = entries.split_off(count / 2);
                let mut appended = Box::pin(self.append(entries)).await;
                appended.extend(Box::pin(self.append(second)).await);
                appended
            }
            ledger::Error::Unavailable(_) | ledger::Error::Unknown(_) => {
                self.admission.ledger_is(false);
                vec![Err(error); count]
            }
            ledger::Error::Corrupt(_) | ledger::Error::Busy => vec![Err(error); count],
        }
    }

    /// Tells the gate what became of each reservation; answers the shards that may not have got it.
    async fn settle(&self, jobs: &[Job], outcomes: &[RecordOutcome]) -> Vec<ShardEpoch> {
        let mut by_shard: HashMap<ShardEpoch, Vec<Settlement>> = HashMap::new();
        for (job, outcome) in jobs.iter().zip(outcomes) {
            if let Some(at) = job.at() {
                by_shard.entry(at).or_default().push(job.settlement(outcome));
            }
        }
        let settles = by_shard.iter().map(|(at, settlements)| async move {
            // A hint that is lost costs a look-up later: the lease runs out and the ledger answers "exists".
            let error = self.core.gate.settle(*at, settlements).await.err()?;
            let count = settlements.len();
            tracing::debug!(%error, sale = at.sale.0, shard = at.shard, "could not settle {count} orders with the gate");
            self.core.metrics.settles_lost.add(1);
            Some(*at)
        });
        let lost = join_all(settles).await.into_iter().flatten().collect();
        for (job, outcome) in jobs.iter().zip(outcomes) {
            if let RecordOutcome::Known { spent: false, .. } | RecordOutcome::Denied(_) = outcome {
                job.active.clear_sold_out(job.reservation.sku);
            }
        }
        lost
    }
}

/// Units of orders that were recorded after their shard's gate had been loaded anew, without them: the gate must not sell
/// them again. A hint like any other: what it misses, the ledger refuses and reconciling finds.
fn uncounted(jobs: &[Job], outcomes: &[RecordOutcome]) -> HashMap<(ShardEpoch, u16), i64> {
    let mut units = HashMap::new();
    for (job, outcome) in jobs.iter().zip(outcomes) {
        if let RecordOutcome::Created { epoch: Some(newest), .. } = outcome
            && job.epoch.is_none_or(|reserved_in| reserved_in < *newest)
        {
            let at = job.shard.in_epoch(*newest);
            *units.entry((at, job.reservation.sku)).or_default() += i64::from(job.reservation.quantity);
        }
    }
    units
}
