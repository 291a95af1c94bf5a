//! The ledger: the only place where an order becomes true.
//!
//! Every promise holds with the gate switched off: the ledger recognises a repeated order by its unique index, and
//! checks stock, user limits and the end of the sale itself, inside the transaction that records the order. The
//! engine writes it; reads and the audit ask it.

mod columns;
mod effect;
mod postgres;
mod quarantine;
mod sqlite;

pub use postgres::{PostgresLedger, PostgresOpenError};
pub use sqlite::{SqliteLedger, SqliteOpenError};

pub use rushgate_idempotency as idempotency;

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::clock::UnixMs;
use crate::order::{
    Actor, History, Name, NewSale, Note, Order, OrderNo, Report, Reservation, Sale, SaleNo, Salt, SkuLevel, SkuNo,
    State, Step, Switch, UserId,
};
use idempotency::Operation;

/// An order that is to be recorded.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The sale, whose frozen rules apply.
    pub sale: Arc<Sale>,
    /// The buyer's shard.
    pub shard: u16,
    /// The gate epoch under which the units are held; 0 if no gate holds them.
    pub epoch: i64,
    /// The order.
    pub reservation: Reservation,
}

/// What the ledger says to an [`Entry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendOutcome {
    /// It is recorded, and will be found after any crash.
    Created {
        /// The shard's epoch at that moment. If it is not the entry's, the gate was loaded without these units.
        epoch: i64,
    },
    /// It was recorded before; here is the row.
    Exists(Order),
    /// It is not recorded.
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

/// What came of creating a sale.
#[derive(Clone, Debug)]
pub enum CreateOutcome {
    /// It is new.
    New(Sale),
    /// It exists with the same content.
    Same(Sale),
    /// It exists with other content.
    Different,
}

/// How a sale stands after it was switched.
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

/// What came of a [`Restock`].
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

/// A wish for a new gate epoch in one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochRequest {
    /// The shard.
    pub shard: u16,
    /// Begin one only if this is still the newest epoch, 0 meaning none yet: of several engines that find a shard
    /// empty, one loads it.
    pub after: i64,
}

/// The newest gate epoch of one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewestEpoch {
    /// Its number, from 1; higher than every epoch before it.
    pub epoch: i64,
    /// What to load it with, if it was begun just now; `None`: it was begun by somebody else, who loads it.
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
        self.epoch == 1
    }
}

/// A change of one order after it was made.
#[derive(Clone, Debug)]
pub enum Change {
    /// Somebody asks for a step.
    Step(StepRequest),
    /// A payment provider reports something.
    Report(Report),
}

impl Change {
    /// The order that it is about.
    pub fn order_no(&self) -> Option<OrderNo> {
        match self {
            Change::Step(asked) => Some(asked.order_no),
            Change::Report(report) => report.order_no(),
        }
    }
}

/// A step that somebody asks for, under a key.
#[derive(Clone, Debug)]
pub struct StepRequest {
    /// The order.
    pub order_no: OrderNo,
    /// Whose it must be; `None`: anybody's.
    pub user: Option<UserId>,
    /// The step. Asked for in a state that it leads to, [`Step::Cancel`] is done already.
    pub step: Step,
    /// Whether the units of a refunded order go back on sale; those of a cancelled one always do.
    pub restock: bool,
    /// Who asks.
    pub by: Actor,
    /// The operation that the step is, whose answer is kept until `keep_until`.
    pub operation: Operation,
    /// See [`StepRequest::operation`].
    pub keep_until: UnixMs,
}

/// What came of a [`Change`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// The step is taken, and this is how the order stands.
    Done {
        /// The order.
        order: Order,
        /// The shard's newest epoch at that moment, if units went back on sale by it: a gate in this epoch does not know of
        /// them, one in a later epoch was loaded with them.
        returned: Option<i64>,
    },
    /// It was taken before under this key, and this is how the order stood then.
    Before(Order),
    /// The report is kept, now or before. One whose id another report had before, which said something else, is kept under
    /// [`Report::reused_id`] and changes nothing.
    Reported {
        /// What became of it.
        note: Note,
        /// The steps that its order took because of it, in their order; none if it was kept before.
        steps: [Option<Step>; 2],
        /// What became of the refunds that waited for it, if there were any.
        waited: Option<Note>,
        /// Whether it is kept since now.
        is_new: bool,
    },
    /// There is no such order, or it is somebody else's. Nothing is kept.
    NotFound,
    /// The key was used for another command.
    OtherContent,
    /// The order's state does not allow the step. The key is not used up.
    NotAllowed(State),
}

/// An order that expired just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpiredOrder {
    /// How it stands.
    pub order: Order,
    /// See [`Changed::Done`].
    pub epoch: i64,
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
    /// What was compared, or what does not fit.
    pub detail: String,
}

/// Trouble with the ledger; a "no" is not trouble.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Surely not done.
    #[error("ledger unavailable: {0}")]
    Unavailable(String),
    /// Perhaps done: the same call again settles it.
    #[error("ledger outcome unknown: {0}")]
    Unknown(String),
    /// More is waiting than the ledger takes: surely not done.
    #[error("ledger busy")]
    Busy,
    /// The ledger holds what it must never hold.
    #[error("ledger corrupt: {0}")]
    Corrupt(String),
}

