//! Random programs against a small sequential oracle: every answer of the engine must be the oracle's, and so must
//! every level after every step. `crowd` does the same to many clients at once.

mod crowd;
mod lifecycle;
mod oracle;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use rushgate::command::RestockSale;
use rushgate::order::{Boundary, OnDuplicate, Outcome, Refusal, Rules, Switch};

use self::oracle::{Lifecycle, Oracle, Verdict, Wish};
use crate::faults::Fault;
use crate::world::{NOON, PATIENCE, World, name, new_sale, place_and_wait, rules, word};
use rushgate_test_support::random::Random;

const SKUS: [&str; 2] = ["a", "b"];

/// One step of a program.
#[derive(Clone, Debug)]
enum Step {
    /// An order; the next append and the next move may fail. After trouble the client comes back, or leaves the rest
    /// to the sweeper.
    Place {
        wish: Wish,
        append: Option<Fault>,
        moves: Option<Fault>,
        comes_back: bool,
    },
    /// Something happens to the order that a wish made.
    Live {
        wish: Wish,
        lifecycle: Lifecycle,
        key: u8,
        fault: Option<Fault>,
    },
    Switch(Switch),
    Restock {
        change: u8,
        sku: u16,
        units: i64,
        fault: Option<Fault>,
    },
    Tick {
        seconds: i64,
    },
    Restart,
}

fn fault(percent: u32) -> impl Strategy<Value = Option<Fault>> {
    proptest::option::weighted(f64::from(percent) / 100.0, proptest::sample::select(&Fault::ALL[..]))
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let wish = (1..=4_u64, 0..4_u8, 0..2_u16, 1..=3_u32);
    let wish = wish.prop_map(|(user, key, sku, quantity)| Wish { user, key, sku, quantity }).boxed();
    let lives = [
        Lifecycle::Cancel,
        Lifecycle::Ship,
        Lifecycle::Refund { restock: false },
        Lifecycle::Refund { restock: true },
        Lifecycle::Paid,
        Lifecycle::Paid,
        Lifecycle::Refunded,
    ];
    let live = (wish.clone(), proptest::sample::select(lives.to_vec()), 0..3_u8, fault(12));
    let live = live.prop_map(|(wish, lifecycle, key, fault)| Step::Live { wish, lifecycle, key, fault });
    let comes_back = proptest::bool::weighted(0.9);
    let place = (wish, fault(12), fault(12), comes_back).prop_map(|(wish, append, moves, comes_back)| Step::Place {
        wish,
        append,
        moves,
        comes_back,
    });
    let switch = proptest::sample::select(&[Switch::Paused, Switch::Running, Switch::Running][..]);
    let restock = (0..8_u8, 0..2_u16, prop_oneof![-3..0_i64, 1..5_i64], fault(25));
    let step = prop_oneof![
        24 => place,
        12 => live,
        2 => switch.prop_map(Step::Switch),
        4 => restock.prop_map(|(change, sku, units, fault)| Step::Restock { change, sku, units, fault }),
        2 => (-30..60_i64).prop_map(|seconds| Step::Tick { seconds }),
        1 => (300..900_i64).prop_map(|seconds| Step::Tick { seconds }),
        1 => (20_000..50_000_i64).prop_map(|seconds| Step::Tick { seconds }),
        2 => Just(Step::Restart),
        // Rarely, as nothing is sold after it.
        1 => proptest::bool::weighted(0.2).prop_map(|end| Step::Switch(if end { Switch::Ended } else { Switch::Running })),
    ];
    proptest::collection::vec(step, 1..50)
}

