//! Finds out when a ledger in trouble is well again, whether or not anybody orders: no buyer has to try it out, and
//! nothing is said of it until it has recorded something.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::Engine;
use crate::limits;

/// Probes, while the ledger is in trouble, until the engine stops.
pub(super) async fn run(engine: Arc<Engine>) {
    let mut tick = tokio::time::interval(Duration::from_millis(limits::PROBE_MS));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let probing = async {
        loop {
            tick.tick().await;
            if engine.admission.is_ledger_well() {
                continue;
            }
            match engine.ledger.probe().await {
                Ok(()) => engine.admission.ledger_is(true),
                Err(error) => tracing::debug!(%error, "probe the ledger"),
            }
        }
    };
    // What a probe writes changes nothing, so nobody has to wait for the last one.
    engine.stopping.run_until_cancelled(probing).await;
}
