//! A change on its way through the queue, as the requests hand it to the task that commits.

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tracing::Span;

use crate::ledger::{self, Change, ChangeOutcome};

/// A change on its way to the ledger.
pub(in crate::engine) struct LifecycleJob {
    pub(super) change: Change,
    /// Given back when the change is answered.
    pub(super) permit: OwnedSemaphorePermit,
    /// From the queue to the answer.
    pub(super) span: Span,
    pub(super) answer: oneshot::Sender<Result<ChangeOutcome, ledger::Error>>,
}

impl LifecycleJob {
    pub(super) fn answer(self, changed: Result<ChangeOutcome, ledger::Error>) {
        // The client may have hung up; its change is made all the same.
        drop(self.answer.send(changed));
        drop(self.permit);
    }
}
