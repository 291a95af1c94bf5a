//! Group decisions: the reserve requests and settlements that arrive for a shard while one call of it is under way make up
//! the next one. No task sleeps to fill a batch. A shard with nothing to do has no task and takes no memory.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, Hash};

use crossbeam::utils::CachePadded;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{Error, ReserveOutcome, ReserveRequest, Settlement, ShardEpoch};
use crate::clock::UnixMs;
use crate::limits;
use crate::order::{OrderNo, Reservation};

/// Locks that the lanes are spread over; a task takes one for a push or to make up one batch.
const STRIPES: usize = 64;

type FastMap<K, V> = HashMap<K, V, foldhash::fast::RandomState>;
type OrderSet = HashSet<OrderNo, foldhash::fast::RandomState>;

type LaneStripe = Mutex<FastMap<ShardEpoch, Lane>>;

/// The lanes of all shards with something to do.
pub(super) struct Lanes {
    stripes: Box<[CachePadded<LaneStripe>]>,
    hasher: foldhash::fast::RandomState,
}

/// What waits for one shard.
#[derive(Default)]
struct Lane {
    settlements: VecDeque<QueuedSettlements>,
    settlements_len: usize,
    requests: VecDeque<QueuedRequest>,
    requests_len: usize,
    /// Requests whose order an earlier request of the same batch was for, by order: a client that sends one order a
    /// thousand times waits a thousand turns and delays no other client.
    parked: FastMap<OrderNo, VecDeque<QueuedRequest>>,
}

/// A reserve request and where its answer goes.
struct QueuedRequest {
    request: ReserveRequest,
    now_ms: UnixMs,
    answer: oneshot::Sender<Result<ReserveOutcome, Error>>,
}

/// Settlements of different orders and where their answer goes.
struct QueuedSettlements {
    settlements: Vec<Settlement>,
    answer: oneshot::Sender<Result<(), Error>>,
}

/// What one round trip carries: settlements first, so that the requests can have the units they release. No order stands
/// twice among the requests, nor among the settlements.
#[derive(Default)]
pub(super) struct Turn {
    settlements: Vec<QueuedSettlements>,
    requests: Vec<QueuedRequest>,
}

/// Answers that are on their way, and whether the shard needs a worker.
pub(super) struct Queued<T> {
    pub(super) answers: Vec<oneshot::Receiver<Result<T, Error>>>,
    pub(super) is_idle: bool,
}

impl Default for Lanes {
    fn default() -> Self {
        Lanes { stripes: (0..STRIPES).map(|_| CachePadded::default()).collect(), hasher: Default::default() }
    }
}

impl Lanes {
    /// Runs `work` on the lane of a shard, which it makes if there is none; answers whether it did.
    fn with<T>(&self, at: ShardEpoch, work: impl FnOnce(&mut Lane) -> Result<T, Error>) -> Result<(T, bool), Error> {
        let mut lanes = self.stripe(at).lock();
        let before = lanes.len();
        let done = work(lanes.entry(at).or_default());
        let is_new = lanes.len() > before;
        if done.is_err() && is_new {
            lanes.remove(&at);
        }
        done.map(|done| (done, is_new))
    }

    #[allow(clippy::indexing_slicing, reason = "the remainder is below the number of stripes")]
    fn stripe(&self, at: ShardEpoch) -> &LaneStripe {
        let mut key = self.hasher.build_hasher();
        at.hash(&mut key);
        &self.stripes[usize::try_from(std::hash::Hasher::finish(&key) % STRIPES as u64).unwrap_or(0)]
    }

    /// Queues reserve requests, all or none.
    pub(super) fn reserve(
        &self,
        at: ShardEpoch,
        now_ms: UnixMs,
        requests: &[ReserveRequest],
    ) -> Result<Queued<ReserveOutcome>, Error> {
        let queue = |lane: &mut Lane| {
            if lane.requests_len + requests.len() > limits::GATE_QUEUE_MAX {
                return Err(Error::Busy);
            }
            lane.requests_len += requests.len();
            let queue = requests.iter().map(|request| {
                let (answer, answered) = oneshot::channel();
                lane.requests.push_back(QueuedRequest { request: *request, now_ms, answer });
                answered
            });
            Ok(queue.collect())
        };
        let (answers, is_idle) = self.with(at, queue)?;
        Ok(Queued { answers, is_idle })
    }

