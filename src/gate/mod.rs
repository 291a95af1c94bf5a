//! The gate: a fast hint that decides reservations before the ledger sees them.
//!
//! It may forget everything at any moment and no promise breaks: the ledger decides again. It must never confirm an order;
//! only the ledger's commit does that. Only the engine calls it.

mod memory;
mod records;
mod redis;

pub use self::redis::{ConnectError, Nodes, RedisGate};
pub use memory::MemoryGate;

use futures_util::future::BoxFuture;

use crate::clock::UnixMs;
use crate::metrics::GateMetrics;
use crate::order::{Epoch, Fingerprint, OrderNo, Reservation, Sale, SaleNo, SaleState, Switch, UserId};

/// One shard of one sale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ShardId {
    /// The sale.
    pub sale: SaleNo,
    /// 0..shards of the sale.
    pub shard: u16,
}

impl ShardId {
    /// The shard in one of its epochs.
    pub fn in_epoch(self, epoch: Epoch) -> ShardEpoch {
        ShardEpoch { sale: self.sale, shard: self.shard, epoch }
    }
}

/// One shard of one sale in an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ShardEpoch {
    /// The sale.
    pub sale: SaleNo,
    /// 0..shards of the sale.
    pub shard: u16,
    /// The epoch the caller believes in; the gate answers [`ReserveOutcome::StaleEpoch`] to any other.
    pub epoch: Epoch,
}

impl ShardEpoch {
    /// The shard, in whatever epoch.
    pub fn id(self) -> ShardId {
        ShardId { sale: self.sale, shard: self.shard }
    }
}

/// A request to reserve units for an order.
#[derive(Clone, Copy, Debug)]
pub struct ReserveRequest {
    /// The units, and what completes the order later.
    pub reservation: Reservation,
    /// How far the gate may go.
    pub mode: ReserveMode,
    /// Drawn by the caller for each attempt. A caller that repeats an attempt, because the answer was lost, gets the same answer.
    pub attempt_id: u64,
}

/// How far the gate may go for a [`ReserveRequest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReserveMode {
    /// Make a new reservation.
    Create,
    /// Take over a known one whose lease ran out.
    Resume,
    /// Only look.
    Look,
}

/// The answer to a [`ReserveRequest`]. The same request gets the same answer again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReserveOutcome {
    /// The units are reserved and the caller must get the order recorded.
    Reserved {
        /// When the order was *first* reserved, which is earlier than now if its lease had run out.
        created_at: UnixMs,
        /// Whether an earlier reservation past its lease was taken over.
        resumed: bool,
    },
    /// The order is recorded.
    Recorded {
        /// When it was first reserved.
        created_at: UnixMs,
    },
    /// Another caller is getting it recorded.
    InFlight,
    /// The order is known with another fingerprint.
    OtherContent,
    /// The order is not known and [`ReserveMode::Create`] was not given.
    NotFound,
    /// The order is not known and cannot be reserved.
    Denied {
        /// Why not.
        why: Denial,
        /// Whether this shard remembers every order it ever recorded. If not, the ledger must be asked whether the
        /// order exists before the client gets `why`.
        remembers_all: bool,
    },
    /// The caller's epoch is not the gate's.
    StaleEpoch,
}

/// Why nothing can be reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// This segment has fewer units than were asked for; others may have some.
    SegmentEmpty,
    /// The user would get more units than the sale allows.
    UserLimit,
    /// The sale is not open.
    NotOpen(SaleState),
}

/// How a reservation ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// The ledger recorded it: the units are gone, the record stays.
    Commit {
        /// The order.
        order_no: OrderNo,
        /// When it was first reserved.
        created_at: UnixMs,
    },
    /// The ledger had it from before this epoch, its units already counted: the reserved units go back.
    CommitEarlier {
        /// The order.
        order_no: OrderNo,
        /// The recorded fingerprint.
        fingerprint: Fingerprint,
        /// When it was first reserved.
        created_at: UnixMs,
    },
    /// The ledger refused it: the units go back, nothing is remembered.
    Release {
        /// The order.
        order_no: OrderNo,
    },
    /// The ledger has no such units: they do *not* go back.
    WriteOff {
        /// The order.
        order_no: OrderNo,
    },
    /// The ledger could not say: the lease ends now, and the next caller completes the reservation.
    Abandon {
        /// The order.
        order_no: OrderNo,
    },
}

