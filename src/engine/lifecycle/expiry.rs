//! What happens because time passes: orders that were not paid expire, and keys are swept. Any number of engines may do
//! so at once; the ledger gives each order to one of them.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Lifecycle;
use crate::ledger;
use crate::limits;
use crate::order::Step;

/// Expires orders until the engine stops.
pub(in crate::engine) async fn expire(lifecycle: Arc<Lifecycle>) {
    let core = &lifecycle.core;
    let mut rounds = core.rounds(limits::EXPIRY_MS);
    while rounds.next().await {
        while lifecycle.expire_some().await && !core.stopping.is_cancelled() {}
    }
}

/// Sweeps keys until the engine stops: a task of its own, so that no order waits for a million keys.
pub(in crate::engine) async fn sweep_keys(lifecycle: Arc<Lifecycle>) {
    let core = &lifecycle.core;
    let mut rounds = core.rounds(limits::KEYS_SWEEP_MS);
    while rounds.next().await {
        while lifecycle.sweep_keys().await && !core.stopping.is_cancelled() {}
    }
}

/// Whether orders expire: trouble is logged once, and so is its end.
#[derive(Debug, Default)]
pub(super) struct ExpiryWatch {
    /// When the first of the tries failed that have failed in a row.
    failing_since: Option<Instant>,
    logged: Option<ExpiryTrouble>,
}

/// What the log says of a try that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ExpiryTrouble {
    /// The ledger is damaged: no later try will do better.
    Damaged,
    /// Every try has failed for this long.
    Failing(Duration),
}

impl ExpiryWatch {
    /// What the log is to say of this error, if anything.
    fn failed(&mut self, error: &ledger::Error, now: Instant) -> Option<ExpiryTrouble> {
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
    fn worked(&mut self, now: Instant) -> Option<Duration> {
        let ExpiryWatch { failing_since, logged } = std::mem::take(self);
        logged.and(failing_since).map(|since| now - since)
    }
}

impl Lifecycle {
    /// Expires every order whose time to pay is over. Trouble with the ledger is left to the next round.
    pub(in crate::engine) async fn expire_all(&self) {
        while self.expire_some().await {}
    }

    /// Expires a batch of orders and gives their units back; answers whether there may be more.
    async fn expire_some(&self) -> bool {
        let expired = match self.core.ledger.expire(self.core.clock.now_ms(), limits::EXPIRED_MAX).await {
            Ok(expired) => expired,
            Err(error) => {
                if matches!(error, ledger::Error::Unknown(_)) {
                    self.core.catalog.mark_all_dirty();
                }
                // The next round tries again.
                match self.expiry_watch.lock().failed(&error, Instant::now()) {
                    Some(ExpiryTrouble::Damaged) => {
                        tracing::error!(%error, "orders do not expire until the ledger is repaired: audit it with rushgate verify");
                    }
                    Some(ExpiryTrouble::Failing(since)) => {
                        tracing::warn!(%error, failing_s = since.as_secs(), "orders do not expire: every try has failed");
                    }
                    None => {}
                }
                return false;
            }
        };
        if let Some(since) = self.expiry_watch.lock().worked(Instant::now()) {
            tracing::info!(failed_s = since.as_secs(), "orders expire again");
        }
        let count = expired.len();
        self.core.metrics.step(Step::Expire, u64::try_from(count).unwrap_or(0));
        let returned = expired.into_iter().map(|expired| (expired.order, expired.epoch)).collect();
        self.returns.give_back(returned, || {}).await;
        count >= usize::try_from(limits::EXPIRED_MAX).unwrap_or(usize::MAX)
    }

    /// Removes a batch of keys that are kept no longer; answers whether there may be more.
    async fn sweep_keys(&self) -> bool {
        let swept = self.core.ledger.sweep_keys(self.core.clock.now_ms(), limits::KEYS_SWEPT_MAX).await;
        swept.is_ok_and(|count| count >= u64::from(limits::KEYS_SWEPT_MAX))
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
