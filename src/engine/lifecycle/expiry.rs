//! What happens because time passes: orders that were not paid expire, and keys are swept. Any number of engines may do
//! so at once; the ledger gives each order to one of them.

use std::sync::Arc;

use tokio::time::Instant;

use super::Lifecycle;
use super::expiry_watch::ExpiryTrouble;
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
        let returned = expired.into_iter().map(|expired| (expired.order, expired.returned)).collect();
        self.returns.give_back(returned, || {}).await;
        count >= usize::try_from(limits::EXPIRED_MAX).unwrap_or(usize::MAX)
    }

    /// Removes a batch of keys that are kept no longer; answers whether there may be more.
    async fn sweep_keys(&self) -> bool {
        let swept = self.core.ledger.sweep_keys(self.core.clock.now_ms(), limits::KEYS_SWEPT_MAX).await;
        swept.is_ok_and(|count| count >= u64::from(limits::KEYS_SWEPT_MAX))
    }
}
