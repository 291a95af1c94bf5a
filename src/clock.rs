//! The only place where time is read. Everything else is handed a [`Clock`] or a number of milliseconds.
//!
//! Clocks move deadlines only: no promise of the engine depends on two clocks agreeing.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::SystemTime;

/// Milliseconds since the Unix epoch, UTC.
pub type UnixMs = i64;

/// A source of wall time.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The machine's clock.
    #[default]
    System,
    /// A clock that stands still until a test moves it.
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// A clock that reads `now_ms` until [`Clock::advance`] moves it.
    pub fn manual(now_ms: UnixMs) -> Self {
        Clock::Manual(Arc::new(AtomicI64::new(now_ms)))
    }

    /// The time now.
    pub fn now_ms(&self) -> UnixMs {
        match self {
            Clock::System => system_now_ms(),
            Clock::Manual(now_ms) => now_ms.load(Ordering::SeqCst),
        }
    }

    /// Moves a manual clock by `by_ms`, backwards if negative; it does not move the system clock.
    pub fn advance(&self, by_ms: i64) {
        if let Clock::Manual(now_ms) = self {
            now_ms.fetch_add(by_ms, Ordering::SeqCst);
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "this is the one place that reads the machine's clock")]
fn system_now_ms() -> UnixMs {
    // A machine whose clock stands before 1970 gets 0: deadlines are then wrong, promises are not.
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
