//! Orders with purchase tokens: what a request without a good one costs, and what a crowd with one gets.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use rushgate::command::PlaceOrder;
use rushgate::engine::{Engine, Options};
use rushgate::limits::{ANSWER_MS_MAX, LEASE_MS};
use rushgate::metrics::Metrics;
use rushgate::order::{Boundary, InvalidKey, Outcome, Refusal, Retry, Rules};
use rushgate::token::PurchaseTokens;

use crate::engines::Shop;
use crate::faults::Fault;
use crate::faulty_gate::Call;
use crate::world::{NOON, context, name_ref, new_sale, rules, start, user, word};

const TTL_MS: i64 = 300_000;

async fn place(
    engine: &Arc<Engine>,
    user_id: u64,
    token: Option<&str>,
    sku: &str,
    quantity: u32,
) -> Result<Outcome, Refusal> {
    let key = Err(InvalidKey::Empty);
    let context = context(user(user_id), Duration::ZERO);
    let (sale_id, sku_id) = (name_ref("s"), name_ref(sku));
    engine.place(&PlaceOrder { context, sale_id, sku_id, quantity, key, token }).await
}

fn token(engine: &Engine, user_id: u64) -> String {
    engine.purchase_token(user(user_id), "s").unwrap().token
}

/// What orders have asked of gate and ledger.
fn asked(shop: &Shop) -> (usize, usize) {
    (shop.gate.count(Call::Reserve), shop.ledger.asked())
}

