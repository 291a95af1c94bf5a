//! Counters of the engine. Counting never blocks and never fails; `/metrics` renders them.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::utils::CachePadded;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

use crate::order::{Code, Note, Step};

/// Everything that is counted, per process.
#[derive(Debug)]
pub struct Metrics {
    /// Orders that were recorded, whether or not the client still waited.
    pub created: Counter,
    /// Answers that were given again.
    pub replayed: Counter,
    /// Refusals by [`Code`].
    refused: Vec<Counter>,
    /// Time from the parsed request to its answer, in seconds.
    pub place_seconds: Histogram,
    /// Time of one ledger transaction, in seconds.
    pub append_seconds: Histogram,
    /// Orders in one ledger transaction.
    pub batch_orders: Histogram,
    /// Ledger transactions that failed.
    pub append_failures: Counter,
    /// Reservations past their lease that the sweeper appended again.
    pub rolled_forward: Counter,
    /// Moves of units between shards.
    pub transfers: Counter,
    /// Moves and restocks whose outcome was unknown at first; their units are in no shard until it is known.
    pub unsettled_moves: Counter,
    /// Orders that bypassed a gate which could not be used.
    pub bypassed_orders: Counter,
    /// Shards that were loaded anew because gate and ledger differed.
    pub reconciled: Counter,
    /// Batches whose settlements the gate did not take; their leases run out.
    pub settles_lost: Counter,
    /// Times that the gate did not take units which the ledger took back.
    pub returns_lost: Counter,
    /// Steps of orders by [`Step`].
    steps: Vec<Counter>,
    /// Reports of payment providers by [`Note`].
    reports: Vec<Counter>,
    /// Handlers that panicked.
    pub panics: Counter,
}

/// What a gate in Redis counts, per process.
#[derive(Debug)]
pub struct GateMetrics {
    /// Script calls sent.
    pub calls: Counter,
    /// Script calls that failed or got no answer.
    pub failed_calls: Counter,
    /// Reserve requests in one script call.
    pub batch_requests: Histogram,
    /// Connections made, the first of each node included.
    pub connections: Counter,
}

impl Default for GateMetrics {
    fn default() -> Self {
        GateMetrics {
            calls: Counter::default(),
            failed_calls: Counter::default(),
            batch_requests: Histogram::new(&ORDERS),
            connections: Counter::default(),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics {
            created: Counter::default(),
            replayed: Counter::default(),
            refused: Code::ALL.iter().map(|_| Counter::default()).collect(),
            place_seconds: Histogram::new(&SECONDS),
            append_seconds: Histogram::new(&SECONDS),
            batch_orders: Histogram::new(&ORDERS),
            append_failures: Counter::default(),
            rolled_forward: Counter::default(),
            transfers: Counter::default(),
            unsettled_moves: Counter::default(),
            bypassed_orders: Counter::default(),
            reconciled: Counter::default(),
            settles_lost: Counter::default(),
            returns_lost: Counter::default(),
            steps: Step::ALL.iter().map(|_| Counter::default()).collect(),
            reports: Note::ALL.iter().map(|_| Counter::default()).collect(),
            panics: Counter::default(),
        }
    }
}

const SECONDS: [f64; 14] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
const ORDERS: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

impl Metrics {
    /// Counts a refusal.
    pub fn refuse(&self, code: Code) {
        if let Some(counter) = self.refused(code) {
            counter.add(1);
        }
    }

    /// Counts steps that orders took on request, or because time ran out.
    pub fn step(&self, step: Step, count: u64) {
        if let Some(counter) = self.steps(step) {
            counter.add(count);
        }
    }

    /// The counter of a step.
    pub fn steps(&self, step: Step) -> Option<&Counter> {
        let at = Step::ALL.iter().position(|other| *other == step)?;
        self.steps.get(at)
    }

    /// Counts a report of a payment provider.
    pub fn report(&self, note: Note) {
        if let Some(counter) = self.reports(note) {
            counter.add(1);
        }
    }

    /// The counter of a note.
    pub fn reports(&self, note: Note) -> Option<&Counter> {
        let at = Note::ALL.iter().position(|other| *other == note)?;
        self.reports.get(at)
    }

    /// The counter of a code.
    pub fn refused(&self, code: Code) -> Option<&Counter> {
        let at = Code::ALL.iter().position(|other| *other == code)?;
        self.refused.get(at)
    }
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(CachePadded<AtomicU64>);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The number so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl TypedMetric for Counter {
    const TYPE: MetricType = MetricType::Counter;
}

impl EncodeMetric for &Counter {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        encoder.encode_counter::<NoLabelSet, _, u64>(&self.get(), None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }
}

/// Counts by upper bound. Fixed bounds and plain atomics: the library's histogram is one mutex.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    counts: Vec<AtomicU64>,
    /// Sum in millionths, so that it can be an integer.
    sum_millionths: AtomicU64,
}

impl Histogram {
    fn new(bounds: &'static [f64]) -> Self {
        Histogram {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum_millionths: AtomicU64::new(0),
        }
    }

    /// The sum of all values so far.
    #[allow(clippy::cast_precision_loss, reason = "a sum is read by a person or a chart")]
    pub fn sum(&self) -> f64 {
        self.sum_millionths.load(Ordering::Relaxed) as f64 / 1e6
    }

    /// Counts one value, not negative.
    pub fn observe(&self, value: f64) {
        let at = self.bounds.iter().position(|bound| value <= *bound).unwrap_or(self.bounds.len());
        if let Some(count) = self.counts.get(at) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "values are small and not negative"
        )]
        self.sum_millionths.fetch_add((value * 1e6) as u64, Ordering::Relaxed);
    }
}

impl EncodeMetric for &Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(self.sum(), count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}
