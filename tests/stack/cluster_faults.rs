//! A master of a cluster dies and its slots go to a node that knows nothing, or not the newest.

use std::time::Duration;

use serde_json::json;

use crate::book::Plan;
use crate::random::Random;
use crate::redis::resp::Reply;
use crate::verdict::Rush;
use crate::wait::within;
use crate::world::Setup;

fn rush(name: &'static str) -> Rush {
    let rules = json!({"shards": 24, "user_limit": 12});
    Rush { setup: Setup::new(name).cluster(3, 1).engines(2), stock: 2_400, rules, plan: Plan::alive() }
}

#[test]
fn cluster_failover_to_empty_node() {
    let name = "cluster_failover_to_empty_node";
    rush(name).with(&mut Random::seeded(name), |world, crowd| {
        crowd.wait_for(150);
        let nodes = &mut world.cluster.as_mut().unwrap().nodes;
        nodes[0].kill();
        nodes[3].ask(&["CONFIG", "SET", "replica-read-only", "no"]);
        nodes[3].ask(&["FLUSHALL"]);
        nodes[3].ask(&["CLUSTER", "FAILOVER", "TAKEOVER"]);
        crowd.wait_for(100);
        // The new master takes part: units of its shards are held there.
        within(Duration::from_secs(20), || matches!(nodes[3].ask(&["DBSIZE"]), Reply::Number(1..)).then_some(()));
    });
}

#[test]
fn cluster_failover_to_a_lagging_replica() {
    let name = "cluster_failover_to_a_lagging_replica";
    rush(name).with(&mut Random::seeded(name), |world, crowd| {
        crowd.wait_for(100);
        let nodes = &mut world.cluster.as_mut().unwrap().nodes;
        assert!(matches!(nodes[3].ask(&["DBSIZE"]), Reply::Number(1..)), "the replica has heard of reservations");
        // While it sleeps it misses some.
        nodes[3].signal("STOP");
        crowd.wait_for(100);
        nodes[0].kill();
        nodes[3].signal("CONT");
        nodes[3].ask(&["CLUSTER", "FAILOVER", "TAKEOVER"]);
        crowd.wait_for(100);
    });
}
