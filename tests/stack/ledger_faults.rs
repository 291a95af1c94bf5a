//! PostgreSQL stops, forgets its connections, does not answer, or loses the answer to a COMMIT.

use std::time::Duration;

use serde_json::json;

use crate::book::Plan;
use crate::contract::created;
use crate::proxy::{At, Mode, Then, commit_of, sql};
use crate::random::Random;
use crate::shop::{one, persist};
use crate::verdict::Rush;
use crate::world::{SALE, Setup};

fn rush(setup: Setup, plan: Plan) -> Rush {
    Rush { setup, stock: 2_400, rules: json!({"shards": 8, "user_limit": 12}), plan }
}

#[test]
fn postgres_immediate_stop_and_restart() {
    let name = "postgres_immediate_stop_and_restart";
    rush(Setup::new(name).engines(2).own_postgres(), Plan::alive()).with(&mut Random::seeded(name), |world, crowd| {
        for _ in 0..3 {
            crowd.wait_for(120);
            world.database.server.crash();
            // Answers to what was committed before may still be on their way.
            std::thread::sleep(Duration::from_millis(300));
            let before = (crowd.orders(), crowd.book().done());
            std::thread::sleep(Duration::from_secs(1));
            assert_eq!((crowd.orders(), crowd.book().done()), before, "nothing is confirmed without a ledger");
            world.database.server.run(&[]);
        }
        crowd.wait_for(50);
    });
}

#[test]
fn writers_terminated() {
    let name = "writers_terminated";
    let mut random = Random::seeded(name);
    let mut moments = random.split();
    rush(Setup::new(name).engines(2), Plan::expiring()).with(&mut random, |world, crowd| {
        crowd.wait_for(50);
        let mut terminated = 0;
        for _ in 0..15 {
            terminated += world.database.terminate_all();
            std::thread::sleep(Duration::from_millis(moments.within(1, 300)));
        }
        assert!(terminated >= 15, "only {terminated} connections were there to be ended");
        crowd.wait_for(50);
    });
}

#[test]
fn postgres_unreachable_15s() {
    let name = "postgres_unreachable_15s";
    let mut random = Random::seeded(name);
    rush(Setup::new(name).engines(2), Plan::alive()).with(&mut random, |world, crowd| {
        crowd.wait_for(100);
        crowd.pace_ms(250);
        let link = &world.engines[0].postgres;
        link.set(Mode::Blackhole, Mode::Blackhole);
        std::thread::sleep(Duration::from_secs(7));
        // By now the server has given up what the lost connections had locked.
        let orders = crowd.orders();
        std::thread::sleep(Duration::from_secs(8));
        assert!(crowd.orders() > orders + 20, "the other engine sells on");
        link.set(Mode::Pass, Mode::Pass);
        // And this one sells again.
        crowd.go_to(vec![world.engines[0].door()]);
        crowd.pace_ms(30);
        crowd.wait_for(50);
        crowd.go_to(world.doors());
    });
}

/// Every statement takes so long that orders expire while they are being paid and cancelled.
#[test]
fn postgres_slow() {
    let name = "postgres_slow";
    rush(Setup::new(name).engines(2), Plan::expiring()).with(&mut Random::seeded(name), |world, crowd| {
        crowd.wait_for(50);
        let slow = Mode::Delay(Duration::from_millis(30));
        world.engines.iter().for_each(|engine| engine.postgres.set(slow, slow));
        crowd.wait_for(50);
        crowd.wait_for_deeds("cancel", 10);
        std::thread::sleep(Duration::from_secs(4));
        world.engines.iter().for_each(|engine| engine.postgres.set(Mode::Pass, Mode::Pass));
    });
}

#[test]
fn only_engine_without_postgres_confirms_nothing_and_heals() {
    let world = Setup::new("only_engine_without_postgres").start();
    world.open(10, json!({"shards": 2}));
    let server = world.engines[0].server();
    created(&server.buyer(1).send(one(SALE, "before")));
    world.engines[0].postgres.set(Mode::Blackhole, Mode::Blackhole);
    let mut buyer = server.buyer(2);
    let answer = buyer.send(one(SALE, "during"));
    assert_eq!(answer.status, 503, "{answer}");
    world.engines[0].postgres.set(Mode::Pass, Mode::Pass);
    assert_eq!(persist(&mut buyer, &one(SALE, "during")).status, 201, "the same key settles it");
    assert_eq!(world.database.psql("SELECT count(*) FROM orders"), "2");
    for mut engine in world.engines {
        engine.finish();
    }
}

#[test]
fn commit_reply_cut_after_effect() {
    let name = "commit_reply_cut_after_effect";
    let mut random = Random::seeded(name);
    let mut dice = random.split();
    rush(Setup::new(name).engines(2), Plan::alive()).with(&mut random, |world, crowd| {
        let trips: Vec<_> = world
            .engines
            .iter()
            .map(|engine| {
                let (is_commit, mut dice) = (sql("COMMIT"), dice.split());
                let sometimes = move |words: &[String]| is_commit(words) && dice.within(1, 10) == 1;
                engine.postgres.trip(sometimes, (10, At::Reply, Then::Reset), || {})
            })
            .collect();
        // And those of changes of orders.
        let changes = world.engines.iter().map(|engine| {
            let (is_change, mut dice) = (commit_of(&["INSERT INTO order_steps"]), dice.split());
            let sometimes = move |words: &[String]| is_change(words) && dice.within(1, 4) == 1;
            engine.postgres.trip(sometimes, (6, At::Reply, Then::Reset), || {})
        });
        let changes: Vec<_> = changes.collect();
        crowd.wait_for(300);
        trips.iter().for_each(|trip| trip.wait(3));
        changes.iter().for_each(|trip| trip.wait(3));
        // And once the answer to a COMMIT never comes while its connection stays open.
        let silent = world.engines[0].postgres.trip(sql("COMMIT"), (1, At::Reply, Then::Silence), || {});
        silent.wait(1);
        let silent = commit_of(&["INSERT INTO order_steps"]);
        world.engines[1].postgres.trip(silent, (1, At::Reply, Then::Silence), || {}).wait(1);
        crowd.wait_for(50);
    });
}
