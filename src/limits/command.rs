//! Bounds of a command and its answer, whatever transport carries them.

/// Longest detail of a refusal, in bytes: it may quote the client, who may have sent a lot.
pub const DETAIL_BYTES_MAX: usize = 300;
/// Longest idempotency key, in characters; the number that clients of other services already know.
pub const KEY_CHARS_MAX: usize = rushgate_idempotency::limits::KEY_CHARS_MAX;
/// Longest time a client may ask the engine to wait for an order in flight, in seconds: below every usual proxy time-out.
pub const WAIT_S_MAX: u64 = 10;
/// Largest page of a listing, in orders.
pub const PAGE_ORDERS_MAX: u32 = 100;
/// Page of a listing when the client names no size, in orders.
pub const PAGE_ORDERS_DEFAULT: u32 = 20;
/// `Retry-After` of a refusal that is about load or an unreachable store, in seconds.
pub const RETRY_AFTER_S: u64 = 1;
