//! What happens to orders while engines race, fail and die: units come back once, on every engine, and sell again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rushgate::clock::Clock;
use rushgate::command::TakeStep;
use rushgate::engine::Engine;
use rushgate::limits::{KEY_KEPT_MS, LEASE_MS};
use rushgate::order::{
    Code, Currency, Money, Note, OrderNo, PaymentEvent, Provider, ProviderId, Refusal, Report, Rules, State, Step,
};
use sqlx::{Connection, PgConnection};
use tokio::runtime::Runtime;

use crate::engines::{Shop, until};
use crate::faults::{Fault, FaultyLedger};
use crate::faulty_gate::Call;
use crate::world::{NOON, PATIENCE, World, asked_by, key, new_sale, open, place, rules, start, user, word};

async fn made(engine: &Arc<Engine>, user_id: u64, key_text: &str, quantity: u32) -> OrderNo {
    match word(&place(engine, "s", user_id, key_text, "a", quantity).await) {
        ("created", Some(number)) => number,
        other => panic!("{other:?}"),
    }
}

async fn cancel(engine: &Arc<Engine>, user_id: u64, order_no: OrderNo) -> Result<State, Refusal> {
    let ask = TakeStep {
        context: asked_by(Some(user(user_id))),
        order_no,
        step: Step::Cancel,
        restock: false,
        key: key("c"),
    };
    engine.take_step(ask).await.map(|taken| taken.view.order.state)
}

pub(crate) fn paid(order_no: OrderNo, event: &str, quantity: u32) -> Report {
    let reference = |text: &str| ProviderId::parse(text).unwrap();
    let money = Money {
        order_no,
        payment_id: reference("p"),
        amount: 1999 * i64::from(quantity),
        currency: Currency::parse("CNY").unwrap(),
        is_total: false,
        is_ours: true,
    };
    Report {
        provider: Provider::Standard,
        event_id: reference(event),
        event_type: reference("payment.succeeded"),
        event: PaymentEvent::Succeeded(money),
    }
}

async fn state(engine: &Arc<Engine>, order_no: OrderNo) -> State {
    engine.order(None, order_no).await.unwrap().order.state
}

async fn assert_balanced(engine: &Arc<Engine>) {
    let checks = engine.verify(None).await.unwrap();
    assert!(checks.iter().all(|check| check.ok), "{checks:?}");
}

fn pays_in(seconds: u32, shards: u16) -> Rules {
    Rules { payment_timeout_s: Some(seconds), ..rules(shards) }
}