    /// Queues settlements, all or none.
    pub(super) fn settle(&self, at: ShardEpoch, settlements: &[Settlement]) -> Result<Queued<()>, Error> {
        let queue = |lane: &mut Lane| {
            if lane.settlements_len + settlements.len() > limits::GATE_QUEUE_MAX {
                return Err(Error::Busy);
            }
            lane.settlements_len += settlements.len();
            let queue = one_of_each(settlements).into_iter().map(|settlements| {
                let (answer, answered) = oneshot::channel();
                lane.settlements.push_back(QueuedSettlements { settlements, answer });
                answered
            });
            Ok(queue.collect())
        };
        let (answers, is_idle) = self.with(at, queue)?;
        Ok(Queued { answers, is_idle })
    }

    /// Makes up the next batch of a shard. `None`: nothing waits, and the shard is idle from now on.
    pub(super) fn next(&self, at: ShardEpoch) -> Option<Turn> {
        let mut lanes = self.stripe(at).lock();
        let turn = lanes.get_mut(&at).map(Lane::turn).filter(|turn| !turn.is_empty());
        if turn.is_none() {
            lanes.remove(&at);
        }
        turn
    }

    /// Gives the answers of a batch also to requests that wait with the same content, where they cannot have changed since: a
    /// recorded order stays recorded. A thousand repeats of one order get their answer at once and not in a thousand turns.
    pub(super) fn share(&self, at: ShardEpoch, requests: &[&ReserveRequest], reserved: &[ReserveOutcome]) {
        let mut lanes = self.stripe(at).lock();
        let Some(lane) = lanes.get_mut(&at) else { return };
        for (request, reserved) in requests.iter().zip(reserved) {
            if matches!(reserved, ReserveOutcome::Recorded { .. } | ReserveOutcome::OtherContent) {
                lane.share(&request.reservation, *reserved);
            }
        }
    }

    /// Frees the lane of a shard whose worker is gone.
    pub(super) fn forget(&self, at: ShardEpoch) {
        self.stripe(at).lock().remove(&at);
    }

    /// Shards that have a worker.
    #[cfg(test)]
    fn active(&self) -> usize {
        self.stripes.iter().map(|stripe| stripe.lock().len()).sum()
    }
}

/// Splits settlements into lists of bounded length in which no order stands twice.
fn one_of_each(settlements: &[Settlement]) -> Vec<Vec<Settlement>> {
    let mut lists: Vec<Vec<Settlement>> = Vec::with_capacity(1);
    let mut seen = OrderSet::default();
    for settlement in settlements {
        let fits = |list: &&mut Vec<Settlement>| list.len() < limits::GATE_BATCH_MAX;
        let is_new = seen.insert(settlement.order_no());
        match lists.last_mut().filter(fits).filter(|_| is_new) {
            Some(list) => list.push(*settlement),
            None => {
                lists.push(vec![*settlement]);
                seen.clear();
                seen.insert(settlement.order_no());
            }
        }
    }
    lists
}

impl Lane {
    /// Makes up the next turn, as full as bounds and "no order twice" allow.
    fn turn(&mut self) -> Turn {
        let settlements = self.take_settlements();
        let mut seen = OrderSet::default();
        let mut requests = self.take_parked(&mut seen);
        self.take_requests(&mut requests, &mut seen);
        self.requests_len -= requests.len();
        Turn { settlements, requests }
    }

    /// The first queued settlements that fit into one call together.
    fn take_settlements(&mut self) -> Vec<QueuedSettlements> {
        let (mut seen, mut len, mut taken) = (OrderSet::default(), 0, Vec::new());
        while let Some(next) = self.settlements.front() {
            len += next.settlements.len();
            let fits = len <= limits::GATE_BATCH_MAX
                && next.settlements.iter().all(|settlement| seen.insert(settlement.order_no()));
            // The first always goes: alone it is within the bound, and no order stands twice in it.
            if !fits && !taken.is_empty() {
                break;
            }
            taken.extend(self.settlements.pop_front());
        }
        self.settlements_len -= taken.iter().map(|queued| queued.settlements.len()).sum::<usize>();
        taken
    }

