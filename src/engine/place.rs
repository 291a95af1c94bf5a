//! The path of an order: admission → gate → ledger → answer.
//!
//! `place` decides, everything else works. Up to `reserve` a request has spent nothing; from there on the order
//! belongs to the engine's own tasks and a client that hangs up loses only its answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};

use super::catalog::ActiveSale;
use super::refill::RefillOutcome;
use super::writer::{Job, RecordOutcome};
use super::{Engine, ledger_trouble};
use crate::admission::{Admitted, InFlightPermit};
use crate::clock::UnixMs;
use crate::gate::{self, Denial, ReserveMode, ReserveOutcome, ReserveRequest, ShardEpoch};
use crate::ledger::AppendDenial;
use crate::limits;
use crate::order::{
    Code, Fingerprint, Identity, InvalidKey, Key, OnDuplicate, OrderNo, Outcome, Receipt, Refusal, Reservation,
    SaleState, UserId, place_fingerprint,
};
use crate::token::VerifiedToken;

/// A parsed request for an order.
#[derive(Debug)]
pub struct PlaceOrder<'a> {
    /// The principal.
    pub user: UserId,
    /// As sent, and a valid name.
    pub sale_id: &'a str,
    /// As sent, and a valid name.
    pub sku_id: &'a str,
    /// 1..=[`crate::limits::QUANTITY_MAX`].
    pub quantity: u32,
    /// The key that was sent; a broken one matters only where the sale needs a key.
    pub key: Result<Option<Key>, InvalidKey>,
    /// The purchase token that was sent, or an empty text for one that cannot be read.
    pub token: Option<&'a str>,
    /// How long to wait for the answer of an order in flight.
    pub wait: Duration,
}

/// Times the path is walked before the client is asked to come back: stock that moves between shards, or an epoch
/// that changes, may need another turn.
pub(super) const TURNS_MAX: usize = 16;

/// Of those, the turns in which an order hopes that somebody else's refill is enough for it.
const TURNS_IN_HOPE: usize = 2;

/// What the log line of a request tells beside its answer.
#[derive(Default)]
struct RequestLog {
    order_no: Option<OrderNo>,
    /// Whether the gate or the ledger knew the order already.
    hit: bool,
}

impl Engine {
    /// Places an order, or answers the one that the same operation made before.
    ///
    /// Cancel-safe: whatever was begun is finished by the engine, and the same request finds it.
    pub async fn place(self: &Arc<Self>, request: &PlaceOrder<'_>) -> Result<Outcome, Refusal> {
        let started = Instant::now();
        let mut trace = RequestLog::default();
        let answer = self.walk(request, &mut trace).await;
        self.metrics.place_seconds.observe(started.elapsed().as_secs_f64());
        match &answer {
            // Counted by the writer, whether or not anybody still waits for the answer.
            Ok(Outcome::Created(_)) => {}
            Ok(Outcome::Replayed(_)) => self.metrics.replayed.add(1),
            // Refusals are counted where they are answered, together with those that never came this far.
            Err(refusal) => log(request, &trace, refusal),
        }
        answer
    }

