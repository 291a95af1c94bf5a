//! Random choices that can be repeated: the seed is printed, and `RUSHGATE_SEED` sets it.

use std::hash::{BuildHasher, Hasher, RandomState};

/// SplitMix64: small, fast, and good enough to choose users and moments.
pub(crate) struct Random(u64);

impl Random {
    /// Takes the seed from `RUSHGATE_SEED`, or draws one and says which.
    pub(crate) fn seeded(test: &str) -> Self {
        let given = std::env::var_os("RUSHGATE_SEED").map(|seed| {
            seed.to_str().and_then(|seed| seed.parse().ok()).expect("RUSHGATE_SEED is a number below 2^64")
        });
        let seed = given.unwrap_or_else(|| RandomState::new().build_hasher().finish());
        eprintln!("{test}: RUSHGATE_SEED={seed}");
        Random(seed)
    }

    /// A second row of choices that does not depend on how many the first makes; for threads.
    pub(crate) fn split(&mut self) -> Self {
        Random(self.next())
    }

    /// 0..2^64.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// `from..=to`.
    pub(crate) fn within(&mut self, from: u64, to: u64) -> u64 {
        from + self.next() % (to - from + 1)
    }
}
