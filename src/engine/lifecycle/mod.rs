//! An order after it was made. `changes.rs` takes steps that a client asks for (pay, cancel, ship, refund) and reports of
//! payment providers, in groups like orders; `commit.rs` keeps a broken row from turning the others away; `expiry.rs`
//! expires what was not paid and sweeps keys; `returns.rs` puts units on sale again that came back.
//!
//! The room owns the queue and permits of changes, and those of returns.

mod changes;
mod commit;
mod expiry;
mod expiry_watch;
mod job;
mod returns;

pub(super) use changes::run;
pub use changes::{ReportResult, StepTaken};
pub(super) use expiry::{expire, sweep_keys};

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc};

use self::expiry_watch::ExpiryWatch;
use self::job::LifecycleJob;
use self::returns::Returns;
use super::core::Core;
use crate::limits;

/// Takes orders through their life.
pub(super) struct Lifecycle {
    core: Arc<Core>,
    /// Changes of orders on their way to the ledger. It has room for every permit.
    queue: mpsc::Sender<LifecycleJob>,
    permits: Arc<Semaphore>,
    returns: Arc<Returns>,
    /// Whether orders expire, for the log.
    expiry_watch: Mutex<ExpiryWatch>,
}

impl Lifecycle {
    /// The room, and the end of its queue for [`run`].
    pub(super) fn new(core: Arc<Core>) -> (Arc<Self>, mpsc::Receiver<LifecycleJob>) {
        let (queue, jobs) = mpsc::channel(limits::CHANGES_QUEUED_MAX);
        let lifecycle = Lifecycle {
            returns: Arc::new(Returns::new(core.clone())),
            core,
            queue,
            permits: Arc::new(Semaphore::new(limits::CHANGES_QUEUED_MAX)),
            expiry_watch: Mutex::default(),
        };
        (Arc::new(lifecycle), jobs)
    }

    /// Whether no change is on its way.
    pub(super) fn is_idle(&self) -> bool {
        self.permits.available_permits() >= limits::CHANGES_QUEUED_MAX
    }
}
