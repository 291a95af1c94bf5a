//! What changes of orders do, decided in memory from the rows that a transaction has locked, in the order in which they
//! were asked for.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::clock::UnixMs;
use crate::ledger::core::effect::{self, Effect};
use crate::ledger::idempotency::postgres::{Completion, KeyState};
use crate::ledger::idempotency::{Acquired, Answer, Claim, Operation};
use crate::ledger::{Change, Changed, Error, StepRequest};
use crate::order::{
    Actor, Currency, InvalidTransition, Note, Order, OrderNo, PriorReport, Provider, ProviderId, Report, SaleNo, SkuNo,
    State, Step, StepRecord, UserId, judge,
};

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// What names a report.
pub(in crate::ledger) type Event = (Provider, ProviderId);

/// An order whose row is locked.
pub(in crate::ledger) struct LockedOrder {
    /// As it stands by now.
    pub(in crate::ledger) order: Order,
    /// Its [`Order::state_version`] in the row.
    pub(in crate::ledger) version: u32,
    /// Its shard.
    pub(in crate::ledger) shard: u16,
    /// Whether its sale limits the units of a user.
    pub(in crate::ledger) is_limited: bool,
    /// Of one unit.
    pub(in crate::ledger) price: i64,
    pub(in crate::ledger) currency: Currency,
    /// What was reported of it.
    past: Vec<(Event, PriorReport)>,
}

impl LockedOrder {
    pub(in crate::ledger) fn new(order: Order, shard: u16, is_limited: bool, price: i64, currency: Currency) -> Self {
        LockedOrder { order, version: order.state_version, shard, is_limited, price, currency, past: Vec::new() }
    }
}

/// Units that move in a segment.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::ledger) struct SegmentDelta {
    pub(in crate::ledger) held: i64,
    pub(in crate::ledger) sold: i64,
    pub(in crate::ledger) returned: i64,
}

/// The locked rows, and what is to be written.
pub(in crate::ledger) struct ChangeSet<'c> {
    now_ms: UnixMs,
    pub(in crate::ledger) orders: Map<OrderNo, LockedOrder>,
    keys: Map<(&'c str, &'c str), KeyState>,
    /// Scopes under which no more answers are kept.
    pub(in crate::ledger) full: HashSet<String>,
    heard: Map<Event, PriorReport>,
    /// Answers to be kept under keys.
    kept: Vec<StoredAnswer<'c>>,
    /// Steps that were taken, of one order in their order.
    pub(in crate::ledger) steps: Vec<(UserId, OrderNo, StepRecord)>,
    /// Units that move, by segment, in the order in which everybody locks segments.
    pub(in crate::ledger) moved: BTreeMap<(SkuNo, u16), SegmentDelta>,
    /// Units that users have no longer.
    pub(in crate::ledger) given_back: BTreeMap<(SkuNo, UserId), i64>,
    /// Shards in which units went back on sale.
    pub(in crate::ledger) back_in: BTreeSet<(SaleNo, u16)>,
    /// Reports to be kept.
    pub(in crate::ledger) reports: BTreeMap<Event, &'c Report>,
    /// What becomes of the refunds that waited for an order's payment.
    pub(in crate::ledger) waited: BTreeMap<OrderNo, Note>,
}

/// An answer that is to be kept.
struct StoredAnswer<'c> {
    operation: &'c Operation,
    claim: Claim,
    body: Vec<u8>,
    keep_until: UnixMs,
}

impl<'c> ChangeSet<'c> {
    pub(in crate::ledger) fn of(orders: Vec<LockedOrder>, now_ms: UnixMs) -> Self {
        ChangeSet {
            now_ms,
            orders: orders.into_iter().map(|locked| (locked.order.order_no, locked)).collect(),
            keys: Map::default(),
            full: HashSet::new(),
            heard: Map::default(),
            kept: Vec::new(),
            steps: Vec::new(),
            moved: BTreeMap::new(),
            given_back: BTreeMap::new(),
            back_in: BTreeSet::new(),
            reports: BTreeMap::new(),
            waited: BTreeMap::new(),
        }
    }

    /// Whether the change is one of an order that is there and may be changed by whoever asks.
    pub(in crate::ledger) fn is_found(&self, change: &Change) -> bool {
        match change {
            Change::Step(asked) => self.found(asked).is_some(),
            Change::Report(report) => report.order_no().is_none_or(|order_no| self.orders.contains_key(&order_no)),
        }
    }

