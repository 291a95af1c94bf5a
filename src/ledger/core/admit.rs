//! Who gets what, decided in memory from the rows that a transaction has locked.

use std::collections::{HashMap, HashSet};

use crate::ledger::{AppendDenial, AppendOutcome, Entry, Error};
use crate::order::{Order, OrderNo, SaleNo, SkuNo, UserId};

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// What a batch is decided by.
#[derive(Clone, Default)]
pub(in crate::ledger) struct BatchState {
    /// Units that no order has, by locked row.
    pub(in crate::ledger) available: Map<(SkuNo, u16), i64>,
    /// Units that a user has, of the skus whose sales limit them.
    pub(in crate::ledger) units: Map<(SkuNo, UserId), i64>,
    pub(in crate::ledger) ended: HashSet<SaleNo>,
}

/// What becomes of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ledger) enum EntryDecision {
    /// To be inserted.
    Admitted,
    /// Inserted.
    Created,
    /// Recorded before.
    Exists(Order),
    /// Not to be recorded.
    Refused(AppendOutcome),
}

impl BatchState {
    /// Decides every entry in the order of the batch. The order of the checks is the contract's: an order that exists is
    /// recognised before the end of the sale, the limit or the stock is looked at.
    pub(in crate::ledger) fn decide(
        &mut self,
        batch: &[Entry],
        existing: &Map<OrderNo, Order>,
    ) -> Result<Vec<EntryDecision>, Error> {
        let fate = |entry: &Entry| match existing.get(&entry.reservation.order_no) {
            Some(order) => Ok(EntryDecision::Exists(*order)),
            None => self.admit(entry),
        };
        batch.iter().map(fate).collect()
    }

    /// Takes the units of a new order, or says what keeps it from being recorded.
    pub(in crate::ledger) fn admit(&mut self, entry: &Entry) -> Result<EntryDecision, Error> {
        let (sku, quantity) = (sku_no(entry)?, i64::from(entry.reservation.quantity));
        if self.ended.contains(&entry.sale.no) {
            return Ok(EntryDecision::Refused(AppendOutcome::Denied(AppendDenial::Closed)));
        }
        let available = self.available.get_mut(&(sku, entry.shard)).ok_or_else(no_segment)?;
        if let Some(limit) = entry.sale.rules.user_limit {
            let units = self.units.entry((sku, entry.reservation.user)).or_default();
            if *units + quantity > i64::from(limit) {
                return Ok(EntryDecision::Refused(AppendOutcome::Denied(AppendDenial::LimitReached)));
            }
            if *available >= quantity {
                *units += quantity;
            }
        }
        if *available < quantity {
            return Ok(EntryDecision::Refused(AppendOutcome::Denied(AppendDenial::SoldOut)));
        }
        *available -= quantity;
        Ok(EntryDecision::Admitted)
    }

    /// Gives the units of an order back that turned out to exist.
    pub(in crate::ledger) fn give_back(&mut self, entry: &Entry) -> Result<(), Error> {
        let (sku, quantity) = (sku_no(entry)?, i64::from(entry.reservation.quantity));
        *self.available.get_mut(&(sku, entry.shard)).ok_or_else(no_segment)? += quantity;
        if let Some(units) = self.units.get_mut(&(sku, entry.reservation.user)) {
            *units -= quantity;
        }
        Ok(())
    }
}

/// The sku that an entry is for, as the ledger numbers it.
pub(in crate::ledger) fn sku_no(entry: &Entry) -> Result<SkuNo, Error> {
    let sku = entry.sale.skus.get(usize::from(entry.reservation.sku));
    sku.map(|sku| sku.no).ok_or_else(|| Error::Corrupt(format!("sale {} has no such sku", entry.sale.id)))
}

fn no_segment() -> Error {
    Error::Corrupt("a segment of stock is missing".to_owned())
}
