//! The path of an order: admission → gate → ledger → answer.
//!
//! `place` decides, everything else works. Up to `reserve` a request has spent nothing; from there on the order
//! belongs to the engine's own tasks and a client that hangs up loses only its answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};

use super::catalog::Offer;
use super::refill::Refilled;
use super::writer::{Job, Recorded};
use super::{Engine, ledger_trouble};
use crate::admission::{Admitted, Seat};
use crate::clock::UnixMs;
use crate::gate::{self, Ask, At, Held, May, No};
use crate::ledger::Appended;
use crate::limits;
use crate::order::{
    Code, Fingerprint, Hold, Identity, InvalidKey, Key, OnDuplicate, OrderNo, Outcome, Receipt, Refusal, SaleState,
    UserId,
};
use crate::token::Genuine;

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
struct Trace {
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
        let mut trace = Trace::default();
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

    async fn walk(self: &Arc<Self>, request: &PlaceOrder<'_>, trace: &mut Trace) -> Result<Outcome, Refusal> {
        let offer = self.catalog.get(request.sale_id).ok_or(Code::SaleNotFound)?;
        let (hold, token) = self.identify(&offer, request)?;
        trace.order_no = Some(hold.order_no);
        let deadline = Instant::now() + request.wait;
        if let Some(token) = token.filter(|token| hold.created_at >= token.expires_at) {
            return self.after_expiry(&offer, &hold, token.expires_at, deadline).await;
        }
        if offer.sale.skus.get(usize::from(hold.sku)).is_none() {
            return Err(self.sku_not_found(&offer, &hold).await);
        }

        for turn in 0..TURNS_MAX {
            let step = self.reserve(&offer, hold).await?;
            trace.hit |= step.is_hit();
            match step {
                Step::Queued { recorded, gated } => match answer(recorded).await? {
                    Recorded::Created { created_at, .. } => {
                        return Ok(Outcome::Created(receipt(&offer, &hold, created_at)));
                    }
                    Recorded::Known { order, .. } => {
                        trace.hit = true;
                        return repeat(&offer, &hold, order.fingerprint, order.created_at);
                    }
                    // The gate believed in units that the ledger does not have; it has been told.
                    Recorded::Refused(Appended::SoldOut) if gated => {}
                    Recorded::Refused(Appended::SoldOut) => self.more_units(&offer, &hold, turn).await?,
                    Recorded::Refused(Appended::Closed) => return Err(Code::SaleEnded.into()),
                    Recorded::Refused(_) => return Err(limit_reached(&offer)),
                    Recorded::Trouble(code) => return Err(code.into()),
                },
                Step::Held(Held::Recorded { created_at }) => {
                    return repeat(&offer, &hold, hold.fingerprint, created_at);
                }
                Step::Held(Held::OtherContent) => return Err(Code::IdempotencyKeyReused.into()),
                Step::Held(Held::InFlight) => self.settled(&offer, &hold, deadline).await?,
                Step::Held(Held::Refused { why, remembers_all }) => {
                    let is_new = remembers_all && self.trusts_gate(&offer);
                    if !is_new && let Some(known) = self.known_to_ledger(&offer, &hold).await? {
                        trace.hit = true;
                        return known;
                    }
                    match why {
                        No::NotOpen(state) => return Err(not_open(state, self.clock.now_ms())),
                        No::UserLimit => return Err(limit_reached(&offer)),
                        No::SegmentEmpty => self.more_units(&offer, &hold, turn).await?,
                    }
                }
                Step::Stale(at) => self.reload(&offer, at).await?,
                Step::NoNew(code) => return Err(code.into()),
                Step::Held(Held::Reserved { .. } | Held::Unfamiliar | Held::StaleEpoch) => {
                    return Err(Code::Overloaded.into());
                }
            }
        }
        Err(Code::Overloaded.into())
    }

    /// What the request wants and which operation it is: a token says so, whatever the sale's boundary and the key are.
    fn identify(&self, offer: &Offer, request: &PlaceOrder<'_>) -> Result<(Hold, Option<Genuine>), Refusal> {
        let sale = &offer.sale;
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
        let hold = Hold {
            order_no: OrderNo::derive(salt, id, request.user, identity),
            fingerprint: Fingerprint::of_place(salt, id, request.user, request.sku_id, request.quantity),
            user: request.user,
            sku,
            quantity: request.quantity,
            created_at,
        };
        Ok((hold, token))
    }

