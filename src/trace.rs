//! The spans of an operation: where its time goes. One operation of N is sampled; every other has [`Span::none`], which is cloned,
//! recorded to and dropped without effect. A span holds ids and counts, never a key, a token or a body.
//!
//! ```text
//! operation ▸ reserve                       the gate call with its wait, or the bypass
//!           ▸ record ◂── append or change   an order or a change until it is answered ◂── its ledger transaction
//! ```

use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::field::{Empty, display};
use tracing::{Span, info_span};

/// Decides which operations are sampled: the first and every N-th after it.
#[derive(Debug)]
pub struct Sampler {
    one_in: u64,
    operations: AtomicU64,
}

impl Sampler {
    /// Samples one operation of `one_in`; none for 0.
    pub fn new(one_in: u32) -> Self {
        Sampler { one_in: u64::from(one_in), operations: AtomicU64::new(0) }
    }

    /// Counts an operation, and answers whether it is sampled.
    pub fn samples(&self) -> bool {
        self.one_in > 0 && self.operations.fetch_add(1, Ordering::Relaxed).is_multiple_of(self.one_in)
    }
}

/// A sampled operation, from the moment its sender is known to its answer. `route` has variables in place of values. The engine adds the
/// sale and the order, the intake the code of the answer. Spans below it carry its number, because a JSON line names no parent.
pub fn operation(request_id: impl Display, method: &str, route: &str) -> Span {
    let request_id = display(request_id);
    let span = info_span!(
        parent: None, "operation",
        request_id, operation = Empty, method, route, sale = Empty, order_no = Empty, code = Empty
    );
    if let Some(id) = span.id() {
        span.record("operation", format_args!("{:x}", id.into_u64()));
    }
    span
}

/// An operation from admission to the writer's queue: the gate call, or what bypasses the gate.
pub fn reserve(operation: &Span, sale: &str, shard: u16) -> Span {
    let Some(id) = operation.id() else { return Span::none() };
    info_span!(parent: operation, "reserve", operation = format_args!("{:x}", id.into_u64()), sale, shard)
}

/// An order or a change of an operation, from the writer's queue to its answer. It names the batch that records it.
pub fn record(operation: &Span) -> Span {
    let Some(id) = operation.id() else { return Span::none() };
    info_span!(parent: operation, "record", operation = format_args!("{:x}", id.into_u64()), batch = Empty)
}

/// The ledger transaction that appends the orders of `records`, if one of them is sampled.
pub fn append<'s>(records: impl Iterator<Item = &'s Span>, ledger: &str, orders: usize) -> Span {
    batch(records, |batch| info_span!(parent: None, "append", batch, ledger, orders))
}

/// The ledger transaction that makes the changes of `records`, if one of them is sampled.
pub fn change<'s>(records: impl Iterator<Item = &'s Span>, ledger: &str, changes: usize) -> Span {
    batch(records, |batch| info_span!(parent: None, "change", batch, ledger, changes))
}

/// A batch has many causes and so no parent: it follows from each of its sampled records, and shares a number with them.
fn batch<'s>(records: impl Iterator<Item = &'s Span>, open: impl FnOnce(u64) -> Span) -> Span {
    static BATCHES: AtomicU64 = AtomicU64::new(1);
    let mut sampled = records.filter(|record| !record.is_disabled()).peekable();
    if sampled.peek().is_none() {
        return Span::none();
    }
    let number = BATCHES.fetch_add(1, Ordering::Relaxed);
    let span = open(number);
    for record in sampled {
        record.record("batch", number);
        span.follows_from(record);
    }
    span
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_operation_of_n_is_sampled_and_none_of_zero() {
        for (one_in, sampled) in [(0, [false; 6]), (1, [true; 6]), (3, [true, false, false, true, false, false])] {
            let sampler = Sampler::new(one_in);
            assert_eq!(sampled.map(|_| sampler.samples()), sampled, "one in {one_in}");
        }
    }

    #[test]
    fn what_belongs_to_no_sampled_operation_has_no_span() {
        tracing::subscriber::with_default(tracing_subscriber::fmt().with_writer(std::io::sink).finish(), || {
            let none = Span::none();
            assert!(reserve(&none, "s", 0).is_none() && record(&none).is_none());
            assert!(append([&none, &none].into_iter(), "sqlite", 2).is_none());
            let sampled = record(&operation("1", "POST", "/v1/orders"));
            assert!(!append([&none, &sampled].into_iter(), "sqlite", 2).is_disabled());
        });
    }
}
