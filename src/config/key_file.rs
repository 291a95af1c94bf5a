//! Files of public keys that settings name, read up to a bound: a device or a pipe that never ends is no key file.

use std::io::Read;
use std::path::Path;

/// Why a key file cannot be used; the path goes before it.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeyFileError {
    #[error("cannot be read: {0}")]
    Unreadable(#[from] std::io::Error),
    /// What lies beyond the bound may be keys too, or the end of one, so nothing of the file is used.
    #[error("is larger than {0} bytes; leave nothing but keys in it")]
    TooLarge(u64),
}

pub(super) fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, KeyFileError> {
    let mut text = Vec::new();
    let bytes = std::fs::File::open(path)?.take(bytes_max.saturating_add(1)).read_to_end(&mut text)?;
    if u64::try_from(bytes).is_ok_and(|bytes| bytes <= bytes_max) {
        Ok(text)
    } else {
        Err(KeyFileError::TooLarge(bytes_max))
    }
}
