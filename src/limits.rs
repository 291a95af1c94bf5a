//! Every bound of the engine, with its unit and its reason, in one place.
//!
//! A queue, map, body, batch or wait that is not bounded here is a bug: what has a limit cannot surprise anyone at
//! the minute the sale opens.

// ---- what a client may send ----

/// Largest request body, in bytes. An order is under 200 bytes; the rest is room for sale definitions.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// How long a body may take to arrive, in ms. A phone on a bad network needs a second or two.
pub const BODY_MS_MAX: u64 = 10_000;
/// How long a body may take that is read only to keep the connection, in ms: it is on its way with its head, or it is not
/// worth waiting for.
pub const UNWANTED_BODY_MS_MAX: u64 = 1_000;
/// How long, in ms, and how much, in bytes, is read and dropped of what a client is still sending when its connection is
/// closed, so that it can read the last answer: bodies of a mistake are a few MB, and are nearly here with their head.
pub const LINGER_MS_MAX: u64 = 1_000;
/// See [`LINGER_MS_MAX`].
pub const LINGER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long a request head may take to arrive, in ms; also how long an idle connection is kept.
pub const HEAD_MS_MAX: u64 = 10_000;
/// Largest request head, in bytes: room for the cookies and trace headers that proxies add.
pub const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Read buffer of a connection, in bytes: larger than a head, so that the bound on heads is the one that refuses.
pub const READ_BUFFER_BYTES_MAX: usize = 2 * HEAD_BYTES_MAX;
/// Most header lines of a request.
pub const HEADERS_MAX: usize = 64;
/// Longest detail of a refusal, in bytes: it may quote the client, who may have sent a lot.
pub const DETAIL_BYTES_MAX: usize = 300;
/// Longest idempotency key, in characters; the number that clients of other services already know.
pub const KEY_CHARS_MAX: usize = rushgate_idempotency::limits::KEY_CHARS_MAX;
/// Longest sale, sku or change id, in characters.
pub const NAME_CHARS_MAX: usize = 64;
/// Longest id that a payment provider gives a report, a payment or a refund, and longest name of an event, in bytes.
pub const REFERENCE_BYTES_MAX: usize = 128;
/// Longest purchase token, in characters: a few fixed fields and a sale's id, in base64.
pub const PURCHASE_TOKEN_CHARS_MAX: usize = 4 * (65 + NAME_CHARS_MAX).div_ceil(3);
/// How long a purchase token may be good for new orders, in s: a buyer needs minutes, and a leaked one is bound to its user.
pub const PURCHASE_TOKEN_TTL_S: std::ops::RangeInclusive<u64> = 1..=86_400;
/// How long a purchase token is good for new orders unless the settings say otherwise, in s.
pub const PURCHASE_TOKEN_TTL_S_DEFAULT: u64 = 300;
/// Characters of a secret that purchase tokens are signed with: at least as many as it has bytes of strength.
pub const PURCHASE_TOKEN_KEY_CHARS: std::ops::RangeInclusive<usize> = 32..=1024;
/// Most such secrets at a time; replacing one takes two.
pub const PURCHASE_TOKEN_KEYS_MAX: usize = 8;
/// Longest time a client may ask us to wait for an order in flight, in seconds: below every usual proxy time-out.
pub const WAIT_S_MAX: u64 = 10;
/// Largest page of a listing, in orders.
pub const PAGE_ORDERS_MAX: u32 = 100;
/// Page of a listing when the client names no size, in orders.
pub const PAGE_ORDERS_DEFAULT: u32 = 20;

