//! What the crowd knows: every operation it ever sent and the first 201 to each. It outlives every engine.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use crate::client::{Answer, Request};
use crate::random::Random;
use crate::shop::{place, wish};

/// Operations back that a repeat may reach: those are often still on their way.
const RECENT: u64 = 12;

/// Who buys what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) users: u64,
    /// Most units of one order.
    pub(crate) quantity_max: u64,
    /// Of a hundred operations, how many are repeats of earlier ones.
    pub(crate) repeats: u64,
    /// Of a hundred users, how many are of the shard 0 of so many shards.
    pub(crate) hot: Option<(u64, u64)>,
    /// Of a hundred buyers without an answer, how many never ask again: only the engines can finish their orders.
    pub(crate) give_up: u64,
    /// How long the end of the stock may take, in seconds.
    pub(crate) patience_s: u64,
}

impl Default for Plan {
    fn default() -> Self {
        Plan { users: 400, quantity_max: 3, repeats: 25, hot: None, give_up: 50, patience_s: 60 }
    }
}

/// One operation.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) user: u64,
    pub(crate) key: String,
    pub(crate) quantity: u64,
    /// The body of the first 201 that arrived.
    pub(crate) body: Option<Vec<u8>>,
    pub(crate) gave_up: bool,
}

impl Operation {
    pub(crate) fn request(&self, sale_id: &str) -> Request {
        let body = wish(sale_id, self.quantity);
        place(&self.key, &body).header("X-User-Id", self.user.to_string())
    }

    /// The order as it was made.
    pub(crate) fn order(&self) -> Option<Value> {
        self.body.as_ref().map(|body| serde_json::from_slice(body).unwrap())
    }
}

#[derive(Default)]
struct Pages {
    operations: Vec<Operation>,
    orders: u64,
    units: u64,
    /// How often each refusal was heard, and how often nothing.
    refusals: BTreeMap<String, u64>,
    complaints: Vec<String>,
}

#[derive(Default)]
pub(crate) struct Book(Mutex<Pages>);

impl Book {
    fn lock(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An operation to send: a new one, or a repeat of a recent one. With `units_max` sold there are no new ones.
    pub(crate) fn next(&self, plan: &Plan, units_max: u64, random: &mut Random) -> (usize, Operation) {
        let Pages { operations, units, .. } = &mut *self.lock();
        let known = operations.len() as u64;
        let n = if known > 0 && (*units >= units_max || random.within(1, 100) <= plan.repeats) {
            known - random.within(1, known.min(RECENT))
        } else {
            let mut user = random.within(1, plan.users);
            if let Some((percent, shards)) = plan.hot
                && random.within(1, 100) <= percent
            {
                user = user.next_multiple_of(shards);
            }
            let quantity = random.within(1, plan.quantity_max);
            operations.push(Operation { user, key: format!("k{known}"), quantity, body: None, gave_up: false });
            known
        };
        let n = usize::try_from(n).unwrap();
        (n, operations[n].clone())
    }

    /// Notes an answer to an operation. A 201 must say what every earlier one said; it may come late, to somebody who
    /// does not wait for it any more, so what is wrong is kept for [`Book::assert_no_complaints`].
    pub(crate) fn note(&self, n: usize, answer: &Answer) {
        let mut pages = self.lock();
        let Pages { operations, orders, units, complaints, .. } = &mut *pages;
        let operation = &mut operations[n];
        if answer.status != 201 {
            return;
        }
        match &operation.body {
            None => {
                operation.body = Some(answer.body.clone());
                *orders += 1;
                *units += operation.quantity;
            }
            Some(body) if *body == answer.body => {}
            Some(body) => complaints.push(format!(
                "{operation:?} was answered twice, first {}, then {answer}",
                String::from_utf8_lossy(body)
            )),
        }
    }

    pub(crate) fn note_given_up(&self, n: usize) {
        self.lock().operations[n].gave_up = true;
    }

    pub(crate) fn note_refusal(&self, code: &str) {
        *self.lock().refusals.entry(code.to_owned()).or_default() += 1;
    }

    pub(crate) fn all(&self) -> Vec<Operation> {
        self.lock().operations.clone()
    }

    /// Orders that somebody was told of, and their units.
    pub(crate) fn sold(&self) -> (u64, u64) {
        let pages = self.lock();
        (pages.orders, pages.units)
    }

    pub(crate) fn refusals(&self) -> BTreeMap<String, u64> {
        self.lock().refusals.clone()
    }

    /// How often this was heard so far.
    pub(crate) fn heard(&self, code: &str) -> u64 {
        self.lock().refusals.get(code).copied().unwrap_or(0)
    }

    #[track_caller]
    pub(crate) fn assert_no_complaints(&self) {
        let complaints = &self.lock().complaints;
        assert!(complaints.is_empty(), "an answer never changes: {complaints:#?}");
    }
}
