//! What the edges show of orders and sales.

use std::sync::Arc;

use super::{History, Order, Sale, SaleState, Sku, SkuLevel};

/// An order as it stands now.
#[derive(Clone, Debug)]
pub struct OrderView {
    /// The row.
    pub order: Order,
    /// Its sale.
    pub sale: Arc<Sale>,
    /// Its sku.
    pub sku: Sku,
}

/// An order with everything that happened to it.
#[derive(Clone, Debug)]
pub struct HistoryView {
    /// The order as it stands now.
    pub view: OrderView,
    /// How it came there.
    pub history: History,
}

/// A sale as it stands now.
#[derive(Clone, Debug)]
pub struct SaleView {
    /// The sale.
    pub sale: Arc<Sale>,
    /// What it is at this moment.
    pub state: SaleState,
    /// Its skus.
    pub skus: Vec<SkuView>,
}

/// The stock of a sku by shard.
#[derive(Clone, Debug)]
pub struct SkuView {
    /// The sku.
    pub sku: Sku,
    /// `held` counts the units of unpaid orders and of reservations.
    pub shards: Vec<SkuLevel>,
}

impl SkuView {
    /// All shards together.
    pub fn sum(&self) -> SkuLevel {
        self.shards.iter().fold(SkuLevel::default(), |sum, level| SkuLevel {
            total: sum.total + level.total,
            held: sum.held + level.held,
            sold: sum.sold + level.sold,
            returned: sum.returned + level.returned,
        })
    }
}
