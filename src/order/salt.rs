//! The secret of a sale that keys its order numbers and fingerprints.

use std::fmt;

/// A sale's secret salt: it keys the derivation, so numbers of one sale tell nothing about another's.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Salt([u8; 32]);

impl Salt {
    /// Wraps 32 random bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Salt(bytes)
    }

    /// The bytes, for the ledger's sale row and the hash functions of this floor.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Salt(…)")
    }
}
