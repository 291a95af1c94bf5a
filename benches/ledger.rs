//! What a durable order costs, by orders per transaction: the embedded ledger's `append`, beside the plainest thing that
//! would do instead – each order in a transaction of its own. Both wait for the disk (`synchronous=FULL`) and write to
//! the target directory, so the disk below that is the one that is measured.
//!
//! ```text
//! cargo bench --bench ledger
//! ```
//!
//! The elements per second that criterion prints are orders per second.

#![allow(clippy::unwrap_used, reason = "a bench that cannot be set up had better stop")]

mod common;
mod sqlite;

use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkGroup, BenchmarkId, Criterion, SamplingMode, Throughput, measurement::WallTime};
use rushgate::ledger::{AppendOutcome, Entry, Ledger, OrderLedger};
use rushgate::order::{Epoch, Reservation, Sale, State};
use rusqlite::{Connection, params};
use tokio::runtime::Builder;

use common::{Orders, size};
use sqlite::{connection, directory, ledger, tables};

const BATCHES: [usize; 6] = [1, 8, 32, 64, 256, 512];

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let rows = size(20_000, 0);
    let mut group = criterion.benchmark_group("ledger");
    group.sampling_mode(SamplingMode::Flat).sample_size(20).measurement_time(Duration::from_secs(5));
    row_per_transaction(&mut group, rows);
    for batch in BATCHES {
        append(&mut group, batch, rows);
    }
    group.finish();
    criterion.final_summary();
}

fn append(group: &mut BenchmarkGroup<'_, WallTime>, batch: usize, rows: usize) {
    let directory = directory();
    let runtime = Builder::new_current_thread().build().unwrap();
    let (ledger, sale) = ledger(&runtime, &directory.path().join("rushgate.db"));
    let mut orders = Orders::new(1);
    let mut entries = |count| -> Vec<Entry> { (0..count).map(|_| entry(&sale, orders.next(0))).collect() };
    for left in (0..rows).step_by(1000) {
        runtime.block_on(ledger.append(entries(1000.min(rows - left)))).unwrap();
    }

    group.throughput(Throughput::Elements(batch as u64));
    group.bench_function(BenchmarkId::new("append", batch), |bencher| {
        let run = |entries| {
            let appended = runtime.block_on(ledger.append(entries)).unwrap();
            assert!(appended.iter().all(|answer| matches!(answer, AppendOutcome::Created { .. })));
        };
        bencher.iter_batched(|| entries(batch), run, BatchSize::SmallInput);
    });
    runtime.block_on(ledger.close());
}

/// The reference: an order and its unit, alone in a transaction, in the same tables. It has no index of order numbers,
/// which the ledger fills when it has nothing else to do.
fn row_per_transaction(group: &mut BenchmarkGroup<'_, WallTime>, rows: usize) {
    let directory = directory();
    let runtime = Builder::new_current_thread().build().unwrap();
    let connection = connection(&tables(&runtime, directory.path().join("reference.db")));
    let mut orders = Orders::new(1);
    connection.execute_batch("BEGIN").unwrap();
    (0..rows).for_each(|_| insert(&connection, &orders.next(0)));
    connection.execute_batch("COMMIT").unwrap();

    group.throughput(Throughput::Elements(1));
    group.bench_function("row_per_transaction", |bencher| {
        let run = |reservation: Reservation| {
            connection.execute_batch("BEGIN IMMEDIATE").unwrap();
            insert(&connection, &reservation);
            connection.execute_batch("COMMIT").unwrap();
        };
        bencher.iter_batched(|| orders.next(0), run, BatchSize::SmallInput);
    });
    connection.close().unwrap();
}

const TAKE_UNIT: &str = "UPDATE segments SET held = held + ?1 WHERE sku_no = 1 AND shard = 0 \
     AND held + sold + ?1 <= total";
const INSERT_ORDER: &str = "INSERT INTO orders (user_id, order_no, sale_no, sku_no, quantity, state, state_version, \
     fingerprint, epoch, created_at, updated_at) VALUES (?1, ?2, 1, 1, ?3, ?4, 1, ?5, 1, ?6, ?6) \
     ON CONFLICT (user_id, order_no) DO NOTHING";

fn insert(connection: &Connection, reservation: &Reservation) {
    let taken = connection.prepare_cached(TAKE_UNIT).unwrap().execute([reservation.quantity]).unwrap();
    let inserted = connection
        .prepare_cached(INSERT_ORDER)
        .unwrap()
        .execute(params![
            reservation.user.get(),
            reservation.order_no.as_bytes(),
            reservation.quantity,
            State::PendingPayment.number(),
            reservation.fingerprint.as_bytes(),
            reservation.created_at
        ])
        .unwrap();
    assert_eq!((taken, inserted), (1, 1));
}

fn entry(sale: &Arc<Sale>, reservation: Reservation) -> Entry {
    Entry { sale: sale.clone(), shard: 0, epoch: Some(Epoch::FIRST), reservation }
}