    fn found(&self, asked: &StepRequest) -> Option<&LockedOrder> {
        let is_theirs = |locked: &&LockedOrder| asked.user.is_none_or(|user| user == locked.order.user);
        self.orders.get(&asked.order_no).filter(is_theirs)
    }

    /// The scopes of steps that are done already, asked for under keys that nobody had.
    pub(in crate::ledger) fn repeated(&self, changes: &'c [Change]) -> Vec<&'c str> {
        let is_repeated = |asked: &StepRequest| {
            let is_claimed = self
                .keys
                .get(&names(&asked.operation))
                .is_some_and(|standing| matches!(standing.acquired, Acquired::Claimed(_)));
            is_claimed && self.found(asked).is_some_and(|locked| is_done_already(&locked.order, asked))
        };
        let steps = changes.iter().filter_map(|change| match change {
            Change::Step(asked) => Some(asked),
            Change::Report(_) => None,
        });
        steps.filter(|asked| is_repeated(asked)).map(|asked| asked.operation.scope.as_str()).collect()
    }

    /// Takes in how a key stands.
    pub(in crate::ledger) fn key(&mut self, operation: &'c Operation, standing: KeyState) {
        self.keys.insert(names(operation), standing);
    }

    /// Takes in a report that is kept.
    pub(in crate::ledger) fn report(&mut self, event: Event, past: PriorReport) {
        self.heard.insert(event.clone(), past.clone());
        let of_order = past.fact.order_no().and_then(|order_no| self.orders.get_mut(&order_no));
        if let Some(locked) = of_order {
            locked.past.push((event, past));
        }
    }

    /// What becomes of a report that is to be kept.
    pub(in crate::ledger) fn note(&self, event: &Event) -> Note {
        self.heard.get(event).map_or(Note::NoEffect, |past| past.note)
    }

    /// Carries out one change.
    pub(in crate::ledger) fn apply(&mut self, change: &'c Change) -> Result<Changed, Error> {
        match change {
            Change::Step(asked) => self.apply_step_request(asked),
            Change::Report(report) => self.record_report(report),
        }
    }

    fn apply_step_request(&mut self, asked: &'c StepRequest) -> Result<Changed, Error> {
        let Some(order) = self.found(asked).map(|locked| locked.order) else { return Ok(Changed::NotFound) };
        let operation = &asked.operation;
        let standing = self.keys.get(&names(operation));
        let standing = standing.ok_or_else(|| Error::Corrupt("a key that is taken cannot be read".to_owned()))?;
        let claim = match &standing.acquired {
            Acquired::Claimed(claim) => claim.clone(),
            _ if standing.fingerprint != operation.fingerprint => return Ok(Changed::OtherContent),
            Acquired::Done(answer) => return before(&order, answer),
            Acquired::OtherContent => return Ok(Changed::OtherContent),
            // Nobody claims a key of the ledger outside of a transaction like this.
            Acquired::InProgress(_) => return Err(Error::Busy),
        };
        let changed = if is_done_already(&order, asked) {
            Changed::Done { order, returned: None }
        } else {
            match self.take(&asked.order_no, asked.step, asked.restock, &asked.by)? {
                Ok(effect) => Changed::Done { order: effect.order, returned: (effect.returned > 0).then_some(0) },
                Err(InvalidTransition(state)) => return Ok(Changed::NotAllowed(state)),
            }
        };
        // Only what is done already is ever asked for under so many keys: see `repeated`.
        if let Changed::Done { order, .. } = &changed
            && !self.full.contains(operation.scope.as_str())
        {
            let body = effect::encode_snapshot(order).into_bytes();
            let answer = Answer { is_success: true, body: body.clone() };
            let standing = KeyState { fingerprint: operation.fingerprint, acquired: Acquired::Done(answer) };
            self.keys.insert(names(operation), standing);
            self.kept.push(StoredAnswer { operation, claim, body, keep_until: asked.keep_until });
        }
        Ok(changed)
    }

    fn record_report(&mut self, report: &'c Report) -> Result<Changed, Error> {
        let mut event = (report.provider, report.event_id.clone());
        let order_no = report.order_no();
        if order_no.is_some_and(|order_no| !self.orders.contains_key(&order_no)) {
            return Ok(Changed::NotFound);
        }
        let known = |note| Ok(Changed::Reported { note, steps: [None; 2], waited: None, is_new: false });
        let (mut note, mut steps, mut waited) = (Note::NoEffect, [None; 2], None);
        if let Some(before) = self.heard.get(&event) {
            if before.fact.says_the_same(&report.fact) {
                return known(before.note);
            }
            event.1 = report.reused_id();
            if let Some(before) = self.heard.get(&event) {
                return known(before.note);
            }
            note = Note::IdReused;
        } else if let Some(order_no) = order_no
            && let Some(locked) = self.orders.get(&order_no)
        {
            let past: Vec<PriorReport> = locked.past.iter().map(|(_, past)| past.clone()).collect();
            let amount = locked.price.saturating_mul(i64::from(locked.order.quantity));
            let verdict = judge(locked.order.state, amount, locked.currency, &past, report.provider, &report.fact);
            let by = Actor::Report(report.provider, report.event_id.clone());
            for step in verdict.steps.into_iter().flatten() {
                let impossible =
                    |_| Error::Corrupt("a report was judged to take a step that is not allowed".to_owned());
                self.take(&order_no, step, false, &by)?.map_err(impossible)?;
            }
            if let Some(waited) = verdict.parked {
                self.settle_waiting(order_no, waited);
            }
            (note, steps, waited) = (verdict.note, verdict.steps, verdict.parked);
        }
        self.report(event.clone(), PriorReport { provider: report.provider, fact: report.fact.clone(), note });
        self.reports.insert(event, report);
        Ok(Changed::Reported { note, steps, waited, is_new: true })
    }

    fn settle_waiting(&mut self, order_no: OrderNo, note: Note) {
        let Some(locked) = self.orders.get_mut(&order_no) else { return };
        for (event, past) in locked.past.iter_mut().filter(|(_, past)| past.note == Note::Parked) {
            past.note = note;
            self.heard.insert(event.clone(), past.clone());
        }
        self.waited.insert(order_no, note);
    }

    /// Takes a step, if the order's state allows it.
    pub(in crate::ledger) fn take(
        &mut self,
        order_no: &OrderNo,
        step: Step,
        restock: bool,
        by: &Actor,
    ) -> Result<Result<Effect, InvalidTransition>, Error> {
        let lost = || Error::Corrupt("an order is changed that is not locked".to_owned());
        let locked = self.orders.get_mut(order_no).ok_or_else(lost)?;
        let before = locked.order;
        let effect = match Effect::of(&before, step, restock, self.now_ms) {
            Ok(effect) => effect,
            Err(not_allowed) => return Ok(Err(not_allowed)),
        };
        let after = effect.order;
        locked.order = after;
        let (state_version, at) = (after.state_version, self.now_ms);
        let taken = StepRecord { state_version, step, from: before.state, to: after.state, by: by.clone(), at };
        self.steps.push((after.user, *order_no, taken));
        if (effect.held, effect.sold, effect.returned) != (0, 0, 0) {
            let moved = self.moved.entry((after.sku, locked.shard)).or_default();
            moved.held += effect.held;
            moved.sold += effect.sold;
            moved.returned += effect.returned;
        }
        if effect.returned > 0 {
            self.back_in.insert((after.sale, locked.shard));
            if locked.is_limited {
                *self.given_back.entry((after.sku, after.user)).or_default() += effect.returned;
            }
        }
        Ok(Ok(effect))
    }

    /// The answers that are to be kept under keys.
    pub(in crate::ledger) fn settled(&self) -> Vec<Completion<'_>> {
        let settled = self.kept.iter().map(|kept| Completion {
            claim: &kept.claim,
            fingerprint: &kept.operation.fingerprint,
            body: &kept.body,
            keep_until: kept.keep_until,
        });
        settled.collect()
    }

    /// The claims under which nothing was done: their keys are to be free again.
    pub(in crate::ledger) fn unused(&self) -> Vec<&Claim> {
        let claims = self.keys.values().filter_map(|standing| match &standing.acquired {
            Acquired::Claimed(claim) => Some(claim),
            _ => None,
        });
        claims.collect()
    }
}

/// Whether a step led before to where it is asked to lead.
fn is_done_already(order: &Order, asked: &StepRequest) -> bool {
    (order.state, asked.step) == (State::Cancelled, Step::Cancel)
}

fn before(order: &Order, answer: &Answer) -> Result<Changed, Error> {
    let then = effect::decode_snapshot(order, &answer.body).filter(|_| answer.is_success);
    then.map(Changed::Before).ok_or_else(|| Error::Corrupt("the answer under a key cannot be read".to_owned()))
}

fn names(operation: &Operation) -> (&str, &str) {
    (operation.scope.as_str(), operation.key.as_str())
}
