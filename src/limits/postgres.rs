//! Bounds of the PostgreSQL ledger.

use super::{ANSWER_MS_MAX, BATCH_ORDERS_MAX, CLIENT_AUDIT_S, ORDERS_IN_FLIGHT_MAX};

/// Connections that record batches of orders, per process: while one waits for its commit, the others work.
pub const POSTGRES_WRITERS: usize = 4;
/// Connections that change and expire orders, per process: neither waits for the other.
pub const POSTGRES_LIFECYCLE_CONNECTIONS: usize = 2;
/// Connections for everything else that writes, per process.
pub const POSTGRES_ADMIN_CONNECTIONS: usize = 2;
/// Connections for reads, per process.
pub const POSTGRES_READERS: usize = 2;
/// Connections that look orders up in batches, per process.
pub const POSTGRES_FINDERS: usize = 2;
/// Batches that may wait for a writer.
pub const POSTGRES_APPENDS_QUEUED_MAX: usize = 64;
/// Batches of changes that may wait for a connection.
pub const POSTGRES_STEPS_QUEUED_MAX: usize = 64;
/// Times a batch of changes begins anew because another engine stored one of its reports meanwhile; once is rare.
pub const POSTGRES_CHANGE_TRIES_MAX: usize = 8;
/// Other writes that may stand in the queue; more wait to enter it.
pub const POSTGRES_CHANGES_QUEUED_MAX: usize = 64;
/// Reads that may wait for a reader.
pub const POSTGRES_READS_QUEUED_MAX: usize = 1_024;
/// Look-ups that may wait: one for every order in flight.
pub const POSTGRES_FINDS_QUEUED_MAX: usize = ORDERS_IN_FLIGHT_MAX;
/// Most look-ups in one query.
pub const POSTGRES_FINDS_PER_QUERY_MAX: usize = 256;
/// Audits that may wait for the one that runs; the ledger answers more of them with busy.
pub const POSTGRES_AUDITS_QUEUED_MAX: usize = 1;
/// Most orders of one append: each has its own number in the block that the batch draws.
pub const POSTGRES_BATCH_ORDERS_MAX: usize = 4_096;
/// How long a statement waits for a locked row, in ms; the server gives up first.
pub const POSTGRES_LOCK_MS_MAX: u64 = 2_000;
/// How long a statement of an order or a read may run, in ms.
pub const POSTGRES_STATEMENT_MS_MAX: u64 = 3_000;
/// How long the transaction of a batch may run, in ms, where the server is new enough to end it.
pub const POSTGRES_TRANSACTION_MS_MAX: u64 = 8_000;
/// How long a batch or a read may go unanswered, in ms, before the engine drops its connection, while the client still
/// waits for the answer.
pub const POSTGRES_REPLY_MS_MAX: u64 = 9_000;
/// How long a statement that makes or changes a sale may run, in ms: one of 256 skus in 1024 shards has 262,144 rows.
pub const POSTGRES_CHANGE_STATEMENT_MS_MAX: u64 = 20_000;
/// How long such a transaction may run, in ms.
pub const POSTGRES_CHANGE_MS_MAX: u64 = 40_000;
/// How long an audit may take, in seconds.
pub const POSTGRES_AUDIT_S_MAX: u64 = CLIENT_AUDIT_S;
/// How long connecting may take, in ms.
pub const POSTGRES_CONNECT_MS_MAX: u64 = 2_000;
/// How long a connection may be idle before the engine checks that it still answers, in ms.
pub const POSTGRES_IDLE_MS: u64 = 1_000;
/// How long a migration waits for a table, in ms, before it makes way and tries again: longer than the second after
/// which the server cancels a vacuum of the table, and shorter than an engine behind it waits
/// ([`POSTGRES_LOCK_MS_MAX`]), so that no order is refused because a reader takes minutes.
pub const POSTGRES_MIGRATION_LOCK_MS: u64 = 1_500;
/// Pause before it tries again, in ms: the engines get through what has piled up behind it.
pub const POSTGRES_MIGRATION_PAUSE_MS: u64 = 1_000;
/// Pause between two log lines about a migration that waits, in seconds.
pub const POSTGRES_MIGRATION_TOLD_S: u64 = 30;
/// How long a migration tries, in seconds: an audit is over by then.
pub const POSTGRES_MIGRATION_S_MAX: u64 = POSTGRES_AUDIT_S_MAX + 60;
const _: () = assert!(POSTGRES_MIGRATION_LOCK_MS < POSTGRES_LOCK_MS_MAX);
/// Attempts to claim an engine's place at a ledger, one every [`POSTGRES_PAUSE_MS_MIN`]: the server notices within
/// moments that an engine was killed.
pub const POSTGRES_CLAIMS_MAX: usize = 60;
/// Shortest pause between attempts to connect, in ms.
pub const POSTGRES_PAUSE_MS_MIN: u64 = 50;
/// Longest of these pauses, in ms.
pub const POSTGRES_PAUSE_MS_MAX: u64 = 1_000;
const _: () = assert!(BATCH_ORDERS_MAX <= POSTGRES_BATCH_ORDERS_MAX);
const _: () = assert!(POSTGRES_LOCK_MS_MAX < POSTGRES_STATEMENT_MS_MAX);
const _: () = assert!(POSTGRES_STATEMENT_MS_MAX < POSTGRES_TRANSACTION_MS_MAX);
const _: () = assert!(POSTGRES_TRANSACTION_MS_MAX < POSTGRES_REPLY_MS_MAX);
const _: () = assert!(POSTGRES_REPLY_MS_MAX < ANSWER_MS_MAX);
