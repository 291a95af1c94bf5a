//! Every load of a shard forgets its keys, so there must be few: one for each cause, however many engines there are.
//! And what a gate has forgotten, or never knew, must not change an answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, join_all};
use rushgate::clock::UnixMs;
use rushgate::engine::{Engine, Options};
use rushgate::gate::{
    Error, Gate, Level, ReserveOutcome, ReserveRequest, ReturnedUnits, Settlement, ShardEpoch, ShardId,
};
use rushgate::metrics::Metrics;
use rushgate::order::{Epoch, Reservation, Retry, Sale, Switch};

use crate::engines::{Shop, until};
use crate::faulty_gate::{Call, FaultyGate};
use crate::world::{new_sale, place, rules, word};

/// One engine's line to the gate.
struct Line {
    gate: Arc<FaultyGate>,
    is_cut: AtomicBool,
}

impl Line {
    fn or_cut<'a, T: Send + 'a>(&self, call: BoxFuture<'a, Result<T, Error>>) -> BoxFuture<'a, Result<T, Error>> {
        if self.is_cut.load(Ordering::SeqCst) {
            return std::future::ready(Err(Error::Unavailable("cut".to_owned()))).boxed();
        }
        call
    }
}

impl Gate for Line {
    fn load<'a>(
        &'a self,
        at: ShardEpoch,
        sale: &'a Sale,
        units: &'a [i64],
        all: bool,
    ) -> BoxFuture<'a, Result<(), Error>> {
        self.or_cut(self.gate.load(at, sale, units, all))
    }

    fn reserve<'a>(
        &'a self,
        at: ShardEpoch,
        now_ms: UnixMs,
        asks: &'a [ReserveRequest],
    ) -> BoxFuture<'a, Result<Vec<ReserveOutcome>, Error>> {
        self.or_cut(self.gate.reserve(at, now_ms, asks))
    }

    fn settle<'a>(&'a self, at: ShardEpoch, settlements: &'a [Settlement]) -> BoxFuture<'a, Result<(), Error>> {
        self.or_cut(self.gate.settle(at, settlements))
    }

    fn switch<'a>(&'a self, shard: ShardId, switch: Switch) -> BoxFuture<'a, Result<(), Error>> {
        self.or_cut(self.gate.switch(shard, switch))
    }

    fn adjust<'a>(&'a self, at: ShardEpoch, sku: u16, units: i64) -> BoxFuture<'a, Result<i64, Error>> {
        self.or_cut(self.gate.adjust(at, sku, units))
    }

    fn return_units<'a>(&'a self, at: ShardEpoch, returns: &'a [ReturnedUnits]) -> BoxFuture<'a, Result<(), Error>> {
        self.or_cut(self.gate.return_units(at, returns))
    }

    fn level<'a>(&'a self, shard: ShardId) -> BoxFuture<'a, Result<Level, Error>> {
        self.or_cut(self.gate.level(shard))
    }

    fn overdue<'a>(
        &'a self,
        at: ShardEpoch,
        now_ms: UnixMs,
        max: usize,
    ) -> BoxFuture<'a, Result<Vec<Reservation>, Error>> {
        self.or_cut(self.gate.overdue(at, now_ms, max))
    }
}

async fn engines(shop: &Shop, count: usize) -> Vec<Arc<Engine>> {
    let mut engines = Vec::new();
    for _ in 0..count {
        engines.push(shop.engine().await);
    }
    engines
}

async fn all_know(engines: &[Arc<Engine>]) {
    for engine in engines {
        until(async || engine.sale("s").await.is_ok()).await;
    }
}

/// The gate's epoch, 0 for none.
async fn epoch(shop: &Shop, engine: &Engine) -> i64 {
    let sale = engine.sale("s").await.unwrap().sale.no;
    shop.gate.level(ShardId { sale, shard: 0 }).await.unwrap().epoch.map_or(0, Epoch::get)
}

