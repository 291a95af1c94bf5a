//! Orders that cannot be expired because the ledger's rows about them do not fit: they are set aside for a while, so that
//! they keep no other order from expiring. The same for every ledger.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::ledger::{Error, ExpiredOrder};
use crate::limits;
use crate::order::OrderNo;

/// What came of expiring a batch in a transaction.
#[derive(Debug)]
pub(in crate::ledger) enum BatchTry {
    /// It is committed. As many orders were found as are told; some of them may have been paid since.
    Done { expired: Vec<ExpiredOrder>, found: usize },
    /// It was rolled back: at least one of these orders is broken, the oldest first.
    Broken { found: Vec<OrderNo>, why: String },
}

/// The orders that are set aside by now.
#[derive(Debug, Default)]
pub(in crate::ledger) struct Quarantine {
    orders: Mutex<Orders>,
}

#[derive(Debug, Default)]
struct Orders {
    numbers: Vec<OrderNo>,
    /// When they are tried again: perhaps the ledger was repaired. By a clock that nobody sets, or they would wait for one
    /// that was set forward and back.
    until: Option<Instant>,
}

impl Quarantine {
    /// Expires up to `max` orders with `batch`, which is told how many to take at most and which to leave out. A batch
    /// with a broken order in it is taken in halves until that order is found.
    pub(in crate::ledger) async fn expire_around<F>(
        &self,
        max: u32,
        mut batch: impl FnMut(u32, Vec<OrderNo>) -> F,
    ) -> Result<Vec<ExpiredOrder>, Error>
    where
        F: Future<Output = Result<BatchTry, Error>>,
    {
        self.begin();
        let (mut all, mut size) = (Vec::new(), max);
        loop {
            let left_out = self.orders.lock().numbers.clone();
            let tried = match batch(size, left_out).await {
                Ok(tried) => tried,
                // What is committed is told: its units are to go on sale again.
                Err(_) if !all.is_empty() => return Ok(all),
                Err(error) => return Err(error),
            };
            match tried {
                BatchTry::Done { expired, found } => {
                    all.extend(expired);
                    let places = max.saturating_sub(u32::try_from(all.len()).unwrap_or(max));
                    let was_last = size == max || u32::try_from(found).is_ok_and(|found| found < size);
                    if was_last || places == 0 {
                        return Ok(all);
                    }
                    size = size.saturating_mul(2).min(places);
                }
                BatchTry::Broken { found, why } => match found.as_slice() {
                    [order_no] => {
                        if !self.add(*order_no) {
                            return if all.is_empty() { Err(Error::Corrupt(why)) } else { Ok(all) };
                        }
                        tracing::error!(%order_no, why, "an order cannot expire: audit the ledger with rushgate verify");
                    }
                    _ => size = u32::try_from(found.len() / 2).unwrap_or(1).max(1),
                },
            }
        }
    }

    /// Once per call, so that each broken order is met once in it, however long it takes.
    fn begin(&self) {
        let mut orders = self.orders.lock();
        if orders.until.is_some_and(|until| Instant::now() >= until) {
            orders.numbers.clear();
        }
    }

    /// Answers whether there was a place for it.
    fn add(&self, order_no: OrderNo) -> bool {
        let mut orders = self.orders.lock();
        if orders.numbers.is_empty() {
            orders.until = Some(Instant::now() + Duration::from_millis(limits::SET_ASIDE_MS));
        }
        let has_place = orders.numbers.len() < limits::SET_ASIDE_MAX;
        if has_place {
            orders.numbers.push(order_no);
        }
        has_place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(range: std::ops::Range<u128>) -> Vec<OrderNo> {
        range.map(|n| OrderNo::from_bytes(n.to_be_bytes())).collect()
    }

    /// Tries to expire orders that are all broken; answers the sizes of the batches, and whether that was an error.
    async fn tried(aside: &Quarantine, broken: &[OrderNo]) -> (Vec<usize>, bool) {
        let mut sizes = Vec::new();
        let batch = |max, left_out: Vec<OrderNo>| {
            let due = broken.iter().copied().filter(|order_no| !left_out.contains(order_no));
            let found: Vec<OrderNo> = due.take(usize::try_from(max).unwrap()).collect();
            sizes.push(found.len());
            std::future::ready(Ok(match found.is_empty() {
                true => BatchTry::Done { expired: Vec::new(), found: 0 },
                false => BatchTry::Broken { found, why: "broken".to_owned() },
            }))
        };
        let expired = aside.expire_around(limits::EXPIRED_MAX, batch).await;
        (sizes, expired.is_err())
    }

    /// The time that counts is that of a clock nobody sets, whatever the wall clock does meanwhile.
    #[tokio::test(start_paused = true)]
    async fn a_broken_order_is_found_by_halves_and_tried_again_later() {
        let aside = Quarantine::default();
        let broken = numbers(0..3);
        assert_eq!(tried(&aside, &broken).await, (vec![3, 1, 1, 1, 0], false));
        tokio::time::advance(Duration::from_millis(limits::SET_ASIDE_MS - 1)).await;
        assert_eq!(tried(&aside, &broken).await, (vec![0], false), "left out");
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(tried(&aside, &broken).await.0.len(), 5, "tried again");
    }

    #[tokio::test]
    async fn no_more_are_set_aside_than_their_bound() {
        let aside = Quarantine::default();
        let broken = numbers(0..u128::try_from(limits::SET_ASIDE_MAX).unwrap());
        assert!(!tried(&aside, &broken).await.1);
        assert!(!tried(&aside, &broken).await.1);
        assert!(tried(&aside, &numbers(0..1 + u128::try_from(limits::SET_ASIDE_MAX).unwrap())).await.1);
    }
}