// ---- who is asking ----

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
/// Highest rate and largest burst of one user or address that can be set, in requests: more is no limit.
pub const RATE_MAX: u32 = 1_000_000;
/// Users, and addresses, whose rates are remembered at a time, 16 bytes each, per process. One is remembered until its
/// bucket is full again, for seconds: this many would have to come within those.
pub const RATE_KEYS_MAX: usize = 262_144;
/// Users, or addresses, that share a place in the table of rates: the one forgotten for a newcomer is the best of these.
pub const RATE_KEYS_PER_SET: usize = 8;
const _: () = assert!(RATE_KEYS_MAX.is_multiple_of(RATE_KEYS_PER_SET));
/// Requests a second of one user where rates are limited and nothing else is set: a person who clicks wildly and a client
/// that retries together stay below.
pub const USER_PER_S_DEFAULT: u32 = 20;
/// Requests a second of one address where rates are limited and nothing else is set: an office behind one address.
pub const ADDRESS_PER_S_DEFAULT: u32 = 200;

// ---- what a sale may be ----

/// Largest quantity of one order, in units.
pub const QUANTITY_MAX: u32 = 1_000_000;
/// Most units of one sku: large enough for any sale, and 10^9 x 10^12 minor units still fits an `i128` report.
pub const STOCK_UNITS_MAX: i64 = 1_000_000_000;
/// Highest price of one unit, in minor units. `UNIT_PRICE_MAX * QUANTITY_MAX` = 10^18 fits an `i64`.
pub const UNIT_PRICE_MAX: i64 = 1_000_000_000_000;
/// Most shards of a sale.
pub const SHARDS_MAX: u16 = 1024;
/// Most skus of a sale, so that one shard's stock loads in one step.
pub const SKUS_MAX: usize = 256;
/// Most sales an engine keeps in memory, ended ones included (about 1 KiB each).
pub const SALES_MAX: usize = 20_000;
/// Longest payment time-out, in seconds (30 days).
pub const PAYMENT_TIMEOUT_S_MAX: u32 = 30 * 24 * 3600;

const _: () = assert!(UNIT_PRICE_MAX.checked_mul(QUANTITY_MAX as i64).is_some());

// ---- the path of an order ----

