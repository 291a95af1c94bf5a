//! The embedded ledger: one SQLite file in write-ahead-log mode with `synchronous=FULL`, one writer thread, and a few
//! readers. `docs/decisions/0001-sqlite-driver.md` tells why it is driven by rusqlite.

mod append;
mod audit;
mod epochs;
mod expiry;
mod lifecycle;
mod numbers;
mod open;
mod read;
mod reports;
mod sales;
mod thread;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::{BoxFuture, FutureExt};
use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::Semaphore;

use self::numbers::Numbers;
pub use self::open::SqliteOpenError;
use self::thread::{ConnectionThread, Moment, not_done, write};
use super::idempotency::sqlite as keys;
use super::quarantine::{BatchTry, Quarantine};
use super::{
    AppendDenial, AppendOutcome, Change, Changed, Check, CreateOutcome, Entry, EpochRequest, Error, ExpiredOrder,
    Ledger, NewestEpoch, PageRequest, Restock, RestockOutcome, SwitchOutcome, Transfer,
};
use crate::clock::UnixMs;
use crate::limits;
use crate::order::{History, Name, NewSale, Order, OrderNo, Sale, SaleNo, Salt, SkuLevel, SkuNo, Switch, UserId};

/// The embedded ledger.
pub struct SqliteLedger {
    writer: ConnectionThread,
    readers: Vec<ConnectionThread>,
    next_reader: AtomicUsize,
    /// Audits read every order: on a thread of their own they keep nobody waiting.
    auditor: ConnectionThread,
    /// Writes other than orders, which are never turned away because many skus are refilled at once.
    other_writes: Semaphore,
    numbers: Arc<Numbers>,
    quarantine: Quarantine,
    /// Held for as long as the ledger is open: a second process is refused.
    lock: Mutex<Option<File>>,
}

impl SqliteLedger {
    /// Opens the ledger file `path`, which must be there, as [`SqliteLedger::open`] does. Blocks.
    pub fn open_existing(path: &Path) -> Result<Self, SqliteOpenError> {
        if path.is_file() {
            SqliteLedger::open(path)
        } else {
            Err(SqliteOpenError::Missing(path.display().to_string()))
        }
    }

    /// Opens the ledger file `path`, creating and migrating it as needed, and takes its process lock. Blocks.
    pub fn open(path: &Path) -> Result<Self, SqliteOpenError> {
        let lock = open::lock(path)?;
        let threads = |error: Error| SqliteOpenError::Unsafe(error.to_string());
        let writer = open::writer(path)?;
        let numbers = Arc::new(Numbers::load(&writer).map_err(|error| open::sqlite(path, error))?);
        let background = numbers.clone();
        let background = move |connection: &mut Connection, moment| catch_up(&background, connection, moment);
        let writer = ConnectionThread::start("ledger-writer", writer, limits::SQLITE_WRITES_QUEUED_MAX, background)
            .map_err(threads)?;
        let readers = (0..limits::SQLITE_READERS)
            .map(|_| {
                let (reader, queued_max) = (open::reader(path)?, limits::SQLITE_READS_QUEUED_MAX);
                ConnectionThread::start("ledger-reader", reader, queued_max, |_, _| false).map_err(threads)
            })
            .collect::<Result<_, _>>()?;
        let auditor =
            ConnectionThread::start("ledger-audit", open::reader(path)?, limits::SQLITE_AUDITS_QUEUED_MAX, |_, _| {
                false
            })
            .map_err(threads)?;
        Ok(SqliteLedger {
            writer,
            readers,
            next_reader: AtomicUsize::new(0),
            auditor,
            other_writes: Semaphore::new(limits::SQLITE_OTHER_WRITES_MAX),
            numbers,
            quarantine: Quarantine::default(),
            lock: Mutex::new(Some(lock)),
        })
    }

    /// The number of schema changes that the open file has.
    pub async fn schema_version(&self) -> Result<i64, Error> {
        self.read(|connection| open::schema_version(connection)).await
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, rusqlite::Error> + Send + 'static,
    ) -> Result<T, Error> {
        let _place = self.other_writes.acquire().await.map_err(|_| Error::Busy)?;
        self.writer.run(move |connection| write(connection, work)).await
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, rusqlite::Error> + Send + 'static,
    ) -> Result<T, Error> {
        let next = self.next_reader.fetch_add(1, Ordering::Relaxed);
        match self.readers.get(next % self.readers.len().max(1)) {
            Some(reader) => reader.run(|connection| work(connection).map_err(not_done)).await,
            None => Err(Error::Unavailable("the ledger has no reader".to_owned())),
        }
    }
}

/// Moves order numbers into their table when the writer is idle, or when too many wait.
fn catch_up(numbers: &Numbers, connection: &mut Connection, moment: Moment) -> bool {
    if moment == Moment::Busy && !numbers.are_many() {
        return true;
    }
    numbers.catch_up(connection).unwrap_or_else(|error| {
        // They stay in memory; the next job gives another occasion.
        tracing::warn!(%error, "move order numbers into their table");
        false
    })
}

