//! Wakes requests that wait for an order in flight. Orders share wakers, so a request that is woken looks again.

use tokio::sync::futures::Notified;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use crate::limits;
use crate::order::OrderNo;

/// A row of wakers; each order number has one of them.
pub(super) struct InFlightWaiters {
    wakers: Vec<Notify>,
    permits: Semaphore,
}

impl Default for InFlightWaiters {
    fn default() -> Self {
        InFlightWaiters {
            wakers: (0..limits::WAITER_SLOTS).map(|_| Notify::new()).collect(),
            permits: Semaphore::new(limits::WAITERS_MAX),
        }
    }
}

impl InFlightWaiters {
    /// An order is settled, one way or the other.
    pub(super) fn wake(&self, order_no: &OrderNo) {
        if let Some(waker) = self.waker(order_no) {
            waker.notify_waiters();
        }
    }

    /// Allows a request to wait; `None` if too many do.
    pub(super) fn permit(&self) -> Option<SemaphorePermit<'_>> {
        self.permits.try_acquire().ok()
    }

    /// The next time that the order's waker is used. It counts from the moment it is enabled, so enable it before looking
    /// whether the order is settled, or a call of [`InFlightWaiters::wake`] in between would be missed.
    pub(super) fn next_wake(&self, order_no: &OrderNo) -> Option<Notified<'_>> {
        self.waker(order_no).map(Notify::notified)
    }

    /// Requests that wait.
    pub(super) fn waiting(&self) -> usize {
        limits::WAITERS_MAX.saturating_sub(self.permits.available_permits())
    }

    fn waker(&self, order_no: &OrderNo) -> Option<&Notify> {
        let byte = order_no.as_bytes().first().copied().unwrap_or(0);
        self.wakers.get(usize::from(byte) % self.wakers.len().max(1))
    }
}
