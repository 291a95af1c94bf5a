//! The recorded orders of one shard: a bounded map that forgets its older half when it is full.

use std::collections::HashMap;

use crate::clock::UnixMs;
use crate::order::{Fingerprint, OrderNo};

/// What the gate remembers of a recorded order: enough to answer a repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) fingerprint: Fingerprint,
    pub(super) created_at: UnixMs,
}

/// Small maps grow one at a time: a single map of millions would stall its shard while it rehashes.
const STRIPES: usize = 64;

type RecordStripe = HashMap<OrderNo, Record, foldhash::fast::RandomState>;

/// Two generations: inserts go to the young one; when it has half the bound, it becomes the old one.
pub(super) struct Records {
    young: Vec<RecordStripe>,
    old: Vec<RecordStripe>,
    young_len: usize,
    half: usize,
}

impl Records {
    pub(super) fn new(max: usize) -> Self {
        Records { young: stripes(), old: Vec::new(), young_len: 0, half: (max / 2).max(1) }
    }

    pub(super) fn get(&self, order_no: &OrderNo) -> Option<&Record> {
        let at = stripe(order_no);
        self.young.get(at)?.get(order_no).or_else(|| self.old.get(at)?.get(order_no))
    }

    /// Keeps a record; answers whether others were forgotten for it.
    pub(super) fn insert(&mut self, order_no: OrderNo, record: Record) -> bool {
        let mut forgot = false;
        if self.young_len >= self.half {
            let old = std::mem::replace(&mut self.young, stripes());
            forgot = !std::mem::replace(&mut self.old, old).is_empty();
            self.young_len = 0;
        }
        if let Some(map) = self.young.get_mut(stripe(&order_no))
            && map.insert(order_no, record).is_none()
        {
            self.young_len += 1;
        }
        forgot
    }
}

fn stripes() -> Vec<RecordStripe> {
    (0..STRIPES).map(|_| RecordStripe::default()).collect()
}

/// Order numbers are keyed hashes, so any byte of them spreads evenly and no client can aim at a stripe.
fn stripe(order_no: &OrderNo) -> usize {
    usize::from(order_no.as_bytes().last().copied().unwrap_or(0)) % STRIPES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_half_is_forgotten_and_the_bound_holds() {
        let record = Record { fingerprint: Fingerprint::from_bytes([0; 16]), created_at: 1 };
        let no = |n: u128| OrderNo::from_bytes(n.to_be_bytes());
        let mut records = Records::new(200);
        let forgot: Vec<u128> = (0..400).filter(|n| records.insert(no(*n), record)).collect();
        assert_eq!(forgot, [200, 300]);
        let kept = (0..400).filter(|n| records.get(&no(*n)).is_some()).count();
        assert_eq!(kept, 200);
        assert!(records.get(&no(399)).is_some());
        assert!(records.get(&no(199)).is_none());
    }
}
