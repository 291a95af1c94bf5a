//! Orders that cannot expire because the ledger's rows about them do not fit. They are left out for a while, so that they
//! keep no other order from expiring.
//!
//! The adapter asks a [`QuarantineRound`] what the next batch is, expires it in a transaction, and hands the result back, until the
//! round is over.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::ledger::{Error, ExpiredOrder};
use crate::limits;
use crate::order::OrderNo;

/// The result of expiring a batch in a transaction.
#[derive(Debug)]
pub(in crate::ledger) enum BatchTry {
    /// The transaction is committed. Of the `found` orders some may have been paid since.
    Done { expired: Vec<ExpiredOrder>, found: usize },
    /// The transaction is rolled back: at least one of these orders, the oldest first, is broken.
    Broken { found: Vec<OrderNo>, why: String },
}

/// The next batch of a round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ledger) struct QuarantineBatch {
    /// Most orders.
    pub(in crate::ledger) size: u32,
    pub(in crate::ledger) left_out: Vec<OrderNo>,
}

/// The orders that are left out by now.
#[derive(Debug, Default)]
pub(in crate::ledger) struct Quarantine {
    orders: Mutex<Quarantined>,
}

#[derive(Debug, Default)]
struct Quarantined {
    numbers: Vec<OrderNo>,
    /// When they are tried again: perhaps the ledger was repaired. Monotonic: setting the wall clock must not prolong the
    /// wait.
    until: Option<Instant>,
}

impl Quarantine {
    /// Begins a round that expires up to `max` orders. Orders whose time here is over are tried again in it, and only then,
    /// so that a round meets each broken order once, however long it takes.
    pub(in crate::ledger) fn begin(&self, max: u32, now: Instant) -> QuarantineRound<'_> {
        let mut orders = self.orders.lock();
        if orders.until.is_some_and(|until| now >= until) {
            orders.numbers.clear();
        }
        QuarantineRound { quarantine: self, now, max, size: max, expired: Vec::new() }
    }

    /// Adds an order; `false` if there is no room for it.
    fn add(&self, order_no: OrderNo, now: Instant) -> bool {
        let mut orders = self.orders.lock();
        if orders.numbers.is_empty() {
            orders.until = Some(now + Duration::from_millis(limits::SET_ASIDE_MS));
        }
        let has_room = orders.numbers.len() < limits::SET_ASIDE_MAX;
        if has_room {
            orders.numbers.push(order_no);
        }
        has_room
    }
}

/// A round of expiring orders. A batch with a broken order in it is tried again in halves until that order is found.
#[derive(Debug)]
pub(in crate::ledger) struct QuarantineRound<'q> {
    quarantine: &'q Quarantine,
    now: Instant,
    max: u32,
    size: u32,
    expired: Vec<ExpiredOrder>,
}

