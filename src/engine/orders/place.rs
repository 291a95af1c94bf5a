//! The path of an order: admission → gate → ledger → answer.
//!
//! `place` decides, everything else works. Up to `reserve` a request has spent nothing; from there on the order
//! belongs to the engine's own tasks and a client that hangs up loses only its answer.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use tracing::field::display;
use tracing::{Instrument, Span};

use super::job::{Attempt, Job, RecordOutcome, ReserveStep};
use super::replies::{RequestLog, limit_reached, not_open, receipt, repeat};
use super::{Orders, TURNS_MAX};
use crate::clock::UnixMs;
use crate::command::PlaceOrder;
use crate::engine::catalog::ActiveSale;
use crate::engine::stock::Need;
use crate::gate::{self, Denial, ReserveMode, ReserveOutcome};
use crate::ledger::AppendDenial;
use crate::limits;
use crate::order::{Code, Outcome, Refusal, Reservation};
use crate::trace;

/// Of the turns, those in which an order hopes that another request's refill is enough for it.
const TURNS_IN_HOPE: usize = 2;

impl Orders {
    /// Places an order, or answers the one that the same operation made before.
    ///
    /// Cancel-safe: whatever was begun is finished by the engine, and the same request finds it.
    pub(in crate::engine) async fn place(self: &Arc<Self>, request: &PlaceOrder<'_>) -> Result<Outcome, Refusal> {
        let started = Instant::now();
        let mut log = RequestLog::default();
        request.context.span.record("sale", request.sale_id.as_str());
        let answer = self.walk(request, &mut log).await;
        let metrics = &self.core.metrics;
        metrics.place_seconds.observe(started.elapsed().as_secs_f64());
        match &answer {
            // The writer counts it, whether or not the client still waits for the answer.
            Ok(Outcome::Created(_)) => {}
            Ok(Outcome::Replayed(_)) => metrics.replayed.add(1),
            // Refusals are counted where they are answered, together with those that never came this far.
            Err(refusal) => log.write(request, refusal),
        }
        answer
    }

    async fn walk(self: &Arc<Self>, request: &PlaceOrder<'_>, log: &mut RequestLog) -> Result<Outcome, Refusal> {
        let active = self.core.catalog.get(request.sale_id.as_str()).ok_or(Code::SaleNotFound)?;
        let order = self.identify(&active, request)?;
        log.order_no = Some(order.order_no);
        request.context.span.record("order_no", display(order.order_no));
        let deadline = request.context.deadline;
        if let Some(expires_at) = order.expired_token() {
            return self.after_expiry(&active, &order, expires_at, deadline).await;
        }
        let Some(sku) = order.sku else {
            return Err(self.sku_not_found(&active, &order).await);
        };
        let reservation = order.reservation(sku);

        for turn in 0..TURNS_MAX {
            let step = self.reserve(&active, reservation, &request.context.span).await?;
            log.hit |= step.is_hit();
            match step {
                ReserveStep::Queued { recorded, gated } => match answer(recorded).await? {
                    RecordOutcome::Created { created_at, .. } => {
                        return Ok(Outcome::Created(receipt(&active, &order, created_at)?));
                    }
                    RecordOutcome::Known { order: known, .. } => {
                        log.hit = true;
                        return repeat(&active, &order, known.fingerprint, known.created_at);
                    }
                    // The gate believed in units that the ledger does not have; the writer has corrected it.
                    RecordOutcome::Denied(AppendDenial::SoldOut) if gated => {}
                    RecordOutcome::Denied(AppendDenial::SoldOut) => self.gather(&active, &reservation, turn).await?,
                    RecordOutcome::Denied(AppendDenial::Closed) => return Err(Code::SaleEnded.into()),
                    RecordOutcome::Denied(AppendDenial::LimitReached) => return Err(limit_reached(&active)),
                    RecordOutcome::Trouble(code) => return Err(code.into()),
                },
                ReserveStep::Recorded { created_at } => return repeat(&active, &order, order.fingerprint, created_at),
                ReserveStep::OtherContent => return Err(Code::IdempotencyKeyReused.into()),
                ReserveStep::InFlight => self.settled(&active, &order, deadline).await?,
                ReserveStep::Denied { why, remembers_all } => {
                    let is_new = remembers_all && self.trusts_gate(&active);
                    if !is_new && let Some(known) = self.known_to_ledger(&active, &order).await? {
                        log.hit = true;
                        return known;
                    }
                    match why {
                        Denial::NotOpen(state) => return Err(not_open(state, self.core.clock.now_ms())),
                        Denial::UserLimit => return Err(limit_reached(&active)),
                        Denial::SegmentEmpty => self.gather(&active, &reservation, turn).await?,
                    }
                }
                ReserveStep::Stale { shard, epoch } => self.stock.reload(&active, shard, epoch).await?,
                ReserveStep::NoNew(code) => return Err(code.into()),
            }
        }
        Err(Code::Overloaded.into())
    }

