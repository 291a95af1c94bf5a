//! Every bound of the crate, with its unit and its reason.

/// Longest key, in characters; the number that clients of other services already know.
pub const KEY_CHARS_MAX: usize = 255;
/// Longest scope of a key, in bytes: a few ids of 64 characters.
pub const SCOPE_BYTES_MAX: usize = 255;
/// Largest stored answer, in bytes: a row of the table stays small enough to be read in one go.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Largest request body that the HTTP layer reads unless its settings say otherwise, in bytes.
#[cfg(feature = "http")]
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// What the HTTP layer asks a client to wait before it sends the same request again, in seconds.
#[cfg(feature = "http")]
pub const RETRY_AFTER_S: u32 = 1;