    async fn walk(self: &Arc<Self>, request: &PlaceOrder<'_>, trace: &mut RequestLog) -> Result<Outcome, Refusal> {
        let active = self.catalog.get(request.sale_id).ok_or(Code::SaleNotFound)?;
        let (reservation, token) = self.identify(&active, request)?;
        trace.order_no = Some(reservation.order_no);
        let deadline = Instant::now() + request.wait;
        if let Some(token) = token.filter(|token| reservation.created_at >= token.expires_at) {
            return self.after_expiry(&active, &reservation, token.expires_at, deadline).await;
        }
        if active.sale.skus.get(usize::from(reservation.sku)).is_none() {
            return Err(self.sku_not_found(&active, &reservation).await);
        }

        for turn in 0..TURNS_MAX {
            let step = self.reserve(&active, reservation).await?;
            trace.hit |= step.is_hit();
            match step {
                ReserveStep::Queued { recorded, gated } => match answer(recorded).await? {
                    RecordOutcome::Created { created_at, .. } => {
                        return Ok(Outcome::Created(receipt(&active, &reservation, created_at)));
                    }
                    RecordOutcome::Known { order, .. } => {
                        trace.hit = true;
                        return repeat(&active, &reservation, order.fingerprint, order.created_at);
                    }
                    // The gate believed in units that the ledger does not have; it has been told.
                    RecordOutcome::Denied(AppendDenial::SoldOut) if gated => {}
                    RecordOutcome::Denied(AppendDenial::SoldOut) => {
                        self.more_units(&active, &reservation, turn).await?
                    }
                    RecordOutcome::Denied(AppendDenial::Closed) => return Err(Code::SaleEnded.into()),
                    RecordOutcome::Denied(_) => return Err(limit_reached(&active)),
                    RecordOutcome::Trouble(code) => return Err(code.into()),
                },
                ReserveStep::Answered(ReserveOutcome::Recorded { created_at }) => {
                    return repeat(&active, &reservation, reservation.fingerprint, created_at);
                }
                ReserveStep::Answered(ReserveOutcome::OtherContent) => return Err(Code::IdempotencyKeyReused.into()),
                ReserveStep::Answered(ReserveOutcome::InFlight) => {
                    self.settled(&active, &reservation, deadline).await?
                }
                ReserveStep::Answered(ReserveOutcome::Refused { why, remembers_all }) => {
                    let is_new = remembers_all && self.trusts_gate(&active);
                    if !is_new && let Some(known) = self.known_to_ledger(&active, &reservation).await? {
                        trace.hit = true;
                        return known;
                    }
                    match why {
                        Denial::NotOpen(state) => return Err(not_open(state, self.clock.now_ms())),
                        Denial::UserLimit => return Err(limit_reached(&active)),
                        Denial::SegmentEmpty => self.more_units(&active, &reservation, turn).await?,
                    }
                }
                ReserveStep::Stale(at) => self.reload(&active, at).await?,
                ReserveStep::NoNew(code) => return Err(code.into()),
                ReserveStep::Answered(
                    ReserveOutcome::Reserved { .. } | ReserveOutcome::NotFound | ReserveOutcome::StaleEpoch,
                ) => {
                    return Err(Code::Overloaded.into());
                }
            }
        }
        Err(Code::Overloaded.into())
    }

    /// What the request wants and which operation it is: a token says so, whatever the sale's boundary and the key are.
    fn identify(
        &self,
        active: &ActiveSale,
        request: &PlaceOrder<'_>,
    ) -> Result<(Reservation, Option<VerifiedToken>), Refusal> {
        let sale = &active.sale;
        let created_at = self.clock.now_ms();
        let token = self.token_of(sale, request.user, request.token)?;
        let identity = match (&token, &request.key) {
            (Some(token), _) => Some(Identity::Token(&token.id)),
            (None, _) if !sale.rules.boundary.needs_key() => {
                Identity::of(&sale.rules, None, request.sku_id, created_at)
            }
            (None, Ok(key)) => Identity::of(&sale.rules, key.as_ref(), request.sku_id, created_at),
            (None, Err(invalid)) => return Err(Refusal::because(Code::IdempotencyKeyInvalid, invalid.to_string())),
        };
        let identity = identity.ok_or(Code::IdempotencyKeyMissing)?;
        // A sku that is not there is a content like any other until it is known that the operation is a new one.
        let sku = sale.sku(request.sku_id).map_or(u16::MAX, |(sku, _)| sku);
        let (salt, id) = (&sale.salt, sale.id.as_str());
        let reservation = Reservation {
            order_no: OrderNo::derive(salt, id, request.user, identity),
            fingerprint: place_fingerprint(salt, id, request.user, request.sku_id, request.quantity),
            user: request.user,
            sku,
            quantity: request.quantity,
            created_at,
        };
        Ok((reservation, token))
    }

