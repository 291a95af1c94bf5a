//! What must hold of every order that something was done to: each 200 was a promise, and what the ledger tells of the order
//! keeps it.

use std::collections::{BTreeMap, BTreeSet};

use crate::book::{About, Book, Operation};
use crate::contract::code;
use crate::lifecycle::{Act, Deed};
use crate::shop::persist;
use crate::world::World;

/// States by the number that stands in the ledger.
const STATES: [&str; 8] =
    ["pending_payment", "confirmed", "paid", "shipped", "cancelled", "expired", "refund_due", "refunded"];
/// Steps by their number: from where to where each leads.
const STEPS: [(&str, &[(&str, &str)]); 5] = [
    ("pay", &[("pending_payment", "paid"), ("cancelled", "refund_due"), ("expired", "refund_due")]),
    ("cancel", &[("pending_payment", "cancelled")]),
    ("expire", &[("pending_payment", "expired")]),
    ("ship", &[("paid", "shipped")]),
    ("refund", &[("paid", "refunded"), ("refund_due", "refunded")]),
];

/// An order as the ledger has it.
#[derive(Debug)]
struct Row {
    state: &'static str,
    is_returned: bool,
    /// The step, from where, to where.
    steps: Vec<(&'static str, &'static str, &'static str)>,
}

/// Asks for everything that was done once more, somewhere: who has a 200 gets it again, the others learn what came of it.
pub(crate) fn assert_every_deed_settled(world: &World, book: &Book) {
    for (n, operation) in book.all().into_iter().enumerate() {
        for (m, deed) in operation.deeds.iter().enumerate().filter(|(_, deed)| deed.end.is_none() || deed.is_done()) {
            let server = world.engines[(n + m) % world.engines.len()].server();
            let mut client = if deed.act.is_operators() { server.operator() } else { server.stranger() };
            let answer = persist(&mut client, &deed.request(&operation));
            book.note(About::Deed(n, m), &answer);
            match code(&answer).as_deref() {
                None => assert!(
                    answer.is_replayed() || deed.act.is_report() || deed.end.is_none(),
                    "{deed:?} of {operation:?} is no repeat: {answer}"
                ),
                Some("invalid_transition") if deed.end.is_none() && !deed.act.is_report() => {}
                Some(_) => panic!("{deed:?} of {operation:?}: {answer}"),
            }
        }
    }
}

/// Every order took only steps that lead from one to the next, each once, and stands where somebody was told that it does.
/// `found` has the orders that somebody was told of, as an engine shows them.
pub(crate) fn assert_promises_kept(world: &World, book: &Book, found: &BTreeMap<String, String>) {
    let rows = rows(world);
    for operation in book.all() {
        let Some(order) = operation.order() else { continue };
        let order_no = order["order_no"].as_str().unwrap();
        let row = rows.get(order_no).unwrap_or_else(|| panic!("not in the ledger: {operation:?}"));
        assert_eq!(found[order_no], row.state, "as an engine shows it, and in the ledger: {operation:?}");
        assert_life(row, &operation);
        let allowed = allowed(row, &operation);
        assert!(allowed.contains(&row.state), "{operation:?} must be one of {allowed:?}: {row:?}");
        for deed in operation.deeds.iter().filter(|deed| !deed.is_done()) {
            assert_no_kept(deed, row, &operation);
        }
    }
    let reports = book.all().into_iter().flat_map(|operation| operation.deeds);
    let heard: BTreeSet<String> =
        reports.filter(|deed| deed.is_done() && deed.act.is_report()).map(|d| d.key).collect();
    let kept = world.database.psql("SELECT event_id FROM payment_reports");
    let kept: BTreeSet<String> = kept.lines().map(str::to_owned).collect();
    assert_eq!(kept, heard, "reports of payments: in the ledger, and acknowledged");
}

/// What the ledger counts, against the orders themselves. `stock` is all that was ever for sale.
pub(crate) fn assert_units_fit(world: &World, stock: u64) {
    let sold = world.database.psql("SELECT coalesce(sum(quantity), 0) FROM orders WHERE NOT returned");
    assert_eq!(sold, stock.to_string(), "units of orders whose units did not come back");
    let back = world.database.psql("SELECT coalesce(sum(quantity), 0) FROM orders WHERE returned");
    let counted = world.database.psql("SELECT sum(held), sum(sold), sum(returned) FROM segments");
    assert_eq!(counted, format!("0|{stock}|{back}"), "held, sold and returned units of all segments");
    let wrong = world.database.psql(
        "SELECT count(*) FROM buyers b WHERE units <> (SELECT coalesce(sum(quantity), 0) FROM orders o \
         WHERE o.sku_no = b.sku_no AND o.user_id = b.user_id AND NOT returned)",
    );
    assert_eq!(wrong, "0", "users whose units are counted wrongly");
}

/// The state in which an order must be, as far as somebody was told of it.
fn allowed(row: &Row, operation: &Operation) -> Vec<&'static str> {
    let has_expired = row.steps.iter().any(|(step, ..)| *step == "expire");
    let is_cancelled = operation.has(|act| act == Act::Cancel);
    let is_paid = operation.is_paid();
    let is_paid_back = is_paid && operation.has(|act| act == Act::PaidBack);
    if operation.has(|act| act == Act::Ship) {
        // A refund that the provider reports afterwards is kept for the operator.
        vec!["shipped"]
    } else if operation.has(|act| matches!(act, Act::Refund { .. })) || is_paid_back {
        vec!["refunded"]
    } else if is_paid {
        vec![if is_cancelled || has_expired { "refund_due" } else { "paid" }]
    } else if is_cancelled {
        vec!["cancelled"]
    } else {
        vec!["pending_payment", "expired"]
    }
}

