//! Tasks that own one connection each, behind one bounded queue. Async callers send them work and await the answer;
//! dropping the answer's future does not stop the work.
//!
//! A task whose connection failed connects anew, with growing pauses, and takes no work meanwhile. If no connection of
//! its queue is left, what comes is turned away at once instead of waiting for the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::open;
use super::session::{Address, Purpose, Session};
use crate::ledger::Error;
use crate::limits;

/// Work for a connection, or the reason why there is none. Its error tells that the connection must go.
type Work = Box<dyn for<'s> FnOnce(Result<&'s mut Session, Error>) -> BoxFuture<'s, Result<(), Error>> + Send>;

/// Some connections with the same work.
pub(super) struct Connections {
    queue: Mutex<Option<mpsc::Sender<Work>>>,
}

/// What the tasks of one queue share.
struct Shared {
    server: Arc<Server>,
    purpose: Purpose,
    work: tokio::sync::Mutex<mpsc::Receiver<Work>>,
    /// Tasks that have a connection.
    connected: AtomicUsize,
}

/// The server as all connections of a ledger see it.
pub(super) struct Server {
    pub(super) address: Address,
    /// What the database said it is when the ledger was opened.
    pub(super) ledger_id: i64,
    /// Whether a lost connection is logged, and not yet a new one.
    is_lost: AtomicBool,
}

impl Server {
    pub(super) fn new(address: Address, ledger_id: i64) -> Self {
        Server { address, ledger_id, is_lost: AtomicBool::new(false) }
    }

    async fn connect(&self, purpose: Purpose) -> Result<Session, Error> {
        let mut session = self.address.connect(purpose).await?;
        // Behind the same address another server may have taken over: a replica, an old copy, one without fsync.
        open::check(&session.found).map_err(|refused| Error::Unavailable(refused.to_string()))?;
        match open::ledger_id(&mut session).await? {
            id if id == self.ledger_id => Ok(session),
            _ => Err(Error::Unavailable(format!("{} is another ledger than before", self.address))),
        }
    }

    fn lost(&self, error: &Error) {
        if !self.is_lost.swap(true, Ordering::Relaxed) {
            tracing::warn!(%error, server = %self.address, "gave up a connection to {}: {error}", self.address);
        }
    }

    fn back(&self) {
        if self.is_lost.swap(false, Ordering::Relaxed) {
            tracing::info!(server = %self.address, "connected again to {}", self.address);
        }
    }
}

impl Connections {
    /// Opens `count` connections for `purpose`, behind a queue of `queued_max` jobs.
    pub(super) async fn start(
        server: &Arc<Server>,
        tasks: &TaskTracker,
        purpose: Purpose,
        count: usize,
        queued_max: usize,
    ) -> Result<Self, Error> {
        let (queue, work) = mpsc::channel(queued_max);
        let shared = Arc::new(Shared {
            server: server.clone(),
            purpose,
            work: tokio::sync::Mutex::new(work),
            connected: AtomicUsize::new(count),
        });
        for _ in 0..count {
            let session = server.connect(purpose).await?;
            tasks.spawn(serve(shared.clone(), session));
        }
        Ok(Connections { queue: Mutex::new(Some(queue)) })
    }

    /// Runs `work` on a connection, or turns it away if too much is waiting. Once it has been polled it runs to
    /// completion, even if this future is dropped.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl for<'s> FnOnce(&'s mut Session) -> BoxFuture<'s, Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let (work, answered) = answering(work);
        match self.queue()?.try_send(work) {
            Ok(()) => answer(answered).await,
            Err(mpsc::error::TrySendError::Full(_)) => Err(Error::Busy),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(closed()),
        }
    }

    /// The same, but waits for room in the queue.
    pub(super) async fn run_in_turn<T: Send + 'static>(
        &self,
        work: impl for<'s> FnOnce(&'s mut Session) -> BoxFuture<'s, Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let (work, answered) = answering(work);
        self.queue()?.send(work).await.map_err(|_| closed())?;
        answer(answered).await
    }

    /// Takes no more work; the tasks end when they have done what is queued.
    pub(super) fn close(&self) {
        drop(self.queue.lock().take());
    }

    fn queue(&self) -> Result<mpsc::Sender<Work>, Error> {
        self.queue.lock().clone().ok_or_else(closed)
    }
}

