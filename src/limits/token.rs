//! Bounds of purchase tokens.

use super::NAME_CHARS_MAX;

/// Longest purchase token, in characters: a few fixed fields and a sale's id, in base64.
pub const PURCHASE_TOKEN_CHARS_MAX: usize = 4 * (65 + NAME_CHARS_MAX).div_ceil(3);
/// How long a purchase token may be good for new orders, in s: a buyer needs minutes, and a leaked one is bound to its user.
pub const PURCHASE_TOKEN_TTL_S: std::ops::RangeInclusive<u64> = 1..=86_400;
/// How long a purchase token is good for new orders unless the settings say otherwise, in s.
pub const PURCHASE_TOKEN_TTL_S_DEFAULT: u64 = 300;
/// Characters of a secret that purchase tokens are signed with: at least as many as it has bytes of strength.
pub const PURCHASE_TOKEN_KEY_CHARS: std::ops::RangeInclusive<usize> = 32..=1024;
/// Most such secrets at a time; replacing one takes two.
pub const PURCHASE_TOKEN_KEYS_MAX: usize = 8;
