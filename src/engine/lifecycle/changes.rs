//! Steps that a client asks for, and reports of payment providers. They are committed in groups like orders: what comes
//! while one transaction runs makes up the next one.
//!
//! Units come back in the ledger first and in the gate after, and only then is the client answered.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Duration, timeout};
use tracing::field::display;
use tracing::{Instrument, Span};

use super::Lifecycle;
use super::job::LifecycleJob;
use crate::command::{Principal, TakeStep};
use crate::engine::trouble::ledger_trouble;
use crate::ledger::idempotency::{Operation, Scope};
use crate::ledger::{self, Change, ChangeOutcome, ReportOutcome, StepOutcome, StepRequest};
use crate::limits;
use crate::order::{Actor, Code, Fingerprint, Note, OrderView, Refusal, Report, State, Step};
use crate::trace;

/// A step that was taken.
#[derive(Clone, Debug)]
pub struct StepTaken {
    /// The order as the first request with this key left it.
    pub view: OrderView,
    /// Whether this is not that first request.
    pub is_replay: bool,
}

impl StepTaken {
    /// Its word in the log.
    pub fn as_str(&self) -> &'static str {
        if self.is_replay { "replayed" } else { "taken" }
    }
}

/// What became of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportResult {
    /// What became of it.
    pub note: Note,
    /// What became of the refunds that waited for it, if there were any.
    pub waited: Option<Note>,
    /// `true` if this call stored the report.
    pub is_new: bool,
}

impl Lifecycle {
    /// Takes a step in the life of an order, once per key. Every keyed operation passes here.
    ///
    /// Cancel-safe: once polled, the step is taken whether or not the client waits for the answer.
    pub(in crate::engine) async fn take_step(&self, request: TakeStep) -> Result<StepTaken, Refusal> {
        let TakeStep { context, order_no, step, restock, key } = request;
        let span = &context.span;
        span.record("order_no", display(order_no));
        let (user, by) = match context.principal {
            Principal::Buyer(user) => (Some(user), Actor::Buyer),
            Principal::Operator => (None, Actor::Operator),
        };
        let number = order_no.to_string();
        let who = user.map_or_else(|| "operator".to_owned(), |user| user.to_string());
        let Ok(scope) = Scope::new(&[step.as_str(), &who, &number]) else {
            crate::bug!("numbers and fixed words make no scope for order {order_no}");
            return Err(Code::UnknownOutcome.into());
        };
        let fingerprint = Fingerprint::of_fields(step.as_str(), &[order_no.as_bytes(), &[u8::from(restock)]]);
        let asked = StepRequest {
            order_no,
            user,
            step,
            restock,
            by,
            operation: Operation { scope, key, fingerprint },
            keep_until: self.core.clock.now_ms().saturating_add(limits::KEY_KEPT_MS),
        };
        let outcome = self.change(Change::Step(asked), span).await?.step();
        let (order, is_replay) = match outcome.map_err(|error| ledger_trouble(&error))? {
            StepOutcome::Done { order, .. } => (order, false),
            StepOutcome::Before(order) => (order, true),
            StepOutcome::NotFound => return Err(Code::OrderNotFound.into()),
            StepOutcome::OtherContent => return Err(Code::IdempotencyKeyReused.into()),
            StepOutcome::NotAllowed(state) => return Err(not_allowed(state)),
        };
        // A sale that another engine has just made may not be known here yet: the same request finds the answer.
        let view = self.core.catalog.view(order).ok_or(Code::UnknownOutcome)?;
        span.record("sale", view.sale.id.as_str());
        Ok(StepTaken { view, is_replay })
    }

    /// Records a verified report of a payment provider. `Ok` with what became of it when it is stored, now or before;
    /// `order_not_found` if there is no such order.
    ///
    /// Cancel-safe: once polled, the report is recorded whether or not the provider waits for the answer.
    pub(in crate::engine) async fn record_report(&self, report: Report, span: &Span) -> Result<ReportResult, Refusal> {
        if let Some(order_no) = report.order_no() {
            span.record("order_no", display(order_no));
        }
        let outcome = self.change(Change::Report(report), span).await?.report();
        match outcome.map_err(|error| ledger_trouble(&error))? {
            ReportOutcome::Recorded { note, parked, is_new, .. } => Ok(ReportResult { note, waited: parked, is_new }),
            ReportOutcome::NotFound => Err(Code::OrderNotFound.into()),
        }
    }

