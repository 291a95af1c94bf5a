//! Several engines over one gate and one ledger, while either fails. The stores are the embedded ones, shared in this
//! process: what is tested is how engines share, not how the stores travel. `tests/stack` does the same on real servers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rushgate::clock::Clock;
use rushgate::engine::{Engine, OnGateFailure, Options, rebuild};
use rushgate::gate::{Gate, ShardId};
use rushgate::ledger::{OrderLedger, PostgresLedger};
use rushgate::limits::{GATE_KEEPS_ENDED_MS, SOLD_OUT_CACHE_MS, SWEEP_MS, SWEEPS_WIDE};
use rushgate::metrics::Metrics;
use rushgate::order::{OrderNo, Outcome, Retry, Switch};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::faults::{Fault, FaultyLedger};
use crate::faulty_gate::{Call, FaultyGate};
use crate::no_bug::NoBug;
use crate::world::{NOON, PATIENCE, name, new_sale, open, place, rules, word};
use rushgate_test_support::postgres;
use rushgate_test_support::random::Random;

/// What engines share.
pub(crate) struct Shop {
    _directory: TempDir,
    pub(crate) clock: Clock,
    pub(crate) gate: Arc<FaultyGate>,
    pub(crate) ledger: Arc<FaultyLedger>,
    /// Where the ledger is, if it is PostgreSQL.
    pub(crate) url: Option<String>,
    _no_bug: NoBug,
}

impl Shop {
    pub(crate) fn new() -> Shop {
        let directory = TempDir::new().unwrap();
        let ledger = FaultyLedger::new(open(&directory));
        Shop { _directory: directory, clock: Clock::System, gate: Arc::default(), ledger, url: None, _no_bug: NoBug }
    }

    /// With a clock that stands at noon until it is moved.
    pub(crate) fn at_noon() -> Shop {
        Shop { clock: Clock::manual(NOON), ..Shop::new() }
    }

    /// With a ledger that tells every engine of every change.
    pub(crate) async fn on_postgres() -> Shop {
        let url = postgres::shared().new_database();
        let ledger = FaultyLedger::new(Arc::new(PostgresLedger::open(&url).await.unwrap()));
        Shop { ledger, url: Some(url), ..Shop::new() }
    }

    /// With a clock that a test moves.
    pub(crate) fn at(self, clock: Clock) -> Shop {
        Shop { clock, ..self }
    }

    pub(crate) async fn engine(&self) -> Arc<Engine> {
        self.engine_that(OnGateFailure::Ledger).await
    }

    async fn engine_that(&self, on_gate_failure: OnGateFailure) -> Arc<Engine> {
        let metrics = Arc::new(Metrics::default());
        let options = Options { on_gate_failure, ..Options::default() };
        let start = Engine::start(self.gate.clone(), self.ledger.clone(), self.clock.clone(), metrics, options);
        start.await.unwrap()
    }
}

