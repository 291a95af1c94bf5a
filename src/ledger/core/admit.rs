//! Which orders of a batch are recorded: decided in memory from the rows that the adapter read in its transaction.

use std::collections::{BTreeMap, HashMap};

use super::effect::SegmentDelta;
use crate::ledger::{AppendDenial, AppendOutcome, Entry, Error};
use crate::order::{Epoch, Order, OrderNo, SaleNo, SkuNo, UserId};

pub(in crate::ledger) type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// The newest epoch of each shard of a batch, if it has one.
pub(in crate::ledger) type ShardEpochs = Map<(SaleNo, u16), Option<Epoch>>;

/// The rows that a batch is decided by.
#[derive(Clone, Default)]
pub(in crate::ledger) struct BatchState {
    /// Whether each sale has ended.
    pub(in crate::ledger) is_ended: Map<SaleNo, bool>,
    /// Units that no order has, by segment.
    pub(in crate::ledger) available: Map<(SkuNo, u16), i64>,
    /// Units that users have, in sales with a user limit; a user without a row has none.
    pub(in crate::ledger) user_units: Map<(SkuNo, UserId), i64>,
}

/// What becomes of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ledger) enum EntryDecision {
    /// To be inserted; its units are taken.
    Admitted,
    /// Inserted.
    Created,
    /// Recorded before.
    Exists(Order),
    /// Not to be recorded.
    Denied(AppendDenial),
}

impl BatchState {
    /// Decides every entry in the order of the batch. The order of the checks is the contract's: an order that exists is
    /// recognised before the end of the sale, the limit or the stock is looked at.
    pub(in crate::ledger) fn decide(
        &mut self,
        batch: &[Entry],
        existing: &Map<OrderNo, Order>,
    ) -> Result<Vec<EntryDecision>, Error> {
        let decision = |entry: &Entry| match existing.get(&entry.reservation.order_no) {
            Some(order) => Ok(EntryDecision::Exists(*order)),
            None => self.admit(entry),
        };
        batch.iter().map(decision).collect()
    }

    /// Takes the units of an order that does not exist, or says why it is not recorded.
    pub(in crate::ledger) fn admit(&mut self, entry: &Entry) -> Result<EntryDecision, Error> {
        let (sku, quantity) = (sku_no(entry)?, i64::from(entry.reservation.quantity));
        if *self.is_ended.get(&entry.sale.no).ok_or_else(|| no_sale(entry))? {
            return Ok(EntryDecision::Denied(AppendDenial::Closed));
        }
        let available = self.available.get_mut(&(sku, entry.shard)).ok_or_else(|| no_segment(sku, entry.shard))?;
        let Some(limit) = entry.sale.rules.user_limit else {
            return Ok(take(available, quantity));
        };
        let units = self.user_units.entry((sku, entry.reservation.user)).or_default();
        if *units + quantity > i64::from(limit) {
            return Ok(EntryDecision::Denied(AppendDenial::LimitReached));
        }
        let decision = take(available, quantity);
        if decision == EntryDecision::Admitted {
            *units += quantity;
        }
        Ok(decision)
    }

    /// Gives the units of an admitted entry back: its order turned out to exist.
    pub(in crate::ledger) fn give_back(&mut self, entry: &Entry) -> Result<(), Error> {
        let (sku, quantity) = (sku_no(entry)?, i64::from(entry.reservation.quantity));
        *self.available.get_mut(&(sku, entry.shard)).ok_or_else(|| no_segment(sku, entry.shard))? += quantity;
        if let Some(units) = self.user_units.get_mut(&(sku, entry.reservation.user)) {
            *units -= quantity;
        }
        Ok(())
    }
}

fn take(available: &mut i64, quantity: i64) -> EntryDecision {
    if *available < quantity {
        return EntryDecision::Denied(AppendDenial::SoldOut);
    }
    *available -= quantity;
    EntryDecision::Admitted
}

impl EntryDecision {
    /// The answer to `entry`, to be asked for before the commit.
    pub(in crate::ledger) fn outcome(self, entry: &Entry, epochs: &ShardEpochs) -> Result<AppendOutcome, Error> {
        let order_no = entry.reservation.order_no;
        match self {
            EntryDecision::Created => {
                let epoch = epochs.get(&(entry.sale.no, entry.shard)).copied();
                let epoch = epoch.ok_or_else(|| impossible!("the epoch of order {order_no} was not read"))?;
                Ok(AppendOutcome::Created { epoch })
            }
            EntryDecision::Exists(order) => Ok(AppendOutcome::Exists(order)),
            EntryDecision::Denied(why) => Ok(AppendOutcome::Denied(why)),
            EntryDecision::Admitted => Err(impossible!("the admitted order {order_no} was not inserted")),
        }
    }
}

/// Units of the orders that a batch records, to be added to their segments and users, in the order in which rows are
/// locked.
#[derive(Default)]
pub(in crate::ledger) struct RecordedUnits {
    pub(in crate::ledger) segments: BTreeMap<(SkuNo, u16), SegmentDelta>,
    pub(in crate::ledger) users: BTreeMap<(SkuNo, UserId), i64>,
}

impl RecordedUnits {
    /// Counts a recorded order.
    pub(in crate::ledger) fn add(&mut self, entry: &Entry) -> Result<(), Error> {
        let (sku, quantity, rules) = (sku_no(entry)?, entry.reservation.quantity, &entry.sale.rules);
        let units = SegmentDelta::of_new(rules.first_state(), quantity);
        self.segments.entry((sku, entry.shard)).or_default().add(units);
        if rules.user_limit.is_some() {
            *self.users.entry((sku, entry.reservation.user)).or_default() += i64::from(quantity);
        }
        Ok(())
    }
}

/// The sku of an entry as the ledger numbers it. Its place in the sale may come from a gate's record, so it is checked.
pub(in crate::ledger) fn sku_no(entry: &Entry) -> Result<SkuNo, Error> {
    let sku = entry.sale.skus.get(usize::from(entry.reservation.sku));
    sku.map(|sku| sku.no)
        .ok_or_else(|| Error::Corrupt(format!("sale {} has no sku at place {}", entry.sale.id, entry.reservation.sku)))
}

/// The row of a segment is missing.
pub(in crate::ledger) fn no_segment(sku: SkuNo, shard: u16) -> Error {
    Error::Corrupt(format!("sku {} has no segment of stock in shard {shard}", sku.0))
}

/// The row of an entry's sale is missing.
pub(in crate::ledger) fn no_sale(entry: &Entry) -> Error {
    Error::Corrupt(format!("sale {} is not in the ledger", entry.sale.id))
}

#[cfg(test)]
mod tests;
