//! Bounds of the secrets and keys that several rooms verify signatures with.

/// Most keys of one kind that verify at once, each tried in turn: the new one, the old one, and room for a mistake or a few shops.
pub const ACTIVE_KEYS_MAX: usize = 8;
/// Fewest and most bits of an RSA key: what the verifier takes. A shorter key can be factored; longer ones are not in use.
pub const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
