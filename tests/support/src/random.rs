//! Random choices that can be repeated: a test prints its seed, and `RUSHGATE_TEST_SEED` sets it.

use std::hash::{BuildHasher, Hasher, RandomState};

/// The variable that repeats a run.
const SEED: &str = "RUSHGATE_TEST_SEED";

/// SplitMix64: small, fast, and good enough to choose users and moments.
pub struct Random(u64);

impl Random {
    /// Takes the seed from `RUSHGATE_TEST_SEED`, or draws one, and prints it.
    pub fn seeded(test: &str) -> Self {
        let given = std::env::var_os(SEED).map(|seed| {
            seed.to_str().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| panic!("{SEED} is a number below 2^64"))
        });
        let seed = given.unwrap_or_else(|| RandomState::new().build_hasher().finish());
        eprintln!("{test}: {SEED}={seed}");
        Random(seed)
    }

    /// The sequence of a seed.
    pub fn of(seed: u64) -> Self {
        Random(seed)
    }

    /// A second sequence that does not depend on how many choices the first makes; for threads and tasks.
    pub fn split(&mut self) -> Self {
        Random(self.number())
    }

    /// 0..2^64.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// `0..n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.number() % n
    }

    /// `from..=to`.
    pub fn within(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to - from + 1)
    }

    /// True `percent` times in a hundred.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}
