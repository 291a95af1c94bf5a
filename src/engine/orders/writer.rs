//! Group commit: the orders that arrive while one ledger transaction runs make up the next one. Nobody sleeps to fill
//! a batch, and nobody is answered before the commit of theirs.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::join_all;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::batches::{Batch, Batches, Shard};
use super::bypass::BypassPermit;
use crate::admission::InFlightPermit;
use crate::clock::UnixMs;
use crate::engine::catalog::ActiveSale;
use crate::engine::{Engine, ledger_trouble};
use crate::gate::{Settlement, ShardEpoch};
use crate::ledger::{self, AppendDenial, AppendOutcome, Entry};
use crate::limits;
use crate::order::{Code, Order, Reservation};

/// A reserved order on its way to the ledger.
pub(in crate::engine) struct Job {
    pub(in crate::engine) active: ActiveSale,
    /// Epoch 0: no gate holds its units.
    pub(in crate::engine) at: ShardEpoch,
    pub(in crate::engine) reservation: Reservation,
    /// Given back when the order is answered.
    pub(in crate::engine) permit: InFlightPermit,
    /// Given back as well, if the order goes to the ledger without a gate.
    pub(in crate::engine) bypass: Option<BypassPermit>,
    /// Who waits for it; nobody, if the sweeper found it.
    pub(in crate::engine) answer: Option<oneshot::Sender<RecordOutcome>>,
}

/// What came of a [`Job`].
#[derive(Debug)]
pub(in crate::engine) enum RecordOutcome {
    /// It was recorded by this attempt, when the shard's newest epoch was this.
    Created { created_at: UnixMs, epoch: i64 },
    /// It was recorded before: by an earlier attempt of this reservation, whose units are `spent` then, or before this
    /// reservation was made.
    Known { order: Order, spent: bool },
    /// The ledger said no.
    Denied(AppendDenial),
    /// The ledger did not say.
    Trouble(Code),
}