    /// Asks the gate, and hands what it reserved to the writer. Runs to completion: no reservation is left without
    /// somebody to record it because a client hung up.
    async fn reserve(self: &Arc<Self>, offer: &Offer, hold: Hold) -> Result<Step, Refusal> {
        let Admitted { seat, no_new } = self.admission.admit();
        let work = self.clone().reserve_and_queue(offer.clone(), hold, seat, no_new);
        self.detached(work).await?
    }

    async fn reserve_and_queue(
        self: Arc<Self>,
        offer: Offer,
        hold: Hold,
        seat: Option<Seat>,
        no_new: Option<Code>,
    ) -> Result<Step, Refusal> {
        let at = offer.at(hold.user.shard(offer.sale.rules.shards));
        offer.live.stir();
        if offer.live.is_out(at.shard) {
            return self.without_gate(offer, at, hold, seat, no_new, None).await;
        }
        let may = match (&no_new, &seat) {
            (None, Some(_)) => May::Create,
            (Some(_), Some(_)) => May::Resume,
            (_, None) => May::Look,
        };
        let held = match self.ask(at, hold, may).await {
            Ok(held) => held,
            Err(gate::Error::Busy) => return Err(Code::Overloaded.into()),
            Err(error) => return self.without_gate(offer, at, hold, seat, no_new, Some(error)).await,
        };
        match (held, seat) {
            (Held::Reserved { created_at, .. }, Some(seat)) => {
                let (answer, recorded) = oneshot::channel();
                let hold = Hold { created_at, ..hold };
                self.queue(Job { offer, at, hold, seat, ungated: None, answer: Some(answer) })?;
                Ok(Step::Queued { recorded, gated: true })
            }
            (Held::StaleEpoch, _) => Ok(Step::Stale(at)),
            (Held::Unfamiliar, _) => Ok(Step::NoNew(no_new.unwrap_or(Code::Overloaded))),
            (held, _) => Ok(Step::Held(held)),
        }
    }

    /// Asks the gate; if its answer is lost, once more: it knows who asks and answers the same.
    async fn ask(&self, at: At, hold: Hold, may: May) -> Result<Held, gate::Error> {
        let ask = [Ask { hold, may, by: self.asked.fetch_add(1, Ordering::Relaxed) }];
        let held = match self.gate.reserve(at, self.clock.now_ms(), &ask).await {
            Err(gate::Error::Unknown(_)) => self.gate.reserve(at, self.clock.now_ms(), &ask).await?,
            held => held?,
        };
        held.first().copied().ok_or_else(|| gate::Error::Unknown("no answer among the answers".to_owned()))
    }

    /// Waits until the order in flight is settled; refuses when the client did not ask to wait, or waited in vain.
    pub(super) async fn settled(&self, offer: &Offer, hold: &Hold, deadline: Instant) -> Result<(), Refusal> {
        let _place = self.bells.place().ok_or(Code::IdempotencyInProgress)?;
        loop {
            let ring = self.bells.next_ring(&hold.order_no).ok_or(Code::IdempotencyInProgress)?;
            tokio::pin!(ring);
            ring.as_mut().enable();
            if !self.is_in_flight(offer, hold).await {
                return Ok(());
            }
            let now = Instant::now();
            if now >= deadline {
                return Err(Code::IdempotencyInProgress.into());
            }
            let look_at = now + Duration::from_millis(limits::WAIT_POLL_MS);
            // Rung or not, the next turn looks again: a bell serves many orders.
            timeout_at(deadline.min(look_at), ring).await.unwrap_or_default();
        }
    }

    /// Whether somebody is getting the order recorded. Only looks: an order past its lease is not taken over. A gate
    /// that fails holds nobody up.
    async fn is_in_flight(&self, offer: &Offer, hold: &Hold) -> bool {
        self.look(offer, hold).await.is_ok_and(|held| held == Held::InFlight)
    }

    pub(super) async fn look(&self, offer: &Offer, hold: &Hold) -> Result<Held, gate::Error> {
        self.ask(offer.at(hold.user.shard(offer.sale.rules.shards)), *hold, May::Look).await
    }

    /// The answer to a sku that the sale does not have: a new operation fails for that, a known one for its content.
    async fn sku_not_found(&self, offer: &Offer, hold: &Hold) -> Refusal {
        let in_gate = self.look(offer, hold).await == Ok(Held::OtherContent);
        match self.known_to_ledger(offer, hold).await {
            _ if in_gate => Code::IdempotencyKeyReused.into(),
            Ok(Some(_)) => Code::IdempotencyKeyReused.into(),
            Ok(None) => Code::SkuNotFound.into(),
            Err(refusal) => refusal,
        }
    }

