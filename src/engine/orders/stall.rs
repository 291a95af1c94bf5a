//! How long the ledger transaction that runs now has been running, for readiness.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::limits;

/// Watches one transaction at a time.
pub(super) struct StallWatch {
    origin: Instant,
    /// Milliseconds from `origin` to the beginning of the transaction, plus one; 0 while none runs.
    since_ms: AtomicU64,
}

impl Default for StallWatch {
    fn default() -> Self {
        StallWatch { origin: Instant::now(), since_ms: AtomicU64::new(0) }
    }
}

impl StallWatch {
    pub(super) fn begin(&self) {
        self.since_ms.store(ms(self.origin.elapsed()) + 1, Ordering::Relaxed);
    }

    pub(super) fn end(&self) {
        self.since_ms.store(0, Ordering::Relaxed);
    }

    /// Whether a transaction has been running for longer than any should.
    pub(super) fn is_stuck(&self) -> bool {
        let since_ms = self.since_ms.load(Ordering::Relaxed);
        since_ms > 0 && ms(self.origin.elapsed()) + 1 > since_ms + limits::APPEND_SLOW_MS
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 2)
}
