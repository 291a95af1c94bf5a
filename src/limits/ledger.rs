//! Bounds that every ledger shares: keys and their answers, quarantine.

use super::EXPIRED_MAX;

/// Longest scope of an idempotency key, in bytes: a few ids of [`super::NAME_CHARS_MAX`].
pub const SCOPE_BYTES_MAX: usize = 255;
/// Largest answer that is kept under an idempotency key, in bytes.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// How long the answer to a cancellation, a shipment or a refund is kept under its key, in ms (7 days): clients and their
/// operators have given up by then, and the order's state protects it from a second effect.
pub const KEY_KEPT_MS: i64 = 7 * 24 * 3_600_000;
/// Answers that are kept of one step of one order, under as many keys: only a cancellation can be asked for again under
/// another key, and whoever does so without end gets the same answer and leaves nothing behind.
pub const KEYS_PER_STEP_MAX: i64 = 16;
/// Most orders that are set aside because the ledger's rows about them do not fit, per process: all of one look, and some.
/// Those beyond keep the orders behind them from expiring until the ledger is repaired.
pub const SET_ASIDE_MAX: usize = 512;
/// How long they are set aside before they are tried again, in ms: soon enough after a repair, and seldom enough for a log.
pub const SET_ASIDE_MS: u64 = 60_000;
const _: () = assert!(SET_ASIDE_MAX > EXPIRED_MAX as usize);
