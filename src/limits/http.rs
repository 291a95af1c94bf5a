//! Bounds of the HTTP listeners: connections, request heads and bodies.

/// Largest request body, in bytes. An order is under 200 bytes; the rest is room for sale definitions.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// Longest time a body may take to arrive, in ms. A phone on a bad network needs a second or two.
pub const BODY_MS_MAX: u64 = 10_000;
/// Longest time the server reads a body only to keep the connection, in ms: such a body arrives with its head, or is
/// not worth waiting for.
pub const UNWANTED_BODY_MS_MAX: u64 = 1_000;
/// Longest time the server drains a connection that it closes, in ms, so that the client can read the last answer.
pub const LINGER_MS_MAX: u64 = 1_000;
/// Most bytes the server drains then: bodies sent by mistake are a few MB.
pub const LINGER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Longest time a request head may take to arrive, in ms; also how long an idle connection is kept.
pub const HEAD_MS_MAX: u64 = 10_000;
/// Largest request head, in bytes: room for the cookies and trace headers that proxies add.
pub const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Read buffer of a connection, in bytes: larger than a head, so that the bound on heads is the one that refuses.
pub const READ_BUFFER_BYTES_MAX: usize = 2 * HEAD_BYTES_MAX;
/// Most header lines of a request.
pub const HEADERS_MAX: usize = 64;
/// Open connections of buyers, if the process may open as many files. A permit is taken before `accept`, so that the surplus waits in
/// the listen queue.
pub const CONNECTIONS_MAX: usize = 20_000;
/// Open connections of the admin listener: probes, scrapes, a few dashboards.
pub const ADMIN_CONNECTIONS_MAX: usize = 256;
/// Open files that no buyer's connection may take: those of the ledger, the gate, the log and the runtime.
pub const OWN_DESCRIPTORS: usize = 128;
/// Fewest connections of buyers with which an engine starts.
pub const CONNECTIONS_MIN: usize = 16;
/// Connections of buyers below which the engine warns: a rush needs more.
pub const CONNECTIONS_FEW: usize = 4_000;
/// Listen queue, in connections. The kernel caps it at `net.core.somaxconn`.
pub const BACKLOG: i32 = 4_096;
/// Longest time sent bytes may stay unacknowledged before the server gives the connection up, in ms.
pub const UNREAD_MS_MAX: u64 = 30_000;
/// Pause after `accept` failed for want of file descriptors, in ms; without it the loop would spin.
pub const ACCEPT_PAUSE_MS: u64 = 50;
