//! One connection: how it is set up, what it must read back, and where a transaction begins and ends.
//!
//! No SQL future is ever cancelled to go on with the same connection. A connection that fails or does not answer in
//! time is dropped, and the server rolls back what was not committed.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::str::FromStr;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{ConnectOptions, Connection, Row};

use super::error::{PostgresOpenError, before_commit};
use super::parameters;
use crate::ledger::Error;
use crate::limits;

/// Where the database is, and how to log in. Its text holds no password.
#[derive(Clone)]
pub(super) struct Address {
    options: PgConnectOptions,
}

impl Address {
    /// Reads an address like `postgres://user:password@host:5432/database`.
    pub(super) fn parse(url: &str) -> Result<Self, PostgresOpenError> {
        if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
            return Err(PostgresOpenError::Address);
        }
        parameters::check(url)?;
        // The error might quote the address, and with it the password.
        let options = PgConnectOptions::from_str(url).map_err(|_| PostgresOpenError::Address)?;
        Ok(Address { options: options.application_name("rushgate").disable_statement_logging() })
    }

    /// Opens a connection and sets it up; answers within [`limits::POSTGRES_CONNECT_MS_MAX`].
    pub(super) async fn connect(&self, purpose: Purpose) -> Result<Session, Error> {
        let set_up = async {
            let mut sql = self.options.connect().await?;
            sqlx::query(SET_UP)
                .bind(purpose.statement_ms().to_string())
                .bind(purpose.lock_ms().to_string())
                .bind(purpose.transaction_ms().to_string())
                .bind(if purpose.may_write() { "off" } else { "on" })
                .execute(&mut sql)
                .await?;
            let found = sqlx::query(READ_BACK).fetch_one(&mut sql).await?;
            Ok::<_, Error>((sql, Found::read(&found)?))
        };
        let patience = Duration::from_millis(limits::POSTGRES_CONNECT_MS_MAX);
        let (sql, found) = tokio::time::timeout(patience, set_up)
            .await
            .map_err(|_| Error::Unavailable(format!("{self} does not answer")))?
            .map_err(before_commit)?;
        Ok(Session { sql, purpose, found, phase: Phase::AutoCommit })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options = &self.options;
        let database = options.get_database().unwrap_or(options.get_username());
        match options.get_socket() {
            Some(socket) => write!(f, "database {database} at {}", socket.display()),
            None => write!(f, "database {database} at {}:{}", options.get_host(), options.get_port()),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

/// What a connection is for, which decides how long it may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Batches of orders, and their changes.
    Orders,
    /// Reads: the server refuses everything else.
    Reads,
    /// Sales and their stock, up to the largest sale there can be, and migrations.
    Changes,
    /// Audits, which read every order.
    Audits,
}

impl Purpose {
    /// Longest statement, in ms; 0 is no bound.
    fn statement_ms(self) -> u64 {
        match self {
            Purpose::Orders | Purpose::Reads => limits::POSTGRES_STATEMENT_MS_MAX,
            Purpose::Changes => limits::POSTGRES_CHANGE_STATEMENT_MS_MAX,
            Purpose::Audits => 0,
        }
    }

    /// Longest wait for a row, in ms.
    fn lock_ms(self) -> u64 {
        match self {
            Purpose::Orders | Purpose::Reads | Purpose::Audits => limits::POSTGRES_LOCK_MS_MAX,
            Purpose::Changes => limits::POSTGRES_CHANGE_STATEMENT_MS_MAX,
        }
    }

    /// Longest transaction, in ms, from PostgreSQL 17; 0 is no bound.
    fn transaction_ms(self) -> u64 {
        match self {
            Purpose::Orders | Purpose::Reads => limits::POSTGRES_TRANSACTION_MS_MAX,
            Purpose::Changes => limits::POSTGRES_CHANGE_MS_MAX,
            Purpose::Audits => 0,
        }
    }

    /// Whether the server lets a connection write.
    fn may_write(self) -> bool {
        match self {
            Purpose::Orders | Purpose::Changes => true,
            Purpose::Reads | Purpose::Audits => false,
        }
    }

    /// Longest job on a connection as its client measures it, above what the server bounds.
    fn reply(self) -> Duration {
        match self {
            Purpose::Orders | Purpose::Reads => Duration::from_millis(limits::POSTGRES_REPLY_MS_MAX),
            Purpose::Changes => Duration::from_millis(limits::POSTGRES_CHANGE_MS_MAX + 1_000),
            Purpose::Audits => Duration::from_secs(limits::POSTGRES_AUDIT_S_MAX),
        }
    }
}

/// Settings of a session: $1 statement, $2 lock, $3 transaction time-out in ms, $4 whether it only reads. Settings that
/// this server is too old for are left out. The planner has to take the indexes: it guesses once about a list of orders,
/// perhaps while the tables are still empty, and would keep that guess. A stricter synchronous_commit is left alone.
const SET_UP: &str = "SELECT set_config(w.name, w.value, false) FROM (VALUES \
     ('statement_timeout', $1::text), ('lock_timeout', $2), ('transaction_timeout', $3), \
     ('idle_in_transaction_session_timeout', '5000'), ('client_connection_check_interval', '1000'), \
     ('tcp_keepalives_idle', '10'), ('tcp_keepalives_interval', '5'), ('tcp_keepalives_count', '3'), \
     ('tcp_user_timeout', '10000'), ('default_transaction_isolation', 'read committed'), \
     ('default_transaction_read_only', $4), ('default_transaction_deferrable', 'off'), \
     ('plan_cache_mode', 'force_generic_plan'), ('jit', 'off'), ('enable_seqscan', 'off'), \
     ('enable_hashjoin', 'off'), ('enable_mergejoin', 'off'), \
     ('synchronous_commit', CASE current_setting('synchronous_commit') \
         WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END)) AS w(name, value) \
     JOIN pg_settings s USING (name)";

/// What the promises rest on.
const READ_BACK: &str = "SELECT current_setting('server_version_num')::integer AS version, \
     pg_is_in_recovery() AS in_recovery, current_setting('fsync') AS fsync, \
     current_setting('full_page_writes') AS full_page_writes, \
     current_setting('synchronous_commit') AS synchronous_commit, \
     current_setting('transaction_isolation') AS isolation, current_setting('server_encoding') AS encoding";

/// What a connection has read back.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// As PostgreSQL numbers itself: 150004 is 15.4.
    pub(super) version: i32,
    pub(super) in_recovery: bool,
    pub(super) fsync: String,
    pub(super) full_page_writes: String,
    pub(super) synchronous_commit: String,
    pub(super) isolation: String,
    /// How the database stores text.
    pub(super) encoding: String,
}

