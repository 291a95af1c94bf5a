//! States that cannot be. Product code never panics on one: `bug!` logs it, counts it and lets its caller answer
//! `unknown_outcome`, so that an operator sees the defect and no order is promised or denied because of it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Of the whole process: a bug may show itself where no engine's metrics are at hand.
static SEEN: AtomicU64 = AtomicU64::new(0);

/// Bugs that this process has seen since it started. A correct program leaves it at 0.
pub fn seen() -> u64 {
    SEEN.load(Ordering::Relaxed)
}

/// Logs and counts a state that cannot be. Called by `bug!`.
pub fn record(file: &'static str, line: u32, what: fmt::Arguments<'_>) {
    SEEN.fetch_add(1, Ordering::Relaxed);
    tracing::error!(file, line, "bug at {file}:{line}: {what}; please report it");
}

/// Logs and counts a state that cannot be, with a text as for `format!`. The caller then answers an unknown outcome.
#[macro_export]
macro_rules! bug {
    ($($text:tt)+) => { $crate::bug::record(file!(), line!(), format_args!($($text)+)) };
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_bug_is_counted() {
        let before = super::seen();
        bug!("sku {} is in no segment", 7);
        assert!(super::seen() > before);
    }
}
