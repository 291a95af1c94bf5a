//! An engine is killed with SIGKILL at every step of an order and of a transfer, while the bytes of that step are held.

use std::time::Duration;

use serde_json::json;

use crate::book::Plan;
use crate::crowd::Crowd;
use crate::lifecycle::Lifecycle;
use crate::process::kill9;
use crate::proxy::{At, Matches, Proxy, Then, Trip, commit_of, script, sql};
use crate::random::Random;
use crate::verdict::Rush;
use crate::world::{Engine, Setup, World};

/// What records that orders have changed.
const CHANGE: &str = "INSERT INTO order_steps";
/// What finds orders that are to expire.
const OVERDUE: &str = "payment_timeout_s * 1000";

/// Where an engine dies.
#[derive(Clone, Copy)]
enum Step {
    /// Of a script: its name, and whether it must give or take units.
    Script(&'static str, Option<Units>),
    /// Of SQL that contains this.
    Sql(&'static str),
    /// Of the COMMIT of a transaction with all such SQL.
    CommitOf(&'static [&'static str]),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Units {
    Taken,
    Given,
}

impl Step {
    fn links(self, engine: &Engine) -> Vec<&Proxy> {
        match self {
            Step::Script(..) => engine.redis.iter().collect(),
            Step::Sql(_) | Step::CommitOf(_) => vec![&engine.postgres],
        }
    }

    fn matches(self) -> Matches {
        match self {
            Step::Script(name, units) => {
                let is_it = script(name);
                let fits = move |words: &[String]| {
                    let taken = words.last().is_some_and(|last| last.starts_with('-'));
                    units.is_none_or(|units| (units == Units::Taken) == taken)
                };
                Box::new(move |words| is_it(words) && fits(words))
            }
            Step::Sql(text) => Box::new(sql(text)),
            Step::CommitOf(texts) => Box::new(commit_of(texts)),
        }
    }
}

/// Kills engine `n` at the next such step and buries it.
fn kill_at(world: &mut World, crowd: &Crowd, n: usize, step: Step, at: At, then: Then) {
    let engine = &world.engines[n];
    let pid = engine.server().pid();
    let trips: Vec<Trip> = step
        .links(engine)
        .into_iter()
        .map(|link| link.trip(step.matches(), (1, at, then), move || kill9(pid)))
        .collect();
    // The dead send nothing, so that the other wires of this engine stay untouched; a dying one may touch two.
    let deadline = std::time::Instant::now() + Duration::from_secs(40);
    while trips.iter().all(|trip| trip.count() == 0) {
        assert!(std::time::Instant::now() < deadline, "the step never came; refusals {:?}", crowd.book().refusals());
        std::thread::sleep(crate::wait::POLL);
    }
    let engine = &mut world.engines[n];
    engine.redis.iter().chain([&engine.postgres]).for_each(Proxy::disarm);
    engine.kill();
    crowd.go_to(world.doors());
}

fn restart(world: &mut World, crowd: &Crowd, n: usize) {
    world.engines[n].start();
    crowd.go_to(world.doors());
}

/// Kills one engine after the other at one step; the last one stays dead until everything is sold.
fn killed(name: &'static str, (step, at, then): (Step, At, Then), lifecycle: Lifecycle) {
    let mut random = Random::seeded(name);
    let mut moments = random.split();
    let rules = json!({"shards": 6, "user_limit": 12});
    // Nearly nobody asks again, so that engines have to finish what the dead one began.
    let plan = Plan { give_up: 100, repeats: 5, lifecycle: Some(lifecycle), ..Plan::default() };
    let rush = Rush { setup: Setup::new(name).engines(2), stock: 3_000, rules, plan };
    rush.with(&mut random, |world, crowd| {
        crowd.pace_ms(60);
        for n in [1, 0] {
            crowd.wait_for(moments.within(30, 120));
            kill_at(world, crowd, n, step, at, then);
            std::thread::sleep(Duration::from_millis(moments.within(0, 800)));
            restart(world, crowd, n);
        }
        crowd.wait_for(30);
        kill_at(world, crowd, 1, step, at, then);
    });
}

#[test]
fn engine_killed_before_reserve() {
    let lifecycle = Lifecycle::default();
    killed("engine_killed_before_reserve", (Step::Script("reserve", None), At::Request, Then::Reset), lifecycle);
}

#[test]
fn engine_killed_between_reserve_and_append() {
    let step = (Step::Script("reserve", None), At::Reply, Then::Reset);
    killed("engine_killed_between_reserve_and_append", step, Lifecycle::expiring());
}

#[test]
fn engine_killed_during_append() {
    let lifecycle = Lifecycle::expiring();
    killed("engine_killed_during_append", (Step::Sql("INSERT INTO orders"), At::Reply, Then::Reset), lifecycle);
}

/// The COMMIT arrives after its sender died: what nobody was told of is there all the same.
#[test]
fn engine_killed_before_its_commit_arrives() {
    let step = (Step::Sql("COMMIT"), At::Request, Then::Forward);
    killed("engine_killed_before_its_commit_arrives", step, Lifecycle::default());
}

#[test]
fn engine_killed_between_append_and_settle() {
    let lifecycle = Lifecycle::default();
    killed(
        "engine_killed_between_append_and_settle",
        (Step::Script("settle", None), At::Request, Then::Reset),
        lifecycle,
    );
}

/// Nothing of the change remains, nor of the key.
#[test]
fn engine_killed_during_a_change() {
    let lifecycle = Lifecycle::default();
    killed("engine_killed_during_a_change", (Step::Sql(CHANGE), At::Reply, Then::Reset), lifecycle);
}

/// Nobody was told of the change, no gate has its units, and its key finds it all the same.
#[test]
fn engine_killed_before_the_commit_of_a_change_arrives() {
    let step = (Step::CommitOf(&[CHANGE]), At::Request, Then::Forward);
    killed("engine_killed_before_the_commit_of_a_change", step, Lifecycle::default());
}

/// Orders have expired of which no engine knows.
#[test]
fn engine_killed_before_the_commit_of_an_expiry_arrives() {
    let step = (Step::CommitOf(&[OVERDUE, CHANGE]), At::Request, Then::Forward);
    killed("engine_killed_before_the_commit_of_an_expiry", step, Lifecycle::expiring());
}

/// And nothing of it remains.
#[test]
fn engine_killed_during_an_expiry() {
    killed(
        "engine_killed_during_an_expiry",
        (Step::CommitOf(&[OVERDUE, CHANGE]), At::Request, Then::Reset),
        Lifecycle::expiring(),
    );
}

/// The ledger has units on sale again of which the gate has never heard.
#[test]
fn engine_killed_between_ledger_and_gate_of_a_return() {
    let step = (Step::Script("return_units", None), At::Request, Then::Reset);
    killed("engine_killed_between_ledger_and_gate", step, Lifecycle::expiring());
}

#[test]
fn engine_killed_after_a_return() {
    let lifecycle = Lifecycle::expiring();
    killed("engine_killed_after_a_return", (Step::Script("return_units", None), At::Reply, Then::Reset), lifecycle);
}

#[test]
fn engine_killed_inside_each_step_of_a_transfer() {
    let name = "engine_killed_inside_each_step_of_a_transfer";
    let mut random = Random::seeded(name);
    let mut moments = random.split();
    // Nearly everybody buys in shard 0, so that units have to move there.
    let plan = Plan { users: 4_000, hot: Some((95, 8)), ..Plan::alive() };
    // One for each step, so that nobody's start repairs what a death left behind, and one that survives.
    let setup = Setup::new(name).engines(5);
    let rush = Rush { setup, stock: 3_200, rules: json!({"shards": 8}), plan };
    rush.with(&mut random, |world, crowd| {
        let debit = Step::Script("adjust", Some(Units::Taken));
        let credit = Step::Script("adjust", Some(Units::Given));
        let transfer = Step::Sql("INSERT INTO transfers");
        let steps = [
            ("the debit is done", debit, At::Reply, Then::Reset),
            ("before the ledger hears of it", transfer, At::Request, Then::Reset),
            ("within the ledger's transaction", transfer, At::Reply, Then::Reset),
            ("recorded, and not yet credited", credit, At::Request, Then::Reset),
        ];
        crowd.pace_ms(50);
        for (n, (what, step, at, then)) in steps.into_iter().enumerate() {
            // Everybody goes to the one that is to die, so that it has to move units.
            crowd.go_to(vec![world.engines[n].door()]);
            kill_at(world, crowd, n, step, at, then);
            eprintln!("killed at: {what}, when {:?} were sold", crowd.book().sold());
            std::thread::sleep(Duration::from_millis(moments.within(0, 300)));
        }
    });
}
