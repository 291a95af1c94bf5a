//! Bounds of purchase tokens.

use super::NAME_CHARS_MAX;

/// Longest purchase token, in characters: a few fixed fields and a sale's id, in base64.
pub const PURCHASE_TOKEN_CHARS_MAX: usize = 4 * (65 + NAME_CHARS_MAX).div_ceil(3);
/// How long a purchase token may make new orders, in s: a buyer needs minutes, and a leaked one is bound to its user.
pub const PURCHASE_TOKEN_TTL_S: std::ops::RangeInclusive<u64> = 1..=86_400;
/// How long a purchase token makes new orders unless the settings say otherwise, in s.
pub const PURCHASE_TOKEN_TTL_S_DEFAULT: u64 = 300;
/// Characters of a secret that signs purchase tokens: at least as many as it has bytes of strength.
pub const PURCHASE_TOKEN_KEY_CHARS: std::ops::RangeInclusive<usize> = 32..=1024;