/// Writes until the engine stops. How many transactions run beside each other is the ledger's choice: on SQLite, whose
/// commits do not overlap, a second one was measured to cost a tenth more CPU per order.
pub(in crate::engine) async fn run(engine: Arc<Engine>, mut jobs: mpsc::Receiver<Job>) {
    let mut batches = Batches::new(engine.stall_watches.len());
    let mut idle: Vec<usize> = (0..engine.stall_watches.len()).collect();
    let mut running = JoinSet::new();
    let mut fresh = Vec::with_capacity(limits::BATCH_ORDERS_MAX);
    loop {
        tokio::select! {
            _ = jobs.recv_many(&mut fresh, limits::BATCH_ORDERS_MAX) => {}
            Some(ended) = running.join_next() => match ended {
                Ok((place, shards)) => {
                    idle.push(place);
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
            // Told to stop only when no order is in flight, so there is nothing left to gather.
            () = engine.stopping.cancelled() => return,
        }
        for job in fresh.drain(..) {
            batches.add((job.at.sale, job.at.shard), job.reservation.order_no, job);
        }
        while let Some(place) = idle.pop() {
            let Some(Batch { shards, orders }) = batches.begin(Instant::now()) else {
                idle.push(place);
                break;
            };
            let engine = engine.clone();
            running.spawn(async move {
                engine.record(place, orders).await;
                (place, shards)
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

impl Engine {
    /// Hands an order to the writer. Fails only if the engine has stopped: the queue has a place for every seat.
    pub(in crate::engine) fn queue(&self, job: Job) -> Result<(), Code> {
        self.queue.try_send(job).map_err(|_| Code::UnknownOutcome)
    }

    /// Appends one batch; then, without keeping the next one waiting, tells the gate and answers everyone in it.
    async fn record(self: &Arc<Self>, place: usize, jobs: Vec<Job>) {
        let entries = jobs.iter().map(Job::entry).collect();
        let started = Instant::now();
        let stall_watches = self.stall_watches.get(place);
        stall_watches.inspect(|stall_watches| stall_watches.begin());
        let appended = self.append(entries).await;
        stall_watches.inspect(|stall_watches| stall_watches.end());
        self.metrics.append_seconds.observe(started.elapsed().as_secs_f64());
        self.metrics.batch_orders.observe(f64::from(u32::try_from(jobs.len()).unwrap_or(u32::MAX)));

        let recorded: Vec<RecordOutcome> =
            jobs.iter().zip(appended).map(|(job, appended)| job.recorded(&appended)).collect();
        let created = recorded.iter().filter(|recorded| matches!(recorded, RecordOutcome::Created { .. })).count();
        self.metrics.created.add(u64::try_from(created).unwrap_or(0));
        let mut finish = Box::pin(self.clone().finish(jobs, recorded));
        // A gate in memory settles at once.
        if futures_util::poll!(finish.as_mut()).is_pending() {
            self.tasks.spawn(finish);
        }
    }

    /// Tells the gate what became of a batch, then everyone in it: who repeats an answered order finds it settled.
    async fn finish(self: Arc<Self>, jobs: Vec<Job>, mut recorded: Vec<RecordOutcome>) {
        let lost = self.settle(&jobs, &recorded).await;
        for (job, recorded) in jobs.iter().zip(&mut recorded) {
            // The gate still holds it, so the order is tried again when its lease is over, and the user's limit may have
            // room by then: that is no final "no".
            if matches!(recorded, RecordOutcome::Denied(AppendDenial::LimitReached)) && lost.contains(&job.at) {
                *recorded = RecordOutcome::Trouble(Code::UnknownOutcome);
            }
        }
        let uncounted = uncounted(&jobs, &recorded);
        for (job, recorded) in jobs.into_iter().zip(recorded) {
            self.waiters.wake(&job.reservation.order_no);
            if let Some(answer) = job.answer {
                // The client may have hung up; its order is recorded all the same.
                drop(answer.send(recorded));
            }
            drop((job.permit, job.bypass));
        }
        let gate = &self.gate;
        let taken = uncounted.into_iter().map(|((at, sku), units)| async move {
            let taken = gate.adjust(at, sku, -units).await;
            tracing::debug!(?taken, units, sale = at.sale.0, shard = at.shard, "recorded past the gate");
        });
        join_all(taken).await;
    }

    /// Appends the batch; if a row of it is rejected as a whole, halves it until the others are through.
    async fn append(&self, mut entries: Vec<Entry>) -> Vec<Result<AppendOutcome, ledger::Error>> {
        let count = entries.len();
        let error = match self.ledger.append(entries.clone()).await {
            Ok(appended) => {
                self.admission.ledger_is(true);
                return appended.into_iter().map(Ok).collect();
            }
            Err(error) => error,
        };
        self.metrics.append_failures.add(1);
        tracing::error!(%error, orders = count, "append to the ledger");
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

    /// Tells the gate what became of each reservation; the shards that may not have heard.
    async fn settle(&self, jobs: &[Job], recorded: &[RecordOutcome]) -> Vec<ShardEpoch> {
        let mut by_shard: HashMap<ShardEpoch, Vec<Settlement>> = HashMap::new();
        for (job, recorded) in jobs.iter().zip(recorded).filter(|(job, _)| job.at.epoch > 0) {
            by_shard.entry(job.at).or_default().push(job.settlement(recorded));
        }
        let settles = by_shard.iter().map(|(at, settlements)| async move {
            // A hint that is lost costs a look-up later: the lease runs out and the ledger answers "exists".
            let error = self.gate.settle(*at, settlements).await.err()?;
            tracing::debug!(%error, sale = at.sale.0, shard = at.shard, "settle at the gate");
            self.metrics.settles_lost.add(1);
            Some(*at)
        });
        let lost = join_all(settles).await.into_iter().flatten().collect();
        for (job, recorded) in jobs.iter().zip(recorded) {
            if let RecordOutcome::Known { spent: false, .. } | RecordOutcome::Denied(_) = recorded {
                job.active.clear_sold_out(job.reservation.sku);
            }
        }
        lost
    }
}

/// Units of orders that were recorded after their shard's gate had been loaded anew, without them: the gate must not sell
/// them again. A hint like any other: what it misses, the ledger refuses and reconciling finds.
fn uncounted(jobs: &[Job], recorded: &[RecordOutcome]) -> HashMap<(ShardEpoch, u16), i64> {
    let mut units = HashMap::new();
    for (job, recorded) in jobs.iter().zip(recorded) {
        if let RecordOutcome::Created { epoch, .. } = recorded
            && *epoch > job.at.epoch
        {
            let at = ShardEpoch { epoch: *epoch, ..job.at };
            *units.entry((at, job.reservation.sku)).or_default() += i64::from(job.reservation.quantity);
        }
    }
    units
}

impl Job {
    fn entry(&self) -> Entry {
        Entry {
            sale: self.active.sale.clone(),
            shard: self.at.shard,
            epoch: self.at.epoch,
            reservation: self.reservation,
        }
    }

    fn recorded(&self, appended: &Result<AppendOutcome, ledger::Error>) -> RecordOutcome {
        match appended {
            Ok(AppendOutcome::Created { epoch }) => {
                RecordOutcome::Created { created_at: self.reservation.created_at, epoch: *epoch }
            }
            Ok(AppendOutcome::Exists(order)) => RecordOutcome::Known { order: *order, spent: self.made(order) },
            Ok(AppendOutcome::Denied(denial)) => RecordOutcome::Denied(*denial),
            Err(error) => RecordOutcome::Trouble(ledger_trouble(error)),
        }
    }

    /// Whether the row stands for this very reservation, whose units are then spent. A row from before the gate was
    /// loaded, or that the gate has forgotten since, was counted already: the units held a second time go back.
    fn made(&self, order: &Order) -> bool {
        (order.epoch, order.created_at, order.fingerprint)
            == (self.at.epoch, self.reservation.created_at, self.reservation.fingerprint)
    }

    fn settlement(&self, recorded: &RecordOutcome) -> Settlement {
        let order_no = self.reservation.order_no;
        match recorded {
            RecordOutcome::Created { created_at, .. } => Settlement::Commit { order_no, created_at: *created_at },
            RecordOutcome::Known { order, spent: true } => {
                Settlement::Commit { order_no, created_at: order.created_at }
            }
            RecordOutcome::Known { order, spent: false } => {
                Settlement::CommitEarlier { order_no, fingerprint: order.fingerprint, created_at: order.created_at }
            }
            RecordOutcome::Denied(AppendDenial::SoldOut) => Settlement::WriteOff { order_no },
            RecordOutcome::Denied(_) => Settlement::Release { order_no },
            RecordOutcome::Trouble(_) => Settlement::Abandon { order_no },
        }
    }
}