    async fn change(&self, change: Change, operation: &Span) -> Result<ChangeOutcome, Refusal> {
        let permit = self.permits.clone().try_acquire_owned().map_err(|_| Code::Overloaded)?;
        let (answer, answered) = oneshot::channel();
        let job = LifecycleJob { change, permit, answer, span: trace::record(operation) };
        // The queue has room for every permit: this fails only when the engine has stopped.
        self.queue.try_send(job).map_err(|_| Code::LedgerUnavailable)?;
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
pub(in crate::engine) async fn run(lifecycle: Arc<Lifecycle>, mut jobs: mpsc::Receiver<LifecycleJob>) {
    let at_once = lifecycle.core.ledger.appends_at_once().clamp(1, limits::CHANGES_AT_ONCE);
    let mut running = JoinSet::new();
    let mut batch = Vec::with_capacity(limits::CHANGES_PER_BATCH_MAX);
    loop {
        tokio::select! {
            // Those that come while every transaction is taken wait in the queue and go together.
            _ = jobs.recv_many(&mut batch, limits::CHANGES_PER_BATCH_MAX), if running.len() < at_once => {
                let jobs = std::mem::replace(&mut batch, Vec::with_capacity(limits::CHANGES_PER_BATCH_MAX));
                if !jobs.is_empty() {
                    running.spawn(apply_changes(lifecycle.clone(), jobs));
                }
            }
            Some(ended) = running.join_next() => match ended.map_err(tokio::task::JoinError::try_into_panic) {
                Ok(()) => {}
                Err(Ok(panic)) => std::panic::resume_unwind(panic),
                // The runtime is being shut down.
                Err(Err(_)) => return,
            },
            // No change is under way by now, or the time to drain is over: its retry settles what is left.
            () = lifecycle.core.stopping.cancelled() => return,
        }
    }
}

/// Commits one transaction, then answers each change; those by which units came back after the gate has them.
async fn apply_changes(lifecycle: Arc<Lifecycle>, jobs: Vec<LifecycleJob>) {
    let changes: Vec<Change> = jobs.iter().map(|job| job.change.clone()).collect();
    let ledger = lifecycle.core.ledger.kind();
    let span = trace::change(jobs.iter().map(|job| &job.span), ledger, jobs.len());
    let changed = lifecycle.commit(changes).instrument(span.clone()).await;
    drop(span);
    let (mut returned, mut waiting) = (Vec::new(), Vec::new());
    for (job, changed) in jobs.into_iter().zip(changed) {
        lifecycle.count(&job.change, &changed);
        if let Ok(ChangeOutcome::Step(StepOutcome::Done { order, returned: Some(units) })) = &changed {
            returned.push((*order, *units));
            waiting.push((job, changed));
        } else {
            job.answer(changed);
        }
    }
    let answer_waiting = move || waiting.into_iter().for_each(|(job, changed)| job.answer(changed));
    lifecycle.returns.give_back(returned, answer_waiting).await;
}

impl Lifecycle {
    /// Counts what was done, whether or not the client still waits for the answer.
    fn count(&self, change: &Change, changed: &Result<ChangeOutcome, ledger::Error>) {
        match (change, changed) {
            // A cancel of a cancelled order under another key finds it done.
            (Change::Step(asked), Ok(ChangeOutcome::Step(StepOutcome::Done { returned, .. })))
                if asked.step != Step::Cancel || returned.is_some() =>
            {
                self.core.metrics.step(asked.step, 1);
            }
            (
                Change::Report(_),
                Ok(ChangeOutcome::Report(ReportOutcome::Recorded { note, steps, is_new: true, .. })),
            ) => {
                self.core.metrics.report(*note);
                steps.iter().flatten().for_each(|step| self.core.metrics.step(*step, 1));
            }
            _ => {}
        }
    }
}

fn not_allowed(state: State) -> Refusal {
    Refusal::because(Code::InvalidTransition, format!("the order is {}", state.as_str()))
}
