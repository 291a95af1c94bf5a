//! What happens because time passes: orders that were not paid expire, and keys are forgotten. Any number of engines may do
//! so at once; the ledger gives each order to one of them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::Engine;
use crate::ledger;
use crate::limits;
use crate::order::Step;

/// Expires orders until the engine stops.
pub(super) async fn run(engine: Arc<Engine>) {
    let mut expiry = tokio::time::interval(Duration::from_millis(limits::EXPIRY_MS));
    expiry.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut keys = tokio::time::interval(Duration::from_millis(limits::KEYS_SWEEP_MS));
    keys.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = expiry.tick() => while engine.expire_some().await && !engine.stopping.is_cancelled() {},
            _ = keys.tick() => while engine.forget_keys().await && !engine.stopping.is_cancelled() {},
            () = engine.stopping.cancelled() => return,
        }
    }
}

impl Engine {
    /// Expires every order whose time to pay is over. The engine does so by itself twice a second; this is for whoever
    /// moves a manual clock and does not want to wait. Trouble with the ledger is left to the next round.
    pub async fn expire(&self) {
        while self.expire_some().await {}
    }

    /// Expires a batch of orders and gives their units back; answers whether there may be more.
    async fn expire_some(&self) -> bool {
        let expired = match self.ledger.expire(self.clock.now_ms(), limits::EXPIRED_MAX).await {
            Ok(expired) => expired,
            Err(error) => {
                // The next round tries again; a ledger that is away is told of where orders are recorded.
                let is_damaged = matches!(error, ledger::Error::Corrupt(_));
                if is_damaged && !self.expiry_stands.swap(true, Ordering::Relaxed) {
                    tracing::error!(%error, "orders do not expire until the ledger is repaired: audit it with rushgate verify");
                }
                return false;
            }
        };
        self.expiry_stands.store(false, Ordering::Relaxed);
        let count = expired.len();
        self.metrics.step(Step::Expire, u64::try_from(count).unwrap_or(0));
        self.give_back(expired.into_iter().map(|expired| (expired.order, expired.epoch)).collect()).await;
        count >= usize::try_from(limits::EXPIRED_MAX).unwrap_or(usize::MAX)
    }

    /// Removes a batch of keys that are kept no longer; answers whether there may be more.
    async fn forget_keys(&self) -> bool {
        let swept = self.ledger.sweep_keys(self.clock.now_ms(), limits::KEYS_SWEPT_MAX).await;
        swept.is_ok_and(|count| count >= u64::from(limits::KEYS_SWEPT_MAX))
    }
}
