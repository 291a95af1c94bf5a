//! A database of an earlier program, with orders in it.

use std::time::Duration;

use rushgate::ledger::{
    AppendOutcome, Change, ChangeOutcome, Ledger, OrderLedger, PostgresLedger, Returned, StepOutcome,
};
use rushgate::order::{Note, PaymentEvent, State, Step};
use sqlx::{Connection, PgConnection};

use super::Shop;
use super::breaks::eventually;
use crate::ledger_contract::lifecycle::{LATE, asked, heard, paid, payment, report};
use crate::world::{NOON, rules};
use rushgate_test_support::postgres;

/// The schema as it was when there were only orders.
const FIRST: &str = include_str!("../../../src/ledger/postgres/migrations/0001_ledger.sql");

/// Leaves of a database what the first program knew, as that program would have written it.
async fn as_the_first_program_left(url: &str, shop: &Shop) -> i64 {
    let rows = "CREATE SCHEMA kept; CREATE TABLE kept.orders AS TABLE orders; CREATE TABLE kept.sales AS TABLE sales; \
         CREATE TABLE kept.skus AS TABLE skus; CREATE TABLE kept.segments AS TABLE segments; \
         CREATE TABLE kept.ledger_id AS TABLE ledger_id; CREATE TABLE kept.revisions AS TABLE revisions; \
         CREATE TABLE kept.buyers AS TABLE buyers; \
         DROP SCHEMA public CASCADE; CREATE SCHEMA public";
    let back = "INSERT INTO sales (no, id, starts_at, ends_at, boundary, user_limit, payment_timeout_s, on_duplicate, \
         require_token, shards, salt, derivation, switch, revision, ungated, created_at) OVERRIDING SYSTEM VALUE \
         SELECT no, id, starts_at, ends_at, boundary, user_limit, payment_timeout_s, on_duplicate, require_token, shards, \
         salt, derivation, switch, revision, ungated, created_at FROM kept.sales; \
         INSERT INTO skus OVERRIDING SYSTEM VALUE SELECT * FROM kept.skus; \
         INSERT INTO segments SELECT sku_no, shard, total, held, sold FROM kept.segments; \
         INSERT INTO orders SELECT seq, user_id, sale_no, sku_no, epoch, created_at, updated_at, order_no, fingerprint, \
         quantity, state_version, state FROM kept.orders; INSERT INTO buyers SELECT * FROM kept.buyers; \
         UPDATE ledger_id SET id = k.id FROM kept.ledger_id k; UPDATE revisions SET newest = k.newest FROM kept.revisions k; \
         CREATE TABLE schema_versions (version bigint PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now()); \
         INSERT INTO schema_versions VALUES (1); SELECT setval('order_blocks', 1 + (SELECT max(seq) / 4096 FROM orders)); \
         DROP SCHEMA kept CASCADE";
    shop.engines[0].close().await;
    let mut sql = PgConnection::connect(url).await.unwrap();
    for statements in [rows, FIRST, back] {
        sqlx::raw_sql(statements).execute(&mut sql).await.unwrap();
    }
    let select = "SELECT count(*) FROM pg_attribute WHERE attrelid = 'orders'::regclass AND attname = 'returned'";
    sqlx::query_scalar(select).fetch_one(&mut sql).await.unwrap()
}

