//! What it costs to recognise an order: the memory gate's `reserve`, per order, by batch size, beside the plainest thing
//! that would do instead – `SETNX` of the key's text in a map behind a mutex. Read the ratios, not the nanoseconds.
//!
//! ```text
//! cargo bench --bench dedupe
//! ```
//!
//! | bench | per order |
//! |---|---|
//! | `setnx/new`, `setnx/duplicate` | lock, look up, insert a copy of the key if it is not there |
//! | `identity` | the two keyed hashes that make a key an order number and a fingerprint; the gate is asked with them |
//! | `reserve/new` | a unit is taken and held |
//! | `reserve_settle/new` | the same, and then it is recorded: with `identity`, all that the gate costs an order |
//! | `reserve/duplicate` | recorded before, same content |
//! | `reserve/other_fingerprint` | recorded before, other content |
//! | `reserve/sold_out` | not known, and no unit left |
//!
//! Gate and map hold the same number of keys while they are measured, too many for the processor's caches.

#![allow(clippy::unwrap_used, reason = "a bench that cannot be set up had better stop")]

mod common;

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::hint::black_box;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use criterion::{BatchSize, BenchmarkGroup, BenchmarkId, Criterion, Throughput, measurement::WallTime};
use futures_util::FutureExt;
use rushgate::gate::{Denial, Gate, MemoryGate, ReserveMode, ReserveOutcome, ReserveRequest, Settlement, ShardEpoch};
use rushgate::order::{
    Currency, DERIVATION, Epoch, Fingerprint, Identity, Key, Name, OrderNo, Reservation, Rules, Sale, SaleNo, Salt,
    Sku, SkuNo, Switch, place_fingerprint,
};

use common::{NOW, Orders, size};

const BATCHES: [usize; 4] = [1, 8, 64, 256];
/// A sku with stock, and one without.
const FULL: u16 = 0;
const EMPTY: u16 = 1;
const AT: ShardEpoch = ShardEpoch { sale: SaleNo(1), shard: 0, epoch: Epoch::FIRST };

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let known = size(500_000, 500);
    setnx(&mut criterion, known);
    identity(&mut criterion);
    let mut group = criterion.benchmark_group("reserve");
    repeated(&mut group, known);
    new(&mut group, known, false);
    group.finish();
    let mut group = criterion.benchmark_group("reserve_settle");
    new(&mut group, known, true);
    group.finish();
    criterion.final_summary();
}

/// The reference: what `SETNX` does, in this process.
#[derive(Default)]
struct Setnx(Mutex<HashMap<String, ()>>);

impl Setnx {
    fn set(&self, key: &str) -> bool {
        let mut map = self.0.lock().unwrap();
        let is_new = !map.contains_key(key);
        if is_new {
            map.insert(key.to_owned(), ());
        }
        is_new
    }
}

fn setnx(criterion: &mut Criterion, known: usize) {
    let mut group = criterion.benchmark_group("setnx");
    group.throughput(Throughput::Elements(1));
    let map = Setnx::default();
    let mut orders = Orders::new(1);
    let keys: Vec<String> = (0..known).map(|_| key_text(&orders.next(FULL))).collect();
    assert!(keys.iter().all(|key| map.set(key)) && !keys.iter().any(|key| map.set(key)));

    let mut turn = keys.iter().cycle();
    group.bench_function("duplicate", |bencher| {
        bencher.iter_batched(|| turn.next().unwrap(), |key| map.set(black_box(key)), BatchSize::NumIterations(CHUNK));
    });
    let mut added = VecDeque::new();
    group.bench_function("new", |bencher| {
        let next = || {
            let key = key_text(&orders.next(FULL));
            added.push_back(key.clone());
            // The map stays as large as it is: the oldest one goes, and surely none of this round.
            if added.len() > 2 * usize::try_from(CHUNK).unwrap() {
                map.0.lock().unwrap().remove(&added.pop_front().unwrap());
            }
            key
        };
        bencher.iter_batched_ref(next, |key| assert!(map.set(black_box(key))), BatchSize::NumIterations(CHUNK));
    });
    group.finish();
}

fn identity(criterion: &mut Criterion) {
    let sale = sale();
    let mut orders = Orders::new(2);
    let some: Vec<(Reservation, Key)> = (0..size(10_000, 10))
        .map(|_| {
            let reservation = orders.next(FULL);
            (reservation, Key::parse(reservation.order_no.to_string().as_bytes()).unwrap())
        })
        .collect();
    let mut turn = some.iter().cycle();
    let mut group = criterion.benchmark_group("identity");
    group.throughput(Throughput::Elements(1));
    group.bench_function("derive", |bencher| {
        bencher.iter(|| {
            let (reservation, key) = turn.next().unwrap();
            let (salt, id) = (&sale.salt, sale.id.as_str());
            let order_no = OrderNo::derive(salt, id, reservation.user, Identity::Key(key));
            (order_no, place_fingerprint(salt, id, reservation.user, "sku-1", reservation.quantity))
        });
    });
    group.finish();
}

type IsExpected<'a> = &'a dyn Fn(&ReserveOutcome) -> bool;

