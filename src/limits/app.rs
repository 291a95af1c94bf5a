//! Bounds of the process: its drain, its admin token, its log.

/// How long a drain may take unless the settings say otherwise, in seconds.
pub const DRAIN_S_DEFAULT: u64 = 25;
/// Longest time readiness may answer 503 before the listener closes, in seconds: load balancers look every few.
pub const DRAIN_DELAY_S_MAX: u64 = 60;
/// Longest time a drain may take, in seconds: no order takes minutes, and supervisors lose patience earlier.
pub const DRAIN_TIMEOUT_S_MAX: u64 = 600;
/// Fewest and most characters of the admin token: 16 random ones cannot be guessed, 1024 fit every header limit.
pub const ADMIN_TOKEN_CHARS: std::ops::RangeInclusive<usize> = 16..=1024;
/// Log lines that may wait for stderr, per process: at some 300 bytes each about 5 MB. The process drops the surplus.
pub const LOG_LINES_QUEUED_MAX: usize = 16_384;
/// Most operations of which one is sampled: at 10,000 a second, one in a hundred seconds.
pub const TRACE_ONE_IN_MAX: u32 = 1_000_000;