/// Orders between reservation and answer, per process: 64 full batches, a second or two of a slow disk.
pub const ORDERS_IN_FLIGHT_MAX: usize = 16_384;
/// Of those, the places kept for retries that settle an earlier unknown, so that a crowd of new orders cannot
/// keep them out.
pub const ORDERS_IN_FLIGHT_RETRY: usize = ORDERS_IN_FLIGHT_MAX / 8;
/// Most orders of one ledger transaction. Larger batches gain little (see `benches/ledger.rs`) and delay everyone in them.
pub const BATCH_ORDERS_MAX: usize = 512;
/// Fewest orders for which a ledger transaction is begun beside a running one: below, waiting for the running one and
/// going with more costs less CPU and hardly more time.
pub const BATCH_ORDERS_WORTH: usize = 128;
/// How long fewer orders wait for a running transaction, in ms, before they go in one of their own: it may be held up.
pub const BATCH_WAIT_MS_MAX: u64 = 20;
/// How long an answer waits for the ledger before the outcome is called unknown, in ms: below every usual proxy time-out.
pub const ANSWER_MS_MAX: u64 = 10_000;
/// How long a ledger transaction may run before readiness says so, in ms.
pub const APPEND_SLOW_MS: u64 = 5_000;
/// Pause between two probes of a ledger that is in trouble, in ms: new orders are refused until one succeeds.
pub const PROBE_MS: u64 = 250;
/// The longest of these pauses, in ms: it doubles with each probe that succeeds while orders fail again soon after.
pub const PROBE_MS_MAX: u64 = 8_000;
/// How long a reservation may stay unrecorded before anyone may complete it, in ms: far above a slow commit, far
/// below a client's patience.
pub const LEASE_MS: i64 = 5_000;
/// How far the clocks of two engines may be apart, in ms, before one takes over the reservations of the other for nothing.
/// Nothing worse can happen.
pub const CLOCKS_APART_MS: i64 = 5_000;
/// How often the sweeper looks for reservations past their lease, in ms.
pub const SWEEP_MS: u64 = 250;
/// Most reservations the sweeper takes from one shard at a time.
pub const SWEEP_ORDERS_MAX: usize = 512;
/// Every how many sweeps gate and ledger are compared where something happened: once a second.
pub const SWEEPS_COMPARE: u64 = 4;
/// Every how many sweeps the sales are visited too in which this engine did nothing: every five seconds.
pub const SWEEPS_WIDE: u64 = 20;
/// How long the gate keeps what it knows of a sale that has ended, in ms, as far as one engine knows: repeats of its orders
/// come soon or never.
pub const GATE_KEEPS_ENDED_MS: i64 = 3_600_000;
/// Sales that are swept at once.
pub const SALES_SWEPT_AT_ONCE: usize = 16;
/// Shards of a sale that are swept at once.
pub const SHARDS_SWEPT_AT_ONCE: usize = 64;
/// How long units may be in no gate before that is no move between shards any more but a loss, in ms: a move takes two
/// calls of a gate and a transaction.
pub const STRANDED_MS: u64 = 300;
/// How long an order may wait for the right to move units between shards, in ms; others do it for the same sku.
pub const REFILL_WAIT_MS_MAX: u64 = 5_000;
/// How long "sold out" is believed before one request counts again, in ms: what another engine puts on sale must be
/// on sale here within a second.
pub const LATCH_MS: i64 = 400;
/// How often an engine asks the ledger for sales that others made or changed, in ms; a quarter of the promised second.
pub const REFRESH_MS: u64 = 250;
/// How old the last look at the ledger's sales may be, in ms, for a gate to be believed that it knows every order.
pub const REFRESH_TRUST_MS: u64 = 600;
/// How long an engine waits between telling the others, through the ledger, that orders of a sale go past its gate, and
/// the first such order, in ms. Once per sale and engine.
pub const UNGATED_AFTER_MS: u64 = 750;
const _: () = assert!(REFRESH_MS < REFRESH_TRUST_MS && REFRESH_TRUST_MS < UNGATED_AFTER_MS);
/// Orders in flight that go to the ledger past a gate that is out, per process: enough for four full batches, few enough
/// for a ledger that was not made for a crowd.
pub const UNGATED_IN_FLIGHT_MAX: usize = 1_024;
/// Sales that are loaded at once at start.
pub const SALES_LOADED_AT_ONCE: usize = 16;
/// Times the shards of a sale are looked at while other engines load them.
pub const LOAD_LOOKS_MAX: usize = 400;
/// Pause between two such looks, in ms.
pub const LOAD_PAUSE_MS: u64 = 10;
/// How long an engine leaves a shard to the one that began its epoch, in ms, before it begins the next: many times what
/// the largest sale takes, for engines that overtake each other would do so for ever.
pub const LOAD_MS_MAX: u64 = 3_000;
/// Longest pause before a gate that keeps failing is loaded again, in ms; doubled from time to time, from nothing.
pub const GATE_BACK_MS_MAX: i64 = 8_000;
/// A gate that fails within this time after it was loaded, in ms, is one that keeps failing.
pub const GATE_STEADY_MS: i64 = 10_000;
/// Places in the row of wake-up bells for requests that wait for an order in flight.
pub const BELLS: usize = 256;
/// Requests that may wait for an order in flight at once, per process.
pub const WAITERS_MAX: usize = 20_000;
/// While waiting, how often the gate is asked again in case another process finished the order, in ms.
pub const WAIT_POLL_MS: u64 = 100;
/// Recorded orders a gate shard keeps to answer repeats without SQL; older ones are answered by the ledger.
/// About 56 bytes each.
pub const RECORDS_PER_SHARD_MAX: usize = 8_000_000;

// ---- after the order ----

