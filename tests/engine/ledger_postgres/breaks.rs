//! Connections that break, servers that fall, commits whose answer is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rushgate::ledger::{
    AppendOutcome, Error, Ledger, OrderLedger, PostgresLedger, Restock, RestockOutcome, SaleLedger, Transfer,
};
use tokio::time::Instant;

use super::proxy::{Cut, Proxy};
use super::{Shop, is_created};
use crate::postgres_server::{Server, server};
use crate::world::{NOON, PATIENCE, name, rules};

#[tokio::test(flavor = "multi_thread")]
async fn appends_survive_connections_that_are_ended_under_them() {
    let shop = Arc::new(Shop::new(1, rules(4), &[("a", 1_000_000)]).await);
    let done = Arc::new(AtomicBool::new(false));
    let killer = tokio::spawn({
        let (mut sql, done) = (shop.sql().await, done.clone());
        async move {
            let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                 WHERE datname = current_database() AND application_name = 'rushgate' AND random() < 0.3";
            while !done.load(Ordering::SeqCst) {
                sqlx::query(kill).execute(&mut sql).await.unwrap();
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
        }
    });
    let mut writers = tokio::task::JoinSet::new();
    for n in 0..4 {
        let shop = shop.clone();
        writers.spawn(async move {
            let mut failures = 0;
            for round in 0..40 {
                let batch: Vec<_> = (1..=32).map(|u| shop.wish(u, &format!("{n}.{round}"), 0, 1)).collect();
                let mut may_exist = false;
                let deadline = Instant::now() + PATIENCE;
                loop {
                    match shop.engines[0].append(batch.clone()).await {
                        Ok(answers) if answers.iter().all(is_created) => break,
                        Ok(answers) => {
                            assert!(answers.iter().all(|answer| matches!(answer, AppendOutcome::Exists(_))));
                            assert!(may_exist, "what was surely not done is not there");
                            break;
                        }
                        Err(Error::Unavailable(_)) => {}
                        Err(Error::Unknown(_)) => may_exist = true,
                        Err(error) => panic!("{error}"),
                    }
                    failures += 1;
                    assert!(Instant::now() < deadline);
                }
            }
            failures
        });
    }
    let failures: usize = writers.join_all().await.into_iter().sum();
    done.store(true, Ordering::SeqCst);
    killer.await.unwrap();
    assert!(failures > 0, "no append failed");
    assert_eq!(shop.count().await, 4 * 40 * 32);
    let checks = eventually(async || shop.engines[0].audit(None).await.ok()).await;
    assert!(checks.iter().all(|check| check.ok), "{checks:?}");
}

pub(super) async fn eventually<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "it does not come back");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_lost_answer_to_a_commit_is_settled_by_the_same_call() {
    let proxy = Proxy::start(server().port()).await;
    let url = server().database().await.replace(&server().port().to_string(), &proxy.port.to_string());
    let shop = Shop::at(url, 1, rules(2), &[("a", 100)]).await;
    let engine = &shop.engines[0];
    for (cut, is_done) in [(Cut::Before, false), (Cut::After, true)] {
        let wish = shop.wish(2, &format!("{cut:?}"), 0, 1);
        proxy.cut_next(cut);
        let lost = engine.append(vec![wish.clone()]).await;
        assert!(matches!(lost, Err(Error::Unknown(_))), "{cut:?}: {lost:?}");
        let settled = engine.append(vec![wish.clone()]).await.unwrap();
        assert_eq!(matches!(settled[0], AppendOutcome::Exists(_)), is_done, "{cut:?}: {settled:?}");
        assert_eq!(is_created(&settled[0]), !is_done, "{cut:?}: {settled:?}");
    }
    let sku = shop.sale.skus[0].no;
    for (n, cut) in [(1, Cut::Before), (2, Cut::After)] {
        let transfer = Transfer { id: n, sku, from: 0, to: 1, units: 5, now_ms: NOON };
        proxy.cut_next(cut);
        assert!(matches!(engine.transfer(transfer).await, Err(Error::Unknown(_))), "{cut:?}");
        assert!(engine.transfer(transfer).await.unwrap(), "{cut:?}");
        let (change_id, by_shard) = (name(&format!("{cut:?}")), vec![(0, 3), (1, 4)]);
        let restock = Restock { sale: shop.sale.no, change_id, sku, units: 7, by_shard, now_ms: NOON };
        proxy.cut_next(cut);
        assert!(matches!(engine.restock(restock.clone()).await, Err(Error::Unknown(_))), "{cut:?}");
        let expected = if cut == Cut::After { RestockOutcome::Before } else { RestockOutcome::Applied };
        assert_eq!(engine.restock(restock).await.unwrap(), expected, "{cut:?}");
    }
    let stock = engine.stock(shop.sale.no).await.unwrap();
    assert_eq!([stock[0][0].total, stock[0][1].total], [50 - 10 + 6, 50 + 10 + 8]);
    shop.assert_balanced().await;
}