impl Ledger for SqliteLedger {
    fn append(&self, batch: Vec<Entry>) -> BoxFuture<'_, Result<Vec<AppendOutcome>, Error>> {
        let numbers = self.numbers.clone();
        let work = move |connection: &mut Connection| {
            let appended = write(connection, |connection| append::append(connection, &batch))?;
            let recorded = batch.iter().zip(&appended).filter(|(_, appended)| match appended {
                AppendOutcome::Created { .. } => true,
                // Recorded by an attempt whose commit failed to say so, it may be missing in memory.
                AppendOutcome::Exists(order) => !numbers.has(order),
                AppendOutcome::Denied(AppendDenial::SoldOut)
                | AppendOutcome::Denied(AppendDenial::LimitReached)
                | AppendOutcome::Denied(AppendDenial::Closed) => false,
            });
            numbers.remember(recorded.map(|(entry, _)| (entry.reservation.order_no, entry.reservation.user)));
            Ok(appended)
        };
        self.writer.run(work).boxed()
    }

    fn change(&self, changes: Vec<Change>, now_ms: UnixMs) -> BoxFuture<'_, Result<Vec<Changed>, Error>> {
        let numbers = self.numbers.clone();
        self.write(move |connection| lifecycle::change(connection, &numbers, &changes, now_ms)).boxed()
    }

    fn expire(&self, now_ms: UnixMs, max: u32) -> BoxFuture<'_, Result<Vec<ExpiredOrder>, Error>> {
        let batch = move |max, left_out: Vec<OrderNo>| async move {
            let due = self.read(move |connection| expiry::due(connection, now_ms, max, &left_out)).await?;
            let found: Vec<OrderNo> = due.iter().map(|due| due.order_no).collect();
            if found.is_empty() {
                return Ok(BatchTry::Done { expired: Vec::new(), found: 0 });
            }
            match self.write(move |connection| expiry::expire(connection, &due, now_ms)).await {
                Ok(expired) => Ok(BatchTry::Done { expired, found: found.len() }),
                Err(Error::Corrupt(why)) => Ok(BatchTry::Broken { found, why }),
                Err(error) => Err(error),
            }
        };
        self.quarantine.expire_around(max, batch).boxed()
    }

    fn history(&self, user: UserId, order_no: OrderNo) -> BoxFuture<'_, Result<History, Error>> {
        self.read(move |connection| reports::history(connection, user, order_no)).boxed()
    }

    fn sweep_keys(&self, now_ms: UnixMs, max: u32) -> BoxFuture<'_, Result<u64, Error>> {
        self.write(move |connection| keys::sweep(connection, now_ms, max)).boxed()
    }

    fn find(&self, user: Option<UserId>, order_no: OrderNo) -> BoxFuture<'_, Result<Option<Order>, Error>> {
        let numbers = self.numbers.clone();
        self.read(move |connection| numbers.find(connection, user, order_no)).boxed()
    }

    fn list(&self, page: PageRequest) -> BoxFuture<'_, Result<Vec<Order>, Error>> {
        self.read(move |connection| read::page(connection, &page)).boxed()
    }

    fn id(&self) -> BoxFuture<'_, Result<u64, Error>> {
        self.read(|connection| read::ledger_id(connection)).boxed()
    }

    /// SQLite's commits do not overlap, and a second append would only halve the batches.
    fn kind(&self) -> &'static str {
        "sqlite"
    }

    fn appends_at_once(&self) -> usize {
        1
    }

    fn sales(&self, after: i64) -> BoxFuture<'_, Result<Vec<Sale>, Error>> {
        self.read(move |connection| read::sales(connection, after)).boxed()
    }

    fn create_sale(&self, new: NewSale, salt: Salt, now_ms: UnixMs) -> BoxFuture<'_, Result<CreateOutcome, Error>> {
        self.write(move |connection| sales::create(connection, &new, &salt, now_ms)).boxed()
    }

    fn switch(&self, sale: SaleNo, switch: Switch) -> BoxFuture<'_, Result<SwitchOutcome, Error>> {
        self.write(move |connection| sales::switch(connection, sale, switch)).boxed()
    }

    fn mark_bypassed(&self, sale: SaleNo) -> BoxFuture<'_, Result<(), Error>> {
        self.write(move |connection| sales::mark_bypassed(connection, sale)).boxed()
    }

    fn restock(&self, restock: Restock) -> BoxFuture<'_, Result<RestockOutcome, Error>> {
        self.write(move |connection| sales::restock(connection, &restock)).boxed()
    }

    fn restocked(&self, sale: SaleNo, change_id: Name) -> BoxFuture<'_, Result<Option<(SkuNo, i64)>, Error>> {
        self.read(move |connection| sales::restocked(connection, sale, &change_id)).boxed()
    }

    fn transfer(&self, transfer: Transfer) -> BoxFuture<'_, Result<bool, Error>> {
        self.write(move |connection| sales::transfer(connection, &transfer)).boxed()
    }

    fn begin_epochs(&self, sale: SaleNo, shards: Vec<EpochRequest>) -> BoxFuture<'_, Result<Vec<NewestEpoch>, Error>> {
        self.write(move |connection| shards.iter().map(|begin| epochs::begin(connection, sale, *begin)).collect())
            .boxed()
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), Error>> {
        self.writer.run(|connection| write(connection, open::rewrite_version)).boxed()
    }

    fn stock(&self, sale: SaleNo) -> BoxFuture<'_, Result<Vec<Vec<SkuLevel>>, Error>> {
        self.read(move |connection| read::stock(connection, sale)).boxed()
    }

    fn audit(&self, sale: Option<SaleNo>) -> BoxFuture<'_, Result<Vec<Check>, Error>> {
        self.auditor.run(move |connection| audit::audit(connection, sale).map_err(not_done)).boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        // The writer closes last: SQLite then folds the log into the file and removes it.
        self.readers.iter().chain([&self.auditor]).for_each(ConnectionThread::interrupt);
        self.readers.iter().chain([&self.auditor]).for_each(ConnectionThread::stop);
        self.writer.stop();
        drop(self.lock.lock().take());
        std::future::ready(()).boxed()
    }
}
