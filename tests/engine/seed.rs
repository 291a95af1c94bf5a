//! Seeded randomness: a test prints its seed, and `RUSHGATE_SEED` replays it.

/// xorshift64* (Vigna, 2016): enough to shuffle work, and the same everywhere.
pub(crate) struct Random(u64);

impl Random {
    /// Takes the seed from `RUSHGATE_SEED`, or the time, and says which.
    #[allow(clippy::disallowed_methods, reason = "a test draws and replays its seed")]
    pub(crate) fn announced(test: &str) -> Random {
        let drawn = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
        let seed = std::env::var("RUSHGATE_SEED").map_or_else(|_| drawn(), |text| text.parse().unwrap());
        println!("{test}: replay with RUSHGATE_SEED={seed}");
        Random::of(seed)
    }

    pub(crate) fn of(seed: u64) -> Random {
        Random(seed | 1)
    }

    /// A second row of choices that does not depend on how many the first makes; for tasks.
    pub(crate) fn split(&mut self) -> Random {
        Random::of(self.next())
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// True `percent` times in a hundred.
    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}
