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