/// Who was told that something is not possible was told the truth.
fn assert_no_kept(deed: &Deed, row: &Row, operation: &Operation) {
    let took = |step: &str| row.steps.iter().any(|(taken, ..)| *taken == step);
    let is_true = match deed.act {
        Act::Cancel => !took("cancel"),
        Act::Ship => !took("ship"),
        // Somebody else's refund may have come first.
        Act::Refund { .. } => row.state == "shipped" || took("refund"),
        Act::Paid(_) | Act::PaidBack => false,
    };
    assert!(is_true, "{deed:?} of {operation:?} was not done: {row:?}");
}

/// The steps of one order, and what they did to its units.
fn assert_life(row: &Row, operation: &Operation) {
    let mut state = "pending_payment";
    let mut taken = BTreeSet::new();
    for (step, from, to) in &row.steps {
        assert_eq!(*from, state, "steps follow each other: {row:?} of {operation:?}");
        assert!(taken.insert(*step), "{step} was taken twice: {row:?} of {operation:?}");
        let leads = STEPS.iter().find(|(name, _)| name == step).unwrap().1;
        assert!(leads.contains(&(from, to)), "{step} leads from {from} to {to}: {row:?} of {operation:?}");
        state = to;
    }
    assert_eq!(row.state, state, "where the steps lead: {row:?} of {operation:?}");
    let came_back = taken.contains("cancel")
        || taken.contains("expire")
        || operation.has(|act| act == Act::Refund { restock: true });
    assert_eq!(row.is_returned, came_back, "whether its units came back: {row:?} of {operation:?}");
}

/// Every order by its number.
fn rows(world: &World) -> BTreeMap<String, Row> {
    let text = world.database.psql(
        "SELECT o.order_no, o.state, o.returned, o.state_version, \
         coalesce(string_agg(s.step || ',' || s.from_state || ',' || s.to_state, ' ' ORDER BY s.state_version), '') \
         FROM orders o LEFT JOIN order_steps s USING (order_no) GROUP BY o.order_no, o.user_id",
    );
    let mut rows = BTreeMap::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.split('|').collect();
        let number = |cell: &str| cell.parse::<usize>().unwrap();
        let steps: Vec<_> = cells[4]
            .split_whitespace()
            .map(|step| {
                let cells: Vec<usize> = step.split(',').map(number).collect();
                (STEPS[cells[0]].0, STATES[cells[1]], STATES[cells[2]])
            })
            .collect();
        assert_eq!(number(cells[3]), 1 + steps.len(), "an order's version counts its steps: {line}");
        let row = Row { state: STATES[number(cells[1])], is_returned: cells[2] == "t", steps };
        rows.insert(written(cells[0]), row);
    }
    rows
}

/// A number as the contract writes it, from a uuid.
fn written(uuid: &str) -> String {
    let number = u128::from_str_radix(&uuid.replace('-', ""), 16).unwrap();
    let digit =
        |n: u32| char::from(b"0123456789ABCDEFGHJKMNPQRSTVWXYZ"[usize::try_from(number >> (5 * n) & 31).unwrap()]);
    (0..26).rev().map(digit).collect()
}
