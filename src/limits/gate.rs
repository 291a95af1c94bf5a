//! Bounds of the gate: leases, records, and the connections to Redis.

use super::ORDERS_IN_FLIGHT_MAX;

/// How long a reservation may stay unsettled before any engine may complete it, in ms: far above a slow commit, far below a
/// client's patience.
pub const LEASE_MS: i64 = 5_000;
/// How far the clocks of two engines may be apart, in ms, before one takes over the other's reservations too early, which
/// costs time and nothing else.
pub const CLOCKS_APART_MS: i64 = 5_000;
/// Recorded orders a gate shard in memory remembers to answer repeats without SQL, about 56 bytes each; the ledger answers
/// older ones.
pub const RECORDS_PER_SHARD_MAX: usize = 8_000_000;
/// Most reserve requests, and most settlements, of one script call. A call of this size keeps Redis busy for about a
/// millisecond, and Lua can pass about 8,000 values to a command, two for each.
pub const GATE_BATCH_MAX: usize = 512;
/// Reserve requests, and settlements, that may wait for the call before theirs, per shard: as many as orders may be in flight.
pub const GATE_QUEUE_MAX: usize = ORDERS_IN_FLIGHT_MAX;
/// How long connecting to a Redis node may take, the preflight included, in ms.
pub const GATE_CONNECT_MS: u64 = 2_000;
/// How long a Redis node may take to answer a call, in ms: hundreds of times what a full batch needs, and far below
/// the lease. Beyond, the outcome is unknown.
pub const GATE_REPLY_MS: u64 = 1_000;
/// Stalls in a row (silences of [`GATE_REPLY_MS`], however many calls meet them) after which a connection is replaced.
pub const GATE_TIMEOUTS_MAX: u32 = 3;
/// Shortest and longest pause before a lost node is tried again, in ms; doubled from try to try, with jitter.
pub const GATE_BACKOFF_MS: std::ops::RangeInclusive<u64> = 50..=2_000;
/// How long a connection to a Redis node may be idle before the kernel probes it, in s.
pub const GATE_KEEPALIVE_S: u64 = 15;
/// How long bytes sent to a Redis node may stay unacknowledged before the connection is given up, in ms.
pub const GATE_UNACKED_MS: u64 = 3_000;
/// Calls under way on one connection; more wait here, where they cost no memory of Redis.
pub const GATE_CALLS_MAX: usize = 1_024;
/// Bytes written to a connection at a time: some batches.
pub const GATE_WRITE_BYTES: usize = 256 * 1024;
/// Most pages of a shard's reservations that one search for overdue ones reads; the next search goes on behind them.
pub const GATE_PAGES_MAX: usize = 64;
/// Most nodes of the Redis gate. The highest peak ever published needs a handful.
pub const GATE_NODES_MAX: usize = 1_024;

// A command of a script gets two values for each order and a few more.
const _: () = assert!(2 * GATE_BATCH_MAX + 64 < 7_999);
