//! What happens to an order after it was made: steps that somebody asks for, and reports of payment providers. They are
//! committed in groups like orders: what comes while one transaction runs makes up the next one.
//!
//! Units come back in the ledger first and in the gate after, and only then is anybody told.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Duration, timeout};

use super::{Engine, ledger_trouble};
use crate::ledger::idempotency::{Operation, Scope};
use crate::ledger::{self, Change, ChangeOutcome, ReportOutcome, StepOutcome, StepRequest};
use crate::limits;
use crate::order::{Actor, Code, Fingerprint, Key, Note, OrderNo, OrderView, Refusal, Report, State, Step, UserId};

/// A request for a step in the life of an order.
#[derive(Clone, Debug)]
pub struct TakeStep {
    /// The order.
    pub order_no: OrderNo,
    /// Whose it must be; `None`: anybody's, for operators.
    pub user: Option<UserId>,
    /// The step.
    pub step: Step,
    /// Whether the units of a refunded order go back on sale.
    pub restock: bool,
    /// The client's key.
    pub key: Key,
}

/// A step that was taken.
#[derive(Clone, Debug)]
pub struct StepTaken {
    /// The order as the first request with this key left it.
    pub view: OrderView,
    /// Whether this is not that first request.
    pub is_replay: bool,
}

/// What became of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportResult {
    /// What became of it.
    pub note: Note,
    /// What became of the refunds that waited for it, if there were any.
    pub waited: Option<Note>,
    /// Whether it is kept since now, and not since before.
    pub is_new: bool,
}

/// A change on its way to the ledger.
pub(super) struct LifecycleJob {
    change: Change,
    /// Given back when the change is answered.
    _place: OwnedSemaphorePermit,
    answer: oneshot::Sender<Result<ChangeOutcome, ledger::Error>>,
}

impl Engine {
    /// Takes a step in the life of an order, once per key. This is where every keyed operation passes.
    ///
    /// Cancel-safe: once polled, the step is taken whether or not anybody waits for the answer.
    pub async fn take_step(&self, ask: TakeStep) -> Result<StepTaken, Refusal> {
        let TakeStep { order_no, user, step, restock, key } = ask;
        let number = order_no.to_string();
        let who = user.map_or_else(|| "operator".to_owned(), |user| user.to_string());
        // Numbers and fixed words only: such a scope is always valid.
        let scope = Scope::new(&[step.as_str(), &who, &number]).map_err(|_| Code::OrderNotFound)?;
        let fingerprint = Fingerprint::of_fields(step.as_str(), &[order_no.as_bytes(), &[u8::from(restock)]]);
        let asked = StepRequest {
            order_no,
            user,
            step,
            restock,
            by: if user.is_some() { Actor::Buyer } else { Actor::Operator },
            operation: Operation { scope, key, fingerprint },
            keep_until: self.clock.now_ms().saturating_add(limits::KEY_KEPT_MS),
        };
        let (order, is_replay) =
            match self.change(Change::Step(asked)).await?.step().map_err(|error| ledger_trouble(&error))? {
                StepOutcome::Done { order, .. } => (order, false),
                StepOutcome::Before(order) => (order, true),
                StepOutcome::NotFound => return Err(Code::OrderNotFound.into()),
                StepOutcome::OtherContent => return Err(Code::IdempotencyKeyReused.into()),
                StepOutcome::NotAllowed(state) => return Err(not_allowed(state)),
            };
        // A sale that another engine has just made may not be known here yet: the same request finds the answer.
        let view = self.view(order).ok_or(Code::UnknownOutcome)?;
        Ok(StepTaken { view, is_replay })
    }

