//! Orders to measure with.

use rushgate::order::{Fingerprint, Hold, OrderNo, UserId};

/// The migrations of the embedded ledger: what is compared with it has the same tables and indexes.
#[allow(dead_code, reason = "only the benches of the ledger need it")]
pub const MIGRATIONS: [&str; 2] = [
    include_str!("../../src/ledger/sqlite/migrations/0001_ledger.sql"),
    include_str!("../../src/ledger/sqlite/migrations/0002_orders_by_number.sql"),
];

/// The write-ahead log size of the embedded ledger, in pages.
#[allow(dead_code, reason = "only the benches of the ledger need it")]
pub const CHECKPOINT_PAGES: i64 = rushgate::limits::SQLITE_CHECKPOINT_PAGES;

/// The time of every order.
pub const NOW: i64 = 1_795_176_000_000;

/// Whether this run measures; `cargo test` runs everything once, with a tiny input.
pub fn is_measured() -> bool {
    let mut flags = std::env::args().skip(1);
    flags.by_ref().any(|flag| flag == "--bench") && !std::env::args().any(|flag| flag == "--test")
}

/// `full` in a run that measures, else `tiny`.
pub fn size(full: usize, tiny: usize) -> usize {
    if is_measured() { full } else { tiny }
}

/// Endless different orders of one unit, the same in every run: random users, and order numbers as evenly spread as
/// the hashes that they stand for.
pub struct Orders(u64);

impl Orders {
    /// A sequence; another `seed` starts another.
    pub fn new(seed: u64) -> Self {
        Orders(seed << 40)
    }

    /// The next order, of the sku at position `sku`.
    pub fn next(&mut self, sku: u16) -> Hold {
        let [user, left, right, content] = [(); 4].map(|()| self.random());
        Hold {
            order_no: OrderNo::from_bytes(((u128::from(left) << 64) | u128::from(right)).to_be_bytes()),
            fingerprint: Fingerprint::from_bytes(u128::from(content).to_be_bytes()),
            user: UserId::new((user >> 1) | 1).unwrap(),
            sku,
            quantity: 1,
            created_at: NOW,
        }
    }

    /// SplitMix64.
    fn random(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
