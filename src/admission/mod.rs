//! May this request spend anything? Bounds the orders in flight and stops new ones while the ledger is in trouble,
//! before the gate is asked; bounds how often one user or address may come. What is refused here has cost nothing and
//! changed nothing.

mod rate;

pub use rate::{Buckets, Rate, network};

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits;
use crate::order::Code;

/// The guard before the gate.
pub struct Admission {
    permits: Arc<Semaphore>,
    ledger_well: AtomicBool,
}

/// A permit for an order in flight, free again when it is dropped.
pub type InFlightPermit = OwnedSemaphorePermit;

/// What a request may do.
pub struct Admitted {
    /// Needed to hand an order to the writer.
    pub permit: Option<InFlightPermit>,
    /// Why no *new* order may be made, though a known one is still answered.
    pub no_new: Option<Code>,
}

impl Default for Admission {
    fn default() -> Self {
        Admission {
            permits: Arc::new(Semaphore::new(limits::ORDERS_IN_FLIGHT_MAX)),
            ledger_well: AtomicBool::new(true),
        }
    }
}

impl Admission {
    /// Takes a permit for a request. The last permits are kept for retries that settle an unknown.
    pub fn admit(&self) -> Admitted {
        let crowded = self.permits.available_permits() <= limits::ORDERS_IN_FLIGHT_RETRY;
        let no_new = if !self.is_ledger_well() {
            Some(Code::LedgerUnavailable)
        } else if crowded {
            Some(Code::Overloaded)
        } else {
            None
        };
        Admitted { permit: self.permit(), no_new }
    }

    /// Takes one permit, if any is left.
    pub fn permit(&self) -> Option<InFlightPermit> {
        self.permits.clone().try_acquire_owned().ok()
    }

    /// Orders in flight.
    pub fn in_flight(&self) -> usize {
        limits::ORDERS_IN_FLIGHT_MAX.saturating_sub(self.permits.available_permits())
    }

    /// Remembers how the last ledger transaction went.
    pub fn ledger_is(&self, well: bool) {
        if self.ledger_well.swap(well, Ordering::Relaxed) != well {
            if well {
                tracing::info!("the ledger records orders again");
            } else {
                tracing::error!("the ledger does not record orders: new ones are refused until it does");
            }
        }
    }

    /// Whether the last ledger transaction went well.
    pub fn is_ledger_well(&self) -> bool {
        self.ledger_well.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_orders_are_stopped_before_the_last_permits_are_gone() {
        let admission = Admission::default();
        let mut permits = Vec::new();
        while admission.admit().no_new.is_none() {
            permits.push(admission.permit().unwrap());
        }
        assert_eq!(permits.len(), limits::ORDERS_IN_FLIGHT_MAX - limits::ORDERS_IN_FLIGHT_RETRY);
        let admitted = admission.admit();
        assert_eq!(admitted.no_new, Some(Code::Overloaded));
        assert!(admitted.permit.is_some());
        permits.clear();
        drop(admitted);
        assert_eq!(admission.in_flight(), 0);
        assert_eq!(admission.admit().no_new, None);
    }

    #[test]
    fn a_ledger_in_trouble_stops_new_orders_only() {
        let admission = Admission::default();
        admission.ledger_is(false);
        let admitted = admission.admit();
        assert_eq!(admitted.no_new, Some(Code::LedgerUnavailable));
        assert!(admitted.permit.is_some());
        admission.ledger_is(true);
        assert_eq!(admission.admit().no_new, None);
    }
}
