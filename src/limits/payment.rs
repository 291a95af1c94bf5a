//! Bounds of payment callbacks and of the keys that verify them.

/// Longest id that a payment provider gives a report, a payment or a refund, and longest name of an event, in bytes.
pub const PROVIDER_ID_BYTES_MAX: usize = 128;
/// How far the signature time of a payment callback may be off, either way, in ms: what Standard Webhooks and WeChat Pay ask for.
pub const CALLBACK_SKEW_MS: u64 = 300_000;
/// Most signatures of one callback that are compared, each with every secret.
pub const WEBHOOK_SIGNATURES_MAX: usize = 32;
/// Bytes of a Standard Webhooks secret.
pub const WEBHOOK_SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// Most parameters of one notification that is a form: Alipay's have some thirty.
pub const FORM_PARAMETERS_MAX: usize = 128;
/// Most public keys of one provider.
pub const PUBLIC_KEYS_MAX: usize = 16;
/// Largest file of public keys, in bytes: certificates of 2 KiB each, with their text beside them.
pub const KEY_FILE_BYTES_MAX: u64 = 256 * 1024;
