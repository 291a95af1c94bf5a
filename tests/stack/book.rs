//! What the crowd knows: every operation it ever sent, the first 201 to each, and what came of all that was done to the
//! orders afterwards. It outlives every engine.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::client::{Answer, Request};
use crate::lifecycle::{Act, Deed, End, Lifecycle};
use crate::random::Random;
use crate::shop::{place, wish};

/// Operations back that a repeat may reach: those are often still on their way.
const RECENT: u64 = 12;
/// With more orders to be attended to, nobody begins anything new: whoever attends must keep up with those who buy.
const DUE_MAX: usize = 30;
/// Sales with a shorter time to pay expire within the test.
const SHORT_S: u64 = 60;
/// An order is expired within so long of its deadline.
const EXPIRED: Duration = Duration::from_secs(2);

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
    /// What becomes of the orders; `None`: the sale has no payment step, and an order stays as it was made.
    pub(crate) lifecycle: Option<Lifecycle>,
}

impl Default for Plan {
    fn default() -> Self {
        Plan { users: 400, quantity_max: 3, repeats: 25, hot: None, give_up: 50, patience_s: 150, lifecycle: None }
    }
}

impl Plan {
    /// With buyers who cancel, a payment provider, and operators.
    pub(crate) fn alive() -> Self {
        Plan { lifecycle: Some(Lifecycle::default()), ..Plan::default() }
    }

    /// The same, and what is not paid soon expires.
    pub(crate) fn expiring() -> Self {
        Plan { lifecycle: Some(Lifecycle::expiring()), ..Plan::default() }
    }
}

/// What an answer is about: an operation, or what was done to its order.
#[derive(Clone, Copy, Debug)]
pub(crate) enum About {
    Order(usize),
    Deed(usize, usize),
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
    /// What was done to its order, or tried.
    pub(crate) deeds: Vec<Deed>,
    /// Whether its units are believed to be on sale again.
    is_back: bool,
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

    /// Whether somebody was told that this was done to the order.
    pub(crate) fn has(&self, is_it: impl Fn(Act) -> bool) -> bool {
        self.deeds.iter().any(|deed| deed.is_done() && is_it(deed.act))
    }

    pub(crate) fn is_paid(&self) -> bool {
        self.has(|act| matches!(act, Act::Paid(_)))
    }
}

#[derive(Default)]
struct Pages {
    operations: Vec<Operation>,
    orders: u64,
    units: u64,
    /// Units that are believed to be on sale again.
    back: u64,
    /// Orders by the time they were told, as long as they may expire.
    unpaid: VecDeque<(Instant, usize)>,
    /// Orders to which something is to be done, and when.
    due: BTreeSet<(Instant, usize)>,
    /// How many of those are in somebody's hands.
    in_hand: usize,
    /// Whether nothing but payments is begun any more.
    ends: bool,
    /// How often each refusal was heard, and how often nothing.
    refusals: BTreeMap<String, u64>,
    /// How many of each deed are known to be done.
    done: BTreeMap<&'static str, u64>,
    complaints: Vec<String>,
}

pub(crate) struct Book {
    lifecycle: Option<Lifecycle>,
    pages: Mutex<Pages>,
}