impl Found {
    fn read(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Found {
            version: row.try_get("version")?,
            in_recovery: row.try_get("in_recovery")?,
            fsync: row.try_get("fsync")?,
            full_page_writes: row.try_get("full_page_writes")?,
            synchronous_commit: row.try_get("synchronous_commit")?,
            isolation: row.try_get("isolation")?,
            encoding: row.try_get("encoding")?,
        })
    }
}

/// What a failure says about the writes of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Outside of a transaction: a statement commits by itself, perhaps before its answer is lost.
    AutoCommit,
    /// Inside a transaction: without a COMMIT the server rolls back as soon as the connection is gone.
    Open,
    /// The COMMIT is sent and not answered.
    Committing,
}

/// A connection that is set up.
pub(super) struct Session {
    pub(super) sql: PgConnection,
    pub(super) found: Found,
    purpose: Purpose,
    phase: Phase,
}

impl Session {
    /// Begins a transaction. After an error from here on the connection must be dropped, and with it the transaction is
    /// rolled back.
    pub(super) async fn begin(&mut self) -> Result<(), Error> {
        self.phase = Phase::Open;
        sqlx::raw_sql("BEGIN").execute(&mut self.sql).await?;
        Ok(())
    }

    /// Commits. From the moment this is sent until its answer is read, the outcome is unknown.
    pub(super) async fn commit(&mut self) -> Result<(), Error> {
        self.phase = Phase::Committing;
        let committed = sqlx::raw_sql("COMMIT").execute(&mut self.sql).await;
        committed.map_err(|error| Error::Unknown(format!("commit: {error}")))?;
        self.phase = Phase::AutoCommit;
        Ok(())
    }

    /// Ends a transaction that is to leave nothing behind.
    pub(super) async fn roll_back(&mut self) -> Result<(), Error> {
        sqlx::raw_sql("ROLLBACK").execute(&mut self.sql).await?;
        self.phase = Phase::AutoCommit;
        Ok(())
    }

    /// Awaits a job, not for ever. After an error the session must be dropped.
    pub(super) async fn run<T>(
        &mut self,
        work: impl for<'s> FnOnce(&'s mut Session) -> BoxFuture<'s, Result<T, Error>>,
    ) -> Result<T, Error> {
        self.phase = Phase::AutoCommit;
        let patience = self.purpose.reply();
        let working = AssertUnwindSafe(work(&mut *self)).catch_unwind();
        let done = match tokio::time::timeout(patience, working).await {
            Ok(Ok(done)) => done,
            // A panic is our bug; whatever the job did before it, the connection is not used again.
            Ok(Err(_)) => Err(Error::Unknown("a ledger job panicked".to_owned())),
            Err(_) => Err(Error::Unknown("PostgreSQL does not answer".to_owned())),
        };
        match self.may_have_committed() {
            true => done,
            false => done.map_err(before_commit),
        }
    }

    /// Whether a job that ends now with an error may have had an effect. A connection for reads cannot write.
    fn may_have_committed(&self) -> bool {
        match self.phase {
            Phase::Committing => true,
            Phase::Open => false,
            Phase::AutoCommit => self.purpose.may_write(),
        }
    }

    /// Whether the connection still answers, to be asked after it was idle.
    pub(super) async fn answers(&mut self) -> bool {
        let patience = Duration::from_millis(limits::POSTGRES_CONNECT_MS_MAX);
        matches!(tokio::time::timeout(patience, self.sql.ping()).await, Ok(Ok(())))
    }

    pub(super) async fn close(self) {
        let patience = Duration::from_millis(limits::POSTGRES_CONNECT_MS_MAX);
        // The server notices as well if it is not told.
        drop(tokio::time::timeout(patience, self.sql.close()).await);
    }
}