impl Settlement {
    /// The order whose reservation it ends.
    pub fn order_no(&self) -> OrderNo {
        match self {
            Settlement::Commit { order_no, .. }
            | Settlement::CommitEarlier { order_no, .. }
            | Settlement::Release { order_no }
            | Settlement::WriteOff { order_no }
            | Settlement::Abandon { order_no } => *order_no,
        }
    }
}

/// Units of a recorded order that the ledger took back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReturnedUnits {
    /// Whose order it was.
    pub user: UserId,
    /// Position of the sku in [`Sale::skus`].
    pub sku: u16,
    /// Units, 1..=[`crate::limits::QUANTITY_MAX`].
    pub units: u32,
}

/// The units and reservations of one shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// The epoch it was loaded in; `None` if it never was, or has forgotten.
    pub epoch: Option<Epoch>,
    /// Units for sale per sku, in the order of [`Sale::skus`]; empty if the shard is not loaded.
    pub available: Vec<i64>,
    /// Units of reservations that are not settled, per sku.
    pub reserved: Vec<i64>,
    /// Reservations that are not settled.
    pub reservations: usize,
    /// Whether it sells; `None` if the shard is not loaded.
    pub switch: Option<Switch>,
}

/// A failure of the gate; a "no" is not a failure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Surely not done.
    #[error("gate unavailable: {0}")]
    Unavailable(String),
    /// Perhaps done.
    #[error("gate did not answer: {0}")]
    Unknown(String),
    /// More is waiting than the gate takes: surely not done.
    #[error("gate busy")]
    Busy,
}

/// A gate. Every method runs to completion even if its future is dropped after the first poll, or has no effect.
pub trait Gate: Send + Sync {
    /// Starts `at.epoch` in one shard with `available` units per sku, forgetting everything of earlier epochs. Does
    /// nothing if the shard is in this epoch or a later one already. `remembers_all`: the ledger has no order of this
    /// shard yet, so nothing is forgotten.
    fn load<'a>(
        &'a self,
        at: ShardEpoch,
        sale: &'a Sale,
        available: &'a [i64],
        remembers_all: bool,
    ) -> BoxFuture<'a, Result<(), Error>>;

    /// Decides each request, in order. Known orders are recognised before the window, the limits and the stock are looked
    /// at. No two requests are for the same order.
    fn reserve<'a>(
        &'a self,
        at: ShardEpoch,
        now_ms: UnixMs,
        requests: &'a [ReserveRequest],
    ) -> BoxFuture<'a, Result<Vec<ReserveOutcome>, Error>>;

    /// Ends reservations. A settlement of an unknown reservation or a stale epoch changes nothing.
    fn settle<'a>(&'a self, at: ShardEpoch, settlements: &'a [Settlement]) -> BoxFuture<'a, Result<(), Error>>;

    /// Opens, pauses or ends one shard, whatever its epoch.
    fn switch<'a>(&'a self, shard: ShardId, switch: Switch) -> BoxFuture<'a, Result<(), Error>>;

    /// Puts `units` of one sku on sale, or takes up to `-units` away; answers how many were moved (0..=|units|).
    fn adjust<'a>(&'a self, at: ShardEpoch, sku: u16, units: i64) -> BoxFuture<'a, Result<i64, Error>>;

    /// Puts units on sale again that the ledger took back, and subtracts them from what their users have, but no more
    /// than this epoch counted. Does nothing in any other epoch, and nothing for an unknown sku. The engine calls it once
    /// per return and finds by reconciling what is lost on the way.
    fn return_units<'a>(&'a self, at: ShardEpoch, returns: &'a [ReturnedUnits]) -> BoxFuture<'a, Result<(), Error>>;

    /// The units and reservations of a shard, in whatever epoch.
    fn level<'a>(&'a self, shard: ShardId) -> BoxFuture<'a, Result<Level, Error>>;

    /// Whether other engines may load and use it.
    fn is_shared(&self) -> bool {
        true
    }

    /// What the gate counts; `None` for a gate without servers.
    fn metrics(&self) -> Option<&GateMetrics> {
        None
    }

    /// Servers of the gate that cannot be used now.
    fn servers_down(&self) -> usize {
        0
    }

    /// Up to `max` reservations past their lease, with their lease renewed: the caller must get them recorded.
    fn overdue<'a>(
        &'a self,
        at: ShardEpoch,
        now_ms: UnixMs,
        max: usize,
    ) -> BoxFuture<'a, Result<Vec<Reservation>, Error>>;
}
