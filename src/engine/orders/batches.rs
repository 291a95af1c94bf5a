//! Which orders go into which ledger transaction. Two transactions with orders of one shard would only wait for each
//! other at its stock row, so while one runs, the shard's other orders gather. And every transaction costs as much as
//! some tens of orders, so beside a running one another is begun only when it is worth it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::limits;
use crate::order::{OrderNo, SaleNo};

/// A shard of a sale.
pub(super) type Shard = (SaleNo, u16);

type Random = foldhash::fast::RandomState;

/// Orders that wait for a transaction. As many as are in flight, which admission bounds.
pub(super) struct Batches<T> {
    waiting: HashMap<Shard, VecDeque<(OrderNo, T)>, Random>,
    /// Shards with waiting orders and no running transaction, the longest waiting first.
    ready: VecDeque<Shard>,
    busy: HashSet<Shard, Random>,
    /// Since when a ready shard has been waiting beside a running transaction.
    ready_since: Option<Instant>,
    at_once: usize,
    running: usize,
}

/// The orders of one transaction.
pub(super) struct Batch<T> {
    pub(super) shards: Vec<Shard>,
    pub(super) orders: Vec<T>,
}

impl<T> Batches<T> {
    /// For a ledger that runs `at_once` transactions beside each other.
    pub(super) fn new(at_once: usize) -> Self {
        Batches {
            waiting: HashMap::default(),
            ready: VecDeque::new(),
            busy: HashSet::default(),
            ready_since: None,
            at_once: at_once.max(1),
            running: 0,
        }
    }

    pub(super) fn add(&mut self, shard: Shard, order_no: OrderNo, order: T) {
        let waiting = self.waiting.entry(shard).or_default();
        if waiting.is_empty() && !self.busy.contains(&shard) {
            self.ready.push_back(shard);
        }
        waiting.push_back((order_no, order));
    }

    /// When [`Batches::begin`] should be asked again even if nothing ends and nothing is added.
    pub(super) fn due(&self) -> Option<Instant> {
        let free = self.running < self.at_once;
        self.ready_since.filter(|_| free).map(|since| since + Duration::from_millis(limits::BATCH_WAIT_MS_MAX))
    }

    /// The next batch to run, if one should be begun now. No order stands twice in it: one that was taken over may still
    /// wait from its first attempt.
    pub(super) fn begin(&mut self, now: Instant) -> Option<Batch<T>> {
        if self.ready.is_empty() {
            self.ready_since = None;
            return None;
        }
        self.ready_since.get_or_insert(now);
        let is_late = self.due().is_some_and(|due| due <= now);
        if self.running >= self.at_once || (self.running > 0 && !is_late && !self.is_worth_it()) {
            return None;
        }
        self.ready_since = None;
        let mut batch = Batch { shards: Vec::new(), orders: Vec::new() };
        while batch.orders.len() < limits::BATCH_ORDERS_MAX
            && let Some(shard) = self.ready.pop_front()
        {
            self.take(shard, &mut batch);
        }
        self.running += 1;
        Some(batch)
    }

    /// A transaction has ended.
    pub(super) fn end(&mut self, shards: &[Shard]) {
        self.running -= 1;
        for shard in shards {
            self.busy.remove(shard);
            if self.waiting.contains_key(shard) {
                self.ready.push_back(*shard);
            }
        }
    }

    fn is_worth_it(&self) -> bool {
        let mut orders = 0;
        self.ready.iter().any(|shard| {
            orders += self.waiting.get(shard).map_or(0, VecDeque::len);
            orders >= limits::BATCH_ORDERS_WORTH
        })
    }

