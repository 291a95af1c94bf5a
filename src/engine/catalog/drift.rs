//! What does not fit between the gate and the ledger of a sale, from one comparison to the next.

use crate::limits;

/// Shards whose gate and ledger did not fit at one look. A look is no instant: units on their way may seem not to fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::engine) struct Drift {
    /// The ledger has units that the gate neither sells nor has reserved.
    pub(in crate::engine) stranded: Vec<Stranded>,
    /// The gate sells units that the ledger does not have.
    pub(in crate::engine) excess: Vec<u16>,
    /// The gate sells while the sale is paused or has been ended, or does not sell while it runs.
    pub(in crate::engine) switch: Vec<u16>,
}

/// A shard that seems to have lost units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Stranded {
    pub(in crate::engine) shard: u16,
    /// Units that had ever come back into those of its skus that lack some. Such units come back in the ledger first:
    /// where the count grows between two looks, some may only be on their way.
    pub(in crate::engine) returned: i64,
    /// Looks in a row at which it seemed so.
    pub(in crate::engine) looks: u32,
}

impl Drift {
    /// Counts for each shard that seems to lack units the looks in a row, this one and those `before`.
    pub(in crate::engine) fn count_looks(&mut self, before: &Drift) {
        for now in &mut self.stranded {
            let earlier = before.stranded.iter().find(|earlier| earlier.shard == now.shard);
            now.looks = earlier.map_or(0, |earlier| earlier.looks).saturating_add(1);
        }
    }

    /// The shards that did not fit `before` either, and in the same way. Where units keep coming back, it takes more looks
    /// to tell those that are lost from those that are on their way.
    pub(in crate::engine) fn seen_again(&self, before: &Drift) -> Vec<u16> {
        let is_certain = |now: &&Stranded| {
            let same = |earlier: &Stranded| (earlier.shard, earlier.returned) == (now.shard, now.returned);
            now.looks >= limits::STRANDED_LOOKS || before.stranded.iter().any(same)
        };
        let stranded = self.stranded.iter().filter(is_certain).map(|stranded| &stranded.shard);
        let excess = self.excess.iter().filter(|shard| before.excess.contains(shard));
        let mut again: Vec<u16> = stranded.chain(excess).copied().collect();
        again.sort_unstable();
        again.dedup();
        again
    }

    /// Whether a gate was switched otherwise than the ledger says at this look and at the one `before`.
    pub(in crate::engine) fn is_switch_seen_again(&self, before: &Drift) -> bool {
        self.switch.iter().any(|shard| before.switch.contains(shard))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stranded(shard: u16, returned: i64) -> Drift {
        Drift { stranded: vec![Stranded { shard, returned, looks: 1 }], ..Drift::default() }
    }

    #[test]
    fn a_shard_is_loaded_anew_when_it_did_not_fit_twice_in_the_same_way() {
        let excess = |shards: &[u16]| Drift { excess: shards.to_vec(), ..Drift::default() };
        let rows = [
            (excess(&[1, 2]), excess(&[2, 3]), vec![2]),
            (stranded(4, 10), stranded(4, 10), vec![4]),
            (stranded(4, 10), stranded(4, 11), vec![]),
            (stranded(4, 10), stranded(5, 10), vec![]),
            (stranded(4, 10), excess(&[4]), vec![]),
            (Drift { excess: vec![4], ..stranded(4, 10) }, Drift { excess: vec![4], ..stranded(4, 10) }, vec![4]),
        ];
        for (before, now, expected) in rows {
            assert_eq!(now.seen_again(&before), expected, "{before:?} then {now:?}");
        }
    }

    #[test]
    fn where_units_keep_coming_back_it_takes_more_looks() {
        let mut before = Drift::default();
        for look in 1..=limits::STRANDED_LOOKS {
            let mut now = stranded(7, i64::from(look));
            now.count_looks(&before);
            assert_eq!(now.seen_again(&before).is_empty(), look < limits::STRANDED_LOOKS, "look {look}");
            before = now;
        }
    }
}
