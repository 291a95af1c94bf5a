//! Changes of orders beside everything else that locks the same rows, and changes whose commit nobody heard of.

use std::sync::Arc;

use rushgate::ledger::{
    AppendOutcome, Change, ChangeOutcome, Entry, EpochRequest, Error, OrderLedger, ReportOutcome, Restock, SaleLedger,
    StepOutcome, StepRequest, Transfer,
};
use rushgate::order::{Epoch, Note, PaymentEvent, Rules, State, Step};
use sqlx::PgConnection;
use tokio::task::JoinSet;

use super::breaks::eventually;
use super::proxy::{Cut, Proxy};
use super::{Shop, is_created};
use crate::ledger_contract::lifecycle::{LATE, asked, payment, refund, report};
use crate::world::{NOON, name, rules};
use rushgate_test_support::postgres::{self, PostgresServer};
use rushgate_test_support::random::Random;

impl Shop {
    async fn state(&self, wish: &Entry) -> State {
        self.engines[0].find(None, wish.reservation.order_no).await.unwrap().unwrap().state
    }
}

/// A change of one of these orders, drawn at random.
fn drawn(random: &mut Random, wishes: &[Entry], n: u64) -> Change {
    let wish = &wishes[random.below(wishes.len() as u64) as usize];
    let key = format!("k{n}");
    match random.below(6) {
        0 => Change::Report(payment(wish, &format!("e{}", random.below(30)))),
        1 => Change::Report(refund(wish, &format!("r{}", random.below(30)))),
        2 => Change::Step(StepRequest { restock: true, ..asked(wish, Step::Refund, &key) }),
        3 => Change::Step(asked(wish, Step::Ship, &key)),
        4 => Change::Report(report(&format!("u{}", random.below(30)), PaymentEvent::Unknown)),
        // Keys that several changes use, of whatever order.
        _ => Change::Step(StepRequest {
            operation: asked(&wishes[0], Step::Cancel, &format!("c{}", random.below(20))).operation,
            ..asked(wish, Step::Cancel, "-")
        }),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_and_everything_else_never_block_each_other_for_good() {
    let limited = Rules { user_limit: Some(1_000_000), ..rules(3) };
    let shop = Arc::new(Shop::new(2, limited, &[("a", 100_000), ("b", 100_000)]).await);
    let wishes: Vec<Entry> = (0..120).map(|n| shop.wish(n % 8 + 1, &format!("w{n}"), (n % 2) as u16, 1)).collect();
    assert!(shop.engines[0].append(wishes.clone()).await.unwrap().iter().all(is_created));
    let wishes = Arc::new(wishes);
    let mut random = Random::seeded("changes_and_everything_else_never_block_each_other_for_good");
    let mut tasks = JoinSet::new();
    for n in 0..4 {
        let (shop, wishes, mut random) = (shop.clone(), wishes.clone(), random.split());
        tasks.spawn(async move {
            for round in 0..25 {
                let batch: Vec<Change> =
                    (0..24).map(|at| drawn(&mut random, &wishes, n as u64 * 10_000 + round * 100 + at)).collect();
                shop.engines[n % 2].change(batch, NOON + 5).await.unwrap();
            }
        });
    }
    for n in 0..4 {
        let (shop, wishes, mut random) = (shop.clone(), wishes.clone(), random.split());
        tasks.spawn(async move {
            for round in 0..25 {
                // Orders that are there, some of which are being changed, and new ones.
                let mut batch = wishes.as_ref().clone();
                batch.rotate_left(random.below(120) as usize);
                batch.truncate(40);
                batch.extend((1..=8).map(|user| shop.wish(user, &format!("{n}.{round}"), user as u16 % 2, 1)));
                if n % 2 == 1 {
                    batch.reverse();
                }
                shop.engines[n % 2].append(batch).await.unwrap();
            }
        });
    }
    let others = shop.clone();
    tasks.spawn(async move {
        for n in 0..25 {
            let (sale, to) = (others.sale.no, (n % 3) as u16);
            let sku = others.sale.skus[n % 2].no;
            let id = n as u128;
            let transfer = Transfer { id, sku, from: (to + 1) % 3, to, units: 1, now_ms: NOON };
            assert!(others.engines[0].transfer(transfer).await.unwrap());
            let (change_id, by_shard) = (name(&format!("c{n}")), vec![(2, 1), (0, 1), (1, 1)]);
            let restock = Restock { sale, change_id, sku, units: 3, by_shard, now_ms: NOON };
            others.engines[1].restock(restock).await.unwrap();
            let begins = (0..3).rev().map(|shard| EpochRequest { shard, after: Epoch::new(n as i64) }).collect();
            others.engines[0].begin_epochs(sale, begins).await.unwrap();
            others.engines[1].expire(LATE, 3).await.unwrap();
            others.engines[0].sweep_keys(NOON, 10).await.unwrap();
        }
    });
    tasks.join_all().await;
    assert_eq!(shop.deadlocks().await, 0);
    shop.assert_balanced().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_appended_again_while_it_is_changed() {
    let shop = Arc::new(Shop::new(2, rules(1), &[("a", 100_000)]).await);
    for round in 0..30 {
        // One segment for all: whoever appends holds it while looking at each order that is there.
        let wishes: Vec<Entry> = (1..=16).map(|user| shop.wish(user, &format!("{round}"), 0, 1)).collect();
        assert!(shop.engines[0].append(wishes.clone()).await.unwrap().iter().all(is_created));
        let mut tasks = JoinSet::new();
        for (n, wish) in wishes.clone().into_iter().enumerate() {
            let (shop, wishes) = (shop.clone(), wishes.clone());
            tasks.spawn(async move {
                let change = Change::Step(asked(&wish, Step::Cancel, "x"));
                let changed = shop.engines[n % 2].change(vec![change], NOON + 5);
                let (changed, again) = tokio::join!(changed, shop.engines[1 - n % 2].append(wishes));
                assert!(matches!(
                    changed.unwrap()[..],
                    [ChangeOutcome::Step(StepOutcome::Done { returned: Some(_), .. })]
                ));
                assert!(again.unwrap().iter().all(|answer| matches!(answer, AppendOutcome::Exists(_))));
            });
        }
        tasks.join_all().await;
    }
    assert_eq!(shop.deadlocks().await, 0);
    shop.assert_balanced().await;
}

#[tokio::test]
async fn a_lost_answer_to_a_change_is_settled_by_the_same_change() {
    let proxy = Proxy::start(postgres::shared().port()).await;
    let url =
        postgres::shared().new_database().replace(&postgres::shared().port().to_string(), &proxy.port.to_string());
    let shop = Shop::at(url, 1, rules(2), &[("a", 100)]).await;
    let engine = &shop.engines[0];
    for (n, cut) in [(1, Cut::Before), (2, Cut::After)] {
        let is_done = cut == Cut::After;
        let [given_up, paid, late] = ["c", "p", "l"].map(|key| shop.wish(n, key, 0, 1));
        assert!(engine.append(vec![given_up.clone(), paid.clone()]).await.unwrap().iter().all(is_created));
        let lost = async |change: Change| {
            proxy.cut_next(cut);
            let lost = engine.change(vec![change.clone()], NOON + 5).await;
            assert!(matches!(lost, Err(Error::Unknown(_))), "{cut:?}: {lost:?}");
            engine.change(vec![change], NOON + 9).await.unwrap().remove(0)
        };
        let settled = lost(Change::Step(asked(&given_up, Step::Cancel, "x"))).await;
        match settled.step().unwrap() {
            StepOutcome::Before(order) => assert!(is_done && order.updated_at == NOON + 5, "{cut:?}"),
            StepOutcome::Done { order, .. } => assert!(!is_done && order.updated_at == NOON + 9, "{cut:?}"),
            other => panic!("{cut:?}: {other:?}"),
        }
        let settled = lost(Change::Report(payment(&paid, &format!("e{n}")))).await;
        let settled = settled.report().unwrap();
        assert!(matches!(settled, ReportOutcome::Recorded { note: Note::Applied, .. }), "{cut:?}: {settled:?}");
        let settled = lost(Change::Report(report(&format!("u{n}"), PaymentEvent::Unknown))).await;
        let settled = settled.report().unwrap();
        assert!(matches!(settled, ReportOutcome::Recorded { note: Note::NoEffect, .. }), "{cut:?}: {settled:?}");
        let steps = engine.history(paid.reservation.user, paid.reservation.order_no).await.unwrap().steps;
        assert_eq!(steps.len(), 1, "{cut:?}");
        assert_eq!(steps[0].at, if is_done { NOON + 5 } else { NOON + 9 }, "{cut:?}");

        assert!(is_created(&engine.append(vec![late.clone()]).await.unwrap()[0]));
        proxy.cut_next(cut);
        let lost = engine.expire(LATE, 9).await;
        assert!(matches!(lost, Err(Error::Unknown(_))), "{cut:?}: {lost:?}");
        assert_eq!(engine.expire(LATE, 9).await.unwrap().len(), usize::from(!is_done), "{cut:?}");
        assert_eq!(shop.state(&late).await, State::Expired, "{cut:?}");
    }
    shop.assert_balanced().await;
}

async fn run(sql: &mut PgConnection, statements: &[&'static str]) {
    for statement in statements {
        sqlx::raw_sql(*statement).execute(&mut *sql).await.unwrap();
    }
}

/// Somebody cancels the wait of a commit: it is answered, and a failover would lose it. Nobody is told it once more.
#[tokio::test(flavor = "multi_thread")]
async fn no_repeat_of_a_change_is_answered_before_the_standby_has_it() {
    let server = PostgresServer::start(&[]);
    let shop = Shop::at(server.new_database(), 2, rules(1), &[("a", 100)]).await;
    let wishes = [1, 2, 3].map(|user| shop.wish(user, "k", 0, 1));
    assert!(shop.engines[0].append(wishes.to_vec()).await.unwrap().iter().all(is_created));
    let changes = vec![
        Change::Step(asked(&wishes[0], Step::Cancel, "x")),
        Change::Report(payment(&wishes[1], "e")),
        Change::Report(report("u", PaymentEvent::Unknown)),
    ];
    let mut sql = shop.sql().await;
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    run(&mut sql, &["ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "SELECT pg_reload_conf()"]).await;
    eventually(async || {
        let set: String = sqlx::query_scalar("SHOW synchronous_standby_names").fetch_one(&mut sql).await.unwrap();
        (set == "nobody").then_some(())
    })
    .await;
    let first = tokio::spawn({
        let (engine, changes) = (shop.engines[0].clone(), changes.clone());
        async move { engine.change(changes, NOON + 5).await }
    });
    eventually(async || (sqlx::query_scalar::<_, i64>(waits).fetch_one(&mut sql).await.unwrap() == 1).then_some(()))
        .await;
    run(&mut sql, &["SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"]).await;
    assert!(first.await.unwrap().is_ok(), "committed where it was");
    let mut repeats = JoinSet::new();
    for (n, change) in changes.iter().enumerate() {
        let (engine, change) = (shop.engines[n % 2].clone(), change.clone());
        repeats.spawn(async move { engine.change(vec![change], NOON + 6).await });
    }
    for repeat in repeats.join_all().await {
        assert!(matches!(repeat, Err(Error::Unknown(_))), "{repeat:?}");
    }
    run(&mut sql, &["ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()"]).await;
    let settled = eventually(async || shop.engines[0].change(changes.clone(), NOON + 7).await.ok()).await;
    let [
        ChangeOutcome::Step(StepOutcome::Before(_)),
        ChangeOutcome::Report(ReportOutcome::Recorded { note: Note::Applied, .. }),
        ChangeOutcome::Report(ReportOutcome::Recorded { note: Note::NoEffect, .. }),
    ] = settled[..]
    else {
        panic!("{settled:?}")
    };
    shop.assert_balanced().await;
}

/// What another engine is at work on takes up no place of a round.
#[tokio::test]
async fn a_round_of_expiry_is_not_filled_with_what_others_have_locked() {
    let shop = Shop::new(1, rules(1), &[("a", 9)]).await;
    let mut wishes: Vec<Entry> = (1..=4).map(|user| shop.wish(user, "k", 0, 1)).collect();
    for (wish, after_ms) in wishes.iter_mut().zip(0..) {
        wish.reservation.created_at = NOON + after_ms;
    }
    shop.engines[0].append(wishes.clone()).await.unwrap();
    let mut other = shop.sql().await;
    sqlx::raw_sql("BEGIN; SELECT * FROM orders ORDER BY created_at LIMIT 2 FOR UPDATE")
        .execute(&mut other)
        .await
        .unwrap();
    let expired = shop.engines[0].expire(LATE + 9, 2).await.unwrap();
    let numbers: Vec<_> = expired.iter().map(|expired| expired.order.order_no).collect();
    assert_eq!(
        numbers,
        [wishes[2].reservation.order_no, wishes[3].reservation.order_no],
        "two are locked, two more are due"
    );
    sqlx::raw_sql("COMMIT").execute(&mut other).await.unwrap();
    assert_eq!(shop.engines[0].expire(LATE + 9, 9).await.unwrap().len(), 2);
    shop.assert_balanced().await;
}

/// A backlog in many sales: each round works on what it expires, not on as much in every sale.
#[tokio::test]
async fn a_round_of_expiry_locks_no_more_than_it_expires() {
    let shop = Shop::new(1, rules(1), &[("a", 9)]).await;
    let mut sql = shop.sql().await;
    // 200 sales with 5 overdue orders each; the later a sale was made, the older its orders are.
    run(
        &mut sql,
        &[
            "INSERT INTO sales (id, payment_timeout_s, boundary, on_duplicate, require_token, shards, salt, derivation, \
             switch, revision, created_at) SELECT 'many' || n, 60, 'request', 'replay', false, 1, \
             decode(repeat('00', 32), 'hex'), 1, 'open', 0, 0 FROM generate_series(1, 200) n",
            "INSERT INTO skus (sale_no, position, id, unit_price, currency, created, total) \
             SELECT no, 0, 'k', 1, 'CNY', 9, 9 FROM sales WHERE id <> 's'",
            "INSERT INTO segments (sku_no, shard, total, held, sold) SELECT k.no, 0, 9, 5, 0 FROM skus k WHERE k.id = 'k'",
            "INSERT INTO orders (seq, user_id, sale_no, sku_no, epoch, created_at, updated_at, order_no, fingerprint, \
             quantity, state_version, state) SELECT k.no * 10 + n, n, k.sale_no, k.no, 0, n * 1000 - k.no, 0, \
             md5(k.no || '/' || n)::uuid, md5('f')::uuid, 1, 1, 0 FROM skus k, generate_series(1, 5) n WHERE k.id = 'k'",
        ],
    )
    .await;
    let oldest = "SELECT sale_no FROM orders WHERE state = 0 ORDER BY created_at LIMIT 1";
    // A row that somebody has locked, and not written, keeps the number of that transaction.
    let only_locked = "SELECT count(*) FROM orders WHERE state = 0 AND xmax <> 0";
    for round in 0..4 {
        let first: i64 = sqlx::query_scalar(oldest).fetch_one(&mut sql).await.unwrap();
        let expired = shop.engines[0].expire(NOON, 13).await.unwrap();
        assert_eq!(expired.len(), 13, "round {round}");
        assert_eq!(expired[0].order.sale.0, first, "round {round}: the oldest of all");
        let only_locked: i64 = sqlx::query_scalar(only_locked).fetch_one(&mut sql).await.unwrap();
        assert_eq!(only_locked, 0, "round {round}: locked, and not expired");
    }
    assert_eq!(shop.engines[0].expire(NOON, 2000).await.unwrap().len(), 1000 - 4 * 13, "all of them in the end");
}

/// Orders that have lost their sku are broken: they are set aside, and take no place from the others.
#[tokio::test]
async fn orders_without_their_sku_do_not_keep_the_others_from_expiring() {
    let shop = Shop::new(1, rules(1), &[("gone", 9), ("a", 9)]).await;
    let mut wishes: Vec<Entry> = (1..=6).map(|user| shop.wish(user, "k", u16::from(user > 4), 1)).collect();
    for (wish, after_ms) in wishes.iter_mut().zip(0..) {
        wish.reservation.created_at = NOON + after_ms;
    }
    shop.engines[0].append(wishes.clone()).await.unwrap();
    let damage = "SET session_replication_role = replica; DELETE FROM skus WHERE id = 'gone'";
    run(&mut shop.sql().await, &[damage]).await;
    let expired = shop.engines[0].expire(LATE + 9, 2).await.unwrap();
    let numbers: Vec<_> = expired.iter().map(|expired| expired.order.order_no).collect();
    assert_eq!(numbers, [wishes[4].reservation.order_no, wishes[5].reservation.order_no]);
    assert_eq!(shop.engines[0].expire(LATE + 9, 2).await.unwrap(), []);
}
