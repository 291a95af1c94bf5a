//! Bounds of what says who is asking: bearer tokens, their keys, trusted proxies.

/// Longest bearer token, in bytes: an identity provider's with a few dozen claims has one to four thousand.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// How far the clock of whoever signs tokens may be ahead of ours, in seconds, before a fresh token is not valid yet. One that
/// has expired gets no such time.
pub const TOKEN_LEEWAY_S: i64 = 5;
/// Most keys that tokens are checked with, one after the other: the new one, the old one, and room for a mistake.
pub const TOKEN_KEYS_MAX: usize = 8;
/// Fewest and most bytes of a secret that signs tokens: fewer than 32 weaken HS256 (RFC 7518, section 3.2).
pub const TOKEN_SECRET_BYTES: std::ops::RangeInclusive<usize> = 32..=1024;
/// Fewest and most bits of an RSA key: what the verifier takes.
pub const TOKEN_RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// Largest file of public keys, in bytes: some dozens of keys.
pub const TOKEN_KEYS_FILE_BYTES_MAX: u64 = 64 * 1024;
/// Most networks of trusted proxies: every request is held against each.
pub const PROXIES_MAX: usize = 64;
