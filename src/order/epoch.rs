//! The gate epoch of a shard, as a type that has no zero.

use std::num::NonZero;

/// A gate epoch of one shard, from 1. Each load of the shard's gate begins one, higher than every epoch before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(NonZero<u64>);

impl Epoch {
    /// The first epoch of a shard, before which no order of it can exist.
    pub const FIRST: Epoch = Epoch(NonZero::<u64>::MIN);

    /// The epoch with this number; `None` below 1.
    pub fn new(number: i64) -> Option<Epoch> {
        u64::try_from(number).ok().and_then(NonZero::new).map(Epoch)
    }

    /// The epoch that follows the newest of a shard; without one, the first.
    pub fn following(newest: Option<Epoch>) -> Epoch {
        newest.map_or(Epoch::FIRST, |newest| Epoch::new(newest.get().saturating_add(1)).unwrap_or(newest))
    }

    /// Its number.
    pub fn get(self) -> i64 {
        self.0.get().cast_signed()
    }

    /// Whether it is [`Epoch::FIRST`].
    pub fn is_first(self) -> bool {
        self == Epoch::FIRST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_positive_and_the_next_is_one_higher() {
        let numbers = |number| Epoch::new(number).map(Epoch::get);
        assert_eq!([i64::MIN, -1, 0, 1, i64::MAX].map(numbers), [None, None, None, Some(1), Some(i64::MAX)]);
        let second = Epoch::following(Some(Epoch::FIRST));
        assert_eq!((Epoch::following(None), second.get()), (Epoch::FIRST, 2));
        assert_eq!((Epoch::FIRST.is_first(), second.is_first()), (true, false));
        assert!(None < Some(Epoch::FIRST) && Epoch::FIRST < second);
    }
}
