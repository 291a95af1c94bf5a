//! What must not wait for what: expiry for keys, payments for a gate, lost units for those that come and go.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rushgate::clock::Clock;
use rushgate::command::{PlaceOrder, TakeStep};
use rushgate::engine::Engine;
use rushgate::order::{InvalidKey, OrderNo, Outcome, Refusal, Rules, State, Step};
use sqlx::Connection as _;

use crate::engines::{Shop, until};
use crate::faults::Fault;
use crate::faulty_gate::Call;
use crate::world::{NOON, asked_by, context, key, name_ref, new_sale, place, rules, user, word};

async fn made(engine: &Arc<Engine>, sale: &str, user_id: u64, key_text: &str) -> OrderNo {
    match word(&place(engine, sale, user_id, key_text, "a", 1).await) {
        ("created", Some(number)) => number,
        other => panic!("{other:?}"),
    }
}

async fn cancel(engine: &Arc<Engine>, user_id: u64, order_no: OrderNo, key_text: &str) -> Result<State, Refusal> {
    let ask = TakeStep {
        context: asked_by(Some(user(user_id))),
        order_no,
        step: Step::Cancel,
        restock: false,
        key: key(key_text),
    };
    engine.take_step(ask).await.map(|taken| taken.view.order.state)
}

async fn with_token(engine: &Arc<Engine>, token: &str) -> Result<Outcome, Refusal> {
    let key = Err(InvalidKey::Empty);
    let request = PlaceOrder {
        context: context(user(1), Duration::ZERO),
        sale_id: name_ref("s"),
        sku_id: name_ref("a"),
        quantity: 1,
        key,
        token: Some(token),
    };
    engine.place(&request).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forgetting_keys_does_not_hold_up_expiry() {
    let shop = Shop::new().at(Clock::manual(NOON));
    // There are more keys to forget than one round takes: the first tick of the engine finds them.
    shop.ledger.endless_keys.store(true, Ordering::SeqCst);
    let engine = shop.engine().await;
    let quick = Rules { payment_timeout_s: Some(60), ..rules(1) };
    engine.create_sale(new_sale("s", quick, &[("a", 9)])).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let order_no = made(&engine, "s", 1, "l").await;
    shop.clock.advance(60_000);
    until(async || engine.order(None, order_no).await.unwrap().order.state == State::Expired).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_unit_is_found_while_others_come_and_go() {
    let shop = Shop::new();
    let engine = shop.engine().await;
    engine.create_sale(new_sale("s", rules(1), &[("a", 40)])).await.unwrap();
    let lost = made(&engine, "s", 99, "k").await;
    shop.gate.plan(Call::GiveBack, Fault::NotDone);
    assert_eq!(cancel(&engine, 99, lost, "c").await, Ok(State::Cancelled));
    // One order comes and goes every tenth of a second: no crowd.
    let mut n = 0;
    until(async || {
        n += 1;
        let order_no = made(&engine, "s", 1, &format!("k{n}")).await;
        assert_eq!(cancel(&engine, 1, order_no, "c").await, Ok(State::Cancelled));
        tokio::time::sleep(Duration::from_millis(100)).await;
        engine.metrics().reconciled.get() > 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_gate_does_not_hold_up_payments() {
    let shop = Shop::new();
    let engine = shop.engine().await;
    engine.create_sale(new_sale("s", rules(1), &[("a", 9)])).await.unwrap();
    let (given_up, bought) = (made(&engine, "s", 1, "k").await, made(&engine, "s", 2, "k").await);
    shop.gate.slow_down(Call::GiveBack, Duration::from_secs(3));
    let cancelling = engine.clone();
    let cancelled = tokio::spawn(async move { cancel(&cancelling, 1, given_up, "c").await });
    until(async || shop.gate.count(Call::GiveBack) > 0).await;
    engine.record_report(crate::lifecycle::paid(bought, "e", 1), &tracing::Span::none()).await.unwrap();
    assert!(!cancelled.is_finished(), "the payment was heard only after the gate had answered the cancellation");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_token_is_no_final_no_while_its_order_goes_past_the_gate() {
    let shop = Shop::on_postgres().await.at(Clock::manual(NOON));
    let engine = shop.engine().await;
    engine.create_sale(new_sale("s", rules(1), &[("a", 9)])).await.unwrap();
    let token = engine.purchase_token(user(1), "s").unwrap().token;
    // Somebody holds the segment for a moment: the append waits.
    let url = shop.url.clone().unwrap();
    let mut sql = sqlx::PgConnection::connect(&url).await.unwrap();
    // A gate that blinks.
    shop.gate.plan(Call::Reserve, Fault::NotDone);
    let (first_engine, first_token) = (engine.clone(), token.clone());
    let asked = shop.ledger.asked();
    sqlx::raw_sql("BEGIN; SELECT * FROM segments FOR UPDATE").execute(&mut sql).await.unwrap();
    let first = tokio::spawn(async move { with_token(&first_engine, &first_token).await });
    until(async || shop.ledger.asked() > asked).await;
    shop.clock.advance(300_000);
    let again = with_token(&engine, &token).await;
    sqlx::raw_sql("COMMIT").execute(&mut sql).await.unwrap();
    let first = first.await.unwrap();
    let last = with_token(&engine, &token).await;
    assert_eq!(word(&first).0, "created");
    assert_eq!(word(&again).0, "unknown_outcome");
    assert_eq!(word(&last).0, "replayed");
}
