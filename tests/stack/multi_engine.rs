//! Engines beside each other: the same users and keys, a zombie, an answer at once, a rebuild in the middle.

use std::time::Duration;

use serde_json::json;

use crate::book::Plan;
use crate::contract::{assert_replayed, created};
use crate::random::Random;
use crate::shop::one;
use crate::verdict::Rush;
use crate::world::{SALE, Setup};

#[test]
fn two_engines_same_users_and_keys() {
    let name = "two_engines_same_users_and_keys";
    let plan = Plan { users: 120, repeats: 70, ..Plan::alive() };
    let rules = json!({"shards": 4, "user_limit": 15});
    let rush = Rush { setup: Setup::new(name).engines(2), stock: 1_500, rules, plan };
    rush.with(&mut Random::seeded(name), |_, crowd| crowd.wait_for(100));
}

#[test]
fn engine_stopped_30s_and_continued() {
    let name = "engine_stopped_30s_and_continued";
    let rules = json!({"shards": 8, "user_limit": 12});
    let rush = Rush { setup: Setup::new(name).engines(2), stock: 3_000, rules, plan: Plan::expiring() };
    rush.with(&mut Random::seeded(name), |world, crowd| {
        crowd.wait_for(150);
        world.engines[0].signal("STOP");
        crowd.pace_ms(300);
        crowd.go_to(vec![world.engines[1].door()]);
        // Whatever it had locked in the ledger is free again before that.
        std::thread::sleep(Duration::from_secs(10));
        let orders = crowd.orders();
        std::thread::sleep(Duration::from_secs(20));
        assert!(crowd.orders() > orders + 50, "the other engine sells on");
        world.engines[0].signal("CONT");
        crowd.go_to(vec![world.engines[0].door()]);
        crowd.pace_ms(30);
        crowd.wait_for(50);
        crowd.go_to(world.doors());
    });
}

#[test]
fn a_201_on_one_engine_is_replayed_on_the_other_at_once() {
    let world = Setup::new("a_201_on_one_engine_is_replayed").engines(2).start();
    world.open(300, json!({"shards": 8}));
    for n in 0..200_u64 {
        let (here, there) = (usize::try_from(n % 2).unwrap(), usize::try_from((n + 1) % 2).unwrap());
        let user = 1 + n % 40;
        let key = format!("k{n}");
        let first = world.engines[here].server().buyer(user).send(one(SALE, &key));
        created(&first);
        let again = world.engines[there].server().buyer(user).send(one(SALE, &key));
        assert_replayed(&again, &first);
    }
    for mut engine in world.engines {
        engine.server().assert_balanced();
        engine.finish();
    }
}

#[test]
fn rebuild_while_selling() {
    let name = "rebuild_while_selling";
    let rules = json!({"shards": 12, "user_limit": 12});
    let rush = Rush { setup: Setup::new(name).engines(2), stock: 2_400, rules, plan: Plan::alive() };
    rush.with(&mut Random::seeded(name), |world, crowd| {
        crowd.pace_ms(60);
        for n in 0..4 {
            crowd.wait_for(80);
            let (is_ok, output) = world.engines[n % 2].command("rebuild", true);
            assert!(is_ok, "rushgate rebuild: {output}");
        }
        crowd.wait_for(50);
    });
}