    /// Answers every parked request for this very order.
    fn share(&mut self, reservation: &Reservation, reserved: ReserveOutcome) {
        let Some(parked) = self.parked.remove(&reservation.order_no) else { return };
        let (same, others): (VecDeque<_>, VecDeque<_>) =
            parked.into_iter().partition(|waiting| waiting.request.reservation.fingerprint == reservation.fingerprint);
        self.requests_len -= same.len();
        for waiting in same {
            drop(waiting.answer.send(Ok(reserved)));
        }
        if !others.is_empty() {
            self.parked.insert(reservation.order_no, others);
        }
    }

    /// The first parked request of each order.
    fn take_parked(&mut self, seen: &mut OrderSet) -> Vec<QueuedRequest> {
        let mut taken = Vec::new();
        self.parked.retain(|order_no, parked| {
            if taken.len() < limits::GATE_BATCH_MAX
                && let Some(next) = parked.pop_front()
            {
                seen.insert(*order_no);
                taken.push(next);
            }
            !parked.is_empty()
        });
        taken
    }

    /// Fills a batch up with queued requests; parks those whose order is in it, or is parked already.
    fn take_requests(&mut self, taken: &mut Vec<QueuedRequest>, seen: &mut OrderSet) {
        while taken.len() < limits::GATE_BATCH_MAX
            && let Some(next) = self.requests.pop_front()
        {
            let order_no = next.request.reservation.order_no;
            if self.parked.contains_key(&order_no) || !seen.insert(order_no) {
                self.parked.entry(order_no).or_default().push_back(next);
            } else {
                taken.push(next);
            }
        }
    }
}

impl Turn {
    fn is_empty(&self) -> bool {
        self.settlements.is_empty() && self.requests.is_empty()
    }

    pub(super) fn settlements(&self) -> Vec<Settlement> {
        self.settlements.iter().flat_map(|queued| &queued.settlements).copied().collect()
    }

    pub(super) fn requests(&self) -> Vec<&ReserveRequest> {
        self.requests.iter().map(|queued| &queued.request).collect()
    }

    /// The time of the last request.
    pub(super) fn now_ms(&self) -> UnixMs {
        self.requests.last().map_or(0, |queued| queued.now_ms)
    }