/// A sale: its rules and the stock of its two skus.
fn sales() -> impl Strategy<Value = (Rules, [i64; 2])> {
    let boundary = prop_oneof![5 => Just(Boundary::Request), 3 => proptest::sample::select(Boundary::ALL)];
    let on_duplicate = prop_oneof![4 => Just(OnDuplicate::Replay), 1 => Just(OnDuplicate::Conflict)];
    let window = (proptest::option::weighted(0.2, 0..40_i64), proptest::option::weighted(0.2, 60..40_000_i64));
    let pay = proptest::option::weighted(0.7, Just(900_u32));
    let limit = proptest::option::weighted(0.4, 1..=5_u32);
    let stock = [0..9_i64, 0..9_i64];
    (boundary, on_duplicate, window, pay, limit, 1..=5_u16, stock).prop_map(
        |(boundary, on_duplicate, (opens, ends), payment_timeout_s, user_limit, shards, stock)| {
            let starts_at = opens.map(|seconds| NOON + seconds * 1000);
            let ends_at = ends.map(|seconds| NOON + seconds * 1000);
            let of = rules(shards);
            (Rules { boundary, on_duplicate, starts_at, ends_at, payment_timeout_s, user_limit, ..of }, stock)
        },
    )
}

#[test]
fn a_program_is_answered_as_the_oracle_answers_it() {
    let mut random = Random::seeded("a_program_is_answered_as_the_oracle_answers_it");
    let seed: Vec<u8> = (0..4).flat_map(|_| random.number().to_le_bytes()).collect();
    let config = Config { cases: 64, failure_persistence: None, max_shrink_iters: 300, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let result = runner.run(&(sales(), steps()), |((rules, stock), program)| {
        runtime.block_on(run(rules, stock, &program)).map_err(TestCaseError::fail)
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(why, (sale, program))) => panic!("{why}\nsale: {sale:#?}\nprogram: {program:#?}"),
        Err(aborted) => panic!("{aborted}"),
    }
}

async fn run(rules: Rules, stock: [i64; 2], program: &[Step]) -> Result<(), String> {
    let mut world = World::new().await;
    world.create(new_sale("s", rules.clone(), &[(SKUS[0], stock[0]), (SKUS[1], stock[1])])).await;
    let mut oracle = Oracle::new(rules, stock);
    for (number, step) in program.iter().enumerate() {
        let at = |why: String| format!("step {number}, {step:?}: {why}");
        take(&mut world, &mut oracle, step).await.map_err(at)?;
        for (sku, id) in (0..).zip(SKUS) {
            let (got, expected) = (world.levels("s", id).await, oracle.levels(sku));
            if got != expected {
                return Err(at(format!("levels of {id} are {got:?}, not {expected:?}")));
            }
        }
    }
    for (number, state) in oracle.states() {
        let found = world.engine.history(number).await.map_err(|refusal| format!("{refusal:?}"))?;
        if found.view.order.state != state {
            return Err(format!("{number} is {:?}, not {state:?}", found.view.order.state));
        }
        if found.history.steps.len() + 1 != found.view.order.state_version as usize {
            return Err(format!("{number} took other steps: {:?}", found.history));
        }
    }
    world.quiet().await;
    let findings = world.findings(None).await;
    if !findings.is_empty() {
        return Err(format!("the books do not balance: {findings:?}"));
    }
    assert!(world.engine.drain(tokio::time::Instant::now() + PATIENCE).await);
    Ok(())
}

async fn take(world: &mut World, oracle: &mut Oracle, step: &Step) -> Result<(), String> {
    match step {
        Step::Place { wish, append, moves, comes_back } => {
            world.ledger.plan(*append);
            world.ledger.plan_moves(*moves);
            let answer = order(world, wish).await;
            let (unmet_appends, unmet_moves) = world.ledger.mend();
            let met_append = append.filter(|_| unmet_appends == 0);
            let met_move = moves.filter(|_| unmet_moves == 0);
            let verdict = oracle.verdict(wish);
            match (met_append, met_move) {
                // The units did not come, and the client was told before anything was reserved.
                (None, Some(Fault::NotDone)) => says(&answer, &["ledger_unavailable"]),
                (None, _) => {
                    reservations(&verdict, &answer, false)?;
                    oracle.apply(wish, &verdict);
                    learn(oracle, wish, &answer);
                    Ok(())
                }
                (Some(fault), _) => {
                    let trouble = if fault == Fault::NotDone { "ledger_unavailable" } else { "unknown_outcome" };
                    says(&answer, &[trouble])?;
                    oracle.apply(wish, &verdict);
                    if *comes_back {
                        reservations(&verdict, &order(world, wish).await, true)?;
                    }
                    world.quiet().await;
                    let answer = order(world, wish).await;
                    reservations(&oracle.verdict(wish), &answer, false)?;
                    learn(oracle, wish, &answer);
                    Ok(())
                }
            }
        }
        Step::Switch(switch) => {
            let switched = world.engine.switch_sale("s", *switch).await;
            match (oracle.switch(*switch), switched) {
                (true, Ok(_)) => Ok(()),
                (false, Err(refusal)) => code(&refusal, "invalid_transition"),
                (_, other) => Err(format!("{:?}", other.map(|view| view.state))),
            }
        }
        Step::Restock { change, sku, units, fault } => {
            let restock = RestockSale {
                change_id: name(&format!("c{change}")),
                sku_id: name(SKUS[usize::from(*sku)]),
                units: *units,
            };
            world.ledger.plan_moves(*fault);
            let restocked = world.engine.restock_sale("s", restock).await;
            let (_, unmet) = world.ledger.mend();
            if *fault == Some(Fault::NotDone) && unmet == 0 {
                return code(&restocked.err().ok_or("it was done")?, "ledger_unavailable");
            }
            match (oracle.restock(*change, *sku, *units), restocked) {
                (None, Ok(_)) => Ok(()),
                (Some(expected), Err(refusal)) => code(&refusal, expected),
                (expected, got) => Err(format!("{:?}, not {expected:?}", got.map(|view| view.state))),
            }
        }
        Step::Tick { seconds } => {
            world.clock.advance(seconds * 1000);
            oracle.tick(seconds * 1000);
            world.engine.expire().await;
            Ok(())
        }
        Step::Live { wish, lifecycle, key, fault } => {
            lifecycle::live(world, oracle, wish, *lifecycle, *key, *fault).await
        }
        Step::Restart => {
            world.restart().await;
            Ok(())
        }
    }
}

async fn order(world: &World, wish: &Wish) -> Result<Outcome, Refusal> {
    let (key, sku) = (format!("k{}", wish.key), SKUS[usize::from(wish.sku)]);
    place_and_wait(&world.engine, "s", wish.user, &key, sku, wish.quantity, PATIENCE).await
}

fn learn(oracle: &mut Oracle, wish: &Wish, answer: &Result<Outcome, Refusal>) {
    if let (_, Some(number)) = word(answer) {
        oracle.learn(wish, number);
    }
}

fn says(answer: &Result<Outcome, Refusal>, words: &[&str]) -> Result<(), String> {
    let (got, _) = word(answer);
    if words.contains(&got) { Ok(()) } else { Err(format!("{got}, not {words:?}")) }
}

fn code(refusal: &Refusal, expected: &str) -> Result<(), String> {
    let got = refusal.code.as_str();
    if got == expected { Ok(()) } else { Err(format!("{got}, not {expected}")) }
}

/// Whether the answer is the oracle's. After trouble the order may have been completed before its client came back,
/// who then hears what a repeat hears.
fn reservations(verdict: &Verdict, answer: &Result<Outcome, Refusal>, after_trouble: bool) -> Result<(), String> {
    match verdict {
        Verdict::Created { .. } if after_trouble => says(answer, &["created", "replayed", "idempotency_conflict"])?,
        Verdict::Created { .. } => says(answer, &["created"])?,
        Verdict::Replayed { .. } => says(answer, &["replayed"])?,
        Verdict::Refused(words) => says(answer, words)?,
    }
    match (verdict, answer) {
        (
            Verdict::Created { created_at } | Verdict::Replayed { created_at },
            Ok(Outcome::Created(receipt) | Outcome::Replayed(receipt)),
        ) if receipt.created_at != *created_at => {
            Err(format!("an order of {} instead of {created_at}", receipt.created_at))
        }
        _ => Ok(()),
    }
}
