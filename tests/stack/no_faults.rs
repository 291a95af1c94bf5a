//! Nothing breaks: everything sells, over nodes, shards, engines and clusters.

use std::collections::BTreeMap;

use serde_json::json;

use crate::book::Plan;
use crate::client::get;
use crate::contract::{assert_refused, code};
use crate::random::Random;
use crate::redis::resp::Reply;
use crate::shop::{Level, one, persist};
use crate::verdict::Rush;
use crate::world::{SALE, Setup};

#[test]
fn sells_over_three_nodes_and_many_shards() {
    let name = "sells_over_three_nodes_and_many_shards";
    let rules = json!({"shards": 64, "user_limit": 10});
    let rush = Rush { setup: Setup::new(name).engines(2), stock: 1_500, rules, plan: Plan::default() };
    rush.with(&mut Random::seeded(name), |world, crowd| {
        crowd.wait_for(100);
        for node in &world.nodes {
            assert!(matches!(node.ask(&["DBSIZE"]), Reply::Number(1..)), "every node has its part");
        }
    });
}

#[test]
fn sells_over_a_cluster() {
    let name = "sells_over_a_cluster";
    let rules = json!({"shards": 32, "user_limit": 10});
    let setup = Setup::new(name).cluster(3, 0).engines(2);
    let rush = Rush { setup, stock: 1_200, rules, plan: Plan::expiring() };
    rush.with(&mut Random::seeded(name), |world, crowd| {
        crowd.wait_for(100);
        for node in &world.cluster.as_ref().unwrap().nodes {
            assert!(matches!(node.ask(&["DBSIZE"]), Reply::Number(1..)), "every master has its part");
        }
    });
}

#[test]
fn three_units_on_64_shards() {
    let world = Setup::new("three_units_on_64_shards").engines(2).start();
    world.open(3, json!({"shards": 64}));
    let mut sold = BTreeMap::new();
    // None of these users has a unit in the own shard, or hardly.
    for user in 1..=40_u64 {
        let engine = world.engines[usize::try_from(user % 2).unwrap()].server();
        let answer = persist(&mut engine.buyer(user), &one(SALE, "k"));
        match code(&answer) {
            None => drop(sold.insert(user, answer)),
            Some(_) => assert_refused(&answer, "sold_out"),
        }
        let before_all_are_sold = sold.len() as u64 == user;
        assert!(before_all_are_sold || sold.len() == 3, "user {user} was told sold_out too early");
    }
    assert_eq!(sold.len(), 3, "three units, three orders");
    for engine in &world.engines {
        let metrics = String::from_utf8(engine.server().operator().send(get("/metrics")).body).unwrap();
        let value = |name: &str| metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
        let gate =
            ["calls_total", "batch_requests_sum", "connections_total"].map(|name| format!("rushgate_gate_{name}"));
        assert!(gate.iter().all(|name| value(name).is_some_and(|count| count > 0.0)), "the gate is counted: {metrics}");
        assert_eq!(value("rushgate_gate_failed_calls_total"), Some(0.0));
        assert_eq!(engine.server().level(SALE, "sku-1"), Level { total: 3, available: 0, held: 0, sold: 3 });
        engine.server().assert_balanced();
    }
    for mut engine in world.engines {
        engine.finish();
    }
}
