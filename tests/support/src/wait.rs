//! Waits for events that send no signal.

use std::time::{Duration, Instant};

/// Pause between two looks.
pub const POLL: Duration = Duration::from_millis(5);

/// Longest wait for an event that must happen.
const EVENTUALLY: Duration = Duration::from_secs(30);

/// Looks again and again until there is something to see.
#[track_caller]
pub fn eventually<T>(look: impl FnMut() -> Option<T>) -> T {
    within(EVENTUALLY, look)
}

/// Looks until there is something to see, and fails after `patience`.
#[track_caller]
pub fn within<T>(patience: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "it did not happen within {patience:?}");
        std::thread::sleep(POLL);
    }
}
