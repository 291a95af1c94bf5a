//! The measurement behind the choice of the SQLite driver (`docs/decisions/0001-sqlite-driver.md`): 256 orders in one
//! transaction, a prepared statement per row, through rusqlite and through sqlx on a connection of its own. Tables,
//! indexes, settings, statements and orders are the same; the time is that of a batch, commit on disk included.
//!
//! ```text
//! cargo bench --bench sqlite_driver
//! ```

#![allow(clippy::unwrap_used, reason = "a bench that cannot be set up had better stop")]

mod common;

use std::path::Path;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkGroup, Criterion, SamplingMode, measurement::WallTime};
use rushgate::order::{Hold, State};
use rusqlite::params;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection};
use tempfile::TempDir;

use common::{CHECKPOINT_PAGES, MIGRATIONS, NOW, Orders, size};

const BATCH: usize = 256;

const INSERT_SALE: &str = "INSERT INTO sales (no, id, boundary, on_duplicate, require_token, shards, salt, derivation, \
     switch, created_at) VALUES (1, 'bench', 'request', 'replay', 0, 1, zeroblob(32), 1, 'open', 0); \
     INSERT INTO skus (no, sale_no, position, id, unit_price, currency, created, total) \
     VALUES (1, 1, 0, 'sku-1', 1999, 'CNY', 1000000000, 1000000000); \
     INSERT INTO segments (sku_no, shard, total, held, sold) VALUES (1, 0, 1000000000, 0, 0)";
const INSERT_ORDER: &str = "INSERT INTO orders (user_id, order_no, sale_no, sku_no, quantity, state, state_version, \
     fingerprint, epoch, created_at, updated_at) VALUES (?1, ?2, 1, 1, ?3, ?4, 1, ?5, 1, ?6, ?6) \
     ON CONFLICT (user_id, order_no) DO NOTHING";
const TAKE_UNITS: &str = "UPDATE segments SET held = held + ?1 WHERE sku_no = 1 AND shard = 0";
const CACHE_KIB: i64 = rushgate::limits::SQLITE_WRITER_CACHE_KIB;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("sqlite_driver_batch_256");
    group.sampling_mode(SamplingMode::Flat).sample_size(30).measurement_time(Duration::from_secs(5));
    let batches_before = size(80, 0);
    std::fs::create_dir_all(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let directory = TempDir::with_prefix_in("bench-driver-", env!("CARGO_TARGET_TMPDIR")).unwrap();
    with_rusqlite(&mut group, &directory.path().join("rusqlite.db"), batches_before);
    with_sqlx(&mut group, &directory.path().join("sqlx.db"), batches_before);
    group.finish();
    criterion.final_summary();
}

fn next_batch(orders: &mut Orders) -> Vec<Hold> {
    (0..BATCH).map(|_| orders.next(0)).collect()
}

fn with_rusqlite(group: &mut BenchmarkGroup<'_, WallTime>, path: &Path, batches_before: usize) {
    let connection = rusqlite::Connection::open(path).unwrap();
    let settings = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON";
    connection.execute_batch(settings).unwrap();
    let sizes = format!("PRAGMA cache_size = -{CACHE_KIB}; PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}");
    connection.execute_batch(&sizes).unwrap();
    MIGRATIONS.iter().for_each(|statements| connection.execute_batch(statements).unwrap());
    connection.execute_batch(INSERT_SALE).unwrap();

    let run = |batch: Vec<Hold>| {
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        let mut rows = 0;
        for hold in &batch {
            let mut insert = connection.prepare_cached(INSERT_ORDER).unwrap();
            rows += insert
                .execute(params![
                    hold.user.get(),
                    hold.order_no.as_bytes(),
                    hold.quantity,
                    State::PendingPayment.number(),
                    hold.fingerprint.as_bytes(),
                    NOW
                ])
                .unwrap();
        }
        connection.prepare_cached(TAKE_UNITS).unwrap().execute([rows]).unwrap();
        connection.execute_batch("COMMIT").unwrap();
        assert_eq!(rows, BATCH);
    };
    let mut orders = Orders::new(1);
    (0..batches_before).for_each(|_| run(next_batch(&mut orders)));
    group.bench_function("rusqlite", |bencher| {
        bencher.iter_batched(|| next_batch(&mut orders), run, BatchSize::SmallInput);
    });
}

fn with_sqlx(group: &mut BenchmarkGroup<'_, WallTime>, path: &Path, batches_before: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .pragma("cache_size", format!("-{CACHE_KIB}"))
        .pragma("wal_autocheckpoint", CHECKPOINT_PAGES.to_string())
        .disable_statement_logging();
    let mut connection = runtime.block_on(async {
        let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
        for statements in MIGRATIONS.into_iter().chain([INSERT_SALE]) {
            sqlx::raw_sql(statements).execute(&mut connection).await.unwrap();
        }
        connection
    });

    let mut run = |batch: Vec<Hold>| {
        let rows = runtime.block_on(async {
            let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.unwrap();
            let mut rows = 0;
            for hold in &batch {
                let insert = sqlx::query(INSERT_ORDER)
                    .bind(i64::try_from(hold.user.get()).unwrap())
                    .bind(&hold.order_no.as_bytes()[..])
                    .bind(hold.quantity)
                    .bind(State::PendingPayment.number())
                    .bind(&hold.fingerprint.as_bytes()[..])
                    .bind(NOW);
                rows += insert.execute(&mut *transaction).await.unwrap().rows_affected();
            }
            let taken = sqlx::query(TAKE_UNITS).bind(i64::try_from(rows).unwrap());
            taken.execute(&mut *transaction).await.unwrap();
            transaction.commit().await.unwrap();
            rows
        });
        assert_eq!(rows, BATCH as u64);
    };
    let mut orders = Orders::new(1);
    (0..batches_before).for_each(|_| run(next_batch(&mut orders)));
    group.bench_function("sqlx", |bencher| {
        bencher.iter_batched(|| next_batch(&mut orders), &mut run, BatchSize::SmallInput);
    });
    runtime.block_on(connection.close()).unwrap();
}