/// How long the answer to a cancellation, a shipment or a refund is kept under its key, in ms (7 days): clients and their
/// operators have given up by then, and the order's state protects it from a second effect.
pub const KEY_KEPT_MS: i64 = 7 * 24 * 3_600_000;
/// Answers that are kept of one step of one order, under as many keys: only a cancellation can be asked for again under
/// another key, and whoever does so without end gets the same answer and leaves nothing behind.
pub const KEYS_PER_STEP_MAX: i64 = 16;
/// How often keys that are kept no longer are looked for, in ms.
pub const KEYS_SWEEP_MS: u64 = 60_000;
/// Most keys removed in one transaction.
pub const KEYS_SWEPT_MAX: u32 = 500;
/// How often orders past their deadline are looked for, in ms: they are to be expired within two seconds.
pub const EXPIRY_MS: u64 = 500;
/// Batches of returned units of which gates are being told at once, per process: while a gate hangs, the ledger goes on with
/// as many transactions, and then waits for the gate.
pub const GIVE_BACKS_AT_ONCE: usize = 64;
/// Looks in a row, a second apart, at which a shard must have seemed to lack units before it is loaded anew although units
/// keep coming back into it.
pub const STRANDED_LOOKS: u32 = 5;
/// How long every try to expire orders may fail before the log is told, in ms: longer than a ledger takes to come back from
/// a moment of trouble, and long before somebody misses the units.
pub const EXPIRY_FAILS_MS: u64 = 10_000;
/// Most orders expired in one transaction.
pub const EXPIRED_MAX: u32 = 500;
/// Most orders that are set aside because the ledger's rows about them do not fit, per process: all of one look, and some.
/// Those beyond keep the orders behind them from expiring until the ledger is repaired.
pub const SET_ASIDE_MAX: usize = 512;
/// How long they are set aside before they are tried again, in ms: soon enough after a repair, and seldom enough for a log.
pub const SET_ASIDE_MS: u64 = 60_000;
const _: () = assert!(SET_ASIDE_MAX > EXPIRED_MAX as usize);
/// Changes of orders that may wait for the transaction before theirs, per process.
pub const CHANGES_QUEUED_MAX: usize = 4_096;
/// Ledger transactions with changes of orders that may run at once, per process: they come at the pace of payments, and
/// leave the ledger to new orders.
pub const CHANGES_AT_ONCE: usize = 2;
/// Most changes of one ledger transaction.
pub const CHANGES_PER_BATCH_MAX: usize = 64;
/// Orders that somebody else holds which a batch of changes may wait for, one after the other; the rest of it is then tried
/// together once more. Each try costs the ledger's wait for a lock, and an answer waits no longer than [`ANSWER_MS_MAX`].
pub const HELD_ORDERS_PER_BATCH_MAX: usize = 2;

// ---- payment callbacks ----

/// How far the signature time of a payment callback may be off, either way, in ms: what Standard Webhooks and WeChat Pay ask for.
pub const CALLBACK_SKEW_MS: u64 = 300_000;
/// Most secrets of one provider that are active at once: two while one is replaced, and room for a few shops.
pub const PAYMENT_SECRETS_MAX: usize = 8;
/// Most signatures of one callback that are looked at, each against every secret.
pub const WEBHOOK_SIGNATURES_MAX: usize = 32;
/// Bytes of a Standard Webhooks secret.
pub const WEBHOOK_SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// Most parameters of one notification that is a form: Alipay's have some thirty.
pub const FORM_PARAMETERS_MAX: usize = 128;
/// Most public keys of one provider.
pub const PUBLIC_KEYS_MAX: usize = 16;
/// Bits of a provider's RSA key: below, it can be factored; above, nobody has one.
pub const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// Largest file of public keys, in bytes: certificates of 2 KiB each, with their text beside them.
pub const KEY_FILE_BYTES_MAX: u64 = 256 * 1024;

// ---- the embedded ledger ----