impl QuarantineRound<'_> {
    /// What to expire next.
    pub(in crate::ledger) fn next(&self) -> QuarantineBatch {
        QuarantineBatch { size: self.size, left_out: self.quarantine.orders.lock().numbers.clone() }
    }

    /// Takes in what became of the batch. `Some` if the round is over, with its result: once orders have expired that is
    /// all of them, whatever failed after, because their units are to go on sale again.
    pub(in crate::ledger) fn record(
        &mut self,
        tried: Result<BatchTry, Error>,
    ) -> Option<Result<Vec<ExpiredOrder>, Error>> {
        match tried {
            Ok(BatchTry::Done { expired, found }) => {
                self.expired.extend(expired);
                let room = self.max.saturating_sub(u32::try_from(self.expired.len()).unwrap_or(u32::MAX));
                let was_last = self.size == self.max || u32::try_from(found).is_ok_and(|found| found < self.size);
                if was_last || room == 0 {
                    return Some(Ok(std::mem::take(&mut self.expired)));
                }
                self.size = self.size.saturating_mul(2).min(room);
                None
            }
            Ok(BatchTry::Broken { found, why }) => match found.as_slice() {
                [order_no] if self.quarantine.add(*order_no, self.now) => {
                    tracing::error!(
                        %order_no,
                        why,
                        "could not expire order {order_no}: {why}; audit the ledger with rushgate verify"
                    );
                    None
                }
                [_] => self.fail(Error::Corrupt(why)),
                _ => {
                    self.size = u32::try_from(found.len() / 2).unwrap_or(u32::MAX).max(1);
                    None
                }
            },
            Err(error) => self.fail(error),
        }
    }

    fn fail(&mut self, error: Error) -> Option<Result<Vec<ExpiredOrder>, Error>> {
        Some(if self.expired.is_empty() { Err(error) } else { Ok(std::mem::take(&mut self.expired)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Returned;

    fn numbers(range: std::ops::Range<u128>) -> Vec<OrderNo> {
        range.map(|n| OrderNo::from_bytes(n.to_be_bytes())).collect()
    }

    /// A round over orders that are all broken: the sizes of its batches, and whether it ended in an error.
    fn tried(quarantine: &Quarantine, broken: &[OrderNo], now: Instant) -> (Vec<usize>, bool) {
        let (mut sizes, mut round) = (Vec::new(), quarantine.begin(limits::EXPIRED_MAX, now));
        loop {
            let QuarantineBatch { size, left_out } = round.next();
            let due = broken.iter().copied().filter(|order_no| !left_out.contains(order_no));
            let found: Vec<OrderNo> = due.take(usize::try_from(size).unwrap()).collect();
            sizes.push(found.len());
            let tried = match found.is_empty() {
                true => BatchTry::Done { expired: Vec::new(), found: 0 },
                false => BatchTry::Broken { found, why: "broken".to_owned() },
            };
            if let Some(ended) = round.record(Ok(tried)) {
                return (sizes, ended.is_err());
            }
        }
    }

    #[test]
    fn a_broken_order_is_found_by_halves_and_tried_again_later() {
        let (quarantine, broken, now) = (Quarantine::default(), numbers(0..3), Instant::now());
        let wait = Duration::from_millis(limits::SET_ASIDE_MS);
        assert_eq!(tried(&quarantine, &broken, now), (vec![3, 1, 1, 1, 0], false));
        let before = now + wait - Duration::from_millis(1);
        assert_eq!(tried(&quarantine, &broken, before), (vec![0], false), "left out");
        assert_eq!(tried(&quarantine, &broken, now + wait).0.len(), 5, "tried again");
    }

    #[test]
    fn a_quarantine_has_a_bound() {
        let (quarantine, now) = (Quarantine::default(), Instant::now());
        let broken = numbers(0..u128::try_from(limits::SET_ASIDE_MAX).unwrap());
        assert!(!tried(&quarantine, &broken, now).1);
        assert!(!tried(&quarantine, &broken, now).1);
        let more = numbers(0..1 + u128::try_from(limits::SET_ASIDE_MAX).unwrap());
        assert!(tried(&quarantine, &more, now).1);
    }

    #[test]
    fn what_has_expired_is_answered_whatever_fails_after() {
        let (quarantine, now) = (Quarantine::default(), Instant::now());
        let order = crate::ledger::core::effect::tests::order(crate::order::State::Expired, true);
        let expired = vec![ExpiredOrder { order, returned: Returned { epoch: None } }];
        let mut round = quarantine.begin(8, now);
        assert_eq!(round.record(Ok(BatchTry::Broken { found: numbers(0..8), why: String::new() })), None);
        assert_eq!(round.next().size, 4);
        assert_eq!(round.record(Ok(BatchTry::Done { expired: expired.clone(), found: 4 })), None);
        assert_eq!(round.next().size, 7, "no more than there is room for");
        assert_eq!(round.record(Err(Error::Busy)), Some(Ok(expired)));
        assert_eq!(quarantine.begin(8, now).record(Err(Error::Busy)), Some(Err(Error::Busy)));
    }
}