#[tokio::test]
async fn orders_of_an_earlier_program_live_on() {
    let rules = rushgate::order::Rules { user_limit: Some(5), ..rules(2) };
    let mut shop = Shop::at(postgres::shared().new_database(), 1, rules, &[("a", 20), ("b", 20)]).await;
    let wishes: Vec<_> = (1..=4).map(|user| shop.wish(user, "k", (user % 2) as u16, 2)).collect();
    shop.engines[0].append(wishes.clone()).await.unwrap();
    let versions = PostgresLedger::migrate(&shop.url).await.unwrap();
    let id = shop.engines[0].id().await.unwrap();
    assert_eq!(as_the_first_program_left(&shop.url.clone(), &shop).await, 0, "the column is gone");

    let engine = std::sync::Arc::new(PostgresLedger::open(&shop.url).await.unwrap());
    shop.engines = vec![engine.clone()];
    assert_eq!(PostgresLedger::migrate(&shop.url).await.unwrap(), versions);
    assert_eq!(engine.id().await.unwrap(), id);
    shop.assert_balanced().await;
    for wish in &wishes {
        let order = engine.find(None, wish.reservation.order_no).await.unwrap().unwrap();
        assert_eq!((order.user, order.state, order.returned), (wish.reservation.user, State::PendingPayment, false));
    }
    let again = engine.append(wishes.clone()).await.unwrap();
    assert!(again.iter().all(|answer| matches!(answer, AppendOutcome::Exists(_))));
    let changes = vec![
        Change::Step(asked(&wishes[0], Step::Cancel, "x")),
        Change::Report(payment(&wishes[1], "e")),
        Change::Report(report("f", PaymentEvent::Failed(wishes[2].reservation.order_no))),
    ];
    let answers = engine.change(changes, NOON + 5).await.unwrap();
    let ChangeOutcome::Step(StepOutcome::Done { returned, .. }) = answers[0] else { panic!("{answers:?}") };
    assert_eq!(returned, Some(Returned { epoch: None }));
    assert_eq!(answers[1..], [paid(), heard(Note::NoEffect)].map(ChangeOutcome::Report));
    assert_eq!(engine.expire(LATE, 9).await.unwrap().len(), 2);
    shop.assert_balanced().await;
}

/// Returns when a lock is waited for.
async fn somebody_waits(watch: &mut PgConnection) {
    let waits = "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database \
         WHERE NOT l.granted AND d.datname = current_database()";
    eventually(async || (sqlx::query_scalar::<_, i64>(waits).fetch_one(&mut *watch).await.unwrap() == 1).then_some(()))
        .await;
}

/// A database as the first program left it, with some orders.
async fn first_shop() -> Shop {
    let shop = Shop::at(postgres::shared().new_database(), 1, rules(2), &[("a", 20), ("b", 20)]).await;
    let wishes: Vec<_> = (1..=4).map(|user| shop.wish(user, "k", 0, 2)).collect();
    shop.engines[0].append(wishes).await.unwrap();
    as_the_first_program_left(&shop.url.clone(), &shop).await;
    shop
}

/// An engine of an earlier program is in the middle of a batch when the database is migrated.
#[tokio::test(flavor = "multi_thread")]
async fn a_migration_and_an_engine_that_records_orders_do_not_block_each_other_for_good() {
    let shop = first_shop().await;
    let mut old = shop.sql().await;
    sqlx::raw_sql("BEGIN; SELECT * FROM segments ORDER BY sku_no, shard FOR UPDATE").execute(&mut old).await.unwrap();
    let url = shop.url.clone();
    let migration = tokio::spawn(async move { PostgresLedger::migrate(&url).await });
    let mut watch = shop.sql().await;
    somebody_waits(&mut watch).await;
    // What a batch goes on to read and write.
    sqlx::raw_sql("SELECT switch FROM sales").execute(&mut old).await.unwrap();
    let insert = "INSERT INTO orders SELECT seq + 1000, user_id + 1000, sale_no, sku_no, epoch, created_at, updated_at, \
         order_no, fingerprint, quantity, state_version, state FROM orders";
    sqlx::raw_sql(insert).execute(&mut old).await.unwrap();
    sqlx::raw_sql("COMMIT").execute(&mut old).await.unwrap();
    assert_eq!(migration.await.unwrap().unwrap(), 3);
    assert_eq!(shop.deadlocks().await, 0);
}

