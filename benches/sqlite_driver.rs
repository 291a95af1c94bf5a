//! The measurement behind the choice of the SQLite driver (`docs/decisions/0001-sqlite-driver.md`): 256 orders in one
//! transaction, a prepared statement per row, through rusqlite and through sqlx on a connection of its own. Tables,
//! indexes, settings, statements and orders are the same; the time is that of a batch, commit on disk included.
//!
//! ```text
//! cargo bench --bench sqlite_driver
//! ```

#![allow(clippy::unwrap_used, reason = "a bench that cannot be set up had better stop")]

mod common;
mod sqlite;

use std::path::Path;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkGroup, Criterion, SamplingMode, measurement::WallTime};
use rushgate::order::{Reservation, State};
use rusqlite::params;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};
use tokio::runtime::{Builder, Runtime};

use common::{NOW, Orders, size};
use sqlite::{connection, directory, settings, tables};

const BATCH: usize = 256;

const INSERT_ORDER: &str = "INSERT INTO orders (user_id, order_no, sale_no, sku_no, quantity, state, state_version, \
     fingerprint, epoch, created_at, updated_at) VALUES (?1, ?2, 1, 1, ?3, ?4, 1, ?5, 1, ?6, ?6) \
     ON CONFLICT (user_id, order_no) DO NOTHING";
const TAKE_UNITS: &str = "UPDATE segments SET held = held + ?1 WHERE sku_no = 1 AND shard = 0";

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("sqlite_driver_batch_256");
    group.sampling_mode(SamplingMode::Flat).sample_size(30).measurement_time(Duration::from_secs(5));
    let batches_before = size(80, 0);
    let directory = directory();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    with_rusqlite(&mut group, &tables(&runtime, directory.path().join("rusqlite.db")), batches_before);
    with_sqlx(&mut group, &runtime, &tables(&runtime, directory.path().join("sqlx.db")), batches_before);
    group.finish();
    criterion.final_summary();
}

fn next_batch(orders: &mut Orders) -> Vec<Reservation> {
    (0..BATCH).map(|_| orders.next(0)).collect()
}

fn with_rusqlite(group: &mut BenchmarkGroup<'_, WallTime>, path: &Path, batches_before: usize) {
    let connection = connection(path);
    let run = |batch: Vec<Reservation>| {
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        let mut rows = 0;
        for reservation in &batch {
            let mut insert = connection.prepare_cached(INSERT_ORDER).unwrap();
            rows += insert
                .execute(params![
                    reservation.user.get(),
                    reservation.order_no.as_bytes(),
                    reservation.quantity,
                    State::PendingPayment.number(),
                    reservation.fingerprint.as_bytes(),
                    NOW
                ])
                .unwrap();
        }
        connection.prepare_cached(TAKE_UNITS).unwrap().execute([i64::try_from(rows).unwrap()]).unwrap();
        connection.execute_batch("COMMIT").unwrap();
        assert_eq!(rows, BATCH);
    };
    let mut orders = Orders::new(1);
    (0..batches_before).for_each(|_| run(next_batch(&mut orders)));
    group.bench_function("rusqlite", |bencher| {
        bencher.iter_batched(|| next_batch(&mut orders), run, BatchSize::SmallInput);
    });
}

fn with_sqlx(group: &mut BenchmarkGroup<'_, WallTime>, runtime: &Runtime, path: &Path, batches_before: usize) {
    let options = SqliteConnectOptions::new().filename(path).disable_statement_logging();
    let options = settings().into_iter().fold(options, |options, (setting, value)| options.pragma(setting, value));
    let mut connection = runtime.block_on(SqliteConnection::connect_with(&options)).unwrap();

    let mut run = |batch: Vec<Reservation>| {
        let rows = runtime.block_on(async {
            let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.unwrap();
            let mut rows = 0;
            for reservation in &batch {
                let insert = sqlx::query(INSERT_ORDER)
                    .bind(reservation.user.get())
                    .bind(&reservation.order_no.as_bytes()[..])
                    .bind(reservation.quantity)
                    .bind(State::PendingPayment.number())
                    .bind(&reservation.fingerprint.as_bytes()[..])
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