    /// Asks the gate, and hands what it reserved to the writer. Runs to completion: a client that hangs up leaves no
    /// reservation without a task that gets it recorded.
    async fn reserve(
        self: &Arc<Self>,
        active: &ActiveSale,
        reservation: Reservation,
        span: &Span,
    ) -> Result<ReserveStep, Refusal> {
        let shard = active.shard(reservation.user.shard(active.sale.rules.shards));
        let epoch = active.runtime.shards.epoch(shard.shard);
        let reserve = trace::reserve(span, active.sale.id.as_str(), shard.shard);
        let (active, admitted, span) = (active.clone(), self.admission.admit(), span.clone());
        let attempt = Attempt { active, shard, epoch, reservation, admitted, span };
        let work = Box::pin(self.clone().reserve_and_queue(attempt));
        if reserve.is_disabled() {
            self.core.detached(work).await?
        } else {
            self.core.detached(Box::pin(work.instrument(reserve))).await?
        }
    }

    async fn reserve_and_queue(self: Arc<Self>, attempt: Attempt) -> Result<ReserveStep, Refusal> {
        let (shard, epoch) = (attempt.shard, attempt.epoch);
        let mode = attempt.mode();
        attempt.active.mark_dirty();
        if attempt.active.runtime.shards.is_bypassed(shard.shard) {
            return self.bypass_gate(attempt, None).await;
        }
        let stale = || ReserveStep::Stale { shard: shard.shard, epoch };
        let Some(at) = epoch.map(|epoch| shard.in_epoch(epoch)) else { return Ok(stale()) };
        let outcome = match self.ask(at, attempt.reservation, mode).await {
            Ok(outcome) => outcome,
            Err(gate::Error::Busy) => return Err(Code::Overloaded.into()),
            Err(error) => return self.bypass_gate(attempt, Some(error)).await,
        };
        match outcome {
            ReserveOutcome::Reserved { created_at, .. } => self.queue_reserved(attempt, created_at),
            ReserveOutcome::Recorded { created_at } => Ok(ReserveStep::Recorded { created_at }),
            ReserveOutcome::InFlight => Ok(ReserveStep::InFlight),
            ReserveOutcome::OtherContent => Ok(ReserveStep::OtherContent),
            ReserveOutcome::Denied { why, remembers_all } => Ok(ReserveStep::Denied { why, remembers_all }),
            ReserveOutcome::StaleEpoch => Ok(stale()),
            ReserveOutcome::NotFound if mode == ReserveMode::Create => {
                crate::bug!("the gate does not know order {}, which it was to reserve", attempt.reservation.order_no);
                Err(Code::UnknownOutcome.into())
            }
            ReserveOutcome::NotFound => Ok(ReserveStep::NoNew(attempt.admitted.no_new.unwrap_or(Code::Overloaded))),
        }
    }

    fn queue_reserved(&self, attempt: Attempt, created_at: UnixMs) -> Result<ReserveStep, Refusal> {
        let Attempt { active, shard, epoch, admitted, span, reservation } = attempt;
        let reservation = Reservation { created_at, ..reservation };
        let Some(permit) = admitted.permit else {
            crate::bug!("the gate reserved order {}, which it was only to look up", reservation.order_no);
            return Err(Code::UnknownOutcome.into());
        };
        let (answer, recorded) = oneshot::channel();
        let (answer, span) = (Some(answer), trace::record(&span));
        self.queue(Job { active, shard, epoch, reservation, permit, bypass: None, answer, span })?;
        Ok(ReserveStep::Queued { recorded, gated: true })
    }

    /// Brings units into the user's shard, or refuses because all shards together have too few.
    async fn gather(&self, active: &ActiveSale, reservation: &Reservation, turn: usize) -> Result<(), Refusal> {
        let need = Need {
            shard: reservation.user.shard(active.sale.rules.shards),
            sku: reservation.sku,
            quantity: reservation.quantity,
            may_hope: turn < TURNS_IN_HOPE,
        };
        self.stock.gather(active, need).await
    }
}

/// What the writer says. A ledger that takes for ever is an unknown outcome, like one that broke: the order goes on.
async fn answer(recorded: oneshot::Receiver<RecordOutcome>) -> Result<RecordOutcome, Refusal> {
    let answered = timeout(Duration::from_millis(limits::ANSWER_MS_MAX), recorded).await;
    answered.ok().and_then(Result::ok).ok_or(Code::UnknownOutcome.into())
}
