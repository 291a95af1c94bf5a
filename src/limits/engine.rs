//! Bounds of the engine: batches, sweeps, loads, waits, and what follows the order.

/// Most sales an engine keeps in memory, ended ones included (about 1 KiB each).
pub const SALES_MAX: usize = 20_000;
/// Most orders of one ledger transaction. Larger batches gain little (see `benches/ledger.rs`) and delay every order in
/// them.
pub const BATCH_ORDERS_MAX: usize = 512;
/// Fewest orders for which the writer begins a ledger transaction beside a running one: fewer wait for the running one,
/// which costs less CPU and hardly more time.
pub const BATCH_ORDERS_WORTH: usize = 128;
/// How long fewer orders wait for a running transaction, in ms, before they get one of their own: the running one may
/// be stuck.
pub const BATCH_WAIT_MS_MAX: u64 = 20;
/// How long an answer waits for the ledger before the engine calls the outcome unknown, in ms: below every usual proxy
/// time-out.
pub const ANSWER_MS_MAX: u64 = 10_000;
/// How long a ledger transaction may run before readiness says so, in ms.
pub const APPEND_SLOW_MS: u64 = 5_000;
/// Pause between two probes of a ledger in trouble, in ms: the engine refuses new orders until a probe succeeds.
pub const PROBE_MS: u64 = 250;
/// The longest of these pauses, in ms: it doubles with each probe that succeeds while orders fail again soon after.
pub const PROBE_MS_MAX: u64 = 8_000;
/// How often the sweeper looks for reservations past their lease, in ms.
pub const SWEEP_MS: u64 = 250;
/// Most reservations the sweeper takes from one shard at a time.
pub const SWEEP_ORDERS_MAX: usize = 512;
/// The engine compares gate and ledger, where something happened, once in this many sweeps: once a second.
pub const SWEEPS_COMPARE: u64 = 4;
/// The engine sweeps also the sales in which it did nothing once in this many sweeps: every five seconds.
pub const SWEEPS_WIDE: u64 = 20;
/// How long the gate keeps what it knows of a sale that has ended, in ms: repeats of its orders come soon or never.
pub const GATE_KEEPS_ENDED_MS: i64 = 3_600_000;
/// Sales that are swept at once.
pub const SALES_SWEPT_AT_ONCE: usize = 16;
/// Shards of a sale that are swept at once.
pub const SHARDS_SWEPT_AT_ONCE: usize = 64;
/// How long units may be in no gate, in ms, before the engine calls them stranded: a move between shards takes two gate
/// calls and one transaction.
pub const STRANDED_MS: u64 = 300;
/// How long an order may wait for the lock on moves of its sku, in ms, while other orders refill the same segment.
pub const REFILL_WAIT_MS_MAX: u64 = 5_000;
/// How long the engine answers "sold out" from its cache before one request counts again, in ms: what another engine
/// puts on sale must be on sale here within a second.
pub const SOLD_OUT_CACHE_MS: i64 = 400;
/// How often an engine asks the ledger for sales that other engines made or changed, in ms; a quarter of the promised
/// second.
pub const REFRESH_MS: u64 = 250;
/// Oldest answer to that question, in ms, with which an engine trusts a gate's claim to remember every order.
pub const REFRESH_TRUST_MS: u64 = 600;
/// How long an engine waits between announcing a bypass of a sale in the ledger and sending the first order past the
/// gate, in ms. Once per sale and engine.
pub const BYPASS_AFTER_MS: u64 = 750;
const _: () = assert!(REFRESH_MS < REFRESH_TRUST_MS && REFRESH_TRUST_MS < BYPASS_AFTER_MS);
/// Orders in flight that bypass the gate, per process: enough for four full batches, few enough for a ledger that was
/// not made for a crowd.
pub const BYPASS_IN_FLIGHT_MAX: usize = 1_024;
/// Sales that are loaded at once at start.
pub const SALES_LOADED_AT_ONCE: usize = 16;
/// Times an engine looks at the shards of a sale while other engines load them.
pub const LOAD_LOOKS_MAX: usize = 400;
/// Pause between two such looks, in ms.
pub const LOAD_PAUSE_MS: u64 = 10;
/// How long an engine leaves a shard to the engine that began its epoch, in ms, before it begins the next: many times
/// what the largest sale takes, or engines would overtake each other for ever.
pub const LOAD_MS_MAX: u64 = 3_000;
/// Longest pause before the engine loads a gate that keeps failing again, in ms; it doubles each time.
pub const GATE_BACK_MS_MAX: i64 = 8_000;
/// A gate that fails within this time after a load, in ms, keeps failing.
pub const GATE_STEADY_MS: i64 = 10_000;
/// Slots that wake the requests which wait for an order in flight; orders share them by their number.
pub const WAITER_SLOTS: usize = 256;
/// Requests that may wait for an order in flight at once, per process.
pub const WAITERS_MAX: usize = 20_000;
/// How often a waiting request asks the gate again, in ms, in case another process finished the order.
pub const WAIT_POLL_MS: u64 = 100;
/// How often the engine removes keys whose time is over, in ms.
pub const KEYS_SWEEP_MS: u64 = 60_000;
/// Most keys removed in one transaction.
pub const KEYS_SWEPT_MAX: u32 = 500;
/// How often the engine looks for orders past their payment deadline, in ms: they must expire within two seconds.
pub const EXPIRY_MS: u64 = 500;
/// Batches of returned units on their way to the gate at once, per process: while the gate hangs, the ledger goes on
/// with as many transactions, and then waits for the gate.
pub const RETURNS_AT_ONCE: usize = 64;
/// Looks in a row, a second apart, in which a shard lacks units before the engine loads it anew although units
/// keep coming back into it.
pub const STRANDED_LOOKS: u32 = 5;
/// How long every attempt to expire orders may fail before the engine logs it, in ms: longer than a ledger takes to
/// come back from a moment of trouble, and long before a seller misses the units.
pub const EXPIRY_FAILS_MS: u64 = 10_000;
/// Most orders expired in one transaction.
pub const EXPIRED_MAX: u32 = 500;
/// Changes of orders that may wait for the transaction before theirs, per process.
pub const CHANGES_QUEUED_MAX: usize = 4_096;
/// Ledger transactions with changes of orders that may run at once, per process: changes come at the pace of payments,
/// and leave the ledger to new orders.
pub const CHANGES_AT_ONCE: usize = 2;
/// Most changes of one ledger transaction.
pub const CHANGES_PER_BATCH_MAX: usize = 64;
/// Orders locked by other transactions that a batch of changes waits for, one after the other; the rest of the batch is
/// then tried together once more. Each try costs the ledger's wait for a lock, and an answer waits no longer than
/// [`ANSWER_MS_MAX`].
pub const LOCKED_ORDERS_PER_BATCH_MAX: usize = 2;
