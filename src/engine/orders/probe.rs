//! Finds out when a ledger in trouble is well again, whether or not orders come: no buyer has to try it out, and
//! the engine does not call it well until it has recorded something. A ledger that takes a probe and no orders, as on a disk
//! that is nearly full, is probed less and less often, or the engine would call it well all the time.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Orders;
use crate::limits;

/// Probes, while the ledger is in trouble, until the engine stops.
pub(in crate::engine) async fn run(orders: Arc<Orders>) {
    let (core, admission) = (&orders.core, &orders.admission);
    let (first, longest) = (Duration::from_millis(limits::PROBE_MS), Duration::from_millis(limits::PROBE_MS_MAX));
    let (mut pause, mut well_since) = (first, Instant::now());
    let probes = async {
        loop {
            tokio::time::sleep(pause).await;
            if admission.is_ledger_well() {
                if well_since.elapsed() > 2 * longest {
                    pause = first;
                }
                continue;
            }
            match core.ledger.probe().await {
                Ok(()) => {
                    admission.ledger_is(true);
                    (pause, well_since) = ((2 * pause).min(longest), Instant::now());
                }
                Err(error) => tracing::debug!(%error, "could not probe the ledger"),
            }
        }
    };
    // What a probe writes changes nothing, so the engine does not wait for the last one.
    core.stopping.run_until_cancelled(probes).await;
}
