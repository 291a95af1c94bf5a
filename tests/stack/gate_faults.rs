//! Redis forgets, dies, stalls, fills up, or answers nobody: the gate is disposable.

use std::sync::Mutex;
use std::time::Duration;

use serde_json::json;

use crate::book::Plan;
use crate::crowd::Crowd;
use crate::proxy::{At, Then, script};
use crate::random::Random;
use crate::redis::RedisServer;
use crate::verdict::Rush;
use crate::world::{Setup, World};

const STOCK: u64 = 2_400;

fn rush(setup: Setup, plan: Plan) -> Rush {
    Rush { setup, stock: STOCK, rules: json!({"shards": 12, "user_limit": 12}), plan }
}

/// Lets the crowd buy slowly for a while, so that the fault has somebody to trouble for all of it; how much was sold.
fn slowly(crowd: &Crowd, time: Duration) -> u64 {
    crowd.pace_ms(120);
    let before = crowd.orders();
    std::thread::sleep(time);
    crowd.pace_ms(30);
    crowd.orders() - before
}

/// How often a node had to answer with this error.
fn errors(node: &RedisServer, code: &str) -> u64 {
    let info = node.ask(&["INFO", "errorstats"]).text();
    let line = info.lines().find_map(|line| line.strip_prefix(&format!("errorstat_{code}:count=")).map(str::to_owned));
    line.map_or(0, |count| count.trim().parse().unwrap())
}

fn for_every_engine(world: &World, mut what: impl FnMut(&crate::world::Engine)) {
    world.engines.iter().for_each(&mut what);
}

#[test]
fn flushall_mid_sale() {
    let name = "flushall_mid_sale";
    rush(Setup::new(name).engines(2), Plan::expiring()).with(&mut Random::seeded(name), |world, crowd| {
        for _ in 0..3 {
            crowd.wait_for(120);
            world.nodes.iter().for_each(|node| drop(node.ask(&["FLUSHALL"])));
        }
    });
}

#[test]
fn redis_node_killed_and_restarted() {
    let name = "redis_node_killed_and_restarted";
    let mut random = Random::seeded(name);
    let mut moments = random.split();
    rush(Setup::new(name).engines(2), Plan::alive()).with(&mut random, |world, crowd| {
        for n in 0..3 {
            crowd.wait_for(moments.within(50, 150));
            world.nodes[n].kill();
            assert!(slowly(crowd, Duration::from_millis(1_500)) > 10, "the other nodes and the ledger sell on");
            world.nodes[n].restart();
        }
    });
}

#[test]
fn redis_node_stopped_10s() {
    let name = "redis_node_stopped_10s";
    rush(Setup::new(name).engines(2), Plan::alive()).with(&mut Random::seeded(name), |world, crowd| {
        crowd.wait_for(150);
        world.nodes[1].signal("STOP");
        assert!(slowly(crowd, Duration::from_secs(10)) > 50, "the other nodes and the ledger sell on");
        world.nodes[1].signal("CONT");
        crowd.wait_for(50);
    });
}

#[test]
fn maxmemory_reached() {
    let name = "maxmemory_reached";
    rush(Setup::new(name).engines(2), Plan::alive()).with(&mut Random::seeded(name), |world, crowd| {
        crowd.wait_for(150);
        let memory =
            |bytes: &str| world.nodes.iter().for_each(|node| drop(node.ask(&["CONFIG", "SET", "maxmemory", bytes])));
        memory("100kb");
        assert!(slowly(crowd, Duration::from_secs(3)) > 20, "the ledger sells on");
        assert!(world.nodes.iter().map(|node| errors(node, "OOM")).sum::<u64>() > 0, "memory was not full");
        memory("256mb");
        crowd.wait_for(50);
    });
}

