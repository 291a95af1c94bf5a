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
pub(super) async fn expire(engine: Arc<Engine>) {
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
pub(super) async fn forget(engine: Arc<Engine>) {
    let mut tick = tokio::time::interval(Duration::from_millis(limits::KEYS_SWEEP_MS));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => while engine.forget_keys().await && !engine.stopping.is_cancelled() {},
            () = engine.stopping.cancelled() => return,
        }
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
                    self.units_may_have_come_back();
                }
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
        let returned = expired.into_iter().map(|expired| (expired.order, expired.epoch)).collect();
        self.give_back_beside(returned, || {}).await;
        count >= usize::try_from(limits::EXPIRED_MAX).unwrap_or(usize::MAX)
    }

    /// Removes a batch of keys that are kept no longer; answers whether there may be more.
    async fn forget_keys(&self) -> bool {
        let swept = self.ledger.sweep_keys(self.clock.now_ms(), limits::KEYS_SWEPT_MAX).await;
        swept.is_ok_and(|count| count >= u64::from(limits::KEYS_SWEPT_MAX))
    }
}
