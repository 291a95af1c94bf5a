//! The ledger for more than one engine: PostgreSQL 14 or later, READ COMMITTED and constraints. Any number of engines
//! may have it open; `docs/decisions/0009-postgres-ledger.md` has the reasons.
//!
//! Every connection belongs to one task for as long as it works. There is no pool, and no statement is ever cancelled:
//! a connection that does not answer is dropped as a whole.

mod append;
mod audit;
mod connections;
mod epochs;
mod error;
mod lifecycle;
mod open;
mod parameters;
mod read;
mod reports;
mod sales;
mod session;
mod steps;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::connections::{Connections, Server};
pub use self::error::PostgresOpenError;
use self::session::{Address, Purpose, Session};
use super::core::quarantine::Quarantine;
use super::sql::lookups::{LookupBatcher, LookupLimits, LookupQuery};
use super::{
    AppendOutcome, Change, ChangeOutcome, Check, CreateOutcome, Entry, EpochRequest, Error, ExpiredOrder, Ledger,
    NewestEpoch, OrderLedger, PageRequest, Restock, RestockOutcome, SaleLedger, SwitchOutcome, Transfer, idempotency,
};
use crate::clock::UnixMs;
use crate::limits;
use crate::order::{History, Name, NewSale, Order, OrderNo, Sale, SaleNo, Salt, SkuLevel, SkuNo, Switch, UserId};

/// The ledger in a PostgreSQL database.
pub struct PostgresLedger {
    server: Arc<Server>,
    /// Batches of orders.
    writers: Connections,
    /// Changes of orders, and orders that expire. Not among the writers: such a change may wait for the row of its order,
    /// which another engine has locked, and new orders would have one connection less meanwhile. Not in the admin pool
    /// either, which a sale with many segments keeps busy for seconds.
    lifecycle_pool: Connections,
    /// Everything else that writes: orders never wait behind it for a connection.
    admin_pool: Connections,
    readers: Connections,
    lookups: LookupBatcher,
    /// Audits read every order: on a connection of their own they delay no other call.
    auditors: Connections,
    /// Holds the lock of [`PostgresLedger::claim`] while it is open.
    claim: tokio::sync::Mutex<Option<Session>>,
    /// Ends an audit that runs; orders are never interrupted.
    closing: CancellationToken,
    tasks: TaskTracker,
    quarantine: Quarantine,
}

impl PostgresLedger {
    /// Opens the ledger at an address like `postgres://user:password@host:5432/database`, once it is certain that what
    /// it promises can be kept there. An empty database and one with an older schema are migrated. To be called inside
    /// a tokio runtime, which the ledger's tasks then run in.
    pub async fn open(url: &str) -> Result<Self, PostgresOpenError> {
        let address = Address::parse(url)?;
        let ledger_id = open::open(&address).await?;
        let text = address.to_string();
        let connected = PostgresLedger::connect(Arc::new(Server::new(address, ledger_id))).await;
        connected.map_err(|error| PostgresOpenError::Unavailable(text, error))
    }

    /// Opens a ledger that must be there, as [`PostgresLedger::open`] does.
    pub async fn open_existing(url: &str) -> Result<Self, PostgresOpenError> {
        open::find(&Address::parse(url)?).await?;
        PostgresLedger::open(url).await
    }

    /// Brings the schema of the database at `url` up to date and answers its version.
    pub async fn migrate(url: &str) -> Result<i64, PostgresOpenError> {
        open::migrate(&Address::parse(url)?).await
    }

    async fn connect(server: Arc<Server>) -> Result<Self, Error> {
        let tasks = TaskTracker::new();
        let start =
            async |purpose, count, queued_max| Connections::start(&server, &tasks, purpose, count, queued_max).await;
        let writers = start(Purpose::Orders, limits::POSTGRES_WRITERS, limits::POSTGRES_APPENDS_QUEUED_MAX).await?;
        let lifecycle_pool =
            start(Purpose::Orders, limits::POSTGRES_LIFECYCLE_CONNECTIONS, limits::POSTGRES_STEPS_QUEUED_MAX).await?;
        let admin_pool =
            start(Purpose::Changes, limits::POSTGRES_ADMIN_CONNECTIONS, limits::POSTGRES_CHANGES_QUEUED_MAX).await?;
        let readers = start(Purpose::Reads, limits::POSTGRES_READERS, limits::POSTGRES_READS_QUEUED_MAX).await?;
        let finders = start(Purpose::Reads, limits::POSTGRES_FINDERS, limits::POSTGRES_FINDERS).await?;
        let auditors = start(Purpose::Audits, 1, limits::POSTGRES_AUDITS_QUEUED_MAX).await?;
        let lookups = LookupBatcher::start(LOOKUPS, query(finders), &tasks);
        Ok(PostgresLedger {
            server,
            writers,
            lifecycle_pool,
            admin_pool,
            readers,
            lookups,
            auditors,
            claim: tokio::sync::Mutex::default(),
            closing: CancellationToken::new(),
            tasks,
            quarantine: Quarantine::default(),
        })
    }