#[test]
fn script_flush() {
    let name = "script_flush";
    rush(Setup::new(name).engines(2), Plan::alive()).with(&mut Random::seeded(name), |world, crowd| {
        for _ in 0..5 {
            crowd.wait_for(60);
            world.nodes.iter().for_each(|node| drop(node.ask(&["SCRIPT", "FLUSH"])));
        }
        crowd.wait_for(60);
        assert!(world.nodes.iter().map(|node| errors(node, "NOSCRIPT")).sum::<u64>() > 0, "no script was missed");
        // Nobody is troubled: the scripts are loaded again before anybody notices.
        let refusals = crowd.book().refusals();
        assert_eq!(refusals.get("gate_unavailable"), None, "{refusals:?}");
    });
}

#[test]
fn evalsha_reply_cut_after_effect() {
    let name = "evalsha_reply_cut_after_effect";
    let mut random = Random::seeded(name);
    let dice = Mutex::new(random.split());
    rush(Setup::new(name).engines(2), Plan::alive()).with(&mut random, |world, crowd| {
        let mut trips = Vec::new();
        for_every_engine(world, |engine| {
            for proxy in &engine.redis {
                for (name, times, then) in [
                    ("reserve", 6, Then::Reset),
                    ("settle", 4, Then::Reset),
                    ("adjust", 2, Then::Reset),
                    ("return_units", 4, Then::Reset),
                ] {
                    let (is_one, mut dice) = (script(name), dice.lock().unwrap().split());
                    // What is rare is cut more often.
                    let one_in = match name {
                        "return_units" => 1,
                        "adjust" => 2,
                        _ => 8,
                    };
                    let sometimes = move |words: &[String]| is_one(words) && dice.within(1, one_in) == 1;
                    trips.push((name, proxy.trip(sometimes, (times, At::Reply, then), || {})));
                }
                // Those that are not reset but never answered: only a time-out tells.
                trips.push(("silent reserve", proxy.trip(script("reserve"), (1, At::Reply, Then::Silence), || {})));
                trips.push(("silent return", proxy.trip(script("return_units"), (1, At::Reply, Then::Silence), || {})));
            }
        });
        let sprung =
            |kind: &str| trips.iter().filter(|(of, _)| *of == kind).map(|(_, trip)| trip.count()).sum::<usize>();
        let enough = [("reserve", 6), ("settle", 1), ("silent reserve", 1), ("return_units", 1), ("silent return", 1)];
        crowd.wait_for(100);
        crowd.wait("cut replies of every kind", || enough.iter().all(|(kind, times)| sprung(kind) >= *times));
    });
}

#[test]
fn gate_down_ledger() {
    let name = "gate_down_ledger";
    rush(Setup::new(name), Plan::expiring()).with(&mut Random::seeded(name), |world, crowd| {
        crowd.wait_for(100);
        world.nodes.iter_mut().for_each(RedisServer::kill);
        std::thread::sleep(Duration::from_millis(500));
        let unavailable = crowd.book().heard("gate_unavailable");
        assert!(slowly(crowd, Duration::from_secs(3)) > 50, "orders go straight to the ledger");
        // So few at a time as there are buyers find a place there.
        assert_eq!(crowd.book().heard("gate_unavailable"), unavailable);
        world.nodes.iter_mut().for_each(RedisServer::restart);
        crowd.wait_for(100);
        crowd.pace_ms(100);
        crowd.wait("use of the gates again", || world.nodes.iter().all(is_used));
    });
}

#[test]
fn gate_down_shed() {
    let name = "gate_down_shed";
    rush(Setup::new(name).arg("--gate-on-failure").arg("shed"), Plan::alive()).with(
        &mut Random::seeded(name),
        |world, crowd| {
            crowd.wait_for(100);
            world.nodes.iter_mut().for_each(RedisServer::kill);
            // What was reserved before is recorded still.
            std::thread::sleep(Duration::from_millis(500));
            crowd.wait_to_hear("gate_unavailable");
            assert_eq!(slowly(crowd, Duration::from_secs(2)), 0, "nothing is sold without a gate");
            world.nodes.iter_mut().for_each(RedisServer::restart);
            crowd.wait_for(100);
            crowd.wait("use of the gates again", || world.nodes.iter().all(is_used));
        },
    );
}

/// Whether scripts of the product ran since it was started.
fn is_used(node: &RedisServer) -> bool {
    node.ask(&["INFO", "commandstats"]).text().contains("cmdstat_evalsha:")
}
