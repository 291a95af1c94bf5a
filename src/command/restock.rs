//! Changing the stock of a sku.

use serde::Deserialize;

use super::bounds::{malformed, name};
use crate::limits;
use crate::order::{Name, Refusal};

/// A change of stock as operators send it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawRestock {
    change_id: String,
    sku_id: String,
    quantity: i64,
}

/// A change of stock.
#[derive(Clone, Debug)]
pub struct RestockSale {
    /// The operator's id of this change.
    pub change_id: Name,
    /// The sku.
    pub sku_id: Name,
    /// Units, negative to take unsold ones away; never 0.
    pub units: i64,
}

impl RawRestock {
    /// Checks the change.
    pub fn typed(self) -> Result<RestockSale, Refusal> {
        let (units, max) = (self.quantity, limits::STOCK_UNITS_MAX);
        if units == 0 || units.unsigned_abs() > max.unsigned_abs() {
            return Err(malformed(format!("quantity must be an integer other than 0, at most {max}")));
        }
        Ok(RestockSale { change_id: name("change_id", &self.change_id)?, sku_id: name("sku_id", &self.sku_id)?, units })
    }
}
