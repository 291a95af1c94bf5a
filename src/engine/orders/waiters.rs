//! Wakes requests that wait for an order in flight. A bell may ring for another order: whoever hears it looks again.

use tokio::sync::futures::Notified;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use crate::limits;
use crate::order::OrderNo;

/// A row of bells; an order number has one of them.
pub(in crate::engine) struct InFlightWaiters {
    waiters: Vec<Notify>,
    waiting: Semaphore,
}

impl Default for InFlightWaiters {
    fn default() -> Self {
        InFlightWaiters {
            waiters: (0..limits::BELLS).map(|_| Notify::new()).collect(),
            waiting: Semaphore::new(limits::WAITERS_MAX),
        }
    }
}

impl InFlightWaiters {
    /// An order is settled, one way or the other.
    pub(in crate::engine) fn wake(&self, order_no: &OrderNo) {
        if let Some(bell) = self.of(order_no) {
            bell.notify_waiters();
        }
    }

    /// Takes a place among those who wait; `None` if too many do.
    pub(in crate::engine) fn place(&self) -> Option<SemaphorePermit<'_>> {
        self.waiting.try_acquire().ok()
    }

    /// The next ring of an order's bell. It counts from the moment it is enabled, so enable it before looking whether
    /// the order is settled, or a ring in between would be missed.
    pub(in crate::engine) fn next_wake(&self, order_no: &OrderNo) -> Option<Notified<'_>> {
        self.of(order_no).map(Notify::notified)
    }

    /// Requests that wait.
    pub(in crate::engine) fn waiting(&self) -> usize {
        limits::WAITERS_MAX.saturating_sub(self.waiting.available_permits())
    }

    fn of(&self, order_no: &OrderNo) -> Option<&Notify> {
        let byte = order_no.as_bytes().first().copied().unwrap_or(0);
        self.waiters.get(usize::from(byte) % self.waiters.len().max(1))
    }
}
