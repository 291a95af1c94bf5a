//! Where the layer keeps its keys: SQLite or PostgreSQL.

use std::error::Error;
use std::future::Future;

use crate::{Acquired, Answer, Claim, Lost, Operation, UnixMs};

/// A database with the table of keys. Each call commits what it did before it returns.
pub trait Store: Send + Sync + 'static {
    /// What the database says when a call cannot be done.
    type Error: Error + Send + Sync + 'static;

    /// Asks for an operation, as `acquire` of the database's module does.
    fn acquire(
        &self,
        operation: &Operation,
        now_ms: UnixMs,
        lease_ms: i64,
        keep_until: UnixMs,
    ) -> impl Future<Output = Result<Acquired, Self::Error>> + Send;

    /// Stores the answer of an operation that had its effect, or failed for good.
    fn settle(
        &self,
        claim: &Claim,
        answer: Answer,
        keep_until: UnixMs,
    ) -> impl Future<Output = Result<Result<(), Lost>, Self::Error>> + Send;

    /// Gives the key back.
    fn release(&self, claim: &Claim) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Removes up to `max` expired keys.
    fn sweep(&self, now_ms: UnixMs, max: u32) -> impl Future<Output = Result<u64, Self::Error>> + Send;
}

#[cfg(feature = "sqlite")]
mod in_sqlite {
    use std::sync::{Arc, Mutex, PoisonError};

    use rusqlite::Connection;

    use super::{Acquired, Answer, Claim, Lost, Operation, Store, UnixMs};
    use crate::sqlite;

    /// Keys in a SQLite database, over one connection, whose calls run on threads that may block.
    pub struct SqliteStore {
        connection: Arc<Mutex<Connection>>,
    }

    impl SqliteStore {
        /// Uses a connection to a database that has the table [`sqlite::SCHEMA`].
        pub fn new(connection: Connection) -> Self {
            SqliteStore { connection: Arc::new(Mutex::new(connection)) }
        }

        async fn run<T: Send + 'static>(
            &self,
            work: impl FnOnce(&Connection) -> Result<T, rusqlite::Error> + Send + 'static,
        ) -> Result<T, SqliteStoreError> {
            let connection = Arc::clone(&self.connection);
            let done = tokio::task::spawn_blocking(move || {
                // A panic leaves no statement half done: SQLite rolls it back.
                work(&connection.lock().unwrap_or_else(PoisonError::into_inner))
            });
            done.await.map_err(|_| SqliteStoreError::Stopped)?.map_err(SqliteStoreError::Database)
        }
    }

    /// Why a call of a [`SqliteStore`] was not done.
    #[derive(Debug, thiserror::Error)]
    pub enum SqliteStoreError {
        /// SQLite refused it.
        #[error(transparent)]
        Database(rusqlite::Error),
        /// The runtime shut down meanwhile: it is unknown whether the call was done.
        #[error("the runtime shut down")]
        Stopped,
    }

    impl Store for SqliteStore {
        type Error = SqliteStoreError;

        async fn acquire(
            &self,
            operation: &Operation,
            now_ms: UnixMs,
            lease_ms: i64,
            keep_until: UnixMs,
        ) -> Result<Acquired, Self::Error> {
            let operation = operation.clone();
            self.run(move |sql| sqlite::acquire(sql, &operation, now_ms, lease_ms, keep_until)).await
        }

        async fn settle(
            &self,
            claim: &Claim,
            answer: Answer,
            keep_until: UnixMs,
        ) -> Result<Result<(), Lost>, Self::Error> {
            let claim = claim.clone();
            let settle = if answer.is_success { sqlite::complete } else { sqlite::fail };
            self.run(move |sql| settle(sql, &claim, &answer.body, keep_until)).await
        }

        async fn release(&self, claim: &Claim) -> Result<(), Self::Error> {
            let claim = claim.clone();
            self.run(move |sql| sqlite::release(sql, &claim)).await
        }

        async fn sweep(&self, now_ms: UnixMs, max: u32) -> Result<u64, Self::Error> {
            self.run(move |sql| sqlite::sweep(sql, now_ms, max)).await
        }
    }
}

#[cfg(feature = "sqlite")]
pub use in_sqlite::{SqliteStore, SqliteStoreError};

#[cfg(feature = "postgres")]
mod in_postgres {
    use sqlx::PgPool;

    use super::{Acquired, Answer, Claim, Lost, Operation, Store, UnixMs};
    use crate::postgres;

    /// Keys in a PostgreSQL database, over a pool of connections.
    pub struct PostgresStore {
        pool: PgPool,
    }

    impl PostgresStore {
        /// Uses a pool of connections to a database that has the table [`postgres::SCHEMA`].
        pub fn new(pool: PgPool) -> Self {
            PostgresStore { pool }
        }
    }

    impl Store for PostgresStore {
        type Error = sqlx::Error;

        async fn acquire(
            &self,
            operation: &Operation,
            now_ms: UnixMs,
            lease_ms: i64,
            keep_until: UnixMs,
        ) -> Result<Acquired, Self::Error> {
            let mut sql = self.pool.acquire().await?;
            postgres::acquire(&mut sql, operation, now_ms, lease_ms, keep_until).await
        }

        async fn settle(
            &self,
            claim: &Claim,
            answer: Answer,
            keep_until: UnixMs,
        ) -> Result<Result<(), Lost>, Self::Error> {
            let mut sql = self.pool.acquire().await?;
            if answer.is_success {
                postgres::complete(&mut sql, claim, &answer.body, keep_until).await
            } else {
                postgres::fail(&mut sql, claim, &answer.body, keep_until).await
            }
        }

        async fn release(&self, claim: &Claim) -> Result<(), Self::Error> {
            postgres::release(&mut *self.pool.acquire().await?, claim).await
        }

        async fn sweep(&self, now_ms: UnixMs, max: u32) -> Result<u64, Self::Error> {
            postgres::sweep(&mut *self.pool.acquire().await?, now_ms, max).await
        }
    }
}

#[cfg(feature = "postgres")]
pub use in_postgres::PostgresStore;
