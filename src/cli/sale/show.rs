//! A sale as the admin listener words it, and as a person reads it.

use serde::Deserialize;

use crate::cli::screen::plain;
use crate::cli::table::{cell, table};

/// Every sale.
#[derive(Deserialize)]
pub(super) struct ShownSales {
    sales: Vec<ShownSale>,
}

/// One sale: its rules as created, its state, its units. Members that are not shown are passed over.
#[derive(Deserialize)]
pub(super) struct ShownSale {
    sale_id: String,
    state: String,
    #[serde(default)]
    starts_at: Option<String>,
    #[serde(default)]
    ends_at: Option<String>,
    #[serde(default)]
    boundary: Option<String>,
    #[serde(default)]
    time_zone: Option<String>,
    #[serde(default)]
    user_limit: Option<u32>,
    #[serde(default)]
    payment_timeout_s: Option<u32>,
    #[serde(default)]
    on_duplicate: Option<String>,
    #[serde(default)]
    require_token: bool,
    #[serde(default)]
    shards: Option<u16>,
    #[serde(default)]
    skus: Vec<ShownSku>,
}

#[derive(Deserialize)]
struct ShownSku {
    sku_id: String,
    unit_price: i64,
    currency: String,
    #[serde(flatten)]
    level: LevelView,
}

/// Units of a sku in all shards: `total = available + held + sold`.
#[derive(Clone, Copy, Default, Deserialize)]
struct LevelView {
    total: i64,
    available: i64,
    held: i64,
    sold: i64,
}

impl ShownSales {
    /// One line per sale.
    pub(super) fn as_table(&self) -> String {
        let header = ["sale_id", "state", "starts_at", "ends_at", "skus", "total", "available", "held", "sold"];
        let row = |sale: &ShownSale| {
            let start = vec![
                sale.sale_id.clone(),
                sale.state.clone(),
                cell(sale.starts_at.as_ref()),
                cell(sale.ends_at.as_ref()),
                sale.skus.len().to_string(),
            ];
            [start, sale.level().cells()].concat()
        };
        table(&header, &self.sales.iter().map(row).collect::<Vec<_>>())
    }
}

impl ShownSale {
    /// Rules, then units.
    pub(super) fn in_full(&self) -> String {
        // Told only where it means something.
        let zone = self.time_zone.as_ref().map(|zone| ("time_zone", zone.clone()));
        let rules = [
            ("sale_id", self.sale_id.clone()),
            ("state", self.state.clone()),
            ("starts_at", cell(self.starts_at.as_ref())),
            ("ends_at", cell(self.ends_at.as_ref())),
            ("boundary", cell(self.boundary.as_ref())),
            ("user_limit", cell(self.user_limit.as_ref())),
            ("payment_timeout_s", self.payment_timeout_s.map_or_else(|| "none".to_owned(), |n| n.to_string())),
            ("on_duplicate", cell(self.on_duplicate.as_ref())),
            ("require_token", self.require_token.to_string()),
            ("shards", cell(self.shards.as_ref())),
        ];
        let rules: Vec<_> = rules.into_iter().chain(zone).map(|(rule, value)| vec![rule.to_owned(), value]).collect();
        format!("{}\n\n{}", table(&[], &rules), self.levels())
    }

    /// Units by sku; prices are in minor units.
    pub(super) fn levels(&self) -> String {
        let header = ["sku_id", "unit_price", "currency", "total", "available", "held", "sold"];
        let row = |sku: &ShownSku| {
            let start = vec![sku.sku_id.clone(), sku.unit_price.to_string(), sku.currency.clone()];
            [start, sku.level.cells()].concat()
        };
        table(&header, &self.skus.iter().map(row).collect::<Vec<_>>())
    }

    /// Id, state and units in one line.
    pub(super) fn in_brief(&self) -> String {
        let LevelView { total, available, held, sold } = self.level();
        let (id, state) = (&self.sale_id, &self.state);
        plain(&format!("{id} is {state}: {available} of {total} units left, {held} held, {sold} sold"))
    }

    fn level(&self) -> LevelView {
        self.skus.iter().fold(LevelView::default(), |sum, sku| LevelView {
            total: sum.total.saturating_add(sku.level.total),
            available: sum.available.saturating_add(sku.level.available),
            held: sum.held.saturating_add(sku.level.held),
            sold: sum.sold.saturating_add(sku.level.sold),
        })
    }
}

impl LevelView {
    fn cells(self) -> Vec<String> {
        [self.total, self.available, self.held, self.sold].iter().map(i64::to_string).collect()
    }
}
