//! Bounds of the SQLite ledger.

use super::BATCH_ORDERS_MAX;

/// Jobs that may wait for the SQLite writer thread.
pub const SQLITE_WRITES_QUEUED_MAX: usize = 64;
/// Reads that may wait for the SQLite reader threads.
pub const SQLITE_READS_QUEUED_MAX: usize = 1_024;
/// Audits that may wait for the one that runs; the ledger answers more of them with busy.
pub const SQLITE_AUDITS_QUEUED_MAX: usize = 1;
/// Writes other than batches of orders that may stand in the queue at once, so that they leave it to orders.
pub const SQLITE_OTHER_WRITES_MAX: usize = 16;
/// Reader threads: reads are rare beside orders. Audits have a thread of their own.
pub const SQLITE_READERS: usize = 2;
/// Order numbers that may wait in memory for their table, about 30 bytes each; beyond, every batch moves some.
pub const SQLITE_NUMBERS_BEHIND_MAX: usize = 500_000;
/// Order numbers moved into their table in one transaction: a pause of some 8 ms for an order that comes just then.
pub const SQLITE_NUMBERS_PER_STEP: i64 = 1_024;
// Under full batches the backlog must shrink, not only keep up.
const _: () = assert!(SQLITE_NUMBERS_PER_STEP >= 2 * BATCH_ORDERS_MAX as i64);
/// How often the lock beside the ledger file is tried before a second process is refused: for 5 s in all, so that a process
/// that takes the place of a killed one starts.
pub const SQLITE_LOCK_TRIES: u32 = 250;
/// Pause after each of these tries, in ms.
pub const SQLITE_LOCK_PAUSE_MS: u64 = 20;
/// How long the writer must be idle before it catches up with numbers, in ms.
pub const SQLITE_IDLE_MS: u64 = 50;
/// Page cache of the writer, in KiB. At every commit SQLite walks a table as long as the cache is large: with 64 MiB
/// that took 9 % of the writer's time, more than the misses cost, which the operating system's cache serves.
pub const SQLITE_WRITER_CACHE_KIB: i64 = 16 * 1024;
/// Page cache of a reader, in KiB.
pub const SQLITE_READER_CACHE_KIB: i64 = 8 * 1024;
/// Write-ahead log size at which the writer checkpoints, in pages of 4 KiB: 64 MiB, a stall of some 20 ms.
pub const SQLITE_CHECKPOINT_PAGES: i64 = 16_000;