/// The payment and the deadline of an order meet, five hundred times: it is paid, or its money is due back; its unit is
/// sold, or on sale; never both, never neither.
async fn payments_meet_deadlines(shop: Shop, rounds: u64) {
    let engine = shop.engine().await;
    engine.create_sale(new_sale("s", pays_in(60, 3), &[("a", 1_000)])).await.unwrap();
    let (mut in_time, mut late) = (0, 0);
    for round in 0..rounds {
        let order_no = made(&engine, 1 + round % 7, &format!("k{round}"), 1).await;
        shop.clock.advance(60_000);
        let (hearing, expiring) = (engine.clone(), engine.clone());
        let event = format!("e{round}");
        // Each goes first half of the time; which one is quicker is up to the machine.
        let record_report =
            tokio::spawn(async move { hearing.record_report(paid(order_no, &event, 1), &tracing::Span::none()).await });
        if round % 2 == 0 {
            tokio::task::yield_now().await;
        }
        expiring.expire().await;
        record_report.await.unwrap().unwrap();
        // The same event again, when it is all over.
        engine.record_report(paid(order_no, &format!("e{round}"), 1), &tracing::Span::none()).await.unwrap();
        match state(&engine, order_no).await {
            State::Paid => in_time += 1,
            State::RefundDue => late += 1,
            other => panic!("round {round}: {other:?}"),
        }
        let history = engine.history(order_no).await.unwrap().history;
        let steps: Vec<Step> = history.steps.iter().map(|taken| taken.step).collect();
        assert!(matches!(steps.as_slice(), [Step::Pay] | [Step::Expire, Step::Pay]), "round {round}: {steps:?}");
    }
    println!("{in_time} paid in time, {late} too late");
    let sum = engine.sale("s").await.unwrap().skus[0].sum();
    assert_eq!((sum.available(), sum.held, sum.sold), (1_000 - in_time, 0, in_time));
    assert_eq!(in_time + late, rounds as i64);
    assert_balanced(&engine).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payments_meet_deadlines_on_sqlite() {
    payments_meet_deadlines(Shop::new().at(Clock::manual(NOON)), 500).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payments_meet_deadlines_on_postgres() {
    payments_meet_deadlines(Shop::on_postgres().await.at(Clock::manual(NOON)), 500).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unit_that_comes_back_sells_on_every_engine_soon() {
    let shop = Shop::on_postgres().await;
    let (here, there) = (shop.engine().await, shop.engine().await);
    here.create_sale(new_sale("s", Rules { user_limit: Some(1), ..rules(4) }, &[("a", 1)])).await.unwrap();
    until(async || there.sale("s").await.is_ok()).await;
    let order_no = made(&here, 1, "k", 1).await;
    for user_id in 2..6 {
        assert_eq!(word(&place(&here, "s", user_id, "k", "a", 1).await).0, "sold_out");
        assert_eq!(word(&place(&there, "s", user_id, "k", "a", 1).await).0, "sold_out");
    }
    assert_eq!(cancel(&here, 1, order_no).await, Ok(State::Cancelled));
    until(async || word(&place(&there, "s", 2, "k", "a", 1).await).0 == "created").await;
    // And the other way round; the engine that took it back sells it at once, also to whom it was taken from.
    let order_no = there.order_by_key(user(2), "s", &key("k")).await.unwrap().order.order_no;
    assert_eq!(word(&place(&here, "s", 1, "l", "a", 1).await).0, "sold_out");
    assert_eq!(cancel(&there, 2, order_no).await, Ok(State::Cancelled));
    assert_eq!(word(&place(&there, "s", 2, "l", "a", 1).await).0, "created");
    assert_balanced(&here).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_engines_expire_each_order_once() {
    let shop = Shop::on_postgres().await.at(Clock::manual(NOON));
    let (here, there) = (shop.engine().await, shop.engine().await);
    here.create_sale(new_sale("s", pays_in(60, 5), &[("a", 1_200)])).await.unwrap();
    until(async || there.sale("s").await.is_ok()).await;
    let mut orders = Vec::new();
    for n in 0..1_200_u64 {
        orders.push(made(if n % 2 == 0 { &here } else { &there }, 1 + n % 40, &format!("k{n}"), 1).await);
    }
    shop.clock.advance(60_000);
    tokio::join!(here.expire(), there.expire(), here.expire(), there.expire());
    // What one of them had in hand when another looked is expired when both are back.
    until(async || {
        let expired = |engine: &Engine| engine.metrics().steps(Step::Expire).unwrap().get();
        expired(&here) + expired(&there) == 1_200
    })
    .await;
    for order_no in &orders {
        let view = here.order(None, *order_no).await.unwrap();
        assert_eq!((view.order.state, view.order.state_version), (State::Expired, 2));
    }
    let sum = here.sale("s").await.unwrap().skus[0].sum();
    assert_eq!((sum.available(), sum.held, sum.sold), (1_200, 0, 0));
    assert_balanced(&here).await;
    // All of it sells again.
    for n in 0..1_200_u64 {
        made(&here, 1 + n % 40, &format!("l{n}"), 1).await;
    }
    assert_eq!(word(&place(&here, "s", 1, "more", "a", 1).await).0, "sold_out");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn units_that_the_gate_never_heard_of_are_found() {
    for fault in [Fault::NotDone, Fault::NotDoneUnknown, Fault::DoneUnknown] {
        let shop = Shop::new();
        let engine = shop.engine().await;
        engine.create_sale(new_sale("s", rules(2), &[("a", 2)])).await.unwrap();
        let order_no = made(&engine, 1, "k", 2).await;
        shop.gate.plan(Call::GiveBack, fault);
        assert_eq!(cancel(&engine, 1, order_no).await, Ok(State::Cancelled), "{fault:?}: the ledger has it");
        until(async || word(&place(&engine, "s", 2, "k", "a", 2).await).0 == "created").await;
        assert_eq!(word(&place(&engine, "s", 3, "k", "a", 1).await).0, "sold_out", "{fault:?}: and nothing twice");
        assert_eq!((shop.gate.unmet(), engine.metrics().returns_lost.get()), (0, 1), "{fault:?}");
        assert_balanced(&engine).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn units_that_come_back_while_the_gate_is_gone_sell_too() {
    let shop = Shop::new();
    let engine = shop.engine().await;
    engine.create_sale(new_sale("s", rules(3), &[("a", 3)])).await.unwrap();
    let order_no = made(&engine, 1, "k", 3).await;
    shop.gate.set_down(true);
    assert_eq!(cancel(&engine, 1, order_no).await, Ok(State::Cancelled));
    until(async || word(&place(&engine, "s", 2, "k", "a", 2).await).0 == "created").await;
    shop.gate.set_down(false);
    until(async || word(&place(&engine, "s", 2, "l", "a", 1).await).0 == "created").await;
    until(async || word(&place(&engine, "s", 3, "k", "a", 1).await).0 == "sold_out").await;
    assert_balanced(&engine).await;
}

#[test]
fn an_engine_that_dies_between_ledger_and_gate_strands_nothing() {
    let (survivor, victim) = (Runtime::new().unwrap(), Runtime::new().unwrap());
    let shop = Shop::new();
    let (engine, order_no) = victim.block_on(async {
        let engine = shop.engine().await;
        engine.create_sale(new_sale("s", rules(2), &[("a", 4)])).await.unwrap();
        let order_no = made(&engine, 1, "k", 4).await;
        (engine, order_no)
    });
    shop.gate.plan(Call::GiveBack, Fault::Never);
    let dying = engine.clone();
    victim.spawn(async move { cancel(&dying, 1, order_no).await });
    let deadline = Instant::now() + crate::world::PATIENCE;
    while shop.gate.count(Call::GiveBack) == 0 {
        assert!(Instant::now() < deadline, "it does not come");
        std::thread::sleep(Duration::from_millis(2));
    }
    victim.shutdown_timeout(Duration::from_secs(5));
    drop(engine);
    survivor.block_on(async {
        let engine = shop.engine().await;
        assert_eq!(state(&engine, order_no).await, State::Cancelled);
        until(async || word(&place(&engine, "s", 2, "k", "a", 4).await).0 == "created").await;
        assert_eq!(cancel(&engine, 1, order_no).await, Ok(State::Cancelled), "and its retry is answered");
        assert_balanced(&engine).await;
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn units_that_come_and_go_all_the_time_are_not_taken_for_lost() {
    let shop = Shop::new();
    let engine = shop.engine().await;
    engine.create_sale(new_sale("s", rules(2), &[("a", 40)])).await.unwrap();
    let until_at = Instant::now() + Duration::from_secs(4);
    let buyers = (0..8_u64).map(|buyer| {
        let engine = engine.clone();
        tokio::spawn(async move {
            let mut orders = 0_u64;
            while Instant::now() < until_at {
                let order_no = made(&engine, 1 + buyer, &format!("k{orders}"), 1).await;
                let taken = cancel(&engine, 1 + buyer, order_no).await;
                assert_eq!(taken, Ok(State::Cancelled));
                orders += 1;
            }
            orders
        })
    });
    let mut orders = 0;
    for buyer in buyers.collect::<Vec<_>>() {
        orders += buyer.await.unwrap();
    }
    assert!(orders > 100, "{orders} orders came and went");
    assert_eq!(engine.metrics().reconciled.get(), 0, "no shard was loaded anew for it");
    let sum = engine.sale("s").await.unwrap().skus[0].sum();
    assert_eq!((sum.available(), sum.held, sum.returned), (40, 0, orders as i64));
    assert_balanced(&engine).await;
}

#[tokio::test]
async fn keys_are_forgotten_when_they_are_kept_no_longer() {
    let shop = Shop::new().at(Clock::manual(NOON));
    let engine = shop.engine().await;
    engine.create_sale(new_sale("s", rules(1), &[("a", 2)])).await.unwrap();
    let order_no = made(&engine, 1, "k", 1).await;
    assert_eq!(cancel(&engine, 1, order_no).await, Ok(State::Cancelled));
    use rushgate::ledger::OrderLedger;
    shop.clock.advance(KEY_KEPT_MS - 1);
    assert_eq!(shop.ledger.sweep_keys(shop.clock.now_ms(), 10).await, Ok(0));
    shop.clock.advance(1);
    assert_eq!(shop.ledger.sweep_keys(shop.clock.now_ms(), 10).await, Ok(1));
    assert_eq!(shop.ledger.sweep_keys(shop.clock.now_ms(), 10).await, Ok(0));
    assert_eq!(cancel(&engine, 1, order_no).await, Ok(State::Cancelled), "its state protects it all the same");
}

/// One order whose books do not fit keeps no order of another sale from expiring.
#[tokio::test]
async fn one_broken_row_does_not_stop_all_expiry() {
    let mut world = World::new().await;
    world.create(new_sale("s", Rules { user_limit: Some(5), ..pays_in(60, 1) }, &[("a", 9)])).await;
    world.create(new_sale("t", pays_in(60, 1), &[("a", 9)])).await;
    let order =
        async |world: &World, sale, user_id| word(&place(&world.engine, sale, user_id, "k", "a", 1).await).1.unwrap();
    let broken = order(&world, "s", 1).await;
    world.clock.advance(1);
    let healthy = order(&world, "t", 2).await;
    assert!(world.engine.drain(tokio::time::Instant::now() + PATIENCE).await);
    let file = rusqlite::Connection::open(world.directory.path().join("rushgate.db")).unwrap();
    file.execute_batch("DELETE FROM buyers WHERE user_id = 1").unwrap();
    drop(file);
    world.ledger = FaultyLedger::new(open(&world.directory));
    world.gate = Arc::default();
    world.engine = start(world.ledger.clone(), world.gate.clone(), world.clock.clone()).await;
    world.clock.advance(3_600_000);
    world.engine.expire().await;
    assert_eq!(state(&world.engine, healthy).await, State::Expired);
    assert_eq!(state(&world.engine, broken).await, State::PendingPayment);
}

/// Somebody outside holds the rows of two orders; their buyers ask twenty times. Everybody else's payments go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_that_somebody_holds_do_not_stop_the_others() {
    let shop = Shop::on_postgres().await;
    let engine = shop.engine().await;
    engine.create_sale(new_sale("s", rules(4), &[("a", 9)])).await.unwrap();
    let held = [made(&engine, 1, "k", 1).await, made(&engine, 3, "k", 1).await];
    let free = made(&engine, 2, "k", 1).await;
    let mut other = PgConnection::connect(shop.url.as_ref().unwrap()).await.unwrap();
    sqlx::raw_sql("BEGIN").execute(&mut other).await.unwrap();
    sqlx::raw_sql("SELECT 1 FROM orders WHERE user_id IN (1, 3) FOR UPDATE").execute(&mut other).await.unwrap();
    let mut crowd = tokio::task::JoinSet::new();
    for (n, (order_no, buyer)) in (0..20).zip(held.into_iter().zip([1, 3]).cycle()) {
        let engine = engine.clone();
        crowd.spawn(async move {
            let ask = TakeStep {
                context: asked_by(Some(user(buyer))),
                order_no,
                step: Step::Cancel,
                restock: false,
                key: key(&format!("c{n}")),
            };
            engine.take_step(ask).await
        });
    }
    let mut watcher = PgConnection::connect(shop.url.as_ref().unwrap()).await.unwrap();
    let stuck = "SELECT count(*) FROM pg_stat_activity \
         WHERE datname = current_database() AND application_name = 'rushgate' AND wait_event_type = 'Lock'";
    until(async || sqlx::query_scalar::<_, i64>(stuck).fetch_one(&mut watcher).await.unwrap() > 0).await;
    // The provider sends again what it got no answer to; the rows stay locked all the while.
    until(async || match engine.record_report(paid(free, "e", 1), &tracing::Span::none()).await {
        Ok(heard) => heard.note == Note::Applied,
        Err(refusal) => {
            assert!(matches!(refusal.code, Code::UnknownOutcome | Code::Overloaded), "{refusal:?}");
            false
        }
    })
    .await;
    assert_eq!(state(&engine, free).await, State::Paid);
    sqlx::raw_sql("COMMIT").execute(&mut other).await.unwrap();
    while let Some(cancelled) = crowd.join_next().await {
        match cancelled.unwrap() {
            Ok(taken) => assert_eq!(taken.view.order.state, State::Cancelled),
            Err(refusal) => assert!(matches!(refusal.code, Code::Overloaded | Code::UnknownOutcome), "{refusal:?}"),
        }
    }
}

/// Whoever was told "limit_reached" does not get the order a while later: where that may be, nobody is told so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_by_the_limit_makes_no_order_later() {
    let shop = Shop::at_noon();
    let engine = shop.engine().await;
    engine.create_sale(new_sale("s", Rules { user_limit: Some(2), ..rules(1) }, &[("a", 9)])).await.unwrap();
    let first = made(&engine, 1, "k", 2).await;
    // The gate forgets what the user has; the ledger does not.
    shop.gate.flush();
    assert_eq!(word(&place(&engine, "s", 2, "k", "a", 1).await).0, "created");
    shop.gate.plan(Call::Settle, Fault::NotDone);
    // The gate did not hear of the "no", so it is none.
    assert_eq!(word(&place(&engine, "s", 1, "l", "a", 1).await).0, "unknown_outcome");
    assert_eq!(shop.gate.unmet(), 0);
    assert_eq!(cancel(&engine, 1, first).await, Ok(State::Cancelled));
    // It may still become an order, as it does here: the limit has room again when its lease is over.
    shop.clock.advance(LEASE_MS + 1);
    until(async || word(&place(&engine, "s", 1, "l", "a", 1).await).0 == "replayed").await;
}
