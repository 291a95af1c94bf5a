//! The queries of the audit.

use super::session::Session;
use crate::ledger::core::audit::{AuditCheck, FINDINGS_MAX};
use crate::ledger::{Check, Error};
use crate::order::SaleNo;

/// One view for every check, and no index: a broken one cannot vouch for itself. Sorting and hashing get the memory that
/// a few million orders need.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL enable_indexscan = off; \
     SET LOCAL enable_indexonlyscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_seqscan = on; \
     SET LOCAL enable_hashjoin = on; SET LOCAL enable_mergejoin = on; SET LOCAL plan_cache_mode = force_custom_plan; \
     SET LOCAL work_mem = '64MB'";

/// Runs every check over one sale, or all of them, in one consistent view.
pub(super) async fn audit(session: &mut Session, sale: Option<SaleNo>) -> Result<Vec<Check>, Error> {
    sqlx::raw_sql(BEGIN).execute(&mut session.sql).await?;
    let max = i64::try_from(FINDINGS_MAX).unwrap_or(i64::MAX);
    let mut checks = Vec::with_capacity(AuditCheck::ALL.len());
    for check in AuditCheck::ALL {
        let Some(findings) = findings(check) else { continue };
        let select = sqlx::query_scalar(findings).bind(sale.map(|sale| sale.0)).bind(max);
        let shown: Vec<String> = select.fetch_all(&mut session.sql).await?;
        checks.push(check.result(&shown));
    }
    session.roll_back().await?;
    Ok(checks)
}