    /// Takes in a verified report of a payment provider. `Ok` with what became of it when it is kept, now or before;
    /// `order_not_found` if there is no such order.
    ///
    /// Cancel-safe: once polled, the report is taken in whether or not anybody waits for the answer.
    pub async fn record_report(&self, report: Report) -> Result<ReportResult, Refusal> {
        match self.change(Change::Report(report)).await?.report().map_err(|error| ledger_trouble(&error))? {
            ReportOutcome::Recorded { note, parked, is_new, .. } => Ok(ReportResult { note, waited: parked, is_new }),
            ReportOutcome::NotFound => Err(Code::OrderNotFound.into()),
        }
    }

    async fn change(&self, change: Change) -> Result<ChangeOutcome, Refusal> {
        let place = self.lifecycle_permits.clone().try_acquire_owned().map_err(|_| Code::Overloaded)?;
        let (answer, answered) = oneshot::channel();
        let job = LifecycleJob { change, _place: place, answer };
        // There is a place in the queue for every permit: it fails only when the engine has stopped.
        self.changes.try_send(job).map_err(|_| Code::LedgerUnavailable)?;
        let patience = Duration::from_millis(limits::ANSWER_MS_MAX);
        match timeout(patience, answered).await {
            Ok(Ok(Ok(changed))) => Ok(changed),
            Ok(Ok(Err(error))) => Err(ledger_trouble(&error).into()),
            // A ledger that takes for ever is an unknown outcome, like one that broke: the change goes on.
            Ok(Err(_)) | Err(_) => Err(Code::UnknownOutcome.into()),
        }
    }
}

/// Commits changes until the engine stops.
pub(super) async fn run(engine: Arc<Engine>, mut jobs: mpsc::Receiver<LifecycleJob>) {
    let at_once = engine.ledger.appends_at_once().clamp(1, limits::CHANGES_AT_ONCE);
    let mut running = JoinSet::new();
    let mut batch = Vec::with_capacity(limits::CHANGES_PER_BATCH_MAX);
    loop {
        tokio::select! {
            // Those that come while every transaction is taken wait in the queue and go together.
            _ = jobs.recv_many(&mut batch, limits::CHANGES_PER_BATCH_MAX), if running.len() < at_once => {
                let jobs = std::mem::replace(&mut batch, Vec::with_capacity(limits::CHANGES_PER_BATCH_MAX));
                if !jobs.is_empty() {
                    running.spawn(apply_changes(engine.clone(), jobs));
                }
            }
            Some(ended) = running.join_next() => match ended.map_err(tokio::task::JoinError::try_into_panic) {
                Ok(()) => {}
                Err(Ok(panic)) => std::panic::resume_unwind(panic),
                // The runtime is being shut down.
                Err(Err(_)) => return,
            },
            // Told to stop only when no change is under way.
            () = engine.stopping.cancelled() => return,
        }
    }
}

/// One transaction; then everybody is told, and those whose units came back after the gate was told of them.
async fn apply_changes(engine: Arc<Engine>, jobs: Vec<LifecycleJob>) {
    let changes: Vec<Change> = jobs.iter().map(|job| job.change.clone()).collect();
    let changed = engine.commit(changes).await;
    let (mut returned, mut waiting) = (Vec::new(), Vec::new());
    for (job, changed) in jobs.into_iter().zip(changed) {
        engine.count(&job.change, &changed);
        if let Ok(ChangeOutcome::Step(StepOutcome::Done { order, returned: Some(epoch) })) = &changed {
            returned.push((*order, *epoch));
            waiting.push((job, changed));
        } else {
            job.tell(changed);
        }
    }
    engine
        .return_units_beside(returned, move || waiting.into_iter().for_each(|(job, changed)| job.tell(changed)))
        .await;
}

impl LifecycleJob {
    fn tell(self, changed: Result<ChangeOutcome, ledger::Error>) {
        // The client may have hung up; its change is made all the same.
        drop(self.answer.send(changed));
    }
}

