//! Finds out when a ledger in trouble is well again, whether or not anybody orders: no buyer has to try it out, and
//! nothing is said of it until it has recorded something. One that takes a probe and no orders, as on a disk that is nearly
//! full, is asked less and less often, or it would be called well all the time.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::engine::Engine;
use crate::limits;

/// Probes, while the ledger is in trouble, until the engine stops.
pub(in crate::engine) async fn run(engine: Arc<Engine>) {
    let (first, longest) = (Duration::from_millis(limits::PROBE_MS), Duration::from_millis(limits::PROBE_MS_MAX));
    let (mut pause, mut well_since) = (first, Instant::now());
    let probing = async {
        loop {
            tokio::time::sleep(pause).await;
            if engine.admission.is_ledger_well() {
                if well_since.elapsed() > 2 * longest {
                    pause = first;
                }
                continue;
            }
            match engine.ledger.probe().await {
                Ok(()) => {
                    engine.admission.ledger_is(true);
                    (pause, well_since) = ((2 * pause).min(longest), Instant::now());
                }
                Err(error) => tracing::debug!(%error, "probe the ledger"),
            }
        }
    };
    // What a probe writes changes nothing, so nobody has to wait for the last one.
    engine.stopping.run_until_cancelled(probing).await;
}
