//! The ledger: the only place where an order becomes true.
//!
//! Every promise holds with the gate switched off: the ledger recognises a repeated order by its unique index, and
//! checks stock, user limits and the end of the sale itself, inside the transaction that records the order. The
//! engine writes to it; the engine, the admin listener and the audit read it.
//!
//! `core/` decides, without I/O; `sql/` has what does not depend on the database; `sqlite/` and `postgres/` load rows, ask
//! the core, and write rows.

/// The error of a state that cannot be: logged and counted as a bug, and an unknown outcome for the caller.
macro_rules! impossible {
    ($($text:tt)+) => {{
        crate::bug!($($text)+);
        crate::ledger::Error::Unknown(format!($($text)+))
    }};
}

mod core;
mod postgres;
mod sql;
mod sqlite;

pub use postgres::{PostgresLedger, PostgresOpenError};
pub use sqlite::{SqliteLedger, SqliteOpenError};

pub use rushgate_idempotency as idempotency;

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::clock::UnixMs;
use crate::order::{
    Actor, Epoch, History, Name, NewSale, Note, Order, OrderNo, Report, Reservation, Sale, SaleNo, Salt, SkuLevel,
    SkuNo, State, Step, Switch, UserId,
};
use idempotency::Operation;

/// An order to be recorded.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The sale, whose frozen rules apply.
    pub sale: Arc<Sale>,
    /// The buyer's shard.
    pub shard: u16,
    /// The gate epoch in which the units were reserved; `None` if no gate reserved them.
    pub epoch: Option<Epoch>,
    /// The order.
    pub reservation: Reservation,
}

/// What the ledger says to an [`Entry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendOutcome {
    /// The order is recorded, and every crash leaves it so.
    Created {
        /// The shard's newest epoch at that moment, if it has one. If it is not the entry's, the gate was loaded without
        /// these units.
        epoch: Option<Epoch>,
    },
    /// The order was recorded before; its row.
    Exists(Order),
    /// The order is not recorded.
    Denied(AppendDenial),
}

/// Why the ledger does not record an [`Entry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendDenial {
    /// The segment has fewer units.
    SoldOut,
    /// The user would get more units than the sale allows.
    LimitReached,
    /// The sale has been ended.
    Closed,
}

/// The outcome of creating a sale.
#[derive(Clone, Debug)]
pub enum CreateOutcome {
    /// It is new.
    New(Sale),
    /// It exists with the same content.
    Same(Sale),
    /// It exists with other content.
    Different,
}

/// A sale after it was switched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwitchOutcome {
    /// What an operator did to it last.
    pub switch: Switch,
    /// Its [`Sale::revision`] now.
    pub revision: i64,
}

/// A change of stock by an operator, applied once per `change_id`.
#[derive(Clone, Debug)]
pub struct Restock {
    /// The sale.
    pub sale: SaleNo,
    /// The operator's id of this change; its scope is the sale.
    pub change_id: Name,
    /// The sku.
    pub sku: SkuNo,
    /// Units in all, negative to take away.
    pub units: i64,
    /// The same units by shard.
    pub by_shard: Vec<(u16, i64)>,
    /// When it was asked for.
    pub now_ms: UnixMs,
}

/// The outcome of a [`Restock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestockOutcome {
    /// Done now.
    Applied,
    /// Done before.
    Before,
    /// The `change_id` stands for another change.
    Different,
    /// Fewer unsold units are left, or the total would pass its bound.
    NotPossible,
}

/// A move of unsold units between two shards of one sku, applied once per `id`.
#[derive(Clone, Copy, Debug)]
pub struct Transfer {
    /// Unique id, drawn by the engine.
    pub id: u128,
    /// The sku.
    pub sku: SkuNo,
    /// The donor.
    pub from: u16,
    /// The receiver.
    pub to: u16,
    /// Units, positive.
    pub units: i64,
    /// When it was asked for.
    pub now_ms: UnixMs,
}

/// A request for a new gate epoch in one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochRequest {
    /// The shard.
    pub shard: u16,
    /// Begin an epoch only if this is still the newest, or none has begun: of several engines that find a shard empty,
    /// one loads it.
    pub after: Option<Epoch>,
}

/// The newest gate epoch of one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewestEpoch {
    /// The epoch.
    pub epoch: Epoch,
    /// What to load it with, if this call began it; `None`: another engine began it and loads it.
    pub begun: Option<EpochStart>,
}

/// What the ledger knows of a shard at the moment an epoch begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochStart {
    /// Stock per sku, in the order of [`Sale::skus`].
    pub levels: Vec<SkuLevel>,
    /// The sale's switch.
    pub switch: Switch,
}

impl NewestEpoch {
    /// Whether this is the first epoch of the shard, before which no order can exist.
    pub fn is_first(&self) -> bool {
        self.epoch.is_first()
    }
}