/// Jobs that may wait for the SQLite writer thread.
pub const SQLITE_WRITES_QUEUED_MAX: usize = 64;
/// Reads that may wait for the SQLite reader threads.
pub const SQLITE_READS_QUEUED_MAX: usize = 1_024;
/// Audits that may wait for the one that runs; more are told that the ledger is busy.
pub const SQLITE_AUDITS_QUEUED_MAX: usize = 1;
/// Writes other than batches of orders that may be queued at once, so that they leave the queue to orders.
pub const SQLITE_OTHER_WRITES_MAX: usize = 16;
/// Reader threads: reads are rare beside orders. Audits have a thread of their own.
pub const SQLITE_READERS: usize = 2;
/// Order numbers that may wait in memory for their table, about 30 bytes each; beyond, every batch moves some.
pub const SQLITE_NUMBERS_BEHIND_MAX: usize = 500_000;
/// Order numbers moved into their table in one transaction: a pause of some 8 ms for an order that comes just then.
pub const SQLITE_NUMBERS_PER_STEP: i64 = 1_024;
// Under full batches the backlog must shrink, not only keep up.
const _: () = assert!(SQLITE_NUMBERS_PER_STEP >= 2 * BATCH_ORDERS_MAX as i64);
/// How long the writer must have had nothing to do before it catches up with numbers, in ms.
pub const SQLITE_IDLE_MS: u64 = 50;
/// Page cache of the writer, in KiB. At every commit SQLite walks a table as long as the cache is large: with 64 MiB that
/// took 9 % of the writer's time, more than the misses cost that the operating system's cache serves.
pub const SQLITE_WRITER_CACHE_KIB: i64 = 16 * 1024;
/// Page cache of a reader, in KiB.
pub const SQLITE_READER_CACHE_KIB: i64 = 8 * 1024;
/// Write-ahead log size at which the writer checkpoints, in pages of 4 KiB: 64 MiB, a stall of some 20 ms.
pub const SQLITE_CHECKPOINT_PAGES: i64 = 16_000;

// ---- connections ----

/// Open connections per listener. A permit is taken before `accept`, so that the surplus waits in the listen queue.
pub const CONNECTIONS_MAX: usize = 20_000;
/// Listen queue, in connections. The kernel caps it at `net.core.somaxconn`.
pub const BACKLOG: i32 = 4_096;
/// How long sent bytes may stay unacknowledged before a connection is given up, in ms.
pub const UNREAD_MS_MAX: u64 = 30_000;
/// Pause after `accept` failed for want of file descriptors, in ms; without it the loop would spin.
pub const ACCEPT_PAUSE_MS: u64 = 50;
/// Default time a drain may take before the process leaves anyway, in seconds.
pub const DRAIN_S_DEFAULT: u64 = 25;

/// `Retry-After` of a refusal that is about load or an unreachable store, in seconds.
pub const RETRY_AFTER_S: u64 = 1;

// ---- settings ----

/// Longest time readiness may answer 503 before the listener closes, in seconds: load balancers look every few.
pub const DRAIN_DELAY_S_MAX: u64 = 60;
/// Longest time a drain may take, in seconds: no order takes minutes, and supervisors lose patience earlier.
pub const DRAIN_TIMEOUT_S_MAX: u64 = 600;
/// Fewest and most characters of the admin token: 16 random ones cannot be guessed, 1024 fit every header limit.
pub const ADMIN_TOKEN_CHARS: std::ops::RangeInclusive<usize> = 16..=1024;

// ---- the command line as a client ----

/// How long connecting may take, in seconds.
pub const CLIENT_CONNECT_S: u64 = 10;
/// How long an ordinary call may take, connecting included, in seconds.
pub const CLIENT_CALL_S: u64 = 10;
/// How long an audit may take, in seconds: it reads every order.
pub const CLIENT_AUDIT_S: u64 = 600;
/// Most users that tokens are made for in one go: more than any load tool plays.
pub const CLIENT_USERS_MAX: u64 = 10_000_000;
/// Largest answer, in bytes: a listing of every sale with all its shards is some tens of MB.
pub const CLIENT_ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;

