//! The verdict against a ledger that somebody tampered with: an oracle that never says no is worth nothing.

use serde_json::json;

use crate::book::Plan;
use crate::crowd::Crowd;
use crate::random::Random;
use crate::verdict::Rush;
use crate::world::{Setup, World};

fn rush(name: &'static str, tamper: impl FnOnce(&World)) {
    let plan = Plan { patience_s: 8, ..Plan::default() };
    let rush = Rush { setup: Setup::new(name), stock: 200, rules: json!({"shards": 2}), plan };
    rush.with(&mut Random::seeded(name), |world: &mut World, crowd: &Crowd| {
        crowd.wait_for(20);
        tamper(world);
    });
}

/// The same with orders that are paid, cancelled and refunded; `after` so many of which something is amiss.
fn rush_alive(name: &'static str, (word, count): (&str, u64), sql: &str) {
    let plan = Plan { patience_s: 20, ..Plan::alive() };
    let rush = Rush { setup: Setup::new(name), stock: 400, rules: json!({"shards": 2}), plan };
    rush.with(&mut Random::seeded(name), |world: &mut World, crowd: &Crowd| {
        crowd.wait_for_deeds(word, count);
        assert!(world.database.psql(sql).lines().any(|line| line == "1"), "it changes something");
    });
}

#[test]
#[should_panic(expected = "404")]
fn a_lost_order_is_noticed() {
    rush("a_lost_order_is_noticed", |world| {
        let one = "(SELECT order_no FROM orders ORDER BY seq LIMIT 1)";
        world.database.psql(&format!("DELETE FROM orders WHERE order_no = {one}"));
    });
}

#[test]
#[should_panic(expected = "orders, units, numbers")]
fn an_order_that_nobody_was_told_of_is_noticed() {
    rush("an_order_that_nobody_was_told_of", |world| {
        let columns =
            "user_id, sale_no, sku_no, epoch, created_at, updated_at, fingerprint, quantity, state_version, state";
        world.database.psql(&format!(
            "INSERT INTO orders (seq, order_no, {columns}) SELECT -1, gen_random_uuid(), {columns} FROM orders LIMIT 1"
        ));
    });
}

#[test]
#[should_panic(expected = "not everything sells")]
fn a_stranded_unit_is_noticed() {
    rush("a_stranded_unit_is_noticed", |world| {
        world.database.psql("UPDATE segments SET total = total - 1 WHERE shard = 1");
        world.database.psql("UPDATE skus SET total = total - 1");
    });
}

#[test]
#[should_panic(expected = "must be one of [\"cancelled\"]")]
fn a_lost_cancellation_is_noticed() {
    // The steps stay as they were told: an order that was never cancelled, but ran out of time.
    let sql = "ALTER TABLE order_steps DISABLE TRIGGER USER; \
         WITH one AS (UPDATE orders SET state = 5 WHERE order_no = (SELECT order_no FROM orders WHERE state = 4 ORDER BY seq LIMIT 1) \
         RETURNING order_no) \
         UPDATE order_steps SET step = 2, to_state = 5 WHERE order_no IN (SELECT order_no FROM one) RETURNING 1";
    rush_alive("a_lost_cancellation", ("cancel", 8), sql);
}

#[test]
#[should_panic(expected = "was taken twice")]
fn a_step_that_was_taken_twice_is_noticed() {
    let sql = "WITH one AS (UPDATE orders SET state_version = 3 WHERE order_no = \
             (SELECT order_no FROM orders WHERE state = 4 AND state_version = 2 ORDER BY seq LIMIT 1) RETURNING order_no) \
         INSERT INTO order_steps (order_no, state_version, user_id, step, from_state, to_state, by, at) \
         SELECT order_no, 3, user_id, 1, 4, 4, by, at FROM order_steps WHERE order_no IN (SELECT order_no FROM one) \
         RETURNING 1";
    rush_alive("a_step_that_was_taken_twice", ("cancel", 8), sql);
}

#[test]
#[should_panic(expected = "reports of payments: in the ledger, and acknowledged")]
fn a_lost_report_is_noticed() {
    let sql = "UPDATE payment_reports SET event_id = 'lost' \
         WHERE event_id = (SELECT event_id FROM payment_reports WHERE note = 'applied' LIMIT 1) RETURNING 1";
    rush_alive("a_lost_report", ("paid", 20), sql);
}

#[test]
#[should_panic(expected = "units of orders whose units did not come back")]
fn a_unit_that_came_back_twice_is_noticed() {
    let sql = "UPDATE segments SET sold = sold - 1, returned = returned + 1 WHERE shard = 1 RETURNING 1";
    rush_alive("a_unit_that_came_back_twice", ("paid", 20), sql);
}
