//! The ledger in PostgreSQL where the contract does not reach: several engines at once, broken connections, commits whose
//! answer is lost, and servers that it must refuse.

mod audits;
mod breaks;
mod lifecycle;
mod migrating;
mod proxy;
mod refusals;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rushgate::ledger::{
    AppendDenial, AppendOutcome, Entry, EpochRequest, Ledger, OrderLedger, PostgresLedger, SaleLedger, Transfer,
};
use rushgate::order::{Epoch, Rules, Sale, Switch};
use sqlx::{Connection, PgConnection};
use tokio::task::JoinSet;

use crate::world::{NOON, made, new_sale, reservation, rules, user};
use rushgate_test_support::postgres;

/// A database that several engines have open.
struct Shop {
    url: String,
    engines: Vec<Arc<PostgresLedger>>,
    sale: Arc<Sale>,
}

impl Shop {
    async fn new(engines: usize, rules: Rules, skus: &[(&str, i64)]) -> Shop {
        Shop::at(postgres::shared().new_database(), engines, rules, skus).await
    }

    async fn at(url: String, engines: usize, rules: Rules, skus: &[(&str, i64)]) -> Shop {
        let mut open = Vec::new();
        for _ in 0..engines {
            open.push(Arc::new(PostgresLedger::open(&url).await.unwrap()));
        }
        let sale = made(open[0].as_ref(), new_sale("s", rules, skus)).await;
        Shop { url, engines: open, sale }
    }

    fn wish(&self, user_id: u64, key: &str, sku: u16, quantity: u32) -> Entry {
        let reservation = reservation(&self.sale, user_id, key, sku, quantity);
        Entry {
            sale: self.sale.clone(),
            shard: reservation.user.shard(self.sale.rules.shards),
            epoch: None,
            reservation,
        }
    }

    async fn sql(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.unwrap()
    }

    async fn count(&self) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM orders").fetch_one(&mut self.sql().await).await.unwrap()
    }

    async fn deadlocks(&self) -> i64 {
        let select = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
        sqlx::query_scalar(select).fetch_one(&mut self.sql().await).await.unwrap()
    }

    async fn assert_balanced(&self) {
        let checks = self.engines[0].audit(None).await.unwrap();
        assert!(checks.iter().all(|check| check.ok), "{checks:?}");
    }
}

fn is_created(answer: &AppendOutcome) -> bool {
    matches!(answer, AppendOutcome::Created { .. })
}