    /// Asks the gate, and hands what it reserved to the writer. Runs to completion: no reservation is left without
    /// somebody to record it because a client hung up.
    async fn reserve(self: &Arc<Self>, active: &ActiveSale, reservation: Reservation) -> Result<ReserveStep, Refusal> {
        let Admitted { permit, no_new } = self.admission.admit();
        let work = self.clone().reserve_and_queue(active.clone(), reservation, permit, no_new);
        self.detached(work).await?
    }

    async fn reserve_and_queue(
        self: Arc<Self>,
        active: ActiveSale,
        reservation: Reservation,
        permit: Option<InFlightPermit>,
        no_new: Option<Code>,
    ) -> Result<ReserveStep, Refusal> {
        let at = active.at(reservation.user.shard(active.sale.rules.shards));
        active.runtime.mark_dirty();
        if active.runtime.is_bypassed(at.shard) {
            return self.bypass_gate(active, at, reservation, permit, no_new, None).await;
        }
        let may = match (&no_new, &permit) {
            (None, Some(_)) => ReserveMode::Create,
            (Some(_), Some(_)) => ReserveMode::Resume,
            (_, None) => ReserveMode::Look,
        };
        let held = match self.ask(at, reservation, may).await {
            Ok(held) => held,
            Err(gate::Error::Busy) => return Err(Code::Overloaded.into()),
            Err(error) => return self.bypass_gate(active, at, reservation, permit, no_new, Some(error)).await,
        };
        match (held, permit) {
            (ReserveOutcome::Reserved { created_at, .. }, Some(permit)) => {
                let (answer, recorded) = oneshot::channel();
                let reservation = Reservation { created_at, ..reservation };
                self.queue(Job { active, at, reservation, permit, bypass: None, answer: Some(answer) })?;
                Ok(ReserveStep::Queued { recorded, gated: true })
            }
            (ReserveOutcome::StaleEpoch, _) => Ok(ReserveStep::Stale(at)),
            (ReserveOutcome::NotFound, _) => Ok(ReserveStep::NoNew(no_new.unwrap_or(Code::Overloaded))),
            (held, _) => Ok(ReserveStep::Answered(held)),
        }
    }

    /// Asks the gate; if its answer is lost, once more: it knows who asks and answers the same.
    async fn ask(
        &self,
        at: ShardEpoch,
        reservation: Reservation,
        mode: ReserveMode,
    ) -> Result<ReserveOutcome, gate::Error> {
        let ask = [ReserveRequest { reservation, mode, attempt_id: self.asked.fetch_add(1, Ordering::Relaxed) }];
        let held = match self.gate.reserve(at, self.clock.now_ms(), &ask).await {
            Err(gate::Error::Unknown(_)) => self.gate.reserve(at, self.clock.now_ms(), &ask).await?,
            held => held?,
        };
        held.first().copied().ok_or_else(|| gate::Error::Unknown("no answer among the answers".to_owned()))
    }

    /// Waits until the order in flight is settled; refuses when the client did not ask to wait, or waited in vain.
    pub(super) async fn settled(
        &self,
        active: &ActiveSale,
        reservation: &Reservation,
        deadline: Instant,
    ) -> Result<(), Refusal> {
        let _place = self.waiters.place().ok_or(Code::IdempotencyInProgress)?;
        loop {
            let wake = self.waiters.next_wake(&reservation.order_no).ok_or(Code::IdempotencyInProgress)?;
            tokio::pin!(wake);
            wake.as_mut().enable();
            if !self.is_in_flight(active, reservation).await {
                return Ok(());
            }
            let now = Instant::now();
            if now >= deadline {
                return Err(Code::IdempotencyInProgress.into());
            }
            let look_at = now + Duration::from_millis(limits::WAIT_POLL_MS);
            // Rung or not, the next turn looks again: a bell serves many orders.
            timeout_at(deadline.min(look_at), wake).await.unwrap_or_default();
        }
    }

