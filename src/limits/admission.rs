//! Bounds of admission: requests of one user or address, and orders in flight.

/// Highest rate and largest burst of one user or address that can be set, in requests: more is no limit.
pub const RATE_MAX: u32 = 1_000_000;
/// Users, and addresses, whose rates the process remembers at a time, 16 bytes each. It remembers one until its bucket is
/// full again, for seconds: this many would have to come within those.
pub const RATE_KEYS_MAX: usize = 262_144;
/// Users, or addresses, that share a set in the table of rates: a newcomer replaces the one with the fullest bucket.
pub const RATE_KEYS_PER_SET: usize = 8;
const _: () = assert!(RATE_KEYS_MAX.is_multiple_of(RATE_KEYS_PER_SET));
/// Requests a second of one user where rates are limited and nothing else is set: a person who clicks wildly and a client
/// that retries together stay below.
pub const USER_PER_S_DEFAULT: u32 = 20;
/// Requests a second of one address where rates are limited and nothing else is set: an office behind one address.
pub const ADDRESS_PER_S_DEFAULT: u32 = 200;
/// Orders between reservation and answer, per process: 64 full batches, a second or two of a slow disk.
pub const ORDERS_IN_FLIGHT_MAX: usize = 16_384;
/// Of those, the permits that only retries may take, so that a crowd of new orders cannot keep out the retry that settles
/// an earlier unknown.
pub const ORDERS_IN_FLIGHT_RETRY: usize = ORDERS_IN_FLIGHT_MAX / 8;