impl Book {
    pub(crate) fn new(lifecycle: Option<Lifecycle>) -> Self {
        Book { lifecycle, pages: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An operation to send: a new one, or a repeat of a recent one. With `units_max` sold there are no new ones; `None` while
    /// there is much to be done to orders.
    pub(crate) fn next(&self, plan: &Plan, units_max: u64, random: &mut Random) -> Option<(usize, Operation)> {
        let is_enough = self.live_units() >= units_max;
        let Pages { operations, due, ends, .. } = &mut *self.lock();
        if due.range(..(Instant::now(), 0)).take(DUE_MAX).count() == DUE_MAX {
            return None;
        }
        let known = operations.len() as u64;
        let n = if known > 0 && (is_enough || random.within(1, 100) <= plan.repeats) {
            known - random.within(1, known.min(RECENT))
        } else {
            let mut user = random.within(1, plan.users);
            if let Some((percent, shards)) = plan.hot
                && random.within(1, 100) <= percent
            {
                user = user.next_multiple_of(shards);
            }
            // Whoever buys the rest of a sale with a lifecycle buys more at once: every order is attended to, and judged.
            let quantity_max = if *ends { 2 * plan.quantity_max } else { plan.quantity_max };
            let (key, quantity) = (format!("k{known}"), random.within(1, quantity_max));
            let (body, gave_up, deeds, is_back) = (None, false, Vec::new(), false);
            operations.push(Operation { user, key, quantity, body, gave_up, deeds, is_back });
            known
        };
        let n = usize::try_from(n).unwrap();
        Some((n, operations[n].clone()))
    }

    /// Notes an answer. An order's 201 must say what every earlier one said, and so must what is heard of a deed; it may
    /// come late, to somebody who does not wait for it any more, so what is wrong is kept for
    /// [`Book::assert_no_complaints`].
    pub(crate) fn note(&self, about: About, answer: &Answer) {
        let mut pages = self.lock();
        match about {
            About::Order(n) => pages.note_order(n, answer, self.lifecycle),
            About::Deed(n, m) => pages.note_deed(n, m, answer),
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

    pub(crate) fn operation(&self, n: usize) -> Operation {
        self.lock().operations[n].clone()
    }

    /// Orders that somebody was told of, and their units.
    pub(crate) fn sold(&self) -> (u64, u64) {
        let pages = self.lock();
        (pages.orders, pages.units)
    }

    /// About how many units of [`Book::sold`] did not come back: the crowd is not told what expires.
    pub(crate) fn live_units(&self) -> u64 {
        let mut pages = self.lock();
        let patience =
            self.lifecycle.map_or(Duration::MAX, |lifecycle| Duration::from_secs(lifecycle.pays_in_s) + EXPIRED);
        while let Some((told, n)) = pages.unpaid.front().copied()
            && told.elapsed() > patience
        {
            pages.unpaid.pop_front();
            if !pages.operations[n].is_paid() {
                pages.comes_back(n);
            }
        }
        pages.units - pages.back
    }

    /// An order to which something is to be done; [`Book::attended`] must follow.
    pub(crate) fn due(&self) -> Option<usize> {
        let mut pages = self.lock();
        // The newest: should there be too many, it is those that wait already whose time runs out.
        let newest = pages.due.range(..(Instant::now(), 0)).next_back().copied()?;
        pages.due.remove(&newest);
        pages.in_hand += 1;
        Some(newest.1)
    }

    pub(crate) fn attended(&self) {
        self.lock().in_hand -= 1;
    }

    /// Whether nothing is to be done to any order that somebody was told of.
    pub(crate) fn is_at_rest(&self) -> bool {
        let pages = self.lock();
        pages.due.is_empty() && pages.in_hand == 0
    }

    /// From now on whatever was begun is seen through, and all that can be paid is paid.
    pub(crate) fn end(&self) {
        let mut pages = self.lock();
        pages.ends = true;
        let now = Instant::now();
        let told = |(n, operation): (usize, &Operation)| operation.body.as_ref().map(|_| (now, n));
        pages.due = pages.operations.iter().enumerate().filter_map(told).collect();
    }

    pub(crate) fn ends(&self) -> bool {
        self.lock().ends
    }

    /// Gives an act a key; which deed of the order it is.
    pub(crate) fn intend(&self, n: usize, act: Act) -> usize {
        let deeds = &mut self.lock().operations[n].deeds;
        let key = format!("{}-{n}-{}", act.word(), deeds.len());
        deeds.push(Deed { act, key, end: None });
        deeds.len() - 1
    }

    pub(crate) fn refusals(&self) -> BTreeMap<String, u64> {
        self.lock().refusals.clone()
    }

    /// How often this was heard so far.
    pub(crate) fn heard(&self, code: &str) -> u64 {
        self.lock().refusals.get(code).copied().unwrap_or(0)
    }

    /// How many deeds of each kind are known to be done.
    pub(crate) fn done(&self) -> BTreeMap<&'static str, u64> {
        self.lock().done.clone()
    }

    #[track_caller]
    pub(crate) fn assert_no_complaints(&self) {
        let complaints = &self.lock().complaints;
        assert!(complaints.is_empty(), "an answer never changes: {complaints:#?}");
    }
}

impl Pages {
    fn note_order(&mut self, n: usize, answer: &Answer, lifecycle: Option<Lifecycle>) {
        if answer.status != 201 {
            return;
        }
        let operation = &mut self.operations[n];
        match &operation.body {
            None => {
                operation.body = Some(answer.body.clone());
                self.orders += 1;
                self.units += operation.quantity;
                if let Some(lifecycle) = lifecycle {
                    let now = Instant::now();
                    self.unpaid.push_back((now, n));
                    self.due.insert((if self.ends { now } else { now + lifecycle.waits(n) }, n));
                }
            }
            Some(body) if *body == answer.body => {}
            Some(body) => self.complaints.push(format!(
                "{operation:?} was answered twice, first {}, then {answer}",
                String::from_utf8_lossy(body)
            )),
        }
    }

    fn note_deed(&mut self, n: usize, m: usize, answer: &Answer) {
        let end = match answer.status {
            200 => End::Done(String::from_utf8_lossy(&answer.body).into_owned()),
            409 if answer.json()["code"] == "invalid_transition" => End::Refused,
            _ => return,
        };
        let operation = &mut self.operations[n];
        let deed = &mut operation.deeds[m];
        if let Some(before) = &deed.end {
            if *before != end {
                self.complaints.push(format!("{deed:?} was answered twice, now {answer}"));
            }
            return;
        }
        deed.end = Some(end);
        let act = deed.act;
        if answer.status != 200 {
            return;
        }
        *self.done.entry(act.word()).or_default() += 1;
        if let Some(state) = act.leads_to() {
            let (made, now) = (operation.order().unwrap(), answer.json());
            if (&now["order_no"], now["state"].as_str()) != (&made["order_no"], Some(state)) {
                self.complaints.push(format!("{act:?} of {made} was answered with {answer}"));
            }
        }
        if matches!(act, Act::Cancel | Act::Refund { restock: true }) {
            self.comes_back(n);
        }
    }

    fn comes_back(&mut self, n: usize) {
        let operation = &mut self.operations[n];
        if !std::mem::replace(&mut operation.is_back, true) {
            self.back += operation.quantity;
        }
    }
}

impl Lifecycle {
    /// When something is done to the order of operation `n`, after it was told. Where orders expire, this is for some of them
    /// the very moment.
    fn waits(&self, n: usize) -> Duration {
        match n % 6 {
            0 if self.pays_in_s < SHORT_S => {
                let around = Duration::from_millis(100 * (n / 6 % 8) as u64);
                Duration::from_secs(self.pays_in_s) - Duration::from_millis(200) + around
            }
            _ => Duration::ZERO,
        }
    }
}