// ---- the log ----

/// Log lines that may wait for stderr, per process: at some 300 bytes each about 5 MB. The surplus is dropped.
pub const LOG_LINES_QUEUED_MAX: usize = 16_384;

// ---- the Redis gate ----

/// Most asks, and most settlements, of one script call. A call of this size keeps Redis busy for about a millisecond,
/// and Lua can hand about 8,000 values to a command, two for each.
pub const GATE_BATCH_MAX: usize = 512;
/// Asks, and settlements, that may wait for the call before theirs, per shard: as many as orders may be in flight.
pub const GATE_QUEUE_MAX: usize = ORDERS_IN_FLIGHT_MAX;
/// How long connecting to a Redis node may take, the look at its settings included, in ms.
pub const GATE_CONNECT_MS: u64 = 2_000;
/// How long a Redis node may take to answer a call, in ms: hundreds of times what a full batch needs, and far below
/// the lease. Beyond, the outcome is unknown.
pub const GATE_REPLY_MS: u64 = 1_000;
/// Stalls in a row (silences of [`GATE_REPLY_MS`], however many calls meet them) after which a connection is replaced.
pub const GATE_TIMEOUTS_MAX: u32 = 3;
/// Shortest and longest pause before a lost node is tried again, in ms; doubled from try to try, with jitter.
pub const GATE_BACKOFF_MS: std::ops::RangeInclusive<u64> = 50..=2_000;
/// How long a connection to a Redis node may be idle before the kernel looks whether it is still there, in s.
pub const GATE_KEEPALIVE_S: u64 = 15;
/// How long bytes sent to a Redis node may stay unacknowledged before the connection is given up, in ms.
pub const GATE_UNACKED_MS: u64 = 3_000;
/// Calls under way on one connection; more wait here, where they cost no memory of Redis.
pub const GATE_CALLS_MAX: usize = 1_024;
/// Bytes written to a connection at a time: some batches.
pub const GATE_WRITE_BYTES: usize = 256 * 1024;
/// Most pages of a shard's reservations that one look for overdue ones reads; the next look goes on behind them.
pub const GATE_PAGES_MAX: usize = 64;
/// Most nodes of the Redis gate. The highest peak ever published needs a handful.
pub const GATE_NODES_MAX: usize = 1_024;

// A command of a script gets two values for each order and a few more.
const _: () = assert!(2 * GATE_BATCH_MAX + 64 < 7_999);

// ---- the PostgreSQL ledger ----