    /// Joins the engines of this ledger until it is closed: `alone`, if the gate cannot be shared, or beside others. Answers
    /// whether that is possible, after a wait in which the server notices that an engine was killed a moment ago.
    pub async fn claim(&self, alone: bool) -> Result<bool, Error> {
        let mut claim = self.claim.lock().await;
        let mut session = self.server.address.connect(Purpose::Changes).await?;
        for _ in 0..limits::POSTGRES_CLAIMS_MAX {
            if open::claim(&mut session, alone).await? {
                *claim = Some(session);
                return Ok(true);
            }
            tokio::time::sleep(Duration::from_millis(limits::POSTGRES_PAUSE_MS_MIN)).await;
        }
        session.close().await;
        Ok(false)
    }
}

const LOOKUPS: LookupLimits = LookupLimits {
    queries: limits::POSTGRES_FINDERS,
    queued_max: limits::POSTGRES_FINDS_QUEUED_MAX,
    per_query_max: limits::POSTGRES_FINDS_PER_QUERY_MAX,
};

/// Looks orders up on these connections, which close when the last look-up is answered.
fn query(finders: Connections) -> LookupQuery {
    let finders = Arc::new(finders);
    Box::new(move |orders| {
        let finders = finders.clone();
        let (users, numbers): (Vec<UserId>, Vec<OrderNo>) = orders.into_iter().unzip();
        let find = async move |session: &mut Session| read::find(&mut session.sql, &users, &numbers).await;
        async move { finders.run(move |session| async move { find(session).await }.boxed()).await }.boxed()
    })
}

impl fmt::Debug for PostgresLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresLedger({})", self.server.address)
    }
}

impl OrderLedger for PostgresLedger {
    fn append(&self, batch: Vec<Entry>) -> BoxFuture<'_, Result<Vec<AppendOutcome>, Error>> {
        self.writers.run(move |session| async move { append::append(session, &batch).await }.boxed()).boxed()
    }

    fn appends_at_once(&self) -> usize {
        limits::POSTGRES_WRITERS
    }

    fn change(&self, changes: Vec<Change>, now_ms: UnixMs) -> BoxFuture<'_, Result<Vec<ChangeOutcome>, Error>> {
        self.lifecycle_pool
            .run(move |session| async move { lifecycle::change(session, &changes, now_ms).await }.boxed())
            .boxed()
    }

    fn expire(&self, now_ms: UnixMs, max: u32) -> BoxFuture<'_, Result<Vec<ExpiredOrder>, Error>> {
        async move {
            let mut round = self.quarantine.begin(max, Instant::now());
            loop {
                let batch = round.next();
                let expire = async move |session: &mut Session| lifecycle::expire(session, now_ms, &batch).await;
                let tried = self.lifecycle_pool.run(move |session| async move { expire(session).await }.boxed()).await;
                if let Some(ended) = round.record(tried) {
                    return ended;
                }
            }
        }
        .boxed()
    }

    fn find(&self, user: Option<UserId>, order_no: OrderNo) -> BoxFuture<'_, Result<Option<Order>, Error>> {
        match user {
            Some(user) => self.lookups.find(user, order_no).boxed(),
            None => self
                .readers
                .run(move |session| async move { read::find_by_number(&mut session.sql, order_no).await }.boxed())
                .boxed(),
        }
    }

    fn list(&self, page: PageRequest) -> BoxFuture<'_, Result<Vec<Order>, Error>> {
        self.readers.run(move |session| async move { read::page(&mut session.sql, &page).await }.boxed()).boxed()
    }

    fn history(&self, user: UserId, order_no: OrderNo) -> BoxFuture<'_, Result<History, Error>> {
        self.readers
            .run(move |session| async move { lifecycle::history(session, user, order_no).await }.boxed())
            .boxed()
    }

    fn sweep_keys(&self, now_ms: UnixMs, max: u32) -> BoxFuture<'_, Result<u64, Error>> {
        let sweep =
            async move |session: &mut Session| Ok(idempotency::postgres::sweep(&mut session.sql, now_ms, max).await?);
        self.admin_pool.run_in_turn(move |session| async move { sweep(session).await }.boxed()).boxed()
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), Error>> {
        self.writers.run(|session| async move { open::rewrite_id(session).await }.boxed()).boxed()
    }
}

