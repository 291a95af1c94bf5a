//! Orders to measure with.

use rushgate::order::{Fingerprint, OrderNo, Reservation, UserId};
use rushgate_test_support::random::Random;

/// The time of every order.
pub(crate) const NOW: i64 = 1_795_176_000_000;

/// Whether this run measures; `cargo test` runs everything once, with a tiny input.
pub(crate) fn is_measured() -> bool {
    let mut flags = std::env::args().skip(1);
    flags.by_ref().any(|flag| flag == "--bench") && !std::env::args().any(|flag| flag == "--test")
}

/// `full` in a run that measures, else `tiny`.
pub(crate) fn size(full: usize, tiny: usize) -> usize {
    if is_measured() { full } else { tiny }
}

/// Endless different orders of one unit, the same in every run: random users, and order numbers as evenly spread as
/// the hashes that they stand for.
pub(crate) struct Orders(Random);

impl Orders {
    /// A sequence; another `seed` starts another.
    pub(crate) fn new(seed: u64) -> Self {
        Orders(Random::of(seed << 40))
    }

    /// The next order, of the sku at position `sku`.
    pub(crate) fn next(&mut self, sku: u16) -> Reservation {
        let [user, left, right, content] = [(); 4].map(|()| self.0.number());
        Reservation {
            order_no: OrderNo::from_bytes(((u128::from(left) << 64) | u128::from(right)).to_be_bytes()),
            fingerprint: Fingerprint::from_bytes(u128::from(content).to_be_bytes()),
            user: UserId::new((user >> 1) | 1).unwrap(),
            sku,
            quantity: 1,
            created_at: NOW,
        }
    }
}