/// A restock holds the table of sales, for the sake of its reference, before it takes segments.
#[tokio::test(flavor = "multi_thread")]
async fn a_migration_and_a_restock_do_not_block_each_other_for_good() {
    let shop = first_shop().await;
    let mut old = shop.sql().await;
    let begin = "BEGIN; INSERT INTO restocks SELECT sale_no, 'c', no, 3, 0 FROM skus WHERE id = 'a'";
    sqlx::raw_sql(begin).execute(&mut old).await.unwrap();
    let url = shop.url.clone();
    let migration = tokio::spawn(async move { PostgresLedger::migrate(&url).await });
    somebody_waits(&mut shop.sql().await).await;
    for statement in [
        "SELECT * FROM segments ORDER BY sku_no, shard FOR UPDATE",
        "UPDATE segments SET total = total + 3 WHERE shard = 0 AND sku_no = (SELECT no FROM skus WHERE id = 'a')",
        "UPDATE skus SET total = total + 3 WHERE id = 'a'",
        "UPDATE sales SET revision = revision + 1",
        "COMMIT",
    ] {
        sqlx::raw_sql(statement).execute(&mut old).await.unwrap();
    }
    assert_eq!(migration.await.unwrap().unwrap(), 3);
    assert_eq!(shop.deadlocks().await, 0);
}

/// Whoever ends a sale holds segments and then writes to sales: one of the two must give way, and it is the migration.
#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_waits_crosswise_is_tried_again() {
    let shop = first_shop().await;
    let mut old = shop.sql().await;
    sqlx::raw_sql("BEGIN; SELECT * FROM segments ORDER BY sku_no, shard FOR UPDATE").execute(&mut old).await.unwrap();
    let url = shop.url.clone();
    let migration = tokio::spawn(async move { PostgresLedger::migrate(&url).await });
    somebody_waits(&mut shop.sql().await).await;
    // Later than the second after which the server looks who waits for the migration; it gives up before the server looks
    // whom we wait for.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    sqlx::raw_sql("UPDATE sales SET revision = revision + 1").execute(&mut old).await.unwrap();
    sqlx::raw_sql("COMMIT").execute(&mut old).await.unwrap();
    assert_eq!(migration.await.unwrap().unwrap(), 3);
    assert_eq!(shop.deadlocks().await, 0);
}

/// An audit of an earlier program reads for minutes: the migration waits for it, and the engines do not wait for both.
#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_waits_for_a_reader_lets_the_engines_through() {
    let shop = first_shop().await;
    let mut reader = shop.sql().await;
    sqlx::raw_sql("BEGIN; SELECT count(*) FROM orders").execute(&mut reader).await.unwrap();
    let url = shop.url.clone();
    let migration = tokio::spawn(async move { PostgresLedger::migrate(&url).await });
    let mut old = shop.sql().await;
    somebody_waits(&mut old).await;
    let time_out = format!("SET lock_timeout = {}", rushgate::limits::POSTGRES_LOCK_MS_MAX);
    sqlx::raw_sql(sqlx::AssertSqlSafe(time_out)).execute(&mut old).await.unwrap();
    let started = tokio::time::Instant::now();
    let mut batches = 0;
    while started.elapsed() < Duration::from_secs(4) {
        let batch = "BEGIN; SELECT * FROM segments ORDER BY sku_no, shard FOR UPDATE; SELECT switch FROM sales; \
             INSERT INTO orders SELECT seq, user_id, sale_no, sku_no, epoch, created_at, updated_at, order_no, fingerprint, \
             quantity, state_version, state FROM orders ON CONFLICT DO NOTHING; COMMIT";
        sqlx::raw_sql(batch).execute(&mut old).await.unwrap();
        batches += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(batches > 10, "only {batches} batches came through");
    assert!(!migration.is_finished(), "the reader still reads");
    sqlx::raw_sql("COMMIT").execute(&mut reader).await.unwrap();
    assert_eq!(migration.await.unwrap().unwrap(), 3);
    assert_eq!(shop.deadlocks().await, 0);
}
