//! The checks of an audit: every invariant of the ledger, computed a second time from the rows. Their names and texts are
//! the same in every ledger; an adapter has the query of each.

use crate::ledger::Check;

/// Findings that a check shows; one is enough to fail it.
pub(in crate::ledger) const FINDINGS_MAX: usize = 3;

/// A check, in the order of an audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ledger) enum AuditCheck {
    NeverOversold,
    SegmentsAddUp,
    RestocksAddUp,
    OrdersMatchStock,
    OrdersBelong,
    OneOrderPerOperation,
    NumbersFindOrders,
    UserLimitsHold,
    StepsLeadToState,
    UnitsComeBackOnce,
    NoRefundWaitsInVain,
}

impl AuditCheck {
    pub(in crate::ledger) const ALL: [AuditCheck; 11] = [
        AuditCheck::NeverOversold,
        AuditCheck::SegmentsAddUp,
        AuditCheck::RestocksAddUp,
        AuditCheck::OrdersMatchStock,
        AuditCheck::OrdersBelong,
        AuditCheck::OneOrderPerOperation,
        AuditCheck::NumbersFindOrders,
        AuditCheck::UserLimitsHold,
        AuditCheck::StepsLeadToState,
        AuditCheck::UnitsComeBackOnce,
        AuditCheck::NoRefundWaitsInVain,
    ];

    /// The stable name.
    pub(in crate::ledger) fn name(self) -> &'static str {
        match self {
            AuditCheck::NeverOversold => "never_oversold",
            AuditCheck::SegmentsAddUp => "segments_add_up",
            AuditCheck::RestocksAddUp => "restocks_add_up",
            AuditCheck::OrdersMatchStock => "orders_match_stock",
            AuditCheck::OrdersBelong => "orders_belong",
            AuditCheck::OneOrderPerOperation => "one_order_per_operation",
            AuditCheck::NumbersFindOrders => "numbers_find_orders",
            AuditCheck::UserLimitsHold => "user_limits_hold",
            AuditCheck::StepsLeadToState => "steps_lead_to_state",
            AuditCheck::UnitsComeBackOnce => "units_come_back_once",
            AuditCheck::NoRefundWaitsInVain => "no_refund_waits_in_vain",
        }
    }

    /// What holds when there are no findings.
    fn invariant(self) -> &'static str {
        match self {
            AuditCheck::NeverOversold => "no segment has more units held and sold than it was given",
            AuditCheck::SegmentsAddUp => "the segments of every sku add up to its total",
            AuditCheck::RestocksAddUp => "stock as created plus every restock is the total",
            AuditCheck::OrdersMatchStock => "the units of the orders are the units held and sold, shard by shard",
            AuditCheck::OrdersBelong => "every order is of a sku of its sale, in a known state",
            AuditCheck::OneOrderPerOperation => "no order number stands twice",
            AuditCheck::NumbersFindOrders => "every order whose number is in the table of numbers is found by it",
            AuditCheck::UserLimitsHold => {
                "no user has more units than the sale's limit, and the counters are the orders' units"
            }
            AuditCheck::StepsLeadToState => {
                "the steps of every order lead from its first state to its state, one after the other"
            }
            AuditCheck::UnitsComeBackOnce => {
                "orders that ended unpaid gave their units back, no living one did, and the stock has counted them"
            }
            AuditCheck::NoRefundWaitsInVain => {
                "every refund that waits for a payment is of an order that may still be paid"
            }
        }
    }

    /// The result of the check. `findings` are lines of text, at most [`FINDINGS_MAX`].
    pub(in crate::ledger) fn result(self, findings: &[String]) -> Check {
        let detail = if findings.is_empty() { self.invariant().to_owned() } else { findings.join("; ") };
        Check { name: self.name(), ok: findings.is_empty(), detail }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_with_findings_fails_and_shows_them() {
        for check in AuditCheck::ALL {
            assert_eq!(check.result(&[]), Check { name: check.name(), ok: true, detail: check.invariant().to_owned() });
            let failed = check.result(&["sku a".to_owned(), "sku b".to_owned()]);
            assert_eq!(failed, Check { name: check.name(), ok: false, detail: "sku a; sku b".to_owned() });
        }
    }

    #[test]
    fn every_check_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> = AuditCheck::ALL.iter().map(|check| check.name()).collect();
        assert_eq!(names.len(), AuditCheck::ALL.len());
    }
}