#[tokio::test]
async fn who_has_no_good_token_costs_neither_gate_nor_ledger_anything() {
    let boundaries = Boundary::ALL.iter().map(|boundary| Rules { boundary: *boundary, ..rules(2) });
    for rules in
        boundaries.flat_map(|rules| [false, true].map(|required| Rules { require_token: required, ..rules.clone() }))
    {
        let shop = Shop::at_noon();
        let engine = shop.engine().await;
        engine.create_sale(new_sale("s", rules.clone(), &[("a", 9)])).await.unwrap();
        engine.create_sale(new_sale("t", rules.clone(), &[("a", 9)])).await.unwrap();
        let good = token(&engine, 1);
        let elsewhere = engine.purchase_token(user(1), "t").unwrap().token;
        let not_ours = PurchaseTokens::new(&["a secret that this engine was never given"]);
        let sale = engine.sale("s").await.unwrap().sale;
        let not_ours = not_ours.issue(&sale, user(1), NOON + TTL_MS, [7; 16]);
        let before = asked(&shop);
        for forged in ["", "forged", &good[1..], &format!("{good}="), &elsewhere, &not_ours, &token(&engine, 2)] {
            for sku in ["a", "none"] {
                let answer = place(&engine, 1, Some(forged), sku, 1).await;
                assert_eq!(word(&answer).0, "token_invalid", "{forged:?} {rules:?}");
            }
        }
        if rules.require_token {
            assert_eq!(word(&place(&engine, 1, None, "a", 1).await).0, "token_required", "{rules:?}");
        }
        assert_eq!(asked(&shop), before, "{rules:?}");
        let (first, again) =
            (place(&engine, 1, Some(&good), "a", 1).await, place(&engine, 1, Some(&good), "a", 1).await);
        assert_eq!((word(&first).0, word(&again).0), ("created", "replayed"), "a broken key is ignored: {rules:?}");
        assert!(asked(&shop) > before, "what is counted is what orders ask");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_with_one_token_makes_one_order() {
    let shop = Shop::at_noon();
    let engines = [shop.engine().await, shop.engine().await];
    engines[0].create_sale(new_sale("s", Rules { require_token: true, ..rules(4) }, &[("a", 99)])).await.unwrap();
    crate::engines::until(async || engines[1].sale("s").await.is_ok()).await;
    let token = token(&engines[0], 7);
    let crowd = (0..200).map(|n| {
        let (engine, token) = (engines[n % 2].clone(), token.clone());
        async move {
            loop {
                let answer = place(&engine, 7, Some(&token), "a", 1).await;
                match &answer {
                    Err(refusal) if refusal.code.retry() != Retry::Never => tokio::task::yield_now().await,
                    _ => return word(&answer),
                }
            }
        }
    });
    let answers = join_all(crowd).await;
    let created: Vec<_> = answers.iter().filter(|answer| answer.0 == "created").collect();
    assert_eq!(created.len(), 1, "{answers:?}");
    assert!(answers.iter().all(|answer| answer.1 == created[0].1), "one order, also on the other engine");
}

#[tokio::test]
async fn a_secret_is_replaced_without_losing_an_order() {
    let shop = Shop::at_noon();
    let (old, new) = ("the old secret, of thirty-two or more", "the new secret, of thirty-two or more");
    let engine = async |secrets: &[&str]| {
        let options = Options { tokens: PurchaseTokens::new(secrets), ..Options::default() };
        let metrics = Arc::new(Metrics::default());
        Engine::start(shop.gate.clone(), shop.ledger.clone(), shop.clock.clone(), metrics, options).await.unwrap()
    };
    let before = engine(&[old]).await;
    before.create_sale(new_sale("s", rules(1), &[("a", 9)])).await.unwrap();
    let (first, second) = (token(&before, 1), token(&before, 1));
    let made = word(&place(&before, 1, Some(&first), "a", 1).await);
    let between = engine(&[new, old]).await;
    assert_eq!(word(&place(&between, 1, Some(&first), "a", 1).await), ("replayed", made.1));
    assert_eq!(word(&place(&between, 1, Some(&second), "a", 1).await).0, "created");
    let third = token(&between, 1);
    let after = engine(&[new]).await;
    assert_eq!(word(&place(&after, 1, Some(&third), "a", 1).await).0, "created");
    for old in [first, second] {
        assert_eq!(word(&place(&after, 1, Some(&old), "a", 1).await).0, "token_invalid");
    }
}

#[tokio::test]
async fn an_expired_token_is_no_final_no_while_its_order_may_be_on_its_way() {
    let shop = Shop::at_noon();
    let engine = start(shop.ledger.clone(), shop.gate.clone(), shop.clock.clone()).await;
    engine.create_sale(new_sale("s", rules(1), &[("a", 9)])).await.unwrap();
    let (used, unused) = (token(&engine, 1), token(&engine, 1));
    let made = word(&place(&engine, 1, Some(&used), "a", 1).await).1;
    shop.clock.advance(TTL_MS);
    shop.gate.set_down(true);
    assert_eq!(word(&place(&engine, 1, Some(&used), "a", 1).await), ("replayed", made), "the ledger knows it");
    assert_eq!(word(&place(&engine, 1, Some(&unused), "a", 1).await).0, "gate_unavailable");
    shop.clock.advance(ANSWER_MS_MAX as i64 + LEASE_MS);
    assert_eq!(word(&place(&engine, 1, Some(&unused), "a", 1).await).0, "token_invalid");
    assert_eq!(word(&place(&engine, 1, Some(&used), "b", 1).await).0, "idempotency_key_reused");
}

/// The gate forgets the order while the ledger is still recording it, and is loaded anew: neither knows of it for a moment.
#[tokio::test]
async fn an_expired_token_is_no_final_no_while_the_ledger_records_what_the_gate_forgot() {
    let shop = Shop::at_noon();
    let engine = shop.engine().await;
    engine.create_sale(new_sale("s", rules(1), &[("a", 9)])).await.unwrap();
    let (used, other) = (token(&engine, 1), token(&engine, 2));
    shop.ledger.plan([Fault::Late]);
    let order = |user_id, token: String| {
        let engine = engine.clone();
        tokio::spawn(async move { place(&engine, user_id, Some(&token), "a", 1).await })
    };
    let first = order(1, used.clone());
    tokio::time::sleep(Duration::from_millis(50)).await;
    // Another buyer is the one who finds that the gate was emptied.
    shop.gate.flush();
    let second = order(2, other);
    tokio::time::sleep(Duration::from_millis(150)).await;
    shop.clock.advance(TTL_MS);
    let meanwhile = word(&place(&engine, 1, Some(&used), "a", 1).await).0;
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    assert_eq!((word(&first).0, word(&second).0), ("created", "created"));
    assert_ne!(meanwhile, "token_invalid", "a final no to an order that was made");
}

/// A gate in memory is loaded anew, as reconciling does, while an order is on its way: its token is not called invalid
/// before that order is recorded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_in_memory_that_was_loaded_anew_is_not_said_to_know_all() {
    use rushgate::gate::{Gate, MemoryGate, ShardEpoch};
    use rushgate::ledger::SaleLedger;
    let shop = Shop::new();
    let gate = Arc::new(MemoryGate::default());
    let options = Options { token_ttl_ms: 30, ..Options::default() };
    let metrics = Arc::new(Metrics::default());
    let engine =
        Engine::start(gate.clone(), shop.ledger.clone(), shop.clock.clone(), metrics.clone(), options).await.unwrap();
    engine.create_sale(new_sale("s", rules(1), &[("a", 900)])).await.unwrap();
    let mut met = 0;
    let no = engine.sale("s").await.unwrap().sale.no;
    for round in 0..8_u64 {
        // The gate sells a unit that the ledger does not have: a shard that is to be loaded anew.
        let epoch =
            shop.ledger.begin_epochs(no, vec![rushgate::ledger::EpochRequest { shard: 0, after: None }]).await.unwrap()
                [0]
            .epoch;
        gate.adjust(ShardEpoch { sale: no, shard: 0, epoch }, 0, 1).await.unwrap();
        shop.ledger.plan([Fault::Late]);
        let good = token(&engine, 1 + round);
        let (buyer, same) = (engine.clone(), good.clone());
        let first = tokio::spawn(async move { place(&buyer, 1 + round, Some(&same), "a", 1).await });
        tokio::time::sleep(Duration::from_millis(40)).await;
        let mut answers = Vec::new();
        while !first.is_finished() {
            answers.push(word(&place(&engine, 1 + round, Some(&good), "a", 1).await).0);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let first = word(&first.await.unwrap()).0;
        // It may have come too late itself, on a slow machine.
        if first == "created" {
            met += answers.len();
            assert!(!answers.contains(&"token_invalid"), "round {round}, {epoch:?}: {answers:?}, then {first}");
        }
    }
    assert!(met > 0 && metrics.reconciled.get() > 0, "{met} repeats, {} loads", metrics.reconciled.get());
}
