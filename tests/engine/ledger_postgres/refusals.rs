//! Servers and schemas that the ledger must not be opened on.

use rushgate::ledger::{Ledger, PostgresLedger, PostgresOpenError, SaleLedger};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::Shop;
use crate::world::rules;
use rushgate_test_support::postgres::{self, PASSWORD, PostgresServer};

async fn run(url: &str, statements: &str) {
    let mut sql = PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&mut sql).await.unwrap();
    sql.close().await.unwrap();
}

async fn refused(url: &str) -> PostgresOpenError {
    let refused = PostgresLedger::open(url).await.expect_err("it was opened");
    assert!(!format!("{refused} {refused:?}").contains(PASSWORD), "{refused:?}");
    refused
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_would_lose_orders_is_refused() {
    use PostgresOpenError::{NotDurable, Replica};
    let server = PostgresServer::start(&["fsync=off"]);
    let url = server.new_database();
    assert!(matches!(refused(&url).await, NotDurable { setting: "fsync", .. }));
    server.crash();
    server.run(&["full_page_writes=off"]);
    let error = refused(&url).await;
    assert!(matches!(error, NotDurable { setting: "full_page_writes", .. }));
    assert!(error.to_string().contains("full_page_writes is off"), "{error}");
    server.crash();
    std::fs::write(server.data().join("standby.signal"), "").unwrap();
    server.run(&["hot_standby=on"]);
    assert!(matches!(refused(&url).await, Replica));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_cannot_store_every_text_is_refused() {
    let server = postgres::shared();
    for encoding in ["LATIN1", "SQL_ASCII"] {
        let url = server.new_database();
        let (_, name) = url.rsplit_once('/').unwrap();
        run(
            &url.replace(name, "postgres"),
            &format!("CREATE DATABASE {name}_{encoding} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0"),
        )
        .await;
        let error = refused(&format!("{url}_{encoding}").to_lowercase()).await;
        assert!(matches!(&error, PostgresOpenError::Encoding(found) if found == encoding), "{error}");
    }
}

#[tokio::test]
async fn a_misspelt_parameter_is_refused_before_anything_is_sent() {
    let url = postgres::shared().new_database();
    let error = refused(&format!("{url}?sslmod=verify-full")).await.to_string();
    assert!(error.contains("sslmod") && !error.contains("verify-full"), "{error}");
}

#[tokio::test]
async fn a_database_that_does_not_wait_for_the_disk_is_told_to() {
    let shop = Shop::new(1, rules(1), &[("a", 1)]).await;
    shop.engines[0].close().await;
    run(
        &shop.url,
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', \
         current_database()); EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = serializable', \
         current_database()); END $$",
    )
    .await;
    let ledger = PostgresLedger::open(&shop.url).await.unwrap();
    assert_eq!(ledger.sales(0).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_schema_without_its_guards_is_refused() {
    for (statements, guard) in [
        ("ALTER TABLE orders DROP CONSTRAINT orders_user_order_unique", "orders_user_order_unique"),
        (
            "ALTER TABLE orders DROP CONSTRAINT orders_user_order_unique; \
             ALTER TABLE orders ADD CONSTRAINT orders_user_order_unique PRIMARY KEY (seq, user_id, order_no)",
            "orders_user_order_unique",
        ),
        ("ALTER TABLE segments DROP CONSTRAINT segments_never_oversold", "segments_never_oversold"),
        (
            "ALTER TABLE segments DROP CONSTRAINT segments_never_oversold; ALTER TABLE segments \
             ADD CONSTRAINT segments_never_oversold CHECK (held + sold <= total) NOT VALID",
            "segments_never_oversold",
        ),
        ("ALTER TABLE transfers DROP CONSTRAINT transfers_pkey", "transfers_pkey"),
    ] {
        let url = postgres::shared().new_database();
        PostgresLedger::migrate(&url).await.unwrap();
        run(&url, statements).await;
        let error = refused(&url).await;
        let PostgresOpenError::Constraint { constraint, .. } = error else { panic!("{error}") };
        assert_eq!(constraint, guard);
    }
}

#[tokio::test]
async fn a_schema_of_a_newer_program_is_refused() {
    let url = postgres::shared().new_database();
    PostgresLedger::migrate(&url).await.unwrap();
    run(&url, "INSERT INTO schema_versions (version) VALUES (99)").await;
    assert!(matches!(refused(&url).await, PostgresOpenError::TooNew { found: 99, .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn engines_that_start_at_once_make_one_schema() {
    let url = postgres::shared().new_database();
    let mut starts = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let url = url.clone();
        starts.spawn(async move { PostgresLedger::open(&url).await.unwrap().id().await.unwrap() });
    }
    let ids = starts.join_all().await;
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[tokio::test]
async fn no_text_of_the_ledger_tells_the_password() {
    let url = postgres::shared().new_database();
    let ledger = PostgresLedger::open(&url).await.unwrap();
    assert!(url.contains(PASSWORD) && !format!("{ledger:?}").contains(PASSWORD), "{ledger:?}");
    let port = postgres::shared().port().to_string();
    for bad in [url.replace(&port, "1"), url.replace("test_", "none_"), url.replace("postgres://", "http://")] {
        refused(&bad).await;
    }
    assert!(matches!(refused("postgres://a:b@[/").await, PostgresOpenError::Address));
}
