//! Bounds of the engine: batches, sweeps, loads, waits, and what follows the order.

/// Most sales an engine keeps in memory, ended ones included (about 1 KiB each).
pub const SALES_MAX: usize = 20_000;
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
