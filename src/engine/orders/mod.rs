//! An order on its way. `place.rs` is the walk and reads top to bottom: `request.rs` says which operation it is,
//! the gate reserves, `writer.rs` commits in groups that `batches.rs` forms, `replies.rs` words the answer. `bypass.rs`
//! does without the gate, `lookup.rs` and `waiters.rs` serve repeats, `tokens.rs` gives out purchase tokens, `probe.rs`
//! finds out when a ledger in trouble is well again. `job.rs` is what they hand each other.
//!
//! The room owns admission, the writer's queue and the permits of orders that bypass the gate; it uses `stock`.

mod batches;
mod bypass;
mod job;
mod lookup;
mod place;
pub(super) mod probe;
mod replies;
mod request;
mod stall;
mod tokens;
mod waiters;
pub(super) mod writer;

pub use tokens::PurchaseToken;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::sync::{Semaphore, mpsc};
use tracing::Span;

use self::job::Job;
use self::stall::StallWatch;
use self::waiters::InFlightWaiters;
use super::catalog::ActiveSale;
use super::core::Core;
use super::stock::Stock;
use crate::admission::Admission;
use crate::gate::ShardEpoch;
use crate::limits;
use crate::order::{Code, Reservation};

/// Times the path is walked before the client is asked to come back: stock that moves between shards, or an epoch
/// that changes, may need another turn.
const TURNS_MAX: usize = 16;

/// Takes orders from the request to the answer.
pub(super) struct Orders {
    core: Arc<Core>,
    stock: Arc<Stock>,
    admission: Admission,
    waiters: InFlightWaiters,
    /// Orders on their way to the writer. It has room for every permit of `admission`, so an admitted order is never
    /// turned away here.
    queue: mpsc::Sender<Job>,
    /// One for each ledger transaction that may run at once.
    stall_watches: Vec<StallWatch>,
    /// For orders that bypass the gate.
    bypass_permits: Arc<Semaphore>,
    /// Numbers the attempts of this engine, from a random start: see [`crate::gate::ReserveRequest::attempt_id`].
    attempts: AtomicU64,
}

impl Orders {
    /// The room, and the end of its queue for the writer.
    pub(super) fn new(core: Arc<Core>, stock: Arc<Stock>, first_attempt: u64) -> (Arc<Self>, mpsc::Receiver<Job>) {
        let (queue, jobs) = mpsc::channel(limits::ORDERS_IN_FLIGHT_MAX);
        let stall_watches = (0..core.ledger.appends_at_once().max(1)).map(|_| StallWatch::default()).collect();
        let orders = Orders {
            core,
            stock,
            admission: Admission::default(),
            waiters: InFlightWaiters::default(),
            queue,
            stall_watches,
            bypass_permits: Arc::new(Semaphore::new(limits::BYPASS_IN_FLIGHT_MAX)),
            attempts: AtomicU64::new(first_attempt),
        };
        (Arc::new(orders), jobs)
    }

    /// Hands an order to the writer. Fails only if the engine has stopped: the queue has room for every permit.
    fn queue(&self, job: Job) -> Result<(), Code> {
        self.queue.try_send(job).map_err(|_| Code::UnknownOutcome)
    }

    /// Hands a reservation past its lease to the writer again, for the sweeper: appending an order twice is harmless.
    /// Answers whether it was queued; without a permit it waits for its next lease to run out.
    pub(super) fn roll_forward(&self, active: &ActiveSale, at: ShardEpoch, reservation: Reservation) -> bool {
        let Some(permit) = self.admission.permit() else { return false };
        self.core.metrics.rolled_forward.add(1);
        self.queue(Job {
            active: active.clone(),
            shard: at.id(),
            epoch: Some(at.epoch),
            reservation,
            permit,
            bypass: None,
            answer: None,
            span: Span::none(),
        })
        .is_ok()
    }

    /// Whether the ledger took the last orders and no transaction is stuck.
    pub(super) fn are_recorded(&self) -> bool {
        self.admission.is_ledger_well() && !self.stall_watches.iter().any(StallWatch::is_stuck)
    }

    /// Whether the last ledger transaction went well.
    pub(super) fn is_ledger_well(&self) -> bool {
        self.admission.is_ledger_well()
    }

    /// Orders between reservation and answer.
    pub(super) fn in_flight(&self) -> usize {
        self.admission.in_flight()
    }

    /// Requests that wait for an order in flight.
    pub(super) fn waiting(&self) -> usize {
        self.waiters.waiting()
    }
}
