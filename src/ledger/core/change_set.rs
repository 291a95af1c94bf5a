//! What changes do to orders after they were placed, decided in memory from rows that the adapter has locked.
//!
//! The adapter gives the set the orders, the keys and the reports that its questions name, has it apply the changes in their
//! order, writes what the set then holds, and asks for the outcomes before it commits.

mod reports;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::admit::Map;
use super::effect::{self, Effect, SegmentDelta};
use crate::clock::UnixMs;
use crate::ledger::idempotency::{Acquired, Answer, Claim, Operation, Scope};
use crate::ledger::{Change, ChangeOutcome, Error, ExpiredOrder, Returned, StepOutcome, StepRequest};
use crate::order::{
    Actor, Currency, Epoch, Fingerprint, InvalidTransition, Note, Order, OrderNo, PriorReport, Provider, ProviderId,
    Report, SaleNo, SkuNo, State, Step, StepRecord, UserId,
};

/// What names a report.
pub(in crate::ledger) type ReportId = (Provider, ProviderId);

/// A shard of a sale.
pub(in crate::ledger) type SaleShard = (SaleNo, u16);

/// The newest epoch of each shard in which units came back, if it has one.
pub(in crate::ledger) type Epochs = BTreeMap<SaleShard, Option<Epoch>>;

/// An order whose row is locked.
pub(in crate::ledger) struct LockedOrder {
    /// As it stands by now.
    pub(in crate::ledger) order: Order,
    /// Its [`Order::state_version`] in the row.
    pub(in crate::ledger) version: u32,
    /// Its shard.
    pub(in crate::ledger) shard: u16,
    /// Whether its sale limits the units of a user.
    is_limited: bool,
    unit_price: i64,
    currency: Currency,
    prior_reports: Vec<(ReportId, PriorReport)>,
}

impl LockedOrder {
    pub(in crate::ledger) fn new(
        order: Order,
        shard: u16,
        is_limited: bool,
        unit_price: i64,
        currency: Currency,
    ) -> Self {
        let version = order.state_version;
        LockedOrder { order, version, shard, is_limited, unit_price, currency, prior_reports: Vec::new() }
    }
}

/// The state of an idempotency key.
struct KeyRow {
    /// Of the command that the key is used for.
    fingerprint: Fingerprint,
    /// What a request with that command gets.
    acquired: Acquired,
}

/// An answer to be stored under a key.
pub(in crate::ledger) struct StoredAnswer<'c> {
    pub(in crate::ledger) claim: Claim,
    /// Of the command that is answered: in one batch a command may be refused, and another done under the same claim.
    pub(in crate::ledger) fingerprint: &'c Fingerprint,
    pub(in crate::ledger) body: Vec<u8>,
    pub(in crate::ledger) keep_until: UnixMs,
}

/// An outcome, or what is known of it until the epochs are read.
enum Applied {
    Known(ChangeOutcome),
    /// The step gave units back in this shard.
    Returned(Order, SaleShard),
}

impl From<StepOutcome> for Applied {
    fn from(outcome: StepOutcome) -> Self {
        Applied::Known(ChangeOutcome::Step(outcome))
    }
}

/// The locked rows, and what is to be written.
pub(in crate::ledger) struct ChangeSet<'c> {
    now_ms: UnixMs,
    orders: Map<OrderNo, LockedOrder>,
    keys: Map<(&'c str, &'c str), KeyRow>,
    full_scopes: HashSet<&'c str>,
    prior_reports: Map<ReportId, PriorReport>,
    applied: Vec<Applied>,
    expired: Vec<(Order, SaleShard)>,
    answers: Vec<StoredAnswer<'c>>,
    /// Steps that were taken; those of one order in their order.
    pub(in crate::ledger) steps: Vec<(UserId, OrderNo, StepRecord)>,
    /// What changes in segments, in the order in which they are locked.
    pub(in crate::ledger) segments: BTreeMap<(SkuNo, u16), SegmentDelta>,
    /// Units that users gave back, in sales with a user limit.
    pub(in crate::ledger) user_returns: BTreeMap<(SkuNo, UserId), i64>,
    /// Shards in which units came back: their newest epochs are to be read under the lock of the segments.
    pub(in crate::ledger) returned_in: BTreeSet<SaleShard>,
    /// Reports to be stored, each under its id.
    pub(in crate::ledger) new_reports: BTreeMap<ReportId, &'c Report>,
    /// The note that the parked refunds of an order get.
    pub(in crate::ledger) unparked: BTreeMap<OrderNo, Note>,
}