    /// Moves as many orders of a shard as fit.
    fn take(&mut self, shard: Shard, batch: &mut Batch<T>) {
        let Some(mut waiting) = self.waiting.remove(&shard) else { return };
        let mut seen: HashSet<OrderNo, Random> = HashSet::default();
        let mut again = VecDeque::new();
        while batch.orders.len() < limits::BATCH_ORDERS_MAX
            && let Some((order_no, order)) = waiting.pop_front()
        {
            if seen.insert(order_no) {
                batch.orders.push(order);
            } else {
                again.push_back((order_no, order));
            }
        }
        again.append(&mut waiting);
        if !again.is_empty() {
            self.waiting.insert(shard, again);
        }
        self.busy.insert(shard);
        batch.shards.push(shard);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Time stands still.
    fn now() -> Instant {
        static NOW: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        *NOW.get_or_init(Instant::now)
    }

    fn no(n: u128) -> OrderNo {
        OrderNo::from_bytes(n.to_be_bytes())
    }

    fn shard(n: u16) -> Shard {
        (SaleNo(1), n)
    }

    /// Adds orders `first..first + count` to a shard.
    fn add(batches: &mut Batches<u128>, of: u16, first: u128, count: u128) {
        (first..first + count).for_each(|n| batches.add(shard(of), no(n), n));
    }

    #[test]
    fn while_a_shard_is_busy_its_orders_gather() {
        let mut batches = Batches::new(4);
        add(&mut batches, 0, 0, 2);
        let first = batches.begin(now()).unwrap();
        assert_eq!((first.shards.as_slice(), first.orders), (&[shard(0)][..], vec![0, 1]));
        add(&mut batches, 0, 2, 500);
        assert!(batches.begin(now()).is_none(), "worth it, but the shard is busy");
        batches.end(&first.shards);
        assert_eq!(batches.begin(now()).unwrap().orders.len(), limits::BATCH_ORDERS_MAX.min(500));
    }

    #[test]
    fn shards_share_a_batch_and_a_second_one_must_be_worth_it() {
        let worth = limits::BATCH_ORDERS_WORTH as u128;
        let mut batches = Batches::new(2);
        add(&mut batches, 0, 0, 1);
        add(&mut batches, 1, 10, 1);
        let first = batches.begin(now()).unwrap();
        assert_eq!(first.orders, [0, 10]);
        add(&mut batches, 2, 100, worth - 1);
        assert!(batches.begin(now()).is_none(), "too few");
        add(&mut batches, 3, 1_000, 1);
        let second = batches.begin(now()).unwrap();
        assert_eq!(second.orders.len() as u128, worth);
        add(&mut batches, 4, 2_000, 2 * worth);
        assert!(batches.begin(now()).is_none(), "two run at once, no more");
        batches.end(&second.shards);
        assert_eq!(batches.begin(now()).unwrap().orders.len() as u128, 2 * worth);
    }

    #[test]
    fn few_orders_do_not_wait_for_ever_beside_a_running_transaction() {
        let mut batches = Batches::new(2);
        add(&mut batches, 0, 0, 1);
        let held_up = batches.begin(now()).unwrap();
        add(&mut batches, 1, 10, 1);
        assert!(batches.begin(now()).is_none());
        let due = batches.due().unwrap();
        assert_eq!(due, now() + Duration::from_millis(limits::BATCH_WAIT_MS_MAX));
        assert_eq!(batches.begin(due).unwrap().orders, [10]);
        assert_eq!((batches.due(), held_up.orders), (None, vec![0]));
    }

    #[test]
    fn no_order_stands_twice_in_a_batch_and_none_is_lost() {
        let mut batches = Batches::new(1);
        for (number, order) in [(7, 1), (7, 2), (8, 3), (7, 4)] {
            batches.add(shard(0), no(number), order);
        }
        let mut turns = Vec::new();
        while let Some(batch) = batches.begin(now()) {
            turns.push(batch.orders);
            batches.end(&batch.shards);
        }
        assert_eq!(turns, [vec![1, 3], vec![2], vec![4]]);
        assert!(batches.ready.is_empty() && batches.waiting.is_empty() && batches.busy.is_empty());
    }
}