impl Engine {
    /// Whether or not anybody still waits for the answer.
    fn count(&self, change: &Change, changed: &Result<ChangeOutcome, ledger::Error>) {
        match (change, changed) {
            // Whoever cancels a cancelled order under another key finds it done.
            (Change::Step(asked), Ok(ChangeOutcome::Step(StepOutcome::Done { returned, .. })))
                if asked.step != Step::Cancel || returned.is_some() =>
            {
                self.metrics.step(asked.step, 1);
            }
            (
                Change::Report(_),
                Ok(ChangeOutcome::Report(ReportOutcome::Recorded { note, steps, is_new: true, .. })),
            ) => {
                self.metrics.report(*note);
                steps.iter().flatten().for_each(|step| self.metrics.step(*step, 1));
            }
            _ => {}
        }
    }

    /// Commits the changes; if they are rejected as a whole, those of each order on their own: a broken row, or one that
    /// somebody holds, is no reason to turn the others away.
    async fn commit(&self, changes: Vec<Change>) -> Vec<Result<ChangeOutcome, ledger::Error>> {
        let count = changes.len();
        let error = match self.commit_together(changes.clone()).await {
            Ok(changed) => return changed.into_iter().map(Ok).collect(),
            Err(error) => error,
        };
        if !matches!(error, ledger::Error::Corrupt(_) | ledger::Error::Busy) || count == 1 {
            return vec![Err(error); count];
        }
        let mut by_order: BTreeMap<Option<OrderNo>, Vec<usize>> = BTreeMap::new();
        for (n, change) in changes.iter().enumerate() {
            by_order.entry(change.order_no()).or_default().push(n);
        }
        let mut answers: Vec<_> = (0..count).map(|_| Err(ledger::Error::Busy)).collect();
        let (mut held, mut is_away) = (0, false);
        let mut orders = by_order.into_values();
        while !is_away && let Some(mut members) = orders.next() {
            let is_last = held == limits::HELD_ORDERS_PER_BATCH_MAX;
            if is_last {
                members.extend(orders.by_ref().flatten());
            }
            let some: Vec<Change> = members.iter().filter_map(|n| changes.get(*n).cloned()).collect();
            let changed = if is_last { self.commit_or_refuse(some).await } else { self.commit_of_order(some).await };
            let failed = |of: fn(&ledger::Error) -> bool| changed.iter().any(|one| one.as_ref().is_err_and(of));
            held += usize::from(failed(|error| matches!(error, ledger::Error::Busy)));
            is_away = failed(|error| matches!(error, ledger::Error::Unavailable(_) | ledger::Error::Unknown(_)));
            for (n, changed) in members.into_iter().zip(changed) {
                if let Some(answer) = answers.get_mut(n) {
                    *answer = changed;
                }
            }
        }
        answers
    }

    async fn commit_or_refuse(&self, changes: Vec<Change>) -> Vec<Result<ChangeOutcome, ledger::Error>> {
        let count = changes.len();
        match self.commit_together(changes).await {
            Ok(changed) => changed.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error); count],
        }
    }

    /// Commits changes of one order; if one of them is broken, each on its own.
    async fn commit_of_order(&self, changes: Vec<Change>) -> Vec<Result<ChangeOutcome, ledger::Error>> {
        let together = self.commit_or_refuse(changes.clone()).await;
        if changes.len() == 1 || !matches!(together.first(), Some(Err(ledger::Error::Corrupt(_)))) {
            return together;
        }
        let mut each = Vec::with_capacity(changes.len());
        for change in changes {
            each.extend(self.commit_or_refuse(vec![change]).await);
        }
        each
    }

    async fn commit_together(&self, changes: Vec<Change>) -> Result<Vec<ChangeOutcome>, ledger::Error> {
        let count = changes.len();
        let changed = self.ledger.change(changes, self.clock.now_ms()).await;
        if let Err(error) = &changed {
            tracing::error!(%error, changes = count, "change orders in the ledger");
            if matches!(error, ledger::Error::Unknown(_)) {
                self.mark_all_dirty();
            }
        }
        changed
    }
}

fn not_allowed(state: State) -> Refusal {
    Refusal::because(Code::InvalidTransition, format!("the order is {}", state.as_str()))
}