/// A statement that commits by itself may have done so before its connection is lost. Without its COMMIT a transaction has
/// not.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_leaves_only_what_may_be_committed_unknown() {
    let shop = Arc::new(Shop::new(1, rules(1), &[("a", 9)]).await);
    for (lock, is_unknown) in [("LOCK TABLE idempotency_keys", true), ("LOCK TABLE segments", false)] {
        let mut sql = shop.sql().await;
        sqlx::raw_sql("BEGIN").execute(&mut sql).await.unwrap();
        sqlx::raw_sql(lock).execute(&mut sql).await.unwrap();
        let (working, wish) = (shop.clone(), shop.wish(1, "k", 0, 1));
        let work = tokio::spawn(async move {
            match is_unknown {
                true => working.engines[0].sweep_keys(NOON, 9).await.map(drop),
                false => working.engines[0].append(vec![wish]).await.map(drop),
            }
        });
        let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
             WHERE datname = current_database() AND application_name = 'rushgate' AND wait_event_type = 'Lock'";
        let mut killer = shop.sql().await;
        eventually(async || {
            (sqlx::query_scalar::<_, i64>(end).fetch_one(&mut killer).await.unwrap() == 1).then_some(())
        })
        .await;
        let lost = work.await.unwrap();
        let (unknown, undone) = (matches!(lost, Err(Error::Unknown(_))), matches!(lost, Err(Error::Unavailable(_))));
        assert_eq!((unknown, undone), (is_unknown, !is_unknown), "{lock}: {lost:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_falls_fails_calls_at_once_and_loses_nothing() {
    let mut server = Server::start(&[]);
    let shop = Shop::at(server.database().await, 1, rules(2), &[("a", 100)]).await;
    let engine = &shop.engines[0];
    let wishes: Vec<_> = (1..=20).map(|n| shop.wish(n, "k", 0, 1)).collect();
    assert!(engine.append(wishes.clone()).await.unwrap().iter().all(is_created));
    server.crash();
    for wish in &wishes {
        let asked = Instant::now();
        let (appended, found) = tokio::join!(
            engine.append(vec![wish.clone()]),
            engine.find(Some(wish.reservation.user), wish.reservation.order_no)
        );
        assert!(matches!(appended, Err(Error::Unavailable(_))), "{appended:?}");
        assert!(matches!(found, Err(Error::Unavailable(_))), "{found:?}");
        assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    }
    server.run(&[]);
    for wish in &wishes {
        let again = eventually(async || engine.append(vec![wish.clone()]).await.ok()).await;
        assert!(matches!(again[0], AppendOutcome::Exists(_)), "{again:?}");
    }
    let found =
        eventually(async || engine.find(Some(wishes[0].reservation.user), wishes[0].reservation.order_no).await.ok())
            .await;
    assert_eq!(found.unwrap().order_no, wishes[0].reservation.order_no);
    // Another server, or an old copy, behind the same address is not this ledger.
    let mut sql = shop.sql().await;
    sqlx::query("UPDATE ledger_id SET id = id + 1").execute(&mut sql).await.unwrap();
    drop(sql);
    server.crash();
    server.run(&[]);
    for _ in 0..5 {
        let refused = engine.append(vec![wishes[0].clone()]).await;
        assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_waits_for_its_standby_is_neither_told_nor_seen() {
    let server = Server::start(&[]);
    let shop = Shop::at(server.database().await, 1, rules(1), &[("a", 100)]).await;
    let (engine, wish) = (&shop.engines[0], shop.wish(1, "k", 0, 1));
    let mut sql = shop.sql().await;
    // From here on a commit waits for a standby that there is none of.
    for statement in ["ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "SELECT pg_reload_conf()"] {
        sqlx::raw_sql(statement).execute(&mut sql).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let waits = engine.append(vec![wish.clone()]).await;
    assert!(matches!(waits, Err(Error::Unknown(_))), "{waits:?}");
    let again = engine.append(vec![wish.clone()]).await;
    assert!(matches!(again, Err(Error::Busy)), "the first attempt still holds its segment: {again:?}");
    assert_eq!(engine.find(Some(wish.reservation.user), wish.reservation.order_no).await.unwrap(), None);
    for statement in ["ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()"] {
        sqlx::raw_sql(statement).execute(&mut sql).await.unwrap();
    }
    let settled = eventually(async || engine.append(vec![wish.clone()]).await.ok()).await;
    assert!(matches!(settled[0], AppendOutcome::Exists(_)), "{settled:?}");
}

#[tokio::test]
async fn a_probe_writes_to_the_database() {
    let shop = Shop::new(1, rules(1), &[("a", 1)]).await;
    let ledger = &shop.engines[0];
    let id = ledger.id().await.unwrap();
    ledger.probe().await.unwrap();
    // It can be read, and not written.
    let mut sql = shop.sql().await;
    sqlx::raw_sql("BEGIN; LOCK TABLE ledger_id IN EXCLUSIVE MODE").execute(&mut sql).await.unwrap();
    ledger.stock(shop.sale.no).await.unwrap();
    assert_eq!(ledger.probe().await, Err(Error::Busy));
    sqlx::raw_sql("COMMIT").execute(&mut sql).await.unwrap();
    eventually(async || ledger.probe().await.ok()).await;
    let other = PostgresLedger::open(&shop.url).await.unwrap();
    assert_eq!(other.id().await.unwrap(), id, "nothing was changed");
    shop.assert_balanced().await;
}