    /// Whether somebody is getting the order recorded. Only looks: an order past its lease is not taken over. A gate
    /// that fails holds nobody up.
    async fn is_in_flight(&self, active: &ActiveSale, reservation: &Reservation) -> bool {
        self.look(active, reservation).await.is_ok_and(|held| held == ReserveOutcome::InFlight)
    }

    pub(super) async fn look(
        &self,
        active: &ActiveSale,
        reservation: &Reservation,
    ) -> Result<ReserveOutcome, gate::Error> {
        self.ask(active.at(reservation.user.shard(active.sale.rules.shards)), *reservation, ReserveMode::Look).await
    }

    /// The answer to a sku that the sale does not have: a new operation fails for that, a known one for its content.
    async fn sku_not_found(&self, active: &ActiveSale, reservation: &Reservation) -> Refusal {
        let in_gate = self.look(active, reservation).await == Ok(ReserveOutcome::OtherContent);
        match self.known_to_ledger(active, reservation).await {
            _ if in_gate => Code::IdempotencyKeyReused.into(),
            Ok(Some(_)) => Code::IdempotencyKeyReused.into(),
            Ok(None) => Code::SkuNotFound.into(),
            Err(refusal) => refusal,
        }
    }

    /// Asks the ledger whether the order exists, for a gate that does not remember every order.
    pub(super) async fn known_to_ledger(
        &self,
        active: &ActiveSale,
        reservation: &Reservation,
    ) -> Result<Option<Result<Outcome, Refusal>>, Refusal> {
        let found = self
            .ledger
            .find(Some(reservation.user), reservation.order_no)
            .await
            .map_err(|error| ledger_trouble(&error))?;
        Ok(found.map(|order| repeat(active, reservation, order.fingerprint, order.created_at)))
    }

    /// Brings units into the user's shard, or refuses because all shards together have too few.
    async fn more_units(
        self: &Arc<Self>,
        active: &ActiveSale,
        reservation: &Reservation,
        turn: usize,
    ) -> Result<(), Refusal> {
        let sold_out = active.runtime.sku(reservation.sku).map(|sku| &sku.sold_out);
        if sold_out.is_some_and(|sold_out| sold_out.is_sold_out(reservation.quantity, self.clock.now_ms())) {
            return Err(Code::SoldOut.into());
        }
        let shard = reservation.user.shard(active.sale.rules.shards);
        let runtime = active.runtime.sku(reservation.sku).ok_or(Code::SkuNotFound)?;
        let refills = runtime.refills.load(Ordering::SeqCst);
        // The right is waited for here, where a client that hangs up leaves nothing behind.
        let patience = Duration::from_millis(limits::REFILL_WAIT_MS_MAX);
        let moving =
            timeout(patience, self.lock_moves(active, reservation.sku)).await.map_err(|_| Code::Overloaded)??;
        // Of a crowd that waited, the first has counted for all.
        if runtime.sold_out.was_sold_out(reservation.quantity) && runtime.refills.load(Ordering::SeqCst) != refills {
            return Err(Code::SoldOut.into());
        }
        // Perhaps it has brought enough for all; whoever was too late for that sees to it themselves.
        if turn < TURNS_IN_HOPE && runtime.refills.load(Ordering::SeqCst) != refills {
            return Ok(());
        }
        let refill = self.clone().refill(active.clone(), moving, shard, reservation.sku, reservation.quantity);
        match self.detached(refill).await?? {
            RefillOutcome::TryAgain => Ok(()),
            RefillOutcome::SoldOut => Err(Code::SoldOut.into()),
            RefillOutcome::Stranded => self.detached(self.clone().free_stranded(active.clone())).await?,
        }
    }
}

