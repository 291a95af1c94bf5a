//! Bounds of the command line as a client.

/// How long connecting may take, in seconds.
pub const CLIENT_CONNECT_S: u64 = 10;
/// How long an ordinary call may take, connecting included, in seconds.
pub const CLIENT_CALL_S: u64 = 10;
/// How long an audit may take, in seconds: it reads every order.
pub const CLIENT_AUDIT_S: u64 = 600;
/// Most users that one command makes tokens for: more than any load tool plays.
pub const CLIENT_USERS_MAX: u64 = 10_000_000;
/// Largest answer, in bytes: a listing of every sale with all its shards is some tens of MB.
pub const CLIENT_ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;