    /// Answers every caller. Some may be gone; their calls were carried out all the same.
    pub(super) fn answer(self, settled: Result<(), Error>, reserved: Result<Vec<ReserveOutcome>, Error>) {
        for queued in self.settlements {
            drop(queued.answer.send(settled.clone()));
        }
        match reserved {
            Ok(outcomes) => {
                for (queued, outcome) in self.requests.into_iter().zip(outcomes) {
                    drop(queued.answer.send(Ok(outcome)));
                }
            }
            Err(error) => {
                for queued in self.requests {
                    drop(queued.answer.send(Err(error.clone())));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::ReserveMode;
    use crate::order::{Epoch, Fingerprint, Reservation, SaleNo, UserId};

    const AT: ShardEpoch = ShardEpoch { sale: SaleNo(1), shard: 0, epoch: Epoch::FIRST };

    fn ask(order: u128, attempt_id: u64) -> ReserveRequest {
        let reservation = Reservation {
            order_no: OrderNo::from_bytes(order.to_be_bytes()),
            fingerprint: Fingerprint::from_bytes([0; 16]),
            user: UserId::new(1).unwrap(),
            sku: 0,
            quantity: 1,
            created_at: 0,
        };
        ReserveRequest { reservation, mode: ReserveMode::Create, attempt_id }
    }

    fn turns(lanes: &Lanes) -> Vec<Vec<(u128, u64)>> {
        let one = |turn: Turn| -> Vec<(u128, u64)> {
            turn.requests()
                .iter()
                .map(|request| (u128::from_be_bytes(*request.reservation.order_no.as_bytes()), request.attempt_id))
                .collect()
        };
        std::iter::from_fn(|| lanes.next(AT)).map(one).collect()
    }

    #[test]
    fn an_order_stands_once_in_a_turn_and_delays_no_other() {
        let lanes = Lanes::default();
        let requests = [ask(7, 1), ask(7, 2), ask(8, 3), ask(7, 4), ask(9, 5), ask(8, 6)];
        assert!(lanes.reserve(AT, 0, &requests).unwrap().is_idle);
        assert!(!lanes.reserve(AT, 0, &[ask(7, 7)]).unwrap().is_idle);
        let mut turns = turns(&lanes);
        turns.iter_mut().skip(1).for_each(|turn| turn.sort_unstable());
        assert_eq!(turns, [vec![(7, 1), (8, 3), (9, 5)], vec![(7, 2), (8, 6)], vec![(7, 4)], vec![(7, 7)]]);
        assert_eq!(lanes.active(), 0);
    }

    #[test]
    fn what_cannot_change_answers_every_request_with_the_same_content() {
        let lanes = Lanes::default();
        let other = ReserveRequest {
            reservation: Reservation { fingerprint: Fingerprint::from_bytes([1; 16]), ..ask(7, 0).reservation },
            ..ask(7, 4)
        };
        let mut queued = lanes.reserve(AT, 0, &[ask(7, 1), ask(7, 2), ask(7, 3), other, ask(8, 5)]).unwrap().answers;
        let turn = lanes.next(AT).unwrap();
        lanes.share(AT, &turn.requests(), &[ReserveOutcome::Recorded { created_at: 9 }, ReserveOutcome::InFlight]);
        for answer in &mut queued[1..3] {
            assert_eq!(answer.try_recv().unwrap(), Ok(ReserveOutcome::Recorded { created_at: 9 }));
        }
        let next = lanes.next(AT).unwrap();
        assert_eq!(
            next.requests().iter().map(|request| request.attempt_id).collect::<Vec<_>>(),
            [4],
            "other content gets a turn of its own"
        );
        assert!(lanes.next(AT).is_none());
        assert_eq!(lanes.active(), 0);
    }

    #[test]
    fn a_turn_and_a_queue_are_bounded() {
        let lanes = Lanes::default();
        let requests: Vec<ReserveRequest> = (0..limits::GATE_QUEUE_MAX as u128).map(|order| ask(order, 0)).collect();
        let _answers = lanes.reserve(AT, 0, &requests).unwrap();
        assert_eq!(lanes.reserve(AT, 0, &[ask(0, 0)]).err(), Some(Error::Busy));
        let first = lanes.next(AT).unwrap();
        assert_eq!(first.requests().len(), limits::GATE_BATCH_MAX);
        assert!(lanes.reserve(AT, 0, &[ask(0, 0)]).is_ok());
        let full = vec![ask(0, 0); limits::GATE_QUEUE_MAX + 1];
        let other = ShardEpoch { shard: 1, ..AT };
        assert_eq!(lanes.reserve(other, 0, &full).err(), Some(Error::Busy));
        assert!(lanes.next(other).is_none(), "what was refused left nothing");
    }

    #[test]
    fn settlements_join_unless_an_order_would_stand_twice() {
        let lanes = Lanes::default();
        let refused = |order: u128| Settlement::Release { order_no: OrderNo::from_bytes(order.to_be_bytes()) };
        for list in [&[1, 2][..], &[3], &[2], &[4, 4]] {
            let settlements: Vec<Settlement> = list.iter().map(|order| refused(*order)).collect();
            lanes.settle(AT, &settlements).unwrap();
        }
        let lens: Vec<usize> = std::iter::from_fn(|| lanes.next(AT)).map(|turn| turn.settlements().len()).collect();
        assert_eq!(lens, [3, 2, 1]);
        let many: Vec<Settlement> = (0..limits::GATE_BATCH_MAX as u128 + 1).map(refused).collect();
        lanes.settle(AT, &many).unwrap();
        let lens: Vec<usize> = std::iter::from_fn(|| lanes.next(AT)).map(|turn| turn.settlements().len()).collect();
        assert_eq!(lens, [limits::GATE_BATCH_MAX, 1]);
    }
}