impl<'c> ChangeSet<'c> {
    /// Changes of these orders at `now_ms`.
    pub(in crate::ledger) fn of(orders: Vec<LockedOrder>, now_ms: UnixMs) -> Self {
        ChangeSet {
            now_ms,
            orders: orders.into_iter().map(|locked| (locked.order.order_no, locked)).collect(),
            keys: Map::default(),
            full_scopes: HashSet::new(),
            prior_reports: Map::default(),
            applied: Vec::new(),
            expired: Vec::new(),
            answers: Vec::new(),
            steps: Vec::new(),
            segments: BTreeMap::new(),
            user_returns: BTreeMap::new(),
            returned_in: BTreeSet::new(),
            new_reports: BTreeMap::new(),
            unparked: BTreeMap::new(),
        }
    }

    // ---- what is to be read ----

    /// The steps whose orders exist and may be changed by the one who asks, each key once: their keys are to be claimed.
    pub(in crate::ledger) fn keyed_steps(&self, changes: &'c [Change]) -> Vec<&'c StepRequest> {
        let mut keys = BTreeSet::new();
        steps(changes)
            .filter(|request| self.found(request).is_some() && keys.insert(names(&request.operation)))
            .collect()
    }

    /// Takes in the state of a key, which was claimed if it was free.
    pub(in crate::ledger) fn add_key(
        &mut self,
        operation: &'c Operation,
        fingerprint: Fingerprint,
        acquired: Acquired,
    ) {
        self.keys.insert(names(operation), KeyRow { fingerprint, acquired });
    }

    /// The scopes of steps that are done already and asked for under new keys: their answers are to be counted.
    pub(in crate::ledger) fn repeated_scopes(&self, changes: &'c [Change]) -> Vec<&'c Scope> {
        let is_repeated = |request: &&StepRequest| {
            let key = self.keys.get(&names(&request.operation));
            key.is_some_and(|key| matches!(key.acquired, Acquired::Claimed(_)))
                && self.found(request).is_some_and(|locked| is_done_already(&locked.order, request))
        };
        steps(changes).filter(is_repeated).map(|request| &request.operation.scope).collect()
    }

    /// Takes in that a scope has as many answers as are stored of one step.
    pub(in crate::ledger) fn add_full_scope(&mut self, scope: &'c Scope) {
        self.full_scopes.insert(scope.as_str());
    }

    /// The reports whose orders exist, or that name none: they and the prior reports of their orders are to be read.
    pub(in crate::ledger) fn readable_reports(&self, changes: &'c [Change]) -> Vec<&'c Report> {
        let reports = changes.iter().filter_map(|change| match change {
            Change::Report(report) => Some(report),
            Change::Step(_) => None,
        });
        let exists = |report: &&Report| report.order_no().is_none_or(|order_no| self.orders.contains_key(&order_no));
        reports.filter(exists).collect()
    }

    fn found(&self, request: &StepRequest) -> Option<&LockedOrder> {
        let is_theirs = |locked: &&LockedOrder| request.user.is_none_or(|user| user == locked.order.user);
        self.orders.get(&request.order_no).filter(is_theirs)
    }

    // ---- what is done ----

    /// Applies changes in their order.
    pub(in crate::ledger) fn apply(&mut self, changes: &'c [Change]) -> Result<(), Error> {
        for change in changes {
            let applied = match change {
                Change::Step(request) => self.apply_step(request)?,
                Change::Report(report) => Applied::Known(ChangeOutcome::Report(self.record_report(report)?)),
            };
            self.applied.push(applied);
        }
        Ok(())
    }

    fn apply_step(&mut self, request: &'c StepRequest) -> Result<Applied, Error> {
        let Some(order) = self.found(request).map(|locked| locked.order) else {
            return Ok(StepOutcome::NotFound.into());
        };
        let operation = &request.operation;
        let key = self.keys.get(&names(operation));
        let key = key.ok_or_else(|| impossible!("the key of a step of order {} was not read", order.order_no))?;
        let claim = match &key.acquired {
            Acquired::Claimed(claim) => claim.clone(),
            Acquired::OtherContent => return Ok(StepOutcome::OtherContent.into()),
            Acquired::Done(_) | Acquired::InProgress(_) if key.fingerprint != operation.fingerprint => {
                return Ok(StepOutcome::OtherContent.into());
            }
            Acquired::Done(answer) => return Ok(StepOutcome::Before(decode(&order, answer)?).into()),
            // Keys of the ledger are claimed in transactions like this one only.
            Acquired::InProgress(_) => return Err(Error::Busy),
        };
        if is_done_already(&order, request) {
            self.store_answer(request, claim, &order);
            return Ok(StepOutcome::Done { order, returned: None }.into());
        }
        match self.take_step(&request.order_no, request.step, request.restock, &request.by)? {
            Err(InvalidTransition(state)) => Ok(StepOutcome::NotAllowed(state).into()),
            Ok((order, returned_in)) => {
                self.store_answer(request, claim, &order);
                Ok(match returned_in {
                    Some(shard) => Applied::Returned(order, shard),
                    None => StepOutcome::Done { order, returned: None }.into(),
                })
            }
        }
    }

    /// Only a step that is done already is ever asked for under so many keys that their scope is full.
    fn store_answer(&mut self, request: &'c StepRequest, claim: Claim, order: &Order) {
        let StepRequest { operation, keep_until, .. } = request;
        if self.full_scopes.contains(operation.scope.as_str()) {
            return;
        }
        let body = effect::encode_snapshot(order).into_bytes();
        let answer = Answer { is_success: true, body: body.clone() };
        self.add_key(operation, operation.fingerprint, Acquired::Done(answer));
        let fingerprint = &operation.fingerprint;
        self.answers.push(StoredAnswer { claim, fingerprint, body, keep_until: *keep_until });
    }

    /// Expires an order that waits for its payment. Rows that contradict each other are [`Error::Corrupt`], which keeps only their own
    /// order from expiring.
    pub(in crate::ledger) fn expire(&mut self, order_no: &OrderNo) -> Result<(), Error> {
        match self.take_step(order_no, Step::Expire, false, &Actor::Deadline)? {
            Ok((order, Some(shard))) => self.expired.push((order, shard)),
            Ok((_, None)) => {
                return Err(Error::Corrupt(format!("order {order_no} is unpaid and its units are back already")));
            }
            Err(error) => return Err(Error::Corrupt(format!("order {order_no} cannot expire: {error}"))),
        }
        Ok(())
    }

    /// Takes a step if the order's state allows it. Answers the order, and the shard in which its units came back.
    fn take_step(
        &mut self,
        order_no: &OrderNo,
        step: Step,
        restock: bool,
        by: &Actor,
    ) -> Result<Result<(Order, Option<SaleShard>), InvalidTransition>, Error> {
        let not_locked = || impossible!("order {order_no} is to take a step and is not locked");
        let locked = self.orders.get_mut(order_no).ok_or_else(not_locked)?;
        let from = locked.order.state;
        let Effect { order, units } = match Effect::of(&locked.order, step, restock, self.now_ms) {
            Ok(effect) => effect,
            Err(not_allowed) => return Ok(Err(not_allowed)),
        };
        locked.order = order;
        let (state_version, to, by, at) = (order.state_version, order.state, by.clone(), self.now_ms);
        self.steps.push((order.user, *order_no, StepRecord { state_version, step, from, to, by, at }));
        if !units.is_zero() {
            self.segments.entry((order.sku, locked.shard)).or_default().add(units);
        }
        if units.returned == 0 {
            return Ok(Ok((order, None)));
        }
        if locked.is_limited {
            *self.user_returns.entry((order.sku, order.user)).or_default() += units.returned;
        }
        let shard = (order.sale, locked.shard);
        self.returned_in.insert(shard);
        Ok(Ok((order, Some(shard))))
    }

    // ---- what is to be written, and the outcomes ----

    /// The orders that took steps, in the order in which they are locked.
    pub(in crate::ledger) fn changed_orders(&self) -> Vec<&LockedOrder> {
        let has_changed = |locked: &&LockedOrder| locked.order.state_version != locked.version;
        let mut changed: Vec<&LockedOrder> = self.orders.values().filter(has_changed).collect();
        changed.sort_unstable_by_key(|locked| locked.order.order_no);
        changed
    }

    /// The answers to be stored under keys.
    pub(in crate::ledger) fn answers(&self) -> &[StoredAnswer<'c>] {
        &self.answers
    }

    /// The claims under which nothing was done: their keys are to be free again.
    pub(in crate::ledger) fn unused_claims(&self) -> Vec<&Claim> {
        let claims = self.keys.values().filter_map(|key| match &key.acquired {
            Acquired::Claimed(claim) => Some(claim),
            Acquired::Done(_) | Acquired::InProgress(_) | Acquired::OtherContent => None,
        });
        claims.collect()
    }

    /// The outcomes of the applied changes, in their order.
    pub(in crate::ledger) fn outcomes(self, epochs: &Epochs) -> Result<Vec<ChangeOutcome>, Error> {
        let outcome = |applied| match applied {
            Applied::Known(outcome) => Ok(outcome),
            Applied::Returned(order, shard) => {
                let returned = Some(returned(epochs, shard)?);
                Ok(ChangeOutcome::Step(StepOutcome::Done { order, returned }))
            }
        };
        self.applied.into_iter().map(outcome).collect()
    }

    /// The orders that expired, in the order in which they were expired.
    pub(in crate::ledger) fn expired(self, epochs: &Epochs) -> Result<Vec<ExpiredOrder>, Error> {
        let expired = |(order, shard)| Ok(ExpiredOrder { order, returned: returned(epochs, shard)? });
        self.expired.into_iter().map(expired).collect()
    }
}

fn steps(changes: &[Change]) -> impl Iterator<Item = &StepRequest> {
    changes.iter().filter_map(|change| match change {
        Change::Step(request) => Some(request),
        Change::Report(_) => None,
    })
}

/// Whether the order was taken before to where the step leads.
fn is_done_already(order: &Order, request: &StepRequest) -> bool {
    (order.state, request.step) == (State::Cancelled, Step::Cancel)
}

fn decode(order: &Order, answer: &Answer) -> Result<Order, Error> {
    let snapshot = effect::decode_snapshot(order, &answer.body).filter(|_| answer.is_success);
    let unreadable =
        || Error::Corrupt(format!("the answer stored for a step of order {} cannot be read", order.order_no));
    snapshot.ok_or_else(unreadable)
}

fn returned(epochs: &Epochs, shard: SaleShard) -> Result<Returned, Error> {
    let (SaleNo(sale), number) = shard;
    let epoch = epochs.get(&shard).copied();
    let epoch = epoch.ok_or_else(|| impossible!("the epoch of shard {number} of sale {sale} was not read"))?;
    Ok(Returned { epoch })
}

fn names(operation: &Operation) -> (&str, &str) {
    (operation.scope.as_str(), operation.key.as_str())
}

#[cfg(test)]
mod tests;