/// Orders on every engine, for a while.
async fn trade(engines: &[Arc<Engine>], name: &str, duration: Duration) {
    let traders = engines.iter().enumerate().map(|(number, engine)| async move {
        let until = tokio::time::Instant::now() + duration;
        let mut n = 0;
        while tokio::time::Instant::now() < until {
            n += 1;
            let answer = place(engine, "s", 1 + n % 40, &format!("{name}-{number}-{n}"), "a", 1).await;
            assert!(answer.is_ok() || answer.is_err_and(|refusal| refusal.code.retry() != Retry::Never));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    join_all(traders).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_that_takes_its_time_is_not_overtaken() {
    let shop = Shop::new();
    let engines = engines(&shop, 4).await;
    engines[0].create_sale(new_sale("s", rules(1), &[("a", 100_000)])).await.unwrap();
    all_know(&engines).await;
    let before = epoch(&shop, &engines[0]).await;
    shop.gate.slow_down(Call::Load, Duration::from_millis(120));
    shop.gate.flush();
    trade(&engines, "k", Duration::from_millis(2_500)).await;
    assert_eq!(epoch(&shop, &engines[0]).await, before + 1, "one flush, one epoch");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_is_one_epoch_for_all_engines() {
    let shop = Shop::new();
    let engines = engines(&shop, 6).await;
    engines[0].create_sale(new_sale("s", rules(1), &[("a", 100_000)])).await.unwrap();
    all_know(&engines).await;
    let before = epoch(&shop, &engines[0]).await;
    shop.gate.set_down(true);
    trade(&engines, "down", Duration::from_millis(1_500)).await;
    assert!(engines.iter().all(|engine| engine.metrics().bypassed_orders.get() > 0));
    shop.gate.set_down(false);
    trade(&engines, "up", Duration::from_millis(3_000)).await;
    assert!(engines.iter().all(|engine| engine.shards_bypassed() == 0));
    let epochs = epoch(&shop, &engines[0]).await - before;
    // One for the outage; one more where orders that were on their way past the gate were not counted in it.
    assert!((1..=2).contains(&epochs), "{epochs} epochs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sale_without_trouble_has_one_epoch() {
    let shop = Shop::new();
    let engines = engines(&shop, 3).await;
    engines[0].create_sale(new_sale("s", rules(4), &[("a", 100_000)])).await.unwrap();
    all_know(&engines).await;
    trade(&engines, "k", Duration::from_millis(3_000)).await;
    assert_eq!(epoch(&shop, &engines[0]).await, 1);
    assert_eq!(engines.iter().map(|engine| engine.metrics().reconciled.get()).sum::<u64>(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_went_past_the_gate_is_replayed_by_a_gate_that_is_new() {
    let shop = Shop::new();
    shop.gate.set_down(true);
    let engine = shop.engine().await;
    engine.create_sale(new_sale("s", rules(1), &[("a", 1)])).await.unwrap();
    assert_eq!(word(&place(&engine, "s", 1, "k", "a", 1).await).0, "created");
    shop.gate.set_down(false);
    until(async || engine.shards_bypassed() == 0).await;
    assert_eq!(word(&place(&engine, "s", 1, "k", "a", 1).await).0, "replayed", "not sold out");
    engine.switch_sale("s", Switch::Paused).await.unwrap();
    assert_eq!(word(&place(&engine, "s", 1, "k", "a", 1).await).0, "replayed", "not paused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_went_past_the_gate_here_is_replayed_there() {
    let shop = Shop::on_postgres().await;
    let line = Arc::new(Line { gate: shop.gate.clone(), is_cut: AtomicBool::new(false) });
    let metrics = Arc::new(Metrics::default());
    let here = Engine::start(line.clone(), shop.ledger.clone(), shop.clock.clone(), metrics, Options::default()).await;
    let (here, there) = (here.unwrap(), shop.engine().await);
    here.create_sale(new_sale("s", rules(1), &[("a", 9)])).await.unwrap();
    all_know(std::slice::from_ref(&there)).await;
    there.switch_sale("s", Switch::Running).await.unwrap();
    line.is_cut.store(true, Ordering::SeqCst);
    assert_eq!(word(&place(&here, "s", 1, "k", "a", 1).await).0, "created");
    assert_eq!(here.metrics().bypassed_orders.get(), 1);
    there.switch_sale("s", Switch::Paused).await.unwrap();
    assert_eq!(word(&place(&there, "s", 1, "k", "a", 1).await).0, "replayed", "not paused");
    there.switch_sale("s", Switch::Ended).await.unwrap();
    assert_eq!(word(&place(&there, "s", 1, "k", "a", 1).await).0, "replayed", "not ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_at_the_sell_out_is_counted_for_once() {
    let shop = Shop::new();
    let engine = shop.engine().await;
    engine.create_sale(new_sale("s", rules(8), &[("a", 8)])).await.unwrap();
    shop.gate.slow_down(Call::Level, Duration::from_millis(2));
    let before = shop.gate.count(Call::Level);
    let crowd = (1..=500).map(|user| {
        let engine = engine.clone();
        async move { word(&place(&engine, "s", user, "k", "a", 1).await).0 }
    });
    let words = join_all(crowd).await;
    let count = |wanted: &str| words.iter().filter(|word| **word == wanted).count();
    assert_eq!((count("created"), count("sold_out")), (8, 492), "{words:?}");
    // Eight shards a look; a look for each refill, and some of the sweeper's.
    let levels = shop.gate.count(Call::Level) - before;
    assert!(levels < 8 * 60, "{levels} levels for 492 refusals");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_that_stands_otherwise_than_its_sale_is_put_right() {
    let shop = Shop::new();
    let engine = shop.engine().await;
    engine.create_sale(new_sale("s", rules(2), &[("a", 9)])).await.unwrap();
    let sale = engine.sale("s").await.unwrap().sale.no;
    // As if another engine had read "paused" before a resume, and told the gate after it.
    shop.gate.switch(ShardId { sale, shard: 1 }, Switch::Paused).await.unwrap();
    assert_eq!(word(&place(&engine, "s", 1, "k", "a", 1).await).0, "sale_paused");
    until(async || word(&place(&engine, "s", 1, "k", "a", 1).await).0 == "created").await;
    assert_eq!(epoch(&shop, &engine).await, 1, "without a new epoch");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_that_reloads_the_page_shares_its_looks() {
    let shop = Shop::new();
    let engine = shop.engine().await;
    engine.create_sale(new_sale("s", rules(8), &[("a", 9)])).await.unwrap();
    shop.gate.slow_down(Call::Level, Duration::from_millis(5));
    let before = shop.gate.count(Call::Level);
    let hints = join_all((0..300).map(|_| engine.sale_hint("s"))).await;
    assert!(hints.iter().all(|hint| hint.as_ref().is_ok_and(|(_, _, left)| left == &[9])));
    assert!(shop.gate.count(Call::Level) - before < 8 * 20, "a few looks for three hundred");
    assert_eq!(word(&place(&engine, "s", 1, "k", "a", 1).await).0, "created");
    assert_eq!(engine.sale_hint("s").await.unwrap().2, [8], "who comes later sees what happened before");
}
