//! The ground: what an order, a sale and an answer *are*. No I/O, no clock, no lock, no wire format.

#[macro_use]
mod text_enum;

mod answer;
mod epoch;
mod fingerprint;
mod id;
mod lifecycle;
mod number;
mod payment;
mod sale;
mod salt;
mod view;
mod zone;

pub use answer::{Code, Outcome, Receipt, Refusal, Retry};
pub use epoch::Epoch;
pub use fingerprint::place_fingerprint;
pub use id::{Currency, InvalidId, Name, NameRef, UserId};
pub use lifecycle::{InvalidTransition, State, Step};
pub use number::{DERIVATION, Identity, OrderNo};
pub use payment::{Decision, Money, Note, PaymentEvent, PriorReport, Provider, ProviderId, Report, judge};
pub use sale::{
    Boundary, NewSale, NewSku, OnDuplicate, Rules, Sale, SaleNo, SaleState, Sku, SkuLevel, SkuNo, Switch, even_split,
};
pub use salt::Salt;
pub use view::{HistoryView, OrderView, SaleView, SkuView};
pub use zone::Zone;

pub use rushgate_idempotency::{Fingerprint, InvalidKey, Key};

use crate::clock::UnixMs;

/// A reservation with what completes it: everything the ledger needs to record the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// The order's derived number.
    pub order_no: OrderNo,
    /// Hash of the typed command: the same `order_no` with another fingerprint is a misuse.
    pub fingerprint: Fingerprint,
    /// The buyer.
    pub user: UserId,
    /// Position of the sku in [`Sale::skus`].
    pub sku: u16,
    /// Units, 1..=[`crate::limits::QUANTITY_MAX`].
    pub quantity: u32,
    /// When the order was first reserved; part of the answer, so it never changes afterwards.
    pub created_at: UnixMs,
}

/// An order as the ledger has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// Commit order within the ledger: later orders have higher numbers.
    pub seq: i64,
    /// The sale it belongs to.
    pub sale: SaleNo,
    /// The sku, as the ledger numbers it.
    pub sku: SkuNo,
    /// The derived number.
    pub order_no: OrderNo,
    /// Hash of the command that made it.
    pub fingerprint: Fingerprint,
    /// The buyer.
    pub user: UserId,
    /// Units.
    pub quantity: u32,
    /// Its state.
    pub state: State,
    /// Number of state changes so far, from 1.
    pub state_version: u32,
    /// The gate epoch in which its units were reserved; `None` if it bypassed the gate.
    pub epoch: Option<Epoch>,
    /// When it was first reserved.
    pub created_at: UnixMs,
    /// When its state last changed.
    pub updated_at: UnixMs,
    /// Whether its units went back on sale.
    pub returned: bool,
}

/// A step that an order took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepRecord {
    /// The [`Order::state_version`] it led to, from 2.
    pub state_version: u32,
    /// The step.
    pub step: Step,
    /// Where it led from.
    pub from: State,
    /// Where it led to.
    pub to: State,
    /// Who took it.
    pub by: Actor,
    /// When.
    pub at: UnixMs,
}

/// Who takes a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// The buyer.
    Buyer,
    /// The seller.
    Operator,
    /// The deadline.
    Deadline,
    /// A payment provider, by the report with this id.
    Report(Provider, ProviderId),
}

impl Actor {
    /// The word in the ledger and in operators' views.
    pub fn as_str(&self) -> &'static str {
        match self {
            Actor::Buyer => "buyer",
            Actor::Operator => "operator",
            Actor::Deadline => "deadline",
            Actor::Report(provider, _) => provider.as_str(),
        }
    }

    /// The report by which it was taken.
    pub fn event_id(&self) -> Option<&ProviderId> {
        match self {
            Actor::Report(_, event_id) => Some(event_id),
            Actor::Buyer | Actor::Operator | Actor::Deadline => None,
        }
    }
}

/// A report of a payment provider, as the ledger stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredReport {
    /// The report.
    pub report: Report,
    /// The note on it.
    pub note: Note,
    /// When it came.
    pub at: UnixMs,
}

/// What happened to an order after it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Its steps, oldest first.
    pub steps: Vec<StepRecord>,
    /// Reports of payment providers about it, oldest first.
    pub reports: Vec<StoredReport>,
}
