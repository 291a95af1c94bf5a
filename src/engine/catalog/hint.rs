//! The last look at what is left of a sale, shared by a crowd that reloads the page.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};

/// The units that were left of each sku at the last look.
#[derive(Default)]
pub(in crate::engine) struct StockHint {
    last: tokio::sync::Mutex<NumberedLook>,
    /// Looks that were begun.
    begun: AtomicU64,
}

#[derive(Default)]
struct NumberedLook {
    number: u64,
    units: Vec<i64>,
}

impl StockHint {
    /// What a look that began after this call has found; takes that look if no other request did meanwhile.
    pub(in crate::engine) async fn get<E>(
        &self,
        look: impl Future<Output = Result<Vec<i64>, E>>,
    ) -> Result<Vec<i64>, E> {
        let begun = self.begun.load(Ordering::SeqCst);
        let mut last = self.last.lock().await;
        if last.number <= begun {
            let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
            *last = NumberedLook { number, units: look.await? };
        }
        Ok(last.units.clone())
    }
}