impl SaleLedger for PostgresLedger {
    fn sales(&self, after: i64) -> BoxFuture<'_, Result<Vec<Sale>, Error>> {
        self.readers.run(move |session| async move { read::sales(&mut session.sql, after).await }.boxed()).boxed()
    }

    fn create_sale(&self, new: NewSale, salt: Salt, now_ms: UnixMs) -> BoxFuture<'_, Result<CreateOutcome, Error>> {
        self.admin_pool
            .run_in_turn(move |session| async move { sales::create(session, &new, &salt, now_ms).await }.boxed())
            .boxed()
    }

    fn switch(&self, sale: SaleNo, switch: Switch) -> BoxFuture<'_, Result<SwitchOutcome, Error>> {
        self.admin_pool
            .run_in_turn(move |session| async move { sales::switch(session, sale, switch).await }.boxed())
            .boxed()
    }

    fn mark_bypassed(&self, sale: SaleNo) -> BoxFuture<'_, Result<(), Error>> {
        self.admin_pool
            .run_in_turn(move |session| async move { sales::mark_bypassed(session, sale).await }.boxed())
            .boxed()
    }

    fn stock(&self, sale: SaleNo) -> BoxFuture<'_, Result<Vec<Vec<SkuLevel>>, Error>> {
        self.readers.run(move |session| async move { read::stock(&mut session.sql, sale).await }.boxed()).boxed()
    }

    fn restock(&self, restock: Restock) -> BoxFuture<'_, Result<RestockOutcome, Error>> {
        self.admin_pool
            .run_in_turn(move |session| async move { sales::restock(session, &restock).await }.boxed())
            .boxed()
    }

    fn restocked(&self, sale: SaleNo, change_id: Name) -> BoxFuture<'_, Result<Option<(SkuNo, i64)>, Error>> {
        self.readers
            .run(move |session| async move { sales::restocked(&mut session.sql, sale, &change_id).await }.boxed())
            .boxed()
    }

    fn transfer(&self, transfer: Transfer) -> BoxFuture<'_, Result<bool, Error>> {
        // Beside orders, for an order waits for it; sales that are made take their time.
        self.writers.run(move |session| async move { sales::transfer(session, &transfer).await }.boxed()).boxed()
    }

    fn begin_epochs(&self, sale: SaleNo, shards: Vec<EpochRequest>) -> BoxFuture<'_, Result<Vec<NewestEpoch>, Error>> {
        self.admin_pool
            .run_in_turn(move |session| async move { epochs::begin(session, sale, &shards).await }.boxed())
            .boxed()
    }
}

impl Ledger for PostgresLedger {
    fn id(&self) -> BoxFuture<'_, Result<u64, Error>> {
        std::future::ready(Ok(self.server.ledger_id.cast_unsigned())).boxed()
    }

    fn kind(&self) -> &'static str {
        "postgres"
    }

    fn audit(&self, sale: Option<SaleNo>) -> BoxFuture<'_, Result<Vec<Check>, Error>> {
        let closing = self.closing.clone();
        let audit = async move |session: &mut Session| {
            let closed = || Err(Error::Unavailable("the ledger is closed".to_owned()));
            closing.run_until_cancelled(audit::audit(session, sale)).await.unwrap_or_else(closed)
        };
        self.auditors.run(move |session| async move { audit(session).await }.boxed()).boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async move {
            for connections in [&self.writers, &self.lifecycle_pool, &self.admin_pool, &self.readers, &self.auditors] {
                connections.close();
            }
            self.lookups.close();
            if let Some(session) = self.claim.lock().await.take() {
                session.close().await;
            }
            self.closing.cancel();
            self.tasks.close();
            self.tasks.wait().await;
        }
        .boxed()
    }
}
