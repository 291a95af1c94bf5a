//! Bounds of authentication: bearer tokens, the keys that verify them, trusted proxies.

/// Longest bearer token, in bytes: an identity provider's with a few dozen claims has one to four thousand.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// How far the issuer's clock may be ahead of the engine's, in seconds, before a fresh token is refused as not yet valid.
/// An expired token gets no such allowance.
pub const TOKEN_LEEWAY_S: i64 = 5;
/// Fewest and most bytes of a secret that signs tokens: fewer than 32 weaken HS256 (RFC 7518, section 3.2).
pub const TOKEN_SECRET_BYTES: std::ops::RangeInclusive<usize> = 32..=1024;
/// Largest file of public keys, in bytes: some dozens of keys.
pub const TOKEN_KEYS_FILE_BYTES_MAX: u64 = 64 * 1024;
/// Most networks of trusted proxies: every request is compared with each.
pub const PROXIES_MAX: usize = 64;