fn closed() -> Error {
    Error::Unavailable("the ledger is closed".to_owned())
}

/// Work that sends its answer.
fn answering<T: Send + 'static>(
    work: impl for<'s> FnOnce(&'s mut Session) -> BoxFuture<'s, Result<T, Error>> + Send + 'static,
) -> (Work, oneshot::Receiver<Result<T, Error>>) {
    let (answer, answered) = oneshot::channel();
    let work: Work = Box::new(move |session| {
        async move {
            let done = match session {
                Ok(session) => session.run(work).await,
                Err(error) => Err(error),
            };
            let well = done.as_ref().map(drop).map_err(Error::clone);
            // The caller may have gone; the work is done all the same.
            drop(answer.send(done));
            well
        }
        .boxed()
    });
    (work, answered)
}

async fn answer<T>(answered: oneshot::Receiver<Result<T, Error>>) -> Result<T, Error> {
    // The sender is dropped unused only when the runtime is.
    answered.await.unwrap_or_else(|_| Err(Error::Unknown("the ledger's task is gone".to_owned())))
}

async fn serve(shared: Arc<Shared>, mut session: Session) {
    let idle = Duration::from_millis(limits::POSTGRES_IDLE_MS);
    let mut used = Instant::now();
    while let Some(work) = shared.next().await {
        // A connection that died while it was idle is replaced before a job fails on it.
        if used.elapsed() > idle && !session.answers().await {
            match shared.server.connect(shared.purpose).await {
                Ok(connected) => session = connected,
                Err(error) => {
                    let Some(connected) = shared.without_connection(&error, Some(work)).await else { return };
                    (session, used) = (connected, Instant::now());
                    continue;
                }
            }
        }
        let done = work(Ok(&mut session)).await;
        used = Instant::now();
        if let Err(error) = done {
            drop(session);
            let Some(connected) = shared.without_connection(&error, None).await else { return };
            session = connected;
        }
    }
    shared.connected.fetch_sub(1, Ordering::SeqCst);
    session.close().await;
}

impl Shared {
    async fn next(&self) -> Option<Work> {
        self.work.lock().await.recv().await
    }

    /// Connects anew. `None`: the ledger was closed meanwhile.
    async fn without_connection(&self, why: &Error, turned_away: Option<Work>) -> Option<Session> {
        self.connected.fetch_sub(1, Ordering::SeqCst);
        if let Some(work) = turned_away {
            drop(work(Err(why.clone())).await);
        }
        // A row that the ledger cannot take says nothing about the connection: it is replaced without a log line.
        if !matches!(why, Error::Corrupt(_)) {
            self.server.lost(why);
        }
        let mut pause = Duration::from_millis(limits::POSTGRES_PAUSE_MS_MIN);
        // The first attempt is quick if the server is well: work may wait for it.
        let mut connected = self.server.connect(self.purpose).await;
        loop {
            match connected {
                Ok(session) => {
                    self.connected.fetch_add(1, Ordering::SeqCst);
                    self.server.back();
                    return Some(session);
                }
                Err(error) => {
                    self.server.lost(&error);
                    self.turn_away(&error, tokio::time::sleep(pause)).await?;
                    pause = (pause * 2).min(Duration::from_millis(limits::POSTGRES_PAUSE_MS_MAX));
                    connected = self.turn_away(&error, self.server.connect(self.purpose)).await?;
                }
            }
        }
    }

    /// Awaits `during`; meanwhile turns away whatever comes, unless another task has a connection for it. `None`: the
    /// ledger was closed.
    async fn turn_away<T>(&self, error: &Error, during: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(during);
        loop {
            let none_is_connected = self.connected.load(Ordering::SeqCst) == 0;
            tokio::select! {
                done = &mut during => return Some(done),
                work = self.next(), if none_is_connected => {
                    drop(work?(Err(Error::Unavailable(error.to_string()))).await);
                }
            }
        }
    }
}