/// The query of a check: one line of text per finding, none if the invariant holds.
/// $1 is the sale's number, or null for all of them; $2 how many findings are shown, in the order of their texts, so that
/// every audit shows the same. `None`: there is nothing to check.
fn findings(check: AuditCheck) -> Option<&'static str> {
    match check {
        AuditCheck::NeverOversold => Some(
            "SELECT format('sku %s shard %s: total %s, held %s, sold %s', k.id, s.shard, s.total, s.held, s.sold) \
             FROM segments s JOIN skus k ON k.no = s.sku_no WHERE ($1::bigint IS NULL OR k.sale_no = $1) \
             AND NOT (s.held >= 0 AND s.sold >= 0 AND s.held + s.sold <= s.total) ORDER BY 1 LIMIT $2",
        ),
        AuditCheck::SegmentsAddUp => Some(
            "SELECT format('sku %s: %s segments with %s, total %s in %s shards', k.id, count(s.shard), \
             coalesce(sum(s.total), 0), k.total, a.shards) \
             FROM skus k JOIN sales a ON a.no = k.sale_no LEFT JOIN segments s ON s.sku_no = k.no \
             WHERE ($1::bigint IS NULL OR k.sale_no = $1) GROUP BY k.no, k.id, k.total, a.shards \
             HAVING coalesce(sum(s.total), 0) <> k.total OR count(s.shard) <> a.shards ORDER BY 1 LIMIT $2",
        ),
        AuditCheck::RestocksAddUp => Some(
            "SELECT format('sku %s: created %s, restocked %s, total %s', k.id, k.created, \
             coalesce(sum(r.units), 0), k.total) FROM skus k LEFT JOIN restocks r ON r.sku_no = k.no \
             WHERE ($1::bigint IS NULL OR k.sale_no = $1) GROUP BY k.no, k.id, k.created, k.total \
             HAVING k.created + coalesce(sum(r.units), 0) <> k.total ORDER BY 1 LIMIT $2",
        ),
        AuditCheck::OrdersMatchStock => {
            // The states are those of `State::number`: 0 holds, 1, 2, 3 and 7 have sold, unless they gave back as the others did.
            Some(
                "WITH counted AS (SELECT o.sku_no, o.user_id % a.shards AS shard, \
                 sum(CASE WHEN o.state = 0 THEN o.quantity ELSE 0 END) AS held, \
                 sum(CASE WHEN o.state IN (1, 2, 3, 7) AND NOT o.returned THEN o.quantity ELSE 0 END) AS sold \
                 FROM orders o JOIN sales a ON a.no = o.sale_no \
                 WHERE ($1::bigint IS NULL OR o.sale_no = $1) GROUP BY 1, 2) \
             SELECT format('sku %s shard %s: orders hold %s and sold %s, stock says %s and %s', k.id, s.shard, \
             coalesce(c.held, 0), coalesce(c.sold, 0), s.held, s.sold) \
             FROM segments s JOIN skus k ON k.no = s.sku_no \
             LEFT JOIN counted c ON c.sku_no = s.sku_no AND c.shard = s.shard \
             WHERE ($1::bigint IS NULL OR k.sale_no = $1) \
             AND (coalesce(c.held, 0) <> s.held OR coalesce(c.sold, 0) <> s.sold) ORDER BY 1 LIMIT $2",
            )
        }
        AuditCheck::OrdersBelong => Some(
            "SELECT format('order %s', o.order_no) FROM orders o LEFT JOIN skus k ON k.no = o.sku_no \
             WHERE ($1::bigint IS NULL OR o.sale_no = $1) \
             AND (k.no IS NULL OR k.sale_no <> o.sale_no OR o.state NOT BETWEEN 0 AND 7 OR o.state_version < 1) ORDER BY 1 LIMIT $2",
        ),
        AuditCheck::OneOrderPerOperation => Some(
            "SELECT format('order %s stands %s times', order_no, count(*)) FROM orders \
             WHERE ($1::bigint IS NULL OR sale_no = $1) GROUP BY order_no HAVING count(*) > 1 ORDER BY 1 LIMIT $2",
        ),
        AuditCheck::UserLimitsHold => Some(
            "WITH counted AS (SELECT o.sku_no, o.user_id, sum(o.quantity) AS units FROM orders o \
                 JOIN sales a ON a.no = o.sale_no WHERE a.user_limit IS NOT NULL AND NOT o.returned \
                 AND ($1::bigint IS NULL OR o.sale_no = $1) GROUP BY 1, 2) \
             SELECT format('user %s sku %s: has %s, counter %s, limit %s', c.user_id, k.id, c.units, \
             coalesce(b.units, 0), a.user_limit) \
             FROM counted c JOIN skus k ON k.no = c.sku_no JOIN sales a ON a.no = k.sale_no \
             LEFT JOIN buyers b ON b.sku_no = c.sku_no AND b.user_id = c.user_id \
             WHERE c.units > a.user_limit OR c.units <> coalesce(b.units, 0) \
             UNION ALL SELECT format('user %s sku %s: has 0, counter %s', b.user_id, k.id, b.units) \
             FROM buyers b JOIN skus k ON k.no = b.sku_no \
             LEFT JOIN counted c ON c.sku_no = b.sku_no AND c.user_id = b.user_id \
             WHERE ($1::bigint IS NULL OR k.sale_no = $1) AND c.units IS NULL AND b.units <> 0 ORDER BY 1 LIMIT $2",
        ),
        AuditCheck::StepsLeadToState => {
            // The numbers are those of `State::number` and `Step::number`. An order whose row is gone is of no sale any more.
            Some(
                "WITH steps AS (SELECT s.*, o.order_no IS NOT NULL AS stands, \
                 lag(s.to_state) OVER (PARTITION BY s.order_no ORDER BY s.state_version) AS before, \
                 row_number() OVER (PARTITION BY s.order_no ORDER BY s.state_version) AS n \
                 FROM order_steps s LEFT JOIN orders o ON o.order_no = s.order_no AND o.user_id = s.user_id \
                 WHERE $1::bigint IS NULL OR o.order_no IS NULL OR o.sale_no = $1), \
             counted AS (SELECT order_no, user_id, count(*) AS count, \
                 max(CASE WHEN state_version = n + 1 THEN state_version END) AS newest FROM steps GROUP BY 1, 2), \
             led AS (SELECT c.order_no, c.user_id, c.count, s.to_state FROM counted c \
                 LEFT JOIN steps s ON s.order_no = c.order_no AND s.state_version = c.newest) \
             SELECT format('order %s: step %s from state %s to %s after %s', order_no, step, from_state, to_state, \
             coalesce(before::text, CASE WHEN stands THEN 'its beginning' ELSE 'nothing: the order is gone' END)) \
             FROM steps WHERE NOT stands OR state_version <> n + 1 OR (before IS NULL AND from_state NOT IN (0, 1)) \
             OR before <> from_state OR (from_state, step, to_state) NOT IN ((0, 0, 2), (0, 1, 4), (0, 2, 5), (1, 3, 3), \
             (2, 3, 3), (2, 4, 7), (4, 0, 6), (5, 0, 6), (6, 4, 7)) \
             UNION ALL SELECT format('order %s: version %s in state %s, %s steps lead to %s', o.order_no, \
             o.state_version, o.state, coalesce(l.count, 0), coalesce(l.to_state::text, 'its beginning')) \
             FROM orders o LEFT JOIN led l ON l.order_no = o.order_no AND l.user_id = o.user_id \
             WHERE ($1::bigint IS NULL OR o.sale_no = $1) AND (o.state_version <> 1 + coalesce(l.count, 0) \
             OR (l.count IS NULL AND o.state NOT IN (0, 1)) OR l.to_state <> o.state) ORDER BY 1 LIMIT $2",
            )
        }
        AuditCheck::UnitsComeBackOnce => Some(
            "WITH counted AS (SELECT o.sku_no, o.user_id % a.shards AS shard, sum(o.quantity) AS units \
                 FROM orders o JOIN sales a ON a.no = o.sale_no WHERE o.returned \
                 AND ($1::bigint IS NULL OR o.sale_no = $1) GROUP BY 1, 2) \
             SELECT format('order %s: in state %s its units %s', o.order_no, o.state, \
             CASE WHEN o.returned THEN 'came back' ELSE 'did not come back' END) FROM orders o \
             WHERE ($1::bigint IS NULL OR o.sale_no = $1) \
             AND ((o.state IN (4, 5, 6) AND NOT o.returned) OR (o.state NOT IN (4, 5, 6, 7) AND o.returned)) \
             UNION ALL SELECT format('sku %s shard %s: orders gave %s back, stock says %s', k.id, s.shard, \
             coalesce(c.units, 0), s.returned) FROM segments s JOIN skus k ON k.no = s.sku_no \
             LEFT JOIN counted c ON c.sku_no = s.sku_no AND c.shard = s.shard \
             WHERE ($1::bigint IS NULL OR k.sale_no = $1) AND coalesce(c.units, 0) <> s.returned ORDER BY 1 LIMIT $2",
        ),
        AuditCheck::NoRefundWaitsInVain => Some(
            "SELECT format('%s %s: order %s is %s', r.provider, r.event_id, r.order_no, \
             coalesce('in state ' || o.state, 'gone')) FROM payment_reports r LEFT JOIN orders o ON o.order_no = r.order_no \
             WHERE r.note = 'parked' AND ($1::bigint IS NULL OR o.order_no IS NULL OR o.sale_no = $1) \
             AND (o.order_no IS NULL OR o.state NOT IN (0, 4, 5)) ORDER BY 1 LIMIT $2",
        ),
        // An index of the orders themselves finds them, and no other table.
        AuditCheck::NumbersFindOrders => None,
    }
}
