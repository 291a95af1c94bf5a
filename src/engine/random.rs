//! Random bytes for ids and salts, from the operating system.

use crate::order::{Code, Refusal};

/// The operating system has no random bytes to give.
#[derive(Debug, thiserror::Error)]
#[error("no random numbers: {0}")]
pub(super) struct NoRandomness(getrandom::Error);

/// Draws `N` random bytes.
pub(super) fn random_bytes<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(NoRandomness)?;
    Ok(bytes)
}

impl From<NoRandomness> for Refusal {
    fn from(error: NoRandomness) -> Self {
        Refusal::because(Code::Overloaded, error.to_string())
    }
}
