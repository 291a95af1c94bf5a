//! Looks orders up in batches: after a gate was lost the engine asks the ledger before every refusal, so the lookups that
//! wait while one query runs make up the next one.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use crate::ledger::Error;
use crate::order::{Order, OrderNo, UserId};

/// A query for the orders of these users and numbers.
pub(in crate::ledger) type LookupQuery =
    Box<dyn Fn(Vec<(UserId, OrderNo)>) -> BoxFuture<'static, Result<Vec<Order>, Error>> + Send + Sync>;

/// How much may wait and run.
#[derive(Clone, Copy, Debug)]
pub(in crate::ledger) struct LookupLimits {
    /// Queries at once.
    pub(in crate::ledger) queries: usize,
    pub(in crate::ledger) queued_max: usize,
    pub(in crate::ledger) per_query_max: usize,
}

/// A lookup that waits.
struct Lookup {
    user: UserId,
    order_no: OrderNo,
    answer: oneshot::Sender<Result<Option<Order>, Error>>,
}

/// The lookups that wait for their query.
pub(in crate::ledger) struct LookupBatcher {
    queue: Mutex<Option<mpsc::Sender<Lookup>>>,
}

impl LookupBatcher {
    /// Starts the tasks that answer.
    pub(in crate::ledger) fn start(limits: LookupLimits, query: LookupQuery, tasks: &TaskTracker) -> Self {
        let (queue, waiting) = mpsc::channel(limits.queued_max);
        let (waiting, query) = (Arc::new(tokio::sync::Mutex::new(waiting)), Arc::new(query));
        for _ in 0..limits.queries {
            tasks.spawn(answer(waiting.clone(), query.clone(), limits.per_query_max));
        }
        LookupBatcher { queue: Mutex::new(Some(queue)) }
    }

    /// The order of this user with this number.
    pub(in crate::ledger) async fn find(&self, user: UserId, order_no: OrderNo) -> Result<Option<Order>, Error> {
        let closed = || Error::Unavailable("the ledger is closed".to_owned());
        let queue = self.queue.lock().clone().ok_or_else(closed)?;
        let (answer, answered) = oneshot::channel();
        queue.try_send(Lookup { user, order_no, answer }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Error::Busy,
            mpsc::error::TrySendError::Closed(_) => closed(),
        })?;
        answered.await.map_err(|_| closed())?
    }

    /// Takes no more lookups; those that wait are answered.
    pub(in crate::ledger) fn close(&self) {
        drop(self.queue.lock().take());
    }
}

/// Answers lookups until the queue is closed; the last of these tasks drops the query, and what it holds, with it.
async fn answer(
    waiting: Arc<tokio::sync::Mutex<mpsc::Receiver<Lookup>>>,
    query: Arc<LookupQuery>,
    per_query_max: usize,
) {
    let mut lookups = Vec::with_capacity(per_query_max);
    loop {
        if waiting.lock().await.recv_many(&mut lookups, per_query_max).await == 0 {
            return;
        }
        let found = query(lookups.iter().map(|lookup| (lookup.user, lookup.order_no)).collect()).await;
        let found: Result<HashMap<(UserId, OrderNo), Order, foldhash::fast::RandomState>, Error> =
            found.map(|orders| orders.into_iter().map(|order| ((order.user, order.order_no), order)).collect());
        for lookup in lookups.drain(..) {
            let order = found.as_ref().map(|orders| orders.get(&(lookup.user, lookup.order_no)).copied());
            // The caller may have gone.
            drop(lookup.answer.send(order.map_err(Error::clone)));
        }
    }
}