/// A change of one order after it was placed.
#[derive(Clone, Debug)]
pub enum Change {
    /// A client asks for a step.
    Step(StepRequest),
    /// A payment provider reports something.
    Report(Report),
}

impl Change {
    /// The order that it changes.
    pub fn order_no(&self) -> Option<OrderNo> {
        match self {
            Change::Step(request) => Some(request.order_no),
            Change::Report(report) => report.order_no(),
        }
    }
}

/// A step that a client asks for, under a key.
#[derive(Clone, Debug)]
pub struct StepRequest {
    /// The order.
    pub order_no: OrderNo,
    /// The user whose order it must be; `None`: any user's.
    pub user: Option<UserId>,
    /// The step. [`Step::Cancel`] of a cancelled order is done already.
    pub step: Step,
    /// Whether the units of a refunded order go back on sale; those of a cancelled one always do.
    pub restock: bool,
    /// The client.
    pub by: Actor,
    /// The operation that the step is; its answer is stored until `keep_until`.
    pub operation: Operation,
    /// See [`StepRequest::operation`].
    pub keep_until: UnixMs,
}

/// The outcome of a [`Change`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeOutcome {
    /// Of a [`Change::Step`].
    Step(StepOutcome),
    /// Of a [`Change::Report`].
    Report(ReportOutcome),
}

impl ChangeOutcome {
    /// The outcome of a step. A ledger that answers it with the outcome of a report has a bug.
    pub fn step(self) -> Result<StepOutcome, Error> {
        match self {
            ChangeOutcome::Step(outcome) => Ok(outcome),
            ChangeOutcome::Report(other) => Err(impossible!("a step has the outcome of a report: {other:?}")),
        }
    }

    /// The outcome of a report. A ledger that answers it with the outcome of a step has a bug.
    pub fn report(self) -> Result<ReportOutcome, Error> {
        match self {
            ChangeOutcome::Report(outcome) => Ok(outcome),
            ChangeOutcome::Step(other) => Err(impossible!("a report has the outcome of a step: {other:?}")),
        }
    }
}

/// The outcome of a step that a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepOutcome {
    /// The order has taken the step.
    Done {
        /// The order after the step.
        order: Order,
        /// What the step put back on sale; `None` if it put nothing back.
        returned: Option<Returned>,
    },
    /// The order took the step before under this key; the order as it was then.
    Before(Order),
    /// There is no such order, or it is another user's. Nothing is stored.
    NotFound,
    /// The key was used for another command.
    OtherContent,
    /// The order's state does not allow the step. The key is not used up.
    NotAllowed(State),
}

/// Units that a step put back on sale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Returned {
    /// The newest epoch of the order's shard at that moment, if it has one: a gate in this epoch does not know of the
    /// units, a gate in a later epoch was loaded with them.
    pub epoch: Option<Epoch>,
}

/// The outcome of a payment provider's report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportOutcome {
    /// The report is stored, now or before. If its id belongs to another report, which says something else, it is stored
    /// under [`Report::reused_id`] and changes nothing.
    Recorded {
        /// What became of it.
        note: Note,
        /// The steps that its order took because of it, in their order; none if it was stored before.
        steps: [Option<Step>; 2],
        /// What became of the refunds that were parked until this payment, if there were any.
        parked: Option<Note>,
        /// Whether this call stored it.
        is_new: bool,
    },
    /// There is no such order. Nothing is stored.
    NotFound,
}

/// An order that expired just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpiredOrder {
    /// The order after the step.
    pub order: Order,
    /// Its units, which an expiry always puts back on sale.
    pub returned: Returned,
}

/// A page of one user's orders.
#[derive(Clone, Copy, Debug)]
pub struct PageRequest {
    /// The buyer.
    pub user: UserId,
    /// The sale.
    pub sale: SaleNo,
    /// Only orders with a lower [`Order::seq`].
    pub before: Option<i64>,
    /// Most orders.
    pub limit: u32,
}

/// One check of the audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Its stable name.
    pub name: &'static str,
    /// Whether the books balance here.
    pub ok: bool,
    /// The invariant that holds, or what does not fit it.
    pub detail: String,
}

/// Trouble with the ledger; a refusal is not trouble.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Surely not done.
    #[error("ledger unavailable: {0}")]
    Unavailable(String),
    /// Perhaps done, and the answer to every error that is not known better: the same call again settles it.
    #[error("ledger outcome unknown: {0}")]
    Unknown(String),
    /// More calls wait than the ledger takes, or another transaction holds a row for too long: surely not done.
    #[error("ledger busy")]
    Busy,
    /// The ledger holds what it must never hold; surely not done.
    #[error("ledger corrupt: {0}")]
    Corrupt(String),
}

/// Orders in a ledger: what the engine writes and reads for buyers, operators and payment providers.
pub trait OrderLedger: Send + Sync {
    /// Records a batch in one transaction and answers per entry, in order, after the commit is on disk. No two
    /// entries have the same `order_no`. Appending an order again is harmless: it answers [`AppendOutcome::Exists`].
    fn append(&self, batch: Vec<Entry>) -> BoxFuture<'_, Result<Vec<AppendOutcome>, Error>>;