/// Connections that batches of orders are recorded on, per process: while one waits for its commit, the others work.
pub const POSTGRES_WRITERS: usize = 4;
/// Connections that orders change and expire on, per process: neither waits for the other.
pub const POSTGRES_STEPPERS: usize = 2;
/// Connections for everything else that writes, per process.
pub const POSTGRES_CHANGERS: usize = 2;
/// Connections for reads, per process.
pub const POSTGRES_READERS: usize = 2;
/// Connections that look orders up in batches, per process.
pub const POSTGRES_FINDERS: usize = 2;
/// Batches that may wait for a writer.
pub const POSTGRES_APPENDS_QUEUED_MAX: usize = 64;
/// Batches of changes that may wait for a connection.
pub const POSTGRES_STEPS_QUEUED_MAX: usize = 64;
/// Times a batch of changes is begun anew because a report in it was kept by somebody else meanwhile; once is rare.
pub const POSTGRES_CHANGE_TRIES_MAX: usize = 8;
/// Other writes that may wait in the queue; more wait for a place in it.
pub const POSTGRES_CHANGES_QUEUED_MAX: usize = 64;
/// Reads that may wait for a reader.
pub const POSTGRES_READS_QUEUED_MAX: usize = 1_024;
/// Look-ups that may wait: one for every order in flight.
pub const POSTGRES_FINDS_QUEUED_MAX: usize = ORDERS_IN_FLIGHT_MAX;
/// Most look-ups in one query.
pub const POSTGRES_FINDS_PER_QUERY_MAX: usize = 256;
/// Audits that may wait for the one that runs; more are told that the ledger is busy.
pub const POSTGRES_AUDITS_QUEUED_MAX: usize = 1;
/// Most orders of one append: each has its own number in the block that the batch draws.
pub const POSTGRES_BATCH_ORDERS_MAX: usize = 4_096;
/// How long a row may be waited for, in ms; the server gives up first.
pub const POSTGRES_LOCK_MS_MAX: u64 = 2_000;
/// How long a statement of an order or a read may run, in ms.
pub const POSTGRES_STATEMENT_MS_MAX: u64 = 3_000;
/// How long the transaction of a batch may run, in ms, where the server is new enough to end it.
pub const POSTGRES_TRANSACTION_MS_MAX: u64 = 8_000;
/// How long a batch or a read may be unanswered, in ms, before its connection is dropped. The client is still there to
/// be told.
pub const POSTGRES_REPLY_MS_MAX: u64 = 9_000;
/// How long a statement that makes or changes a sale may run, in ms: one of 256 skus in 1024 shards has 262,144 rows.
pub const POSTGRES_CHANGE_STATEMENT_MS_MAX: u64 = 20_000;
/// How long such a transaction may run, in ms.
pub const POSTGRES_CHANGE_MS_MAX: u64 = 40_000;
/// How long an audit may take, in seconds.
pub const POSTGRES_AUDIT_S_MAX: u64 = CLIENT_AUDIT_S;
/// How long connecting may take, in ms.
pub const POSTGRES_CONNECT_MS_MAX: u64 = 2_000;
/// How long a connection may have been idle before it is asked whether it still answers, in ms.
pub const POSTGRES_IDLE_MS: u64 = 1_000;
/// How long a migration waits for a table, in ms, before it makes way and tries again: longer than the second after which
/// the server has a vacuum of the table step aside, and shorter than an engine behind it waits ([`POSTGRES_LOCK_MS_MAX`]),
/// so that no order is refused because somebody reads for minutes.
pub const POSTGRES_MIGRATION_LOCK_MS: u64 = 1_500;
/// Pause before it tries again, in ms: the engines get through what has piled up behind it.
pub const POSTGRES_MIGRATION_PAUSE_MS: u64 = 1_000;
/// Pause between two lines in the log about that, in seconds.
pub const POSTGRES_MIGRATION_TOLD_S: u64 = 30;
/// How long a migration tries, in seconds: an audit is over by then.
pub const POSTGRES_MIGRATION_S_MAX: u64 = POSTGRES_AUDIT_S_MAX + 60;
const _: () = assert!(POSTGRES_MIGRATION_LOCK_MS < POSTGRES_LOCK_MS_MAX);
/// Attempts to take a place among the engines of a ledger, one every [`POSTGRES_PAUSE_MS_MIN`]: the server notices within
/// moments that an engine was killed.
pub const POSTGRES_CLAIMS_MAX: usize = 60;
/// First and longest pause between attempts to connect, in ms.
pub const POSTGRES_PAUSE_MS_MIN: u64 = 50;
/// See [`POSTGRES_PAUSE_MS_MIN`].
pub const POSTGRES_PAUSE_MS_MAX: u64 = 1_000;
const _: () = assert!(BATCH_ORDERS_MAX <= POSTGRES_BATCH_ORDERS_MAX);
const _: () = assert!(POSTGRES_LOCK_MS_MAX < POSTGRES_STATEMENT_MS_MAX);
const _: () = assert!(POSTGRES_STATEMENT_MS_MAX < POSTGRES_TRANSACTION_MS_MAX);
const _: () = assert!(POSTGRES_TRANSACTION_MS_MAX < POSTGRES_REPLY_MS_MAX);
const _: () = assert!(POSTGRES_REPLY_MS_MAX < ANSWER_MS_MAX);
