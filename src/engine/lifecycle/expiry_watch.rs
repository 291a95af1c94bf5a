//! What the log says of orders that do not expire: once when the trouble lasts, once when it ends.

use std::time::Duration;

use tokio::time::Instant;

use crate::ledger;
use crate::limits;

/// Whether orders expire: trouble is logged once, and so is its end.
#[derive(Debug, Default)]
pub(super) struct ExpiryWatch {
    /// When the first of the tries failed that have failed in a row.
    failing_since: Option<Instant>,
    logged: Option<ExpiryTrouble>,
}

/// What the log says of a try that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExpiryTrouble {
    /// The ledger is damaged: no later try will do better.
    Damaged,
    /// Every try has failed for this long.
    Failing(Duration),
}

impl ExpiryWatch {
    /// What the log is to say of this error, if anything.
    pub(super) fn failed(&mut self, error: &ledger::Error, now: Instant) -> Option<ExpiryTrouble> {
        let since = now - *self.failing_since.get_or_insert(now);
        let trouble = match error {
            ledger::Error::Corrupt(_) if self.logged != Some(ExpiryTrouble::Damaged) => ExpiryTrouble::Damaged,
            _ if self.logged.is_none() && since >= Duration::from_millis(limits::EXPIRY_FAILS_MS) => {
                ExpiryTrouble::Failing(since)
            }
            _ => return None,
        };
        self.logged = Some(trouble);
        Some(trouble)
    }

    /// For how long the tries had failed, if the log said so.
    pub(super) fn worked(&mut self, now: Instant) -> Option<Duration> {
        let ExpiryWatch { failing_since, logged } = std::mem::take(self);
        logged.and(failing_since).map(|since| now - since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(limits::EXPIRY_FAILS_MS);

    #[test]
    fn tries_that_keep_failing_are_logged_once_and_so_is_their_end() {
        let (mut expiry_watch, start) = (ExpiryWatch::default(), Instant::now());
        let away = ledger::Error::Unavailable("away".to_owned());
        assert_eq!(expiry_watch.failed(&away, start), None, "a moment of trouble");
        assert_eq!(expiry_watch.failed(&ledger::Error::Busy, start + PATIENCE / 2), None);
        assert_eq!(expiry_watch.worked(start + PATIENCE / 2), None, "the log had said nothing");
        let start = start + PATIENCE;
        assert_eq!(expiry_watch.failed(&away, start), None, "counted from its own beginning");
        assert_eq!(expiry_watch.failed(&ledger::Error::Busy, start + PATIENCE), Some(ExpiryTrouble::Failing(PATIENCE)));
        assert_eq!(expiry_watch.failed(&away, start + 2 * PATIENCE), None, "once");
        assert_eq!(expiry_watch.worked(start + 3 * PATIENCE), Some(3 * PATIENCE));
        assert_eq!(expiry_watch.worked(start + 3 * PATIENCE), None, "once");
    }

    #[test]
    fn damage_is_logged_at_once() {
        let (mut expiry_watch, now) = (ExpiryWatch::default(), Instant::now());
        let (damage, away) = (ledger::Error::Corrupt("broken".to_owned()), ledger::Error::Unknown("away".to_owned()));
        assert_eq!(expiry_watch.failed(&damage, now), Some(ExpiryTrouble::Damaged));
        assert_eq!(expiry_watch.failed(&damage, now + PATIENCE), None);
        assert_eq!(expiry_watch.failed(&away, now + PATIENCE), None, "the log said already that nothing expires");
        assert_eq!(expiry_watch.worked(now + PATIENCE), Some(PATIENCE));
        for after in [Duration::ZERO, PATIENCE] {
            expiry_watch.failed(&away, now + after);
        }
        assert_eq!(
            expiry_watch.failed(&damage, now + PATIENCE),
            Some(ExpiryTrouble::Damaged),
            "worse than what the log said"
        );
    }
}