    /// Asks the ledger whether the order exists, for a gate that does not remember every order.
    pub(super) async fn known_to_ledger(
        &self,
        offer: &Offer,
        hold: &Hold,
    ) -> Result<Option<Result<Outcome, Refusal>>, Refusal> {
        let found = self.ledger.find(Some(hold.user), hold.order_no).await.map_err(|error| ledger_trouble(&error))?;
        Ok(found.map(|order| repeat(offer, hold, order.fingerprint, order.created_at)))
    }

    /// Brings units into the user's shard, or refuses because all shards together have too few.
    async fn more_units(self: &Arc<Self>, offer: &Offer, hold: &Hold, turn: usize) -> Result<(), Refusal> {
        let latch = offer.live.sku(hold.sku).map(|sku| &sku.latch);
        if latch.is_some_and(|latch| latch.is_sold_out(hold.quantity, self.clock.now_ms())) {
            return Err(Code::SoldOut.into());
        }
        let shard = hold.user.shard(offer.sale.rules.shards);
        let live = offer.live.sku(hold.sku).ok_or(Code::SkuNotFound)?;
        let refills = live.refills.load(Ordering::SeqCst);
        // The right is waited for here, where a client that hangs up leaves nothing behind.
        let patience = Duration::from_millis(limits::REFILL_WAIT_MS_MAX);
        let moving = timeout(patience, self.right_to_move(offer, hold.sku)).await.map_err(|_| Code::Overloaded)??;
        // Of a crowd that waited, the first has counted for all.
        if live.latch.was_sold_out(hold.quantity) && live.refills.load(Ordering::SeqCst) != refills {
            return Err(Code::SoldOut.into());
        }
        // Perhaps it has brought enough for all; whoever was too late for that sees to it themselves.
        if turn < TURNS_IN_HOPE && live.refills.load(Ordering::SeqCst) != refills {
            return Ok(());
        }
        let refill = self.clone().refill(offer.clone(), moving, shard, hold.sku, hold.quantity);
        match self.detached(refill).await?? {
            Refilled::TryAgain => Ok(()),
            Refilled::SoldOut => Err(Code::SoldOut.into()),
            Refilled::Stranded => self.detached(self.clone().free_stranded(offer.clone())).await?,
        }
    }
}

/// Where the gate left the request.
pub(super) enum Step {
    /// On its way to the ledger, reserved if a gate could be asked.
    Queued { recorded: oneshot::Receiver<Recorded>, gated: bool },
    /// Not reserved by this request.
    Held(Held),
    /// New orders are not taken now.
    NoNew(Code),
    /// The gate does not know this epoch.
    Stale(At),
}

impl Step {
    fn is_hit(&self) -> bool {
        matches!(self, Step::Held(Held::Recorded { .. } | Held::InFlight | Held::OtherContent))
    }
}

/// What the writer says. A ledger that takes for ever is an unknown outcome, like one that broke: the order goes on.
async fn answer(recorded: oneshot::Receiver<Recorded>) -> Result<Recorded, Refusal> {
    let answered = timeout(Duration::from_millis(limits::ANSWER_MS_MAX), recorded).await;
    answered.ok().and_then(Result::ok).ok_or(Code::UnknownOutcome.into())
}

/// The answer to an operation that has made its order.
pub(super) fn repeat(
    offer: &Offer,
    hold: &Hold,
    fingerprint: Fingerprint,
    created_at: UnixMs,
) -> Result<Outcome, Refusal> {
    if fingerprint != hold.fingerprint {
        return Err(Code::IdempotencyKeyReused.into());
    }
    match offer.sale.rules.on_duplicate {
        OnDuplicate::Replay => Ok(Outcome::Replayed(receipt(offer, hold, created_at))),
        OnDuplicate::Conflict => {
            Err(Refusal { order_no: Some(hold.order_no), ..Refusal::from(Code::IdempotencyConflict) })
        }
    }
}

fn receipt(offer: &Offer, hold: &Hold, created_at: UnixMs) -> Receipt {
    Receipt {
        order_no: hold.order_no,
        sale: offer.sale.clone(),
        sku: hold.sku,
        user: hold.user,
        quantity: hold.quantity,
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

fn limit_reached(offer: &Offer) -> Refusal {
    let limit = offer.sale.rules.user_limit.unwrap_or(0);
    Refusal::because(Code::LimitReached, format!("at most {limit} units of a sku per user"))
}

/// One line for each request that failed or that we turned away ourselves. A "no" of the sale is not trouble: it is
/// counted, and told at debug level only.
fn log(request: &PlaceOrder<'_>, trace: &Trace, refusal: &Refusal) {
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
