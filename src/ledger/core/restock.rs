//! The rules of stock that moves by an operator's restock or by an engine's transfer.

use std::collections::BTreeMap;

use super::admit::no_segment;
use crate::ledger::{Error, Restock, RestockOutcome, Transfer};
use crate::limits;
use crate::order::SkuNo;

/// Units by shard.
pub(in crate::ledger) type UnitsByShard = BTreeMap<u16, i64>;

/// What a restock answers whose `change_id` was recorded before, for this sku and these units.
pub(in crate::ledger) fn repeat(restock: &Restock, recorded: (SkuNo, i64)) -> RestockOutcome {
    if recorded == (restock.sku, restock.units) { RestockOutcome::Before } else { RestockOutcome::Different }
}

/// What a restock adds to each segment; negative where it takes away.
pub(in crate::ledger) fn restock_moves(restock: &Restock) -> UnitsByShard {
    let mut moves = UnitsByShard::new();
    for (shard, units) in &restock.by_shard {
        *moves.entry(*shard).or_default() += units;
    }
    moves
}

/// Whether a new restock is possible: the sku has `total` units, and `available` of them have no order.
pub(in crate::ledger) fn can_restock(restock: &Restock, total: i64, available: &UnitsByShard) -> Result<bool, Error> {
    let is_in_bounds = total.saturating_add(restock.units) <= limits::STOCK_UNITS_MAX;
    Ok(is_in_bounds && covers(restock.sku, &restock_moves(restock), available)?)
}

/// What a transfer adds to each segment; the donor loses as many units as the receiver gets.
pub(in crate::ledger) fn transfer_moves(transfer: &Transfer) -> UnitsByShard {
    let mut moves = UnitsByShard::from([(transfer.from, -transfer.units)]);
    *moves.entry(transfer.to).or_default() += transfer.units;
    moves
}

/// Whether the donor of a new transfer has the units.
pub(in crate::ledger) fn can_transfer(transfer: &Transfer, available: &UnitsByShard) -> Result<bool, Error> {
    let donor = available.get(&transfer.from).ok_or_else(|| no_segment(transfer.sku, transfer.from))?;
    Ok(*donor >= transfer.units)
}

fn covers(sku: SkuNo, moves: &UnitsByShard, available: &UnitsByShard) -> Result<bool, Error> {
    let mut is_covered = true;
    for (shard, units) in moves {
        let available = available.get(shard).ok_or_else(|| no_segment(sku, *shard))?;
        is_covered &= available.saturating_add(*units) >= 0;
    }
    Ok(is_covered)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::{Name, SaleNo};

    fn restock(units: i64, by_shard: &[(u16, i64)]) -> Restock {
        let (sale, change_id) = (SaleNo(1), Name::parse("c").unwrap());
        Restock { sale, change_id, sku: SkuNo(2), units, by_shard: by_shard.to_vec(), now_ms: 0 }
    }

    #[test]
    fn a_restock_needs_the_units_of_every_segment_it_takes_from() {
        let available = UnitsByShard::from([(0, 5), (1, 0)]);
        for (by_shard, is_possible) in [
            (&[(0, -5), (1, 0)][..], true),
            (&[(0, -6)], false),
            (&[(1, -1)], false),
            (&[(1, 7)], true),
            (&[(0, -3), (0, -3)], false),
            (&[(0, -6), (0, 1)], true),
        ] {
            let units = by_shard.iter().map(|(_, units)| units).sum();
            let possible = can_restock(&restock(units, by_shard), 50, &available);
            assert_eq!(possible, Ok(is_possible), "{by_shard:?}");
        }
        assert!(matches!(can_restock(&restock(1, &[(2, 1)]), 50, &available), Err(Error::Corrupt(_))));
    }

    #[test]
    fn a_total_has_a_bound() {
        let (max, available) = (limits::STOCK_UNITS_MAX, UnitsByShard::from([(0, 5)]));
        assert_eq!(can_restock(&restock(3, &[(0, 3)]), max - 3, &available), Ok(true));
        assert_eq!(can_restock(&restock(4, &[(0, 4)]), max - 3, &available), Ok(false));
        assert_eq!(can_restock(&restock(i64::MAX, &[(0, i64::MAX)]), max, &available), Ok(false));
    }

    #[test]
    fn a_change_id_stands_for_one_change() {
        let asked = restock(3, &[(0, 3)]);
        assert_eq!(repeat(&asked, (SkuNo(2), 3)), RestockOutcome::Before);
        for other in [(SkuNo(2), 4), (SkuNo(1), 3)] {
            assert_eq!(repeat(&asked, other), RestockOutcome::Different, "{other:?}");
        }
    }

    #[test]
    fn a_transfer_moves_what_the_donor_has() {
        let transfer = |from, to, units| Transfer { id: 1, sku: SkuNo(2), from, to, units, now_ms: 0 };
        let available = UnitsByShard::from([(0, 5), (1, 0)]);
        assert_eq!(can_transfer(&transfer(0, 1, 5), &available), Ok(true));
        assert_eq!(can_transfer(&transfer(0, 1, 6), &available), Ok(false));
        assert_eq!(can_transfer(&transfer(1, 0, 1), &available), Ok(false));
        assert!(matches!(can_transfer(&transfer(3, 0, 1), &available), Err(Error::Corrupt(_))));
        assert_eq!(transfer_moves(&transfer(0, 1, 5)), UnitsByShard::from([(0, -5), (1, 5)]));
        assert_eq!(transfer_moves(&transfer(1, 1, 5)), UnitsByShard::from([(1, 0)]), "to itself: nothing moves");
    }
}