#[tokio::test(flavor = "multi_thread")]
async fn engines_that_append_the_same_orders_at_once_create_each_once() {
    let shop = Shop::new(2, Rules { user_limit: Some(3), ..rules(4) }, &[("a", 500)]).await;
    for round in 0..10 {
        // More wishes than stock, so that the exact path is walked as well as the plain one.
        let batch: Vec<Entry> = (1..=80).map(|n| shop.wish(n, &format!("{round}"), 0, 1)).collect();
        let mut appends = JoinSet::new();
        for n in 0..4 {
            let (engine, mut batch) = (shop.engines[n % 2].clone(), batch.clone());
            batch.rotate_left(n * 20);
            appends.spawn(async move {
                let answers = engine.append(batch.clone()).await.unwrap();
                batch.into_iter().zip(answers).collect::<Vec<_>>()
            });
        }
        let answers: Vec<(Entry, AppendOutcome)> = appends.join_all().await.into_iter().flatten().collect();
        for wish in &batch {
            let told = answers.iter().filter(|(entry, _)| entry.reservation.order_no == wish.reservation.order_no);
            let created = told.clone().filter(|(_, answer)| is_created(answer)).count();
            let exists = told.filter(|(_, answer)| matches!(answer, AppendOutcome::Exists(_))).count();
            assert!((created, exists) == (1, 3) || (created, exists) == (0, 0), "{created} created, {exists} exist");
        }
    }
    assert_eq!(shop.count().await, 240, "three units for each of 80 users");
    assert_eq!(shop.deadlocks().await, 0);
    shop.assert_balanced().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_in_opposite_order_do_not_block_each_other() {
    let skus: Vec<(String, i64)> = (0..8).map(|n| (format!("sku{n}"), 1_000_000)).collect();
    let skus: Vec<(&str, i64)> = skus.iter().map(|(id, stock)| (id.as_str(), *stock)).collect();
    let shop = Arc::new(Shop::new(2, rules(4), &skus).await);
    let mut appends = JoinSet::new();
    for n in 0..8 {
        let shop = shop.clone();
        appends.spawn(async move {
            for round in 0..20 {
                // Every second wish is everybody's, under one number for skus that differ.
                let wish = |at: u64| match at % 2 {
                    0 => shop.wish(at + 1, &format!("{round}"), ((at + n) % 8) as u16, 1),
                    _ => shop.wish(at + 1, &format!("{round} of {n}").replace(' ', "-"), (at % 8) as u16, 1),
                };
                let mut batch: Vec<Entry> = (0..64).map(wish).collect();
                if n % 2 == 1 {
                    batch.reverse();
                }
                shop.engines[(n % 2) as usize].append(batch).await.unwrap();
                let to = ((n + round) % 4) as u16;
                let transfer = Transfer {
                    id: u128::from(n * 1000 + round),
                    sku: shop.sale.skus[(n % 8) as usize].no,
                    from: (to + 1) % 4,
                    to,
                    units: 1,
                    now_ms: NOON,
                };
                assert!(shop.engines[(n % 2) as usize].transfer(transfer).await.unwrap());
            }
        });
    }
    appends.join_all().await;
    assert_eq!(shop.deadlocks().await, 0);
    assert_eq!(shop.count().await, 20 * (32 + 8 * 32));
    shop.assert_balanced().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_order_is_recorded_after_an_end_was_answered() {
    let shop = Arc::new(Shop::new(2, rules(4), &[("a", 1_000_000), ("b", 1_000_000)]).await);
    let mut appends = JoinSet::new();
    for n in 0..4 {
        let shop = shop.clone();
        appends.spawn(async move {
            for round in 0.. {
                let batch = (1..=16).map(|u| shop.wish(u, &format!("{n}.{round}"), n as u16 % 2, 1)).collect();
                if shop.engines[n % 2]
                    .append(batch)
                    .await
                    .unwrap()
                    .contains(&AppendOutcome::Denied(AppendDenial::Closed))
                {
                    break;
                }
            }
        });
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    shop.engines[1].switch(shop.sale.no, Switch::Ended).await.unwrap();
    let count = shop.count().await;
    appends.join_all().await;
    assert!(count > 0, "orders were recorded before the end");
    assert_eq!(shop.count().await, count, "none after it");
    shop.assert_balanced().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_counts_every_order_that_was_not_told_of_it() {
    let shop = Arc::new(Shop::new(2, rules(1), &[("a", 1_000_000), ("b", 1_000_000)]).await);
    let done = Arc::new(AtomicBool::new(false));
    let mut appends = JoinSet::new();
    for n in 0..4 {
        let (shop, done) = (shop.clone(), done.clone());
        appends.spawn(async move {
            let mut told = Vec::new();
            for round in 0.. {
                if done.load(Ordering::SeqCst) {
                    break;
                }
                let batch = (1..=8).map(|u| shop.wish(u, &format!("{n}.{round}"), n as u16 % 2, 1)).collect();
                for answer in shop.engines[n % 2].append(batch).await.unwrap() {
                    let AppendOutcome::Created { epoch } = answer else { panic!("{answer:?}") };
                    told.push(epoch);
                }
            }
            told
        });
    }
    let mut counted = Vec::new();
    for after in 0..20 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let ask = |engine: usize| {
            let engine = shop.engines[engine].clone();
            let sale = shop.sale.no;
            async move {
                engine
                    .begin_epochs(sale, vec![EpochRequest { shard: 0, after: Epoch::new(after) }])
                    .await
                    .unwrap()
                    .remove(0)
            }
        };
        let (one, other) = tokio::join!(ask(0), ask(1));
        assert_eq!((one.epoch.get(), other.epoch.get()), (after + 1, after + 1));
        let begun: Vec<_> = [one.begun, other.begun].into_iter().flatten().collect();
        assert_eq!(begun.len(), 1, "of two engines, one begins the epoch");
        counted.push(begun[0].levels.iter().map(|level| level.held).sum::<i64>());
    }
    done.store(true, Ordering::SeqCst);
    let told: Vec<Option<Epoch>> = appends.join_all().await.into_iter().flatten().collect();
    for (epoch, counted) in (1..).zip(counted) {
        let before = told.iter().filter(|told| **told < Epoch::new(epoch)).count();
        assert_eq!(i64::try_from(before).unwrap(), counted, "orders before epoch {epoch}");
    }
    shop.assert_balanced().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_follows_the_revisions_misses_no_sale() {
    let shop = Arc::new(Shop::new(3, rules(1), &[("a", 1)]).await);
    let mut makers = JoinSet::new();
    for engine in 0..2 {
        for n in 0..10 {
            let shop = shop.clone();
            makers.spawn(async move {
                let sale = made(
                    shop.engines[engine].as_ref(),
                    new_sale(&format!("s{engine}.{n}"), rules(64), &[("a", 640), ("b", 1)]),
                )
                .await;
                shop.engines[1 - engine].switch(sale.no, Switch::Paused).await.unwrap();
            });
        }
    }
    let (mut after, mut paused) = (shop.sale.revision, 0);
    let deadline = tokio::time::Instant::now() + crate::world::PATIENCE;
    while paused < 20 {
        for sale in shop.engines[2].sales(after).await.unwrap() {
            assert!(sale.revision > after);
            assert_eq!(sale.skus.len(), 2);
            after = sale.revision;
            paused += usize::from(sale.switch == Switch::Paused);
        }
        assert!(tokio::time::Instant::now() < deadline, "only {paused} of 20 pauses were seen");
    }
    makers.join_all().await;
    assert_eq!(shop.engines[2].sales(after).await.unwrap().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_orders_are_looked_up_at_once() {
    let shop = Arc::new(Shop::new(1, rules(4), &[("a", 10_000)]).await);
    let wishes: Vec<Entry> = (1..=1000).map(|n| shop.wish(n, "k", 0, 1)).collect();
    shop.engines[0].append(wishes[..500].to_vec()).await.unwrap();
    let mut finds = JoinSet::new();
    for (n, wish) in wishes.into_iter().enumerate() {
        let shop = shop.clone();
        finds.spawn(async move {
            let engine = &shop.engines[0];
            let (found, again, other) = tokio::join!(
                engine.find(Some(wish.reservation.user), wish.reservation.order_no),
                engine.find(Some(wish.reservation.user), wish.reservation.order_no),
                engine.find(Some(user(5000)), wish.reservation.order_no)
            );
            let found = found.unwrap();
            assert_eq!(found.map(|order| order.order_no), (n < 500).then_some(wish.reservation.order_no));
            assert_eq!((again.unwrap(), other.unwrap()), (found, None));
        });
    }
    finds.join_all().await;
    let queries: i64 =
        sqlx::query_scalar("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()")
            .fetch_one(&mut shop.sql().await)
            .await
            .unwrap();
    assert!(queries < 1500, "3000 look-ups took {queries} transactions");
}

#[tokio::test]
async fn an_engine_whose_gate_cannot_be_shared_is_alone() {
    let url = postgres::shared().new_database();
    let open = async || PostgresLedger::open(&url).await.unwrap();
    let (first, second, third) = (open().await, open().await, open().await);
    assert!(first.claim(false).await.unwrap() && second.claim(false).await.unwrap(), "beside each other");
    assert!(!third.claim(true).await.unwrap(), "not alone");
    first.close().await;
    second.close().await;
    assert!(third.claim(true).await.unwrap());
    assert!(!open().await.claim(false).await.unwrap(), "not beside one that is alone");
}
