//! Bounds of a sale and of one order.

/// Longest sale, sku or change id, in characters.
pub const NAME_CHARS_MAX: usize = 64;
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
/// Longest payment time-out, in seconds (30 days).
pub const PAYMENT_TIMEOUT_S_MAX: u32 = 30 * 24 * 3600;

const _: () = assert!(UNIT_PRICE_MAX.checked_mul(QUANTITY_MAX as i64).is_some());