/// Buys one unit per order on the engines in turn until all of them have said "sold out" for a while; answers the
/// orders. An operation that gets no final answer is sent again, to any engine, until it has one.
async fn buy_all(engines: Vec<Arc<Engine>>, users: u64, random: &mut Random) -> BTreeMap<OrderNo, u64> {
    let mut buyers = Vec::new();
    for buyer in 0..8 {
        let (engines, mut random) = (engines.clone(), random.split());
        buyers.push(tokio::spawn(async move {
            let mut orders = BTreeMap::new();
            let mut sold_out_since = None;
            for n in 0.. {
                let (user, key) = (1 + random.below(users), format!("b{buyer}-{n}"));
                let answer = finally(&engines, user, &key, &mut random).await;
                match answer {
                    Ok(Outcome::Created(receipt) | Outcome::Replayed(receipt)) => {
                        sold_out_since = None;
                        assert_eq!(orders.insert(receipt.order_no, user), None, "one order per operation");
                    }
                    Err(refusal) => {
                        assert_eq!(refusal.code.as_str(), "sold_out");
                        let since = *sold_out_since.get_or_insert_with(std::time::Instant::now);
                        if since.elapsed() > SOLD_OUT_FOR_GOOD {
                            return orders;
                        }
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
            }
            orders
        }));
    }
    let mut all = BTreeMap::new();
    for buyer in buyers {
        let orders = tokio::time::timeout(PATIENCE, buyer).await.expect("it sells out in the end").unwrap();
        let count = all.len() + orders.len();
        all.extend(orders);
        assert_eq!(all.len(), count, "no order stands twice");
    }
    all
}

/// Longer than a latch is believed, stranded units are waited for, and gates are compared.
const SOLD_OUT_FOR_GOOD: Duration = Duration::from_millis(2500);

async fn finally(
    engines: &[Arc<Engine>],
    user: u64,
    key: &str,
    random: &mut Random,
) -> Result<Outcome, rushgate::order::Refusal> {
    let mut first = None;
    loop {
        let engine = &engines[random.below(engines.len() as u64) as usize];
        let answer = tokio::time::timeout(PATIENCE, place(engine, "s", user, key, "a", 1)).await.expect("an answer");
        match answer {
            Err(refusal) if refusal.code.retry() != Retry::Never => tokio::time::sleep(Duration::from_millis(5)).await,
            Ok(outcome) if first.is_none() && random.percent(20) => first = Some(outcome),
            answer => return answer,
        }
    }
}

async fn assert_sold(shop: &Shop, engines: &[Arc<Engine>], orders: &BTreeMap<OrderNo, u64>, stock: usize) {
    assert_eq!(orders.len(), stock, "everything sells, once");
    for (order_no, user) in orders {
        let found = shop.ledger.find(Some(crate::world::user(*user)), *order_no).await.unwrap();
        assert!(found.is_some(), "an answered order is in the ledger");
    }
    for engine in engines {
        let view = engine.sale("s").await.unwrap();
        let sum = view.skus[0].sum();
        assert_eq!((sum.total, sum.held), (stock as i64, stock as i64));
        let checks = engine.verify(None).await.unwrap();
        assert!(checks.iter().all(|check| check.ok), "{checks:?}");
    }
    assert_eq!(shop.gate.unmet(), 0, "every planned fault was met");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_engines_sell_one_stock_to_the_same_users() {
    let mut random = Random::seeded("two_engines_sell_one_stock_to_the_same_users");
    let shop = Shop::new();
    let engines = vec![shop.engine().await, shop.engine().await];
    engines[0].create_sale(new_sale("s", rules(7), &[("a", 300)])).await.unwrap();
    until(async || engines[1].sale("s").await.is_ok()).await;
    let orders = buy_all(engines.clone(), 20, &mut random).await;
    assert_sold(&shop, &engines, &orders, 300).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_that_is_emptied_again_and_again_sells_everything() {
    let mut random = Random::seeded("a_gate_that_is_emptied_again_and_again_sells_everything");
    let shop = Shop::new();
    let engines = vec![shop.engine().await, shop.engine().await];
    engines[0].create_sale(new_sale("s", rules(5), &[("a", 2_000)])).await.unwrap();
    until(async || engines[1].sale("s").await.is_ok()).await;
    let gate = shop.gate.clone();
    let flusher = tokio::spawn(async move {
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(30)).await;
            gate.flush();
        }
    });
    let orders = buy_all(engines.clone(), 50, &mut random).await;
    flusher.await.unwrap();
    assert_sold(&shop, &engines, &orders, 2_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_gate_orders_go_to_the_ledger_and_the_gate_comes_back() {
    let mut random = Random::seeded("without_a_gate_orders_go_to_the_ledger_and_the_gate_comes_back");
    let shop = Shop::new();
    let engines = vec![shop.engine().await, shop.engine().await];
    engines[0].create_sale(new_sale("s", rules(4), &[("a", 1_500)])).await.unwrap();
    until(async || engines[1].sale("s").await.is_ok()).await;
    let gate = shop.gate.clone();
    let switcher = tokio::spawn(async move {
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_millis(40)).await;
            gate.set_down(true);
            tokio::time::sleep(Duration::from_millis(60)).await;
            gate.set_down(false);
        }
    });
    let orders = buy_all(engines.clone(), 50, &mut random).await;
    switcher.await.unwrap();
    assert_sold(&shop, &engines, &orders, 1_500).await;
    assert_eq!(engines.iter().map(|engine| engine.shards_bypassed()).sum::<usize>(), 0, "every gate is in use again");
    assert!(engines.iter().map(|engine| engine.metrics().bypassed_orders.get()).sum::<u64>() > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_gate_from_the_start_everything_sells_and_limits_hold() {
    let shop = Shop::new();
    shop.gate.set_down(true);
    let engine = shop.engine().await;
    let limited = rushgate::order::Rules { user_limit: Some(2), ..rules(3) };
    engine.create_sale(new_sale("s", limited, &[("a", 7)])).await.unwrap();
    let mut words = Vec::new();
    for user in 1..=4 {
        for key in ["a", "b", "c"] {
            words.push(word(&place(&engine, "s", user, key, "a", 1).await).0);
        }
    }
    let count = |wanted: &str| words.iter().filter(|word| **word == wanted).count();
    assert_eq!((count("created"), count("limit_reached"), count("sold_out")), (7, 3, 2), "{words:?}");
    assert_eq!(word(&place(&engine, "s", 1, "a", "a", 1).await).0, "replayed");
    assert_eq!(word(&place(&engine, "s", 1, "a", "a", 2).await).0, "idempotency_key_reused");
    engine.switch_sale("s", Switch::Paused).await.unwrap();
    assert_eq!(word(&place(&engine, "s", 9, "k", "a", 1).await).0, "sale_paused");
    assert_eq!(word(&place(&engine, "s", 1, "a", "a", 1).await).0, "replayed", "a repeat comes before the pause");
}

#[tokio::test]
async fn a_gate_that_fails_sheds_if_told_to() {
    let shop = Shop::new();
    let engine = shop.engine_that(OnGateFailure::Shed).await;
    engine.create_sale(new_sale("s", rules(2), &[("a", 5)])).await.unwrap();
    shop.gate.set_down(true);
    assert_eq!(word(&place(&engine, "s", 1, "k", "a", 1).await).0, "gate_unavailable");
    shop.gate.set_down(false);
    assert_eq!(word(&place(&engine, "s", 1, "k", "a", 1).await).0, "created");
}

#[tokio::test]
async fn a_lost_answer_of_the_gate_is_asked_for_again() {
    for fault in [Fault::DoneUnknown, Fault::NotDoneUnknown] {
        let shop = Shop::new();
        let engine = shop.engine().await;
        engine.create_sale(new_sale("s", rules(1), &[("a", 5)])).await.unwrap();
        shop.gate.plan(Call::Reserve, fault);
        assert_eq!(word(&place(&engine, "s", 1, "k", "a", 2).await).0, "created", "{fault:?}");
        assert_eq!(word(&place(&engine, "s", 1, "k", "a", 2).await).0, "replayed", "{fault:?}");
        let view = engine.sale("s").await.unwrap();
        assert_eq!(view.skus[0].sum().available(), 3, "{fault:?}: taken once");
        assert_eq!(engine.metrics().bypassed_orders.get(), 0, "{fault:?}");
    }
}

#[tokio::test]
async fn what_one_engine_changes_the_other_obeys() {
    let shop = Shop { clock: Clock::manual(NOON), ..Shop::new() };
    let (here, there) = (shop.engine().await, shop.engine().await);
    here.create_sale(new_sale("s", rules(3), &[("a", 1)])).await.unwrap();
    // The SQLite ledger tells of new sales; the rest of what it changes it tells nobody, for it has one process.
    until(async || word(&place(&there, "s", 1, "k", "a", 1).await).0 == "created").await;
    assert_eq!(word(&place(&here, "s", 1, "k", "a", 1).await).0, "replayed", "at once");
    assert_eq!(word(&place(&here, "s", 2, "k", "a", 1).await).0, "sold_out");
    let more = rushgate::command::RestockSale { change_id: name("c"), sku_id: name("a"), units: 1 };
    there.restock_sale("s", more).await.unwrap();
    assert_eq!(word(&place(&here, "s", 2, "l", "a", 1).await).0, "sold_out", "the latch is believed for a while");
    shop.clock.advance(SOLD_OUT_CACHE_MS);
    assert_eq!(word(&place(&here, "s", 2, "l", "a", 1).await).0, "created", "and no longer");
    there.switch_sale("s", Switch::Paused).await.unwrap();
    assert_eq!(word(&place(&here, "s", 3, "k", "a", 1).await).0, "sale_paused", "by the gate, at once");
}

pub(crate) async fn until(mut done: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !done().await {
        assert!(tokio::time::Instant::now() < deadline, "it does not come");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A refill is cut short by the death of its engine at each of its steps; the other engine sells what was on its way.
#[test]
fn a_crash_inside_each_step_of_a_transfer_strands_nothing() {
    let mut random = Random::seeded("a_crash_inside_each_step_of_a_transfer_strands_nothing");
    for step in ["debit asked", "debit done", "transfer asked", "transfer done", "credit asked"] {
        let survivor = Runtime::new().unwrap();
        let victim = Runtime::new().unwrap();
        let shop = Shop::new();
        let mut first = BTreeMap::new();
        let engine = victim.block_on(async {
            let engine = shop.engine().await;
            engine.create_sale(new_sale("s", rules(4), &[("a", 40)])).await.unwrap();
            // Shard 1 sells its ten; the eleventh order needs a transfer.
            for n in 0..10 {
                let made = word(&place(&engine, "s", 1, &format!("k{n}"), "a", 1).await);
                first.insert(made.1.unwrap(), 1);
            }
            engine
        });
        match step {
            "debit asked" => shop.gate.plan(Call::Debit, Fault::Never),
            "debit done" => shop.gate.plan(Call::Debit, Fault::DoneUnknown),
            "transfer asked" => shop.ledger.plan_moves([Fault::Never]),
            "transfer done" => shop.ledger.plan_moves([Fault::DoneUnknown, Fault::Never]),
            _ => shop.gate.plan(Call::Credit, Fault::Never),
        }
        let dying = engine.clone();
        victim.spawn(async move { place(&dying, "s", 1, "last", "a", 1).await });
        std::thread::sleep(Duration::from_millis(100));
        victim.shutdown_timeout(Duration::from_secs(5));
        drop(engine);
        shop.ledger.mend();
        survivor.block_on(async {
            let engines = vec![shop.engine().await];
            let mut orders = buy_all(engines.clone(), 30, &mut random).await;
            orders.append(&mut first);
            // The order that needed the transfer may have been recorded before the crash cut its answer.
            if let Ok(outcome) = finally(&engines, 1, "last", &mut random).await {
                let (Outcome::Created(receipt) | Outcome::Replayed(receipt)) = outcome;
                orders.insert(receipt.order_no, 1);
            }
            assert_sold(&shop, &engines, &orders, 40).await;
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_in_the_middle_of_a_sale_disturbs_nobody() {
    let mut random = Random::seeded("a_rebuild_in_the_middle_of_a_sale_disturbs_nobody");
    let shop = Shop::new();
    let engines = vec![shop.engine().await, shop.engine().await];
    engines[0].create_sale(new_sale("s", rules(3), &[("a", 1_000)])).await.unwrap();
    until(async || engines[1].sale("s").await.is_ok()).await;
    let (gate, ledger) = (shop.gate.clone(), shop.ledger.clone());
    let rebuilder = tokio::spawn(async move {
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_millis(40)).await;
            let rebuilt = rebuild(gate.as_ref(), ledger.as_ref(), Clock::System.now_ms()).await.unwrap();
            assert_eq!((rebuilt.len(), rebuilt[0].1), (1, 0));
        }
    });
    let orders = buy_all(engines.clone(), 50, &mut random).await;
    rebuilder.await.unwrap();
    assert_sold(&shop, &engines, &orders, 1_000).await;
}

#[tokio::test]
async fn an_ended_sale_is_kept_in_the_gate_for_an_hour_and_repeats_are_answered_for_ever() {
    let shop = Shop { clock: Clock::manual(NOON), ..Shop::new() };
    let engine = shop.engine().await;
    engine.create_sale(new_sale("s", rules(2), &[("a", 5)])).await.unwrap();
    assert_eq!(word(&place(&engine, "s", 1, "k", "a", 1).await).0, "created");
    engine.switch_sale("s", Switch::Ended).await.unwrap();
    let epoch = async || {
        let shard = ShardId { sale: engine.sale("s").await.unwrap().sale.no, shard: 0 };
        shop.gate.level(shard).await.unwrap().epoch
    };
    let before = epoch().await;
    // Long enough for a wide sweep to see that it has ended.
    tokio::time::sleep(Duration::from_millis(SWEEP_MS * (SWEEPS_WIDE + 2))).await;
    assert_eq!(epoch().await, before, "kept");
    shop.clock.advance(GATE_KEEPS_ENDED_MS);
    until(async || epoch().await > before).await;
    assert_eq!(word(&place(&engine, "s", 1, "k", "a", 1).await).0, "replayed");
    assert_eq!(word(&place(&engine, "s", 2, "k", "a", 1).await).0, "sale_ended");
}
