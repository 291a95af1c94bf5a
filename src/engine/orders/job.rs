//! What the steps of the walk hand each other: an admitted order before the gate, its job for the writer, and what came
//! of either.

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tracing::Span;

use crate::admission::{Admitted, InFlightPermit};
use crate::clock::UnixMs;
use crate::engine::catalog::ActiveSale;
use crate::engine::trouble::ledger_trouble;
use crate::gate::{Denial, ReserveMode, Settlement, ShardEpoch, ShardId};
use crate::ledger::{self, AppendDenial, AppendOutcome, Entry};
use crate::order::{Code, Epoch, Order, Reservation};

/// An order before the gate, and what admission lets it do.
pub(super) struct Attempt {
    pub(super) active: ActiveSale,
    pub(super) shard: ShardId,
    /// The epoch that the engine believes the gate to be in; `None` if it never loaded it.
    pub(super) epoch: Option<Epoch>,
    pub(super) reservation: Reservation,
    pub(super) admitted: Admitted,
    /// The operation's.
    pub(super) span: Span,
}

impl Attempt {
    /// How far the gate may go: an order that it makes or takes over needs a permit to be recorded.
    pub(super) fn mode(&self) -> ReserveMode {
        match (&self.admitted.no_new, &self.admitted.permit) {
            (None, Some(_)) => ReserveMode::Create,
            (Some(_), Some(_)) => ReserveMode::Resume,
            (_, None) => ReserveMode::Look,
        }
    }
}

/// Where the gate left an order.
pub(super) enum ReserveStep {
    /// On its way to the ledger; `gated` if a gate reserved its units.
    Queued { recorded: oneshot::Receiver<RecordOutcome>, gated: bool },
    /// The same operation has made its order.
    Recorded { created_at: UnixMs },
    /// Another request of the same operation is getting it recorded.
    InFlight,
    /// The same operation had another content.
    OtherContent,
    /// It is not known and cannot be reserved. Unless the gate `remembers_all`, the ledger may know it.
    Denied { why: Denial, remembers_all: bool },
    /// It is not known, and new orders are not taken now.
    NoNew(Code),
    /// The shard's gate is not in the epoch that the engine believed in, or the engine knows none.
    Stale { shard: u16, epoch: Option<Epoch> },
}

impl ReserveStep {
    /// Whether the gate knew the operation already.
    pub(super) fn is_hit(&self) -> bool {
        match self {
            ReserveStep::Recorded { .. } | ReserveStep::InFlight | ReserveStep::OtherContent => true,
            ReserveStep::Queued { .. }
            | ReserveStep::Denied { .. }
            | ReserveStep::NoNew(_)
            | ReserveStep::Stale { .. } => false,
        }
    }
}

/// A permit for an order that bypasses the gate.
pub(super) type BypassPermit = OwnedSemaphorePermit;

/// A reserved order on its way to the ledger.
pub(in crate::engine) struct Job {
    pub(super) active: ActiveSale,
    pub(super) shard: ShardId,
    /// The gate epoch in which its units were reserved; `None` if it bypasses the gate.
    pub(super) epoch: Option<Epoch>,
    pub(super) reservation: Reservation,
    /// Given back when the order is answered.
    pub(super) permit: InFlightPermit,
    /// Given back as well, if the order bypasses the gate.
    pub(super) bypass: Option<BypassPermit>,
    /// To the request that waits for it; `None` if the sweeper found it.
    pub(super) answer: Option<oneshot::Sender<RecordOutcome>>,
    /// From the queue to the answer.
    pub(super) span: Span,
}

/// What came of a [`Job`].
#[derive(Debug)]
pub(super) enum RecordOutcome {
    /// It was recorded by this attempt, when the shard's newest epoch was this, if it had one.
    Created { created_at: UnixMs, epoch: Option<Epoch> },
    /// It was recorded before: by an earlier attempt of this reservation, whose units are `spent` then, or before this
    /// reservation was made.
    Known { order: Order, spent: bool },
    /// The ledger said no.
    Denied(AppendDenial),
    /// The ledger did not say.
    Trouble(Code),
}

impl Job {
    /// The gate that reserved its units, in the epoch of the reservation; `None` if none did.
    pub(super) fn at(&self) -> Option<ShardEpoch> {
        Some(self.shard.in_epoch(self.epoch?))
    }

    pub(super) fn entry(&self) -> Entry {
        Entry {
            sale: self.active.sale.clone(),
            shard: self.shard.shard,
            epoch: self.epoch,
            reservation: self.reservation,
        }
    }

    pub(super) fn outcome(&self, appended: &Result<AppendOutcome, ledger::Error>) -> RecordOutcome {
        match appended {
            Ok(AppendOutcome::Created { epoch }) => {
                RecordOutcome::Created { created_at: self.reservation.created_at, epoch: *epoch }
            }
            Ok(AppendOutcome::Exists(order)) => RecordOutcome::Known { order: *order, spent: self.made(order) },
            Ok(AppendOutcome::Denied(denial)) => RecordOutcome::Denied(*denial),
            Err(error) => RecordOutcome::Trouble(ledger_trouble(error)),
        }
    }

    /// Whether the row stands for this very reservation, whose units are then spent. A row from before the gate was
    /// loaded, or that the gate has forgotten since, was counted already: the units reserved a second time go back.
    fn made(&self, order: &Order) -> bool {
        (order.epoch, order.created_at, order.fingerprint)
            == (self.epoch, self.reservation.created_at, self.reservation.fingerprint)
    }

    /// What the gate does with the reservation.
    pub(super) fn settlement(&self, outcome: &RecordOutcome) -> Settlement {
        let order_no = self.reservation.order_no;
        match outcome {
            RecordOutcome::Created { created_at, .. } => Settlement::Commit { order_no, created_at: *created_at },
            RecordOutcome::Known { order, spent: true } => {
                Settlement::Commit { order_no, created_at: order.created_at }
            }
            RecordOutcome::Known { order, spent: false } => {
                Settlement::CommitEarlier { order_no, fingerprint: order.fingerprint, created_at: order.created_at }
            }
            RecordOutcome::Denied(AppendDenial::SoldOut) => Settlement::WriteOff { order_no },
            RecordOutcome::Denied(AppendDenial::LimitReached | AppendDenial::Closed) => {
                Settlement::Release { order_no }
            }
            RecordOutcome::Trouble(_) => Settlement::Abandon { order_no },
        }
    }
}