/// Asks that leave the gate as it is.
fn repeated(group: &mut BenchmarkGroup<'_, WallTime>, known: usize) {
    let mut orders = Orders::new(3);
    let gate = gate();
    let recorded: Vec<ReserveRequest> = (0..known).map(|_| ask(orders.next(FULL))).collect();
    recorded.chunks(1000).for_each(|asks| record(&gate, asks));

    let reused = |ask: &ReserveRequest| ReserveRequest {
        reservation: Reservation { fingerprint: Fingerprint::from_bytes([7; 16]), ..ask.reservation },
        ..*ask
    };
    let is_no = |held: &ReserveOutcome| matches!(held, ReserveOutcome::Denied { why: Denial::SegmentEmpty, .. });
    let cases: [(&str, Vec<ReserveRequest>, IsExpected<'_>); 3] = [
        ("other_fingerprint", recorded.iter().map(reused).collect(), &|held| *held == ReserveOutcome::OtherContent),
        ("duplicate", recorded, &|held| matches!(held, ReserveOutcome::Recorded { .. })),
        ("sold_out", (0..known).map(|_| ask(orders.next(EMPTY))).collect(), &is_no),
    ];
    for (name, asks, is_expected) in cases {
        for batch in BATCHES {
            assert!(asks.chunks(batch).all(|asks| reserve(&gate, asks).iter().all(is_expected)), "{name}");
            let mut turn = asks.chunks_exact(batch).cycle();
            group.throughput(Throughput::Elements(batch as u64));
            group.bench_function(BenchmarkId::new(name, batch), |bencher| {
                bencher.iter(|| reserve(&gate, turn.next().unwrap()));
            });
        }
    }
}

/// New orders, which are settled as the engine would – within the measured time, if `settled`.
fn new(group: &mut BenchmarkGroup<'_, WallTime>, known: usize, settled: bool) {
    let mut orders = Orders::new(4 + u64::from(settled));
    // The gate forgets the older half of its records when it is full, so that it does not grow without end.
    let gate = gate();
    (0..known / 1000).for_each(|_| record(&gate, &(0..1000).map(|_| ask(orders.next(FULL))).collect::<Vec<_>>()));
    for batch in BATCHES {
        // Criterion makes the input of a whole round before it runs the round.
        let mut round: Vec<Settlement> = Vec::new();
        let has_run = Cell::new(false);
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_function(BenchmarkId::new("new", batch), |bencher| {
            let next = || {
                if has_run.replace(false) && !settled {
                    settle(&gate, &std::mem::take(&mut round));
                }
                let asks: Vec<ReserveRequest> = (0..batch).map(|_| ask(orders.next(FULL))).collect();
                let settlements: Vec<Settlement> = asks.iter().map(settlement).collect();
                if !settled {
                    round.extend(&settlements);
                }
                (asks, settlements)
            };
            let run = |(asks, settlements): &mut (Vec<ReserveRequest>, Vec<Settlement>)| {
                let held = reserve(&gate, asks);
                if settled {
                    settle(&gate, settlements);
                }
                has_run.set(true);
                held
            };
            let rounds = BatchSize::NumIterations(CHUNK.div_ceil(batch as u64));
            bencher.iter_batched_ref(next, run, rounds);
        });
        settle(&gate, &round);
    }
    let last = [ask(orders.next(FULL))];
    assert!(matches!(reserve(&gate, &last).as_slice(), [ReserveOutcome::Reserved { resumed: false, .. }]));
}

/// Orders of one round: as many as may be in flight at a busy moment.
const CHUNK: u64 = 4096;

fn sale() -> Sale {
    let name = |text| Name::parse(text).unwrap();
    let sku = |no, id| Sku { no: SkuNo(no), id: name(id), unit_price: 1999, currency: Currency::parse("CNY").unwrap() };
    Sale {
        no: AT.sale,
        id: name("bench"),
        rules: Rules::default(),
        salt: Salt::new([9; 32]),
        derivation: DERIVATION,
        switch: Switch::Running,
        skus: vec![sku(1, "sku-1"), sku(2, "sku-2")],
        revision: 1,
        bypassed: false,
    }
}

/// A gate with more units of the first sku than can be sold in a run, and none of the second.
fn gate() -> MemoryGate {
    let gate = MemoryGate::with_records_max(1_000_000);
    gate.load(AT, &sale(), &[i64::MAX / 2, 0], true).now_or_never().unwrap().unwrap();
    gate
}

fn ask(reservation: Reservation) -> ReserveRequest {
    static BY: AtomicU64 = AtomicU64::new(0);
    ReserveRequest { reservation, mode: ReserveMode::Create, attempt_id: BY.fetch_add(1, Ordering::Relaxed) }
}

fn key_text(reservation: &Reservation) -> String {
    format!("order:bench:{}:{}", reservation.user.get(), reservation.order_no)
}

fn settlement(ask: &ReserveRequest) -> Settlement {
    Settlement::Commit { order_no: ask.reservation.order_no, created_at: ask.reservation.created_at }
}

/// The memory gate's futures are ready when they are made.
fn reserve(gate: &MemoryGate, asks: &[ReserveRequest]) -> Vec<ReserveOutcome> {
    gate.reserve(AT, NOW, asks).now_or_never().unwrap().unwrap()
}

fn settle(gate: &MemoryGate, settlements: &[Settlement]) {
    gate.settle(AT, settlements).now_or_never().unwrap().unwrap();
}

fn record(gate: &MemoryGate, asks: &[ReserveRequest]) {
    assert!(reserve(gate, asks).iter().all(|held| matches!(held, ReserveOutcome::Reserved { .. })));
    settle(gate, &asks.iter().map(settlement).collect::<Vec<_>>());
}