    /// How many appends at once are worth having; orders of one shard go into one of them.
    fn appends_at_once(&self) -> usize;

    /// Makes changes of orders in one transaction and answers per change, in order: a step with a
    /// [`ChangeOutcome::Step`], a report with a [`ChangeOutcome::Report`]. The same change again is harmless. Units come
    /// back on sale here first, in the gate after.
    fn change(&self, changes: Vec<Change>, now_ms: UnixMs) -> BoxFuture<'_, Result<Vec<ChangeOutcome>, Error>>;

    /// Expires up to `max` orders whose time to pay is over at `now_ms`: the order with the oldest deadline of all is among
    /// them, and of each sale the oldest are. An order that another engine is changing is left to that engine. An order
    /// whose rows do not fit is logged and left out for [`crate::limits::SET_ASIDE_MS`], so that those behind it expire.
    fn expire(&self, now_ms: UnixMs, max: u32) -> BoxFuture<'_, Result<Vec<ExpiredOrder>, Error>>;

    /// The order with this number; with a user, only if it is theirs.
    fn find(&self, user: Option<UserId>, order_no: OrderNo) -> BoxFuture<'_, Result<Option<Order>, Error>>;

    /// A page of a user's orders, newest first.
    fn list(&self, page: PageRequest) -> BoxFuture<'_, Result<Vec<Order>, Error>>;

    /// What happened to an order of `user` after it was placed; empty if there is no such order.
    fn history(&self, user: UserId, order_no: OrderNo) -> BoxFuture<'_, Result<History, Error>>;

    /// Removes up to `max` idempotency keys whose time is over, and answers how many. A key that is in use stays.
    fn sweep_keys(&self, now_ms: UnixMs, max: u32) -> BoxFuture<'_, Result<u64, Error>>;

    /// Writes a row as it is, the way an order is written, and answers after the commit is on disk: whether the ledger
    /// records anything just now.
    fn probe(&self) -> BoxFuture<'_, Result<(), Error>>;
}

/// Sales and their stock in a ledger: what operators change, and what engines move and load gates with.
pub trait SaleLedger: Send + Sync {
    /// Every sale with a [`Sale::revision`] above `after`, in the order of their revisions.
    fn sales(&self, after: i64) -> BoxFuture<'_, Result<Vec<Sale>, Error>>;

    /// Makes a sale with its stock spread evenly over its shards. `salt` is used only if it is new.
    fn create_sale(&self, new: NewSale, salt: Salt, now_ms: UnixMs) -> BoxFuture<'_, Result<CreateOutcome, Error>>;

    /// Pauses, resumes or ends a sale and answers its switch then: a sale that has ended stays ended.
    fn switch(&self, sale: SaleNo, switch: Switch) -> BoxFuture<'_, Result<SwitchOutcome, Error>>;

    /// Notes that orders of a sale bypass its gate from now on: [`Sale::bypassed`].
    fn mark_bypassed(&self, sale: SaleNo) -> BoxFuture<'_, Result<(), Error>>;

    /// Stock of every sku, in the order of [`Sale::skus`], by shard.
    fn stock(&self, sale: SaleNo) -> BoxFuture<'_, Result<Vec<Vec<SkuLevel>>, Error>>;

    /// Changes the stock of a sku.
    fn restock(&self, restock: Restock) -> BoxFuture<'_, Result<RestockOutcome, Error>>;

    /// The sku and units of a change that was applied.
    fn restocked(&self, sale: SaleNo, change_id: Name) -> BoxFuture<'_, Result<Option<(SkuNo, i64)>, Error>>;

    /// Moves units between shards; answers whether they are moved, now or before: `false` if the donor has too few.
    fn transfer(&self, transfer: Transfer) -> BoxFuture<'_, Result<bool, Error>>;

    /// Begins gate epochs and answers the newest epoch of each shard, in order. No order of such a shard is recorded
    /// between the levels it answers and the epoch's beginning.
    fn begin_epochs(&self, sale: SaleNo, shards: Vec<EpochRequest>) -> BoxFuture<'_, Result<Vec<NewestEpoch>, Error>>;
}

/// A ledger. A write runs to completion even if its future is dropped.
pub trait Ledger: OrderLedger + SaleLedger {
    /// A random number that this ledger drew once and keeps: gates tell two ledgers apart by it.
    fn id(&self) -> BoxFuture<'_, Result<u64, Error>>;

    /// The kind of ledger, for spans.
    fn kind(&self) -> &'static str;

    /// Audits one sale, or all of them, in one consistent view.
    fn audit(&self, sale: Option<SaleNo>) -> BoxFuture<'_, Result<Vec<Check>, Error>>;

    /// Flushes and closes; nothing may be called afterwards.
    fn close(&self) -> BoxFuture<'_, ()>;
}
