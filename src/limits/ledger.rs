//! Bounds that every ledger shares: keys and their answers, quarantine.

use super::EXPIRED_MAX;

/// How long the ledger stores the answer to a cancellation, a shipment or a refund under its key, in ms (7 days): clients
/// and operators have given up by then, and the order's state prevents a second effect.
pub const KEY_KEPT_MS: i64 = 7 * 24 * 3_600_000;
/// Most answers stored per order and step. Only a cancel can repeat under new keys; later ones are answered but not stored.
pub const KEYS_PER_STEP_MAX: i64 = 16;
/// Most orders in quarantine because the ledger's rows about them contradict each other, per process: all of one sweep, and
/// some. Those beyond keep the orders behind them from expiring until an operator repairs the ledger.
pub const SET_ASIDE_MAX: usize = 512;
/// How long an order stays in quarantine before it is tried again, in ms: soon enough after a repair, and seldom enough for
/// a log.
pub const SET_ASIDE_MS: u64 = 60_000;
const _: () = assert!(SET_ASIDE_MAX > EXPIRED_MAX as usize);
