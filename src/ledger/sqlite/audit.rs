//! The audit: every invariant of the ledger, computed a second time from the rows.

use rusqlite::{Connection, Error};

use crate::ledger::Check;
use crate::order::SaleNo;

/// Runs every check over one sale, or all of them, in one consistent view.
pub(super) fn audit(connection: &mut Connection, sale: Option<SaleNo>) -> Result<Vec<Check>, Error> {
    let view = connection.transaction()?;
    CHECKS.iter().map(|check| run(&view, check, sale)).collect()
}

/// A query that returns one line of text per finding, none if the books balance.
struct Query {
    name: &'static str,
    /// What is compared, told when nothing is wrong.
    fine: &'static str,
    /// `:sale` is the sale's number, or null for all of them.
    findings: &'static str,
}

const CHECKS: &[Query] = &[
    Query {
        name: "never_oversold",
        fine: "no segment has more units held and sold than it was given",
        findings: "SELECT 'sku ' || k.id || ' shard ' || s.shard || ': total ' || s.total || ', held ' || s.held \
             || ', sold ' || s.sold FROM segments s JOIN skus k ON k.no = s.sku_no \
             WHERE (:sale IS NULL OR k.sale_no = :sale) \
             AND NOT (s.held >= 0 AND s.sold >= 0 AND s.held + s.sold <= s.total)",
    },
    Query {
        name: "segments_add_up",
        fine: "the segments of every sku add up to its total",
        findings: "SELECT 'sku ' || k.id || ': ' || count(s.shard) || ' segments with ' || coalesce(sum(s.total), 0) \
             || ', total ' || k.total || ' in ' || a.shards || ' shards' \
             FROM skus k JOIN sales a ON a.no = k.sale_no LEFT JOIN segments s ON s.sku_no = k.no \
             WHERE (:sale IS NULL OR k.sale_no = :sale) GROUP BY k.no \
             HAVING coalesce(sum(s.total), 0) <> k.total OR count(s.shard) <> a.shards",
    },
    Query {
        name: "restocks_add_up",
        fine: "stock as created plus every restock is the total",
        findings: "SELECT 'sku ' || k.id || ': created ' || k.created || ', restocked ' || coalesce(sum(r.units), 0) \
             || ', total ' || k.total FROM skus k LEFT JOIN restocks r ON r.sku_no = k.no \
             WHERE (:sale IS NULL OR k.sale_no = :sale) GROUP BY k.no \
             HAVING k.created + coalesce(sum(r.units), 0) <> k.total",
    },
    Query {
        name: "orders_match_stock",
        fine: "the units of the orders are the units held and sold, shard by shard",
        // The states are those of `State::number`: 0 holds, 1, 2, 3 and 7 have sold, the others have given back.
        findings: "WITH counted AS (SELECT o.sku_no, o.user_id % a.shards AS shard, \
                 sum(CASE WHEN o.state = 0 THEN o.quantity ELSE 0 END) AS held, \
                 sum(CASE WHEN o.state IN (1, 2, 3, 7) THEN o.quantity ELSE 0 END) AS sold \
                 FROM orders o JOIN sales a ON a.no = o.sale_no \
                 WHERE (:sale IS NULL OR o.sale_no = :sale) GROUP BY 1, 2) \
             SELECT 'sku ' || k.id || ' shard ' || s.shard || ': orders hold ' || coalesce(c.held, 0) || ' and sold ' \
             || coalesce(c.sold, 0) || ', stock says ' || s.held || ' and ' || s.sold \
             FROM segments s JOIN skus k ON k.no = s.sku_no \
             LEFT JOIN counted c ON c.sku_no = s.sku_no AND c.shard = s.shard \
             WHERE (:sale IS NULL OR k.sale_no = :sale) \
             AND (coalesce(c.held, 0) <> s.held OR coalesce(c.sold, 0) <> s.sold)",
    },
    Query {
        name: "orders_belong",
        fine: "every order is of a sku of its sale, in a known state",
        findings: "SELECT 'order ' || hex(o.order_no) FROM orders o LEFT JOIN skus k ON k.no = o.sku_no \
             WHERE (:sale IS NULL OR o.sale_no = :sale) \
             AND (k.no IS NULL OR k.sale_no <> o.sale_no OR o.state NOT BETWEEN 0 AND 7 OR o.state_version < 1)",
    },
    Query {
        name: "one_order_per_operation",
        fine: "no order number stands twice",
        // Counted through the table itself, so that a broken index cannot vouch for itself.
        findings: "SELECT 'order ' || hex(order_no) || ' stands ' || count(*) || ' times' FROM orders NOT INDEXED \
             WHERE (:sale IS NULL OR sale_no = :sale) GROUP BY order_no HAVING count(*) > 1",
    },
    Query {
        name: "numbers_find_orders",
        fine: "every order whose number is in the table of numbers is found by it",
        findings: "SELECT 'order ' || hex(o.order_no) FROM orders o \
             LEFT JOIN order_numbers n ON n.order_no = o.order_no WHERE (:sale IS NULL OR o.sale_no = :sale) \
             AND o.seq <= (SELECT seq FROM order_numbers_upto) AND n.user_id IS NOT o.user_id",
    },
    Query {
        name: "user_limits_hold",
        fine: "no user has more units than the sale's limit, and the counters are the orders' units",
        findings: "WITH counted AS (SELECT o.sku_no, o.user_id, sum(o.quantity) AS units FROM orders o \
                 JOIN sales a ON a.no = o.sale_no WHERE a.user_limit IS NOT NULL AND o.state NOT IN (4, 5, 6) \
                 AND (:sale IS NULL OR o.sale_no = :sale) GROUP BY 1, 2) \
             SELECT 'user ' || c.user_id || ' sku ' || k.id || ': has ' || c.units || ', counter ' \
             || coalesce(b.units, 0) || ', limit ' || a.user_limit \
             FROM counted c JOIN skus k ON k.no = c.sku_no JOIN sales a ON a.no = k.sale_no \
             LEFT JOIN buyers b ON b.sku_no = c.sku_no AND b.user_id = c.user_id \
             WHERE c.units > a.user_limit OR c.units <> coalesce(b.units, 0) \
             UNION ALL SELECT 'user ' || b.user_id || ' sku ' || k.id || ': has 0, counter ' || b.units \
             FROM buyers b JOIN skus k ON k.no = b.sku_no \
             LEFT JOIN counted c ON c.sku_no = b.sku_no AND c.user_id = b.user_id \
             WHERE (:sale IS NULL OR k.sale_no = :sale) AND c.units IS NULL AND b.units <> 0",
    },
];

/// Findings that a check shows; one is enough to fail it.
const SHOWN_MAX: usize = 3;

fn run(connection: &Connection, query: &Query, sale: Option<SaleNo>) -> Result<Check, Error> {
    let mut select = connection.prepare_cached(query.findings)?;
    let findings = select.query_map(rusqlite::named_params! { ":sale": sale.map(|sale| sale.0) }, |row| row.get(0))?;
    let shown: Vec<String> = findings.take(SHOWN_MAX).collect::<Result<_, _>>()?;
    let detail = if shown.is_empty() { query.fine.to_owned() } else { shown.join("; ") };
    Ok(Check { name: query.name, ok: shown.is_empty(), detail })
}
