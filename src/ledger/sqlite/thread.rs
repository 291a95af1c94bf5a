//! A thread that owns one SQLite connection. Async callers send it work and await the answer; dropping the answer's
//! future does not stop the work.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::{Connection, InterruptHandle};
use tokio::sync::oneshot;

use crate::ledger::Error;
use crate::limits;

type Work = Box<dyn FnOnce(&mut Connection) + Send>;

/// A connection on its own thread, behind a bounded queue.
pub(super) struct ConnectionThread {
    queue: Mutex<Option<SyncSender<Work>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    interrupt: InterruptHandle,
}

impl ConnectionThread {
    /// Moves `connection` to a new thread that takes up to `queued_max` waiting jobs. Between jobs it calls
    /// `background`, which answers whether it has more to do.
    pub(super) fn start(
        name: &str,
        connection: Connection,
        queued_max: usize,
        background: impl FnMut(&mut Connection, Moment) -> bool + Send + 'static,
    ) -> Result<Self, Error> {
        let (queue, jobs) = sync_channel::<Work>(queued_max);
        let interrupt = connection.get_interrupt_handle();
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || work_off(connection, &jobs, background))
            .map_err(|error| Error::Unavailable(format!("could not start a ledger thread: {error}")))?;
        Ok(ConnectionThread { queue: Mutex::new(Some(queue)), thread: Mutex::new(Some(thread)), interrupt })
    }

    /// Runs `work` on the thread. Runs to completion even if this future is dropped.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        let job: Work = Box::new(move |connection| {
            // The caller may have gone; the work is done all the same.
            drop(answer.send(work(connection)));
        });
        let sent = match self.queue.lock().as_ref() {
            Some(queue) => queue.try_send(job),
            None => return Err(Error::Unavailable("the ledger is closed".to_owned())),
        };
        match sent {
            Ok(()) => answered.await.unwrap_or_else(|_| Err(Error::Unknown("a ledger job panicked".to_owned()))),
            Err(TrySendError::Full(_)) => Err(Error::Busy),
            Err(TrySendError::Disconnected(_)) => Err(Error::Unavailable("the ledger thread is gone".to_owned())),
        }
    }

    /// Ends the query that runs now with an error. For readers only: an order is never interrupted.
    pub(super) fn interrupt(&self) {
        self.interrupt.interrupt();
    }

    /// Lets the queued work finish, closes the connection and waits for both. Blocks.
    pub(super) fn stop(&self) {
        drop(self.queue.lock().take());
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the ledger thread panicked");
        }
    }
}

impl Drop for ConnectionThread {
    /// A ledger that is dropped without being closed has closed its file when its lock is released.
    fn drop(&mut self) {
        self.stop();
    }
}

/// When the background work of a thread is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// A job was just done, and others may wait.
    Busy,
    /// Nothing has come for [`limits::SQLITE_IDLE_MS`].
    Idle,
}

fn work_off(
    mut connection: Connection,
    jobs: &Receiver<Work>,
    mut background: impl FnMut(&mut Connection, Moment) -> bool,
) {
    let idle = Duration::from_millis(limits::SQLITE_IDLE_MS);
    let (mut more, mut patience) = (true, idle);
    loop {
        let job =
            if more { jobs.recv_timeout(patience) } else { jobs.recv().map_err(|_| RecvTimeoutError::Disconnected) };
        match job {
            Ok(work) => {
                // A panic is our bug: the caller gets "unknown", and the next job finds no open transaction.
                if catch_unwind(AssertUnwindSafe(|| work(&mut connection))).is_err() && !connection.is_autocommit() {
                    let rolled_back = connection.execute_batch("ROLLBACK");
                    tracing::error!(?rolled_back, "a ledger job panicked and was rolled back");
                }
                background(&mut connection, Moment::Busy);
                (more, patience) = (true, idle);
            }
            Err(RecvTimeoutError::Timeout) => {
                more = background(&mut connection, Moment::Idle);
                patience = Duration::ZERO;
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    if let Err((_, error)) = connection.close() {
        tracing::warn!(%error, "could not close the ledger's connection: {error}");
    }
}

/// Runs `work` in one transaction that takes the write lock at once, so that it can never fail half-way for a stale
/// snapshot. An error of `work` rolls back; an error of the commit itself leaves the outcome unknown.
pub(super) fn write<T>(
    connection: &mut Connection,
    work: impl FnOnce(&Connection) -> Result<T, Error>,
) -> Result<T, Error> {
    // A roll-back that failed once must not keep the ledger out of reach for ever.
    roll_back(connection)?;
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let value = match work(connection) {
        Ok(value) => value,
        Err(error) => {
            roll_back(connection)?;
            return Err(error);
        }
    };
    match connection.execute_batch("COMMIT") {
        Ok(()) => Ok(value),
        Err(error) => {
            // The pages may have reached the disk before the error: neither yes nor no.
            roll_back(connection)?;
            Err(Error::Unknown(error.to_string()))
        }
    }
}

/// Some errors roll back by themselves, so the autocommit state is asked first.
fn roll_back(connection: &Connection) -> Result<(), Error> {
    if connection.is_autocommit() {
        return Ok(());
    }
    connection.execute_batch("ROLLBACK").map_err(|error| Error::Unknown(format!("could not roll back: {error}")))
}