/// A ledger. Writes run to completion even if their future is dropped.
pub trait Ledger: Send + Sync {
    /// Records a batch in one transaction and answers per entry, in order, after the commit is on disk. No two
    /// entries have the same `order_no`. Appending an order again is harmless: it answers [`AppendOutcome::Exists`].
    fn append(&self, batch: Vec<Entry>) -> BoxFuture<'_, Result<Vec<AppendOutcome>, Error>>;

    /// Carries out changes of orders in one transaction and answers per change, in order. The same change again is
    /// harmless: it answers [`Changed::Before`] or [`Changed::Reported`]. Units come back on sale here first, in the gate after.
    fn change(&self, changes: Vec<Change>, now_ms: UnixMs) -> BoxFuture<'_, Result<Vec<Changed>, Error>>;

    /// Expires up to `max` orders whose time to pay is over at `now_ms`: the one with the oldest deadline of all is among
    /// them, and of each sale the oldest are. Orders that another engine is changing just now are left to it, and so are, for
    /// [`crate::limits::SET_ASIDE_MS`], those whose rows do not fit: each is told of in the log, and the others behind it
    /// expire.
    fn expire(&self, now_ms: UnixMs, max: u32) -> BoxFuture<'_, Result<Vec<ExpiredOrder>, Error>>;

    /// What happened to an order of `user` after it was made; empty for one that does not exist.
    fn history(&self, user: UserId, order_no: OrderNo) -> BoxFuture<'_, Result<History, Error>>;

    /// Removes up to `max` idempotency keys that are kept no longer, and answers how many. One that somebody works under
    /// stays.
    fn sweep_keys(&self, now_ms: UnixMs, max: u32) -> BoxFuture<'_, Result<u64, Error>>;

    /// The order with this number; with a user, only if it is theirs.
    fn find(&self, user: Option<UserId>, order_no: OrderNo) -> BoxFuture<'_, Result<Option<Order>, Error>>;

    /// A page of a user's orders, newest first.
    fn list(&self, page: PageRequest) -> BoxFuture<'_, Result<Vec<Order>, Error>>;

    /// A random number that this ledger has drawn once and keeps: what gates tell two ledgers apart by.
    fn id(&self) -> BoxFuture<'_, Result<u64, Error>>;

    /// The kind of ledger, for spans.
    fn kind(&self) -> &'static str;

    /// How many appends at once are worth having; orders of one shard go into one of them.
    fn appends_at_once(&self) -> usize;

    /// Every sale with a [`Sale::revision`] above `after`, in the order of their revisions.
    fn sales(&self, after: i64) -> BoxFuture<'_, Result<Vec<Sale>, Error>>;

    /// Makes a sale with its stock spread evenly over its shards. `salt` is used only if it is new.
    fn create_sale(&self, new: NewSale, salt: Salt, now_ms: UnixMs) -> BoxFuture<'_, Result<CreateOutcome, Error>>;

    /// Pauses, resumes or ends a sale and answers how it stands then: an ended one stays ended, whoever ended it.
    fn switch(&self, sale: SaleNo, switch: Switch) -> BoxFuture<'_, Result<SwitchOutcome, Error>>;

    /// Notes that orders of a sale go past its gate from now on: [`Sale::bypassed`].
    fn mark_bypassed(&self, sale: SaleNo) -> BoxFuture<'_, Result<(), Error>>;

    /// Changes the stock of a sku.
    fn restock(&self, restock: Restock) -> BoxFuture<'_, Result<RestockOutcome, Error>>;

    /// The sku and units of a change that was applied.
    fn restocked(&self, sale: SaleNo, change_id: Name) -> BoxFuture<'_, Result<Option<(SkuNo, i64)>, Error>>;

    /// Moves units between shards; answers whether they are moved, now or before: `false` if the donor has too few.
    fn transfer(&self, transfer: Transfer) -> BoxFuture<'_, Result<bool, Error>>;

    /// Begins gate epochs and answers the newest one of each shard, in order. No order of such a shard is recorded
    /// between the levels it answers and the epoch's beginning.
    fn begin_epochs(&self, sale: SaleNo, shards: Vec<EpochRequest>) -> BoxFuture<'_, Result<Vec<NewestEpoch>, Error>>;

    /// Writes what is there already, the way an order is written, and answers after the commit is on disk: whether the
    /// ledger records anything just now.
    fn probe(&self) -> BoxFuture<'_, Result<(), Error>>;

    /// Stock of every sku, in the order of [`Sale::skus`], by shard.
    fn stock(&self, sale: SaleNo) -> BoxFuture<'_, Result<Vec<Vec<SkuLevel>>, Error>>;

    /// Audits one sale, or all of them, in one consistent view.
    fn audit(&self, sale: Option<SaleNo>) -> BoxFuture<'_, Result<Vec<Check>, Error>>;

    /// Flushes and closes; nothing may be called afterwards.
    fn close(&self) -> BoxFuture<'_, ()>;
}