/// Where the gate left the request.
pub(super) enum ReserveStep {
    /// On its way to the ledger, reserved if a gate could be asked.
    Queued { recorded: oneshot::Receiver<RecordOutcome>, gated: bool },
    /// Not reserved by this request.
    Answered(ReserveOutcome),
    /// New orders are not taken now.
    NoNew(Code),
    /// The gate does not know this epoch.
    Stale(ShardEpoch),
}

impl ReserveStep {
    fn is_hit(&self) -> bool {
        matches!(
            self,
            ReserveStep::Answered(
                ReserveOutcome::Recorded { .. } | ReserveOutcome::InFlight | ReserveOutcome::OtherContent
            )
        )
    }
}

/// What the writer says. A ledger that takes for ever is an unknown outcome, like one that broke: the order goes on.
async fn answer(recorded: oneshot::Receiver<RecordOutcome>) -> Result<RecordOutcome, Refusal> {
    let answered = timeout(Duration::from_millis(limits::ANSWER_MS_MAX), recorded).await;
    answered.ok().and_then(Result::ok).ok_or(Code::UnknownOutcome.into())
}

/// The answer to an operation that has made its order.
pub(super) fn repeat(
    active: &ActiveSale,
    reservation: &Reservation,
    fingerprint: Fingerprint,
    created_at: UnixMs,
) -> Result<Outcome, Refusal> {
    if fingerprint != reservation.fingerprint {
        return Err(Code::IdempotencyKeyReused.into());
    }
    match active.sale.rules.on_duplicate {
        OnDuplicate::Replay => Ok(Outcome::Replayed(receipt(active, reservation, created_at))),
        OnDuplicate::Conflict => {
            Err(Refusal { order_no: Some(reservation.order_no), ..Refusal::from(Code::IdempotencyConflict) })
        }
    }
}

fn receipt(active: &ActiveSale, reservation: &Reservation, created_at: UnixMs) -> Receipt {
    Receipt {
        order_no: reservation.order_no,
        sale: active.sale.clone(),
        sku: reservation.sku,
        user: reservation.user,
        quantity: reservation.quantity,
        created_at,
    }
}

fn not_open(state: SaleState, now_ms: UnixMs) -> Refusal {
    match state {
        SaleState::Scheduled(starts_at) => {
            let wait_ms = u64::try_from(starts_at.saturating_sub(now_ms)).unwrap_or(0);
            Refusal::from(Code::SaleNotOpen).retry_after(wait_ms.div_ceil(1000).max(1))
        }
        SaleState::Paused => Code::SalePaused.into(),
        SaleState::Ended => Code::SaleEnded.into(),
        // It opened between the gate's look and this one: the next try finds it open.
        SaleState::Open => Refusal::from(Code::SaleNotOpen).retry_after(1),
    }
}

fn limit_reached(active: &ActiveSale) -> Refusal {
    let limit = active.sale.rules.user_limit.unwrap_or(0);
    Refusal::because(Code::LimitReached, format!("at most {limit} units of a sku per user"))
}

/// One line for each request that failed or that we turned away ourselves. A "no" of the sale is not trouble: it is
/// counted, and told at debug level only.
fn log(request: &PlaceOrder<'_>, trace: &RequestLog, refusal: &Refusal) {
    let key = request.key.as_ref().ok().and_then(Option::as_ref).map_or("", Key::as_str);
    let order_no = trace.order_no.map(|no| no.to_string()).unwrap_or_default();
    let (code, hit, user) = (refusal.code.as_str(), trace.hit, request.user.get());
    match refusal.code {
        Code::Overloaded
        | Code::RateLimited
        | Code::GateUnavailable
        | Code::LedgerUnavailable
        | Code::UnknownOutcome => {
            tracing::warn!(code, user, key, order_no, hit, sale = request.sale_id, "order not taken");
        }
        _ => tracing::debug!(code, user, key, order_no, hit, sale = request.sale_id, "order refused"),
    }
}
