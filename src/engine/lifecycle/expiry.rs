//! What happens because time passes: orders that were not paid expire, and keys are forgotten. Any number of engines may do
//! so at once; the ledger gives each order to one of them.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

use crate::engine::Engine;
use crate::ledger;
use crate::limits;
use crate::order::Step;

/// Expires orders until the engine stops.
pub(in crate::engine) async fn expire(engine: Arc<Engine>) {
    let mut tick = tokio::time::interval(Duration::from_millis(limits::EXPIRY_MS));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => while engine.expire_some().await && !engine.stopping.is_cancelled() {},
            () = engine.stopping.cancelled() => return,
        }
    }
}

/// Forgets keys until the engine stops: a task of its own, for no order waits for a million keys.
pub(in crate::engine) async fn forget(engine: Arc<Engine>) {
    let mut tick = tokio::time::interval(Duration::from_millis(limits::KEYS_SWEEP_MS));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => while engine.sweep_keys().await && !engine.stopping.is_cancelled() {},
            () = engine.stopping.cancelled() => return,
        }
    }
}

/// Whether orders expire: trouble is told of once, and so is its end.
#[derive(Debug, Default)]
pub(in crate::engine) struct ExpiryWatch {
    /// When the first of the tries failed that have failed in a row.
    failing_since: Option<Instant>,
    told: Option<Tell>,
}

/// What the log is told of a try that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tell {
    /// The ledger is damaged: no later try will do better.
    Damaged,
    /// Every try has failed for this long.
    Failing(Duration),
}

impl ExpiryWatch {
    /// What the log is to be told of this error, if anything.
    fn failed(&mut self, error: &ledger::Error, now: Instant) -> Option<Tell> {
        let since = now - *self.failing_since.get_or_insert(now);
        let tell = match error {
            ledger::Error::Corrupt(_) if self.told != Some(Tell::Damaged) => Tell::Damaged,
            _ if self.told.is_none() && since >= Duration::from_millis(limits::EXPIRY_FAILS_MS) => Tell::Failing(since),
            _ => return None,
        };
        self.told = Some(tell);
        Some(tell)
    }

    /// For how long the tries had failed, if the log was told so.
    fn worked(&mut self, now: Instant) -> Option<Duration> {
        let ExpiryWatch { failing_since, told } = std::mem::take(self);
        told.and(failing_since).map(|since| now - since)
    }
}

impl Engine {
    /// Expires every order whose time to pay is over. The engine does so by itself twice a second; this is for whoever
    /// moves a manual clock and does not want to wait. Trouble with the ledger is left to the next round.
    pub async fn expire(self: &Arc<Self>) {
        while self.expire_some().await {}
    }

    /// Expires a batch of orders and gives their units back; answers whether there may be more.
    async fn expire_some(self: &Arc<Self>) -> bool {
        let expired = match self.ledger.expire(self.clock.now_ms(), limits::EXPIRED_MAX).await {
            Ok(expired) => expired,
            Err(error) => {
                if matches!(error, ledger::Error::Unknown(_)) {
                    self.mark_all_dirty();
                }
                // The next round tries again.
                match self.expiry_watch.lock().failed(&error, Instant::now()) {
                    Some(Tell::Damaged) => {
                        tracing::error!(%error, "orders do not expire until the ledger is repaired: audit it with rushgate verify");
                    }
                    Some(Tell::Failing(since)) => {
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
        self.metrics.step(Step::Expire, u64::try_from(count).unwrap_or(0));
        let returned = expired.into_iter().map(|expired| (expired.order, expired.epoch)).collect();
        self.return_units_beside(returned, || {}).await;
        count >= usize::try_from(limits::EXPIRED_MAX).unwrap_or(usize::MAX)
    }

    /// Removes a batch of keys that are kept no longer; answers whether there may be more.
    async fn sweep_keys(&self) -> bool {
        let swept = self.ledger.sweep_keys(self.clock.now_ms(), limits::KEYS_SWEPT_MAX).await;
        swept.is_ok_and(|count| count >= u64::from(limits::KEYS_SWEPT_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(limits::EXPIRY_FAILS_MS);

    #[test]
    fn tries_that_keep_failing_are_told_of_once_and_so_is_their_end() {
        let (mut expiry_watch, start) = (ExpiryWatch::default(), Instant::now());
        let away = ledger::Error::Unavailable("away".to_owned());
        assert_eq!(expiry_watch.failed(&away, start), None, "a moment of trouble");
        assert_eq!(expiry_watch.failed(&ledger::Error::Busy, start + PATIENCE / 2), None);
        assert_eq!(expiry_watch.worked(start + PATIENCE / 2), None, "nobody had heard of it");
        let start = start + PATIENCE;
        assert_eq!(expiry_watch.failed(&away, start), None, "counted from its own beginning");
        assert_eq!(expiry_watch.failed(&ledger::Error::Busy, start + PATIENCE), Some(Tell::Failing(PATIENCE)));
        assert_eq!(expiry_watch.failed(&away, start + 2 * PATIENCE), None, "once");
        assert_eq!(expiry_watch.worked(start + 3 * PATIENCE), Some(3 * PATIENCE));
        assert_eq!(expiry_watch.worked(start + 3 * PATIENCE), None, "once");
    }

    #[test]
    fn damage_is_told_of_at_once() {
        let (mut expiry_watch, now) = (ExpiryWatch::default(), Instant::now());
        let (damage, away) = (ledger::Error::Corrupt("broken".to_owned()), ledger::Error::Unknown("away".to_owned()));
        assert_eq!(expiry_watch.failed(&damage, now), Some(Tell::Damaged));
        assert_eq!(expiry_watch.failed(&damage, now + PATIENCE), None);
        assert_eq!(expiry_watch.failed(&away, now + PATIENCE), None, "told already that nothing expires");
        assert_eq!(expiry_watch.worked(now + PATIENCE), Some(PATIENCE));
        for after in [Duration::ZERO, PATIENCE] {
            expiry_watch.failed(&away, now + after);
        }
        assert_eq!(expiry_watch.failed(&damage, now + PATIENCE), Some(Tell::Damaged), "worse than what was told");
    }
}
