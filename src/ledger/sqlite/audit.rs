//! The queries of the audit.

use rusqlite::{Connection, named_params};

use crate::ledger::core::audit::{AuditCheck, FINDINGS_MAX};
use crate::ledger::{Check, Error};
use crate::order::SaleNo;

/// Runs every check over one sale, or all of them, in one consistent view.
pub(super) fn audit(connection: &mut Connection, sale: Option<SaleNo>) -> Result<Vec<Check>, Error> {
    let view = connection.transaction()?;
    let mut checks = Vec::with_capacity(AuditCheck::ALL.len());
    for check in AuditCheck::ALL {
        let mut select = view.prepare_cached(findings(check))?;
        let findings = select.query_map(named_params! { ":sale": sale.map(|sale| sale.0) }, |row| row.get(0))?;
        let shown: Vec<String> = findings.take(FINDINGS_MAX).collect::<Result<_, _>>()?;
        checks.push(check.result(&shown));
    }
    Ok(checks)
}

/// The query of a check: one line of text per finding, none if the invariant holds.
/// `:sale` is the sale's number, or null for all of them.
fn findings(check: AuditCheck) -> &'static str {
    match check {
        AuditCheck::NeverOversold => {
            "SELECT 'sku ' || k.id || ' shard ' || s.shard || ': total ' || s.total || ', held ' || s.held \
             || ', sold ' || s.sold FROM segments s JOIN skus k ON k.no = s.sku_no \
             WHERE (:sale IS NULL OR k.sale_no = :sale) \
             AND NOT (s.held >= 0 AND s.sold >= 0 AND s.held + s.sold <= s.total)"
        }
        AuditCheck::SegmentsAddUp => {
            "SELECT 'sku ' || k.id || ': ' || count(s.shard) || ' segments with ' || coalesce(sum(s.total), 0) \
             || ', total ' || k.total || ' in ' || a.shards || ' shards' \
             FROM skus k JOIN sales a ON a.no = k.sale_no LEFT JOIN segments s ON s.sku_no = k.no \
             WHERE (:sale IS NULL OR k.sale_no = :sale) GROUP BY k.no \
             HAVING coalesce(sum(s.total), 0) <> k.total OR count(s.shard) <> a.shards"
        }
        AuditCheck::RestocksAddUp => {
            "SELECT 'sku ' || k.id || ': created ' || k.created || ', restocked ' || coalesce(sum(r.units), 0) \
             || ', total ' || k.total FROM skus k LEFT JOIN restocks r ON r.sku_no = k.no \
             WHERE (:sale IS NULL OR k.sale_no = :sale) GROUP BY k.no \
             HAVING k.created + coalesce(sum(r.units), 0) <> k.total"
        }
        AuditCheck::OrdersMatchStock => {
            // The states are those of `State::number`: 0 holds, 1, 2, 3 and 7 have sold, unless they gave back as the others did.
            "WITH counted AS (SELECT o.sku_no, o.user_id % a.shards AS shard, \
                 sum(CASE WHEN o.state = 0 THEN o.quantity ELSE 0 END) AS held, \
                 sum(CASE WHEN o.state IN (1, 2, 3, 7) AND NOT o.returned THEN o.quantity ELSE 0 END) AS sold \
                 FROM orders o JOIN sales a ON a.no = o.sale_no \
                 WHERE (:sale IS NULL OR o.sale_no = :sale) GROUP BY 1, 2) \
             SELECT 'sku ' || k.id || ' shard ' || s.shard || ': orders hold ' || coalesce(c.held, 0) || ' and sold ' \
             || coalesce(c.sold, 0) || ', stock says ' || s.held || ' and ' || s.sold \
             FROM segments s JOIN skus k ON k.no = s.sku_no \
             LEFT JOIN counted c ON c.sku_no = s.sku_no AND c.shard = s.shard \
             WHERE (:sale IS NULL OR k.sale_no = :sale) \
             AND (coalesce(c.held, 0) <> s.held OR coalesce(c.sold, 0) <> s.sold)"
        }
        AuditCheck::OrdersBelong => {
            "SELECT 'order ' || hex(o.order_no) FROM orders o LEFT JOIN skus k ON k.no = o.sku_no \
             WHERE (:sale IS NULL OR o.sale_no = :sale) \
             AND (k.no IS NULL OR k.sale_no <> o.sale_no OR o.state NOT BETWEEN 0 AND 7 OR o.state_version < 1)"
        }
        AuditCheck::OneOrderPerOperation => {
            // Counted through the table itself, so that a broken index cannot vouch for itself.
            "SELECT 'order ' || hex(order_no) || ' stands ' || count(*) || ' times' FROM orders NOT INDEXED \
             WHERE (:sale IS NULL OR sale_no = :sale) GROUP BY order_no HAVING count(*) > 1"
        }
        AuditCheck::NumbersFindOrders => {
            "SELECT 'order ' || hex(o.order_no) FROM orders o \
             LEFT JOIN order_numbers n ON n.order_no = o.order_no WHERE (:sale IS NULL OR o.sale_no = :sale) \
             AND o.seq <= (SELECT seq FROM order_numbers_upto) AND n.user_id IS NOT o.user_id"
        }
        AuditCheck::UserLimitsHold => {
            "WITH counted AS (SELECT o.sku_no, o.user_id, sum(o.quantity) AS units FROM orders o \
                 JOIN sales a ON a.no = o.sale_no WHERE a.user_limit IS NOT NULL AND NOT o.returned \
                 AND (:sale IS NULL OR o.sale_no = :sale) GROUP BY 1, 2) \
             SELECT 'user ' || c.user_id || ' sku ' || k.id || ': has ' || c.units || ', counter ' \
             || coalesce(b.units, 0) || ', limit ' || a.user_limit \
             FROM counted c JOIN skus k ON k.no = c.sku_no JOIN sales a ON a.no = k.sale_no \
             LEFT JOIN buyers b ON b.sku_no = c.sku_no AND b.user_id = c.user_id \
             WHERE c.units > a.user_limit OR c.units <> coalesce(b.units, 0) \
             UNION ALL SELECT 'user ' || b.user_id || ' sku ' || k.id || ': has 0, counter ' || b.units \
             FROM buyers b JOIN skus k ON k.no = b.sku_no \
             LEFT JOIN counted c ON c.sku_no = b.sku_no AND c.user_id = b.user_id \
             WHERE (:sale IS NULL OR k.sale_no = :sale) AND c.units IS NULL AND b.units <> 0"
        }
        AuditCheck::StepsLeadToState => {
            // The steps are those of `State::after`: number, from, to.
            "WITH walked AS (SELECT order_no, user_id, state_version, from_state, to_state, \
                 lag(to_state) OVER one AS before, lead(to_state) OVER one AS next, \
                 (step, from_state, to_state) IN (VALUES (0, 0, 2), (1, 0, 4), (2, 0, 5), (3, 1, 3), (3, 2, 3), \
                 (4, 2, 7), (4, 6, 7), (0, 4, 6), (0, 5, 6)) AS is_allowed FROM order_steps \
                 WINDOW one AS (PARTITION BY order_no ORDER BY state_version)), \
             counted AS (SELECT order_no, count(*) AS steps, max(state_version) AS newest, \
                 max(CASE WHEN before IS NULL THEN from_state END) AS first, \
                 max(CASE WHEN next IS NULL THEN to_state END) AS last, \
                 sum(NOT is_allowed OR before <> from_state) AS wrong FROM walked GROUP BY order_no) \
             SELECT 'order ' || hex(o.order_no) || ': state ' || o.state || ', version ' || o.state_version || ', ' \
             || coalesce(c.steps || ' steps up to version ' || c.newest || ' from ' || c.first || ' to ' || c.last \
             || ', ' || c.wrong || ' wrong', 'no steps') \
             FROM orders o JOIN sales a ON a.no = o.sale_no LEFT JOIN counted c ON c.order_no = o.order_no \
             WHERE (:sale IS NULL OR o.sale_no = :sale) AND (coalesce(c.wrong, 0) <> 0 \
             OR o.state_version <> 1 + coalesce(c.steps, 0) OR o.state_version <> coalesce(c.newest, 1) \
             OR coalesce(c.first, o.state) <> (a.payment_timeout_s IS NULL) \
             OR coalesce(c.last, o.state) <> o.state) \
             UNION ALL SELECT 'a step of order ' || hex(s.order_no) || ', which user ' || s.user_id || ' does not have' \
             FROM order_steps s LEFT JOIN orders o ON o.user_id = s.user_id AND o.order_no = s.order_no \
             WHERE o.seq IS NULL"
        }
        AuditCheck::UnitsComeBackOnce => {
            // The states are those of `State::number`: 4, 5 and 6 have given back, 0 to 3 have not, 7 may have.
            "WITH counted AS (SELECT o.sku_no, o.user_id % a.shards AS shard, sum(o.quantity) AS units \
                 FROM orders o JOIN sales a ON a.no = o.sale_no WHERE o.returned \
                 AND (:sale IS NULL OR o.sale_no = :sale) GROUP BY 1, 2) \
             SELECT 'order ' || hex(order_no) || ': state ' || state || ', returned ' || returned FROM orders \
             WHERE (:sale IS NULL OR sale_no = :sale) AND (state BETWEEN 4 AND 6 AND NOT returned \
             OR state BETWEEN 0 AND 3 AND returned) \
             UNION ALL SELECT 'sku ' || k.id || ' shard ' || s.shard || ': orders gave back ' || coalesce(c.units, 0) \
             || ', stock says ' || s.returned FROM segments s JOIN skus k ON k.no = s.sku_no \
             LEFT JOIN counted c ON c.sku_no = s.sku_no AND c.shard = s.shard \
             WHERE (:sale IS NULL OR k.sale_no = :sale) AND s.returned <> coalesce(c.units, 0)"
        }
        AuditCheck::NoRefundWaitsInVain => {
            // The states are those of `State::number` in which `Step::Pay` is allowed. Orders are read once, for no index finds
            // them by their number alone.
            "WITH parked AS MATERIALIZED (SELECT provider, event_id, order_no FROM payment_reports \
                 WHERE note = 'parked'), \
             found AS MATERIALIZED (SELECT order_no, sale_no, state FROM orders NOT INDEXED \
                 WHERE order_no IN (SELECT order_no FROM parked)) \
             SELECT r.provider || ' ' || r.event_id || ': order ' || hex(r.order_no) || ' is ' \
             || coalesce('in state ' || o.state, 'gone') FROM parked r LEFT JOIN found o ON o.order_no = r.order_no \
             WHERE o.order_no IS NULL OR ((:sale IS NULL OR o.sale_no = :sale) AND o.state NOT IN (0, 4, 5))"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::{State, Step};

    /// The table of steps stands in SQL a second time.
    #[test]
    fn the_audit_allows_the_steps_that_orders_may_take() {
        let (_, list) = findings(AuditCheck::StepsLeadToState).split_once("IN (VALUES ").unwrap();
        let (list, _) = list.split_once(") AS is_allowed").unwrap();
        let mut listed: Vec<&str> = list.split_inclusive("),").map(|step| step.trim().trim_end_matches(',')).collect();
        let all = State::ALL.into_iter().flat_map(|from| Step::ALL.map(|step| (from, step)));
        let allowed = all.filter_map(|(from, step)| Some((step, from, from.after(step).ok()?)));
        let numbers = |(step, from, to): (Step, State, State)| (step.number(), from.number(), to.number());
        let mut allowed: Vec<String> = allowed.map(|step| format!("{:?}", numbers(step))).collect();
        listed.sort_unstable();
        allowed.sort_unstable();
        assert_eq!(listed, allowed);
    }
}
