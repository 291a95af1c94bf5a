//! Looking orders up in batches: after a gate was lost every refusal asks the ledger first, so the questions that wait
//! while one query runs make up the next one.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::FutureExt;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use super::connections::Connections;
use super::read;
use crate::ledger::Error;
use crate::limits;
use crate::order::{Order, OrderNo, UserId};

/// A question that waits.
struct Find {
    user: UserId,
    order_no: OrderNo,
    answer: oneshot::Sender<Result<Option<Order>, Error>>,
}

/// The questions that wait.
pub(super) struct LookupBatcher {
    queue: Mutex<Option<mpsc::Sender<Find>>>,
}

impl LookupBatcher {
    /// Begins to answer, with as many queries at once as there are connections.
    pub(super) fn start(finders: &Arc<Connections>, tasks: &TaskTracker) -> Self {
        let (queue, waiting) = mpsc::channel(limits::POSTGRES_FINDS_QUEUED_MAX);
        let waiting = Arc::new(tokio::sync::Mutex::new(waiting));
        for _ in 0..limits::POSTGRES_FINDERS {
            tasks.spawn(answer(waiting.clone(), finders.clone()));
        }
        LookupBatcher { queue: Mutex::new(Some(queue)) }
    }

    /// The order of this user with this number.
    pub(super) async fn find(&self, user: UserId, order_no: OrderNo) -> Result<Option<Order>, Error> {
        let closed = || Error::Unavailable("the ledger is closed".to_owned());
        let queue = self.queue.lock().clone().ok_or_else(closed)?;
        let (answer, answered) = oneshot::channel();
        queue.try_send(Find { user, order_no, answer }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Error::Busy,
            mpsc::error::TrySendError::Closed(_) => closed(),
        })?;
        answered.await.map_err(|_| closed())?
    }

    /// Takes no more questions; those that wait are answered.
    pub(super) fn close(&self) {
        drop(self.queue.lock().take());
    }
}

async fn answer(waiting: Arc<tokio::sync::Mutex<mpsc::Receiver<Find>>>, finders: Arc<Connections>) {
    let mut finds = Vec::with_capacity(limits::POSTGRES_FINDS_PER_QUERY_MAX);
    loop {
        if waiting.lock().await.recv_many(&mut finds, limits::POSTGRES_FINDS_PER_QUERY_MAX).await == 0 {
            // The last of these tasks takes the connections with it.
            return;
        }
        let (users, numbers): (Vec<UserId>, Vec<OrderNo>) = finds.iter().map(|find| (find.user, find.order_no)).unzip();
        let found = finders
            .run(move |session| async move { read::find(&mut session.sql, &users, &numbers).await }.boxed())
            .await;
        let found: Result<HashMap<(UserId, OrderNo), Order, foldhash::fast::RandomState>, Error> =
            found.map(|orders| orders.into_iter().map(|order| ((order.user, order.order_no), order)).collect());
        for find in finds.drain(..) {
            let order = found.as_ref().map(|orders| orders.get(&(find.user, find.order_no)).copied());
            // Whoever asked may have gone.
            drop(find.answer.send(order.map_err(Error::clone)));
        }
    }
}
