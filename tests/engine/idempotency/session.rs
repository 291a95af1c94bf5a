//! A service's databases and its workers' connections to them, in the words that both databases share.

use std::path::PathBuf;

use rushgate::idempotency::{Acquired, Claim, Lost, Operation, postgres, sqlite};
use sqlx::Connection;
use tempfile::TempDir;

pub(super) const NOW: i64 = 1_000_000;
pub(super) const LEASE_MS: i64 = 500;
/// When the lease of a claim made at [`NOW`] has run out, to the millisecond.
pub(super) const LATE: i64 = NOW + LEASE_MS;
pub(super) const KEPT_MS: i64 = 9_000;

/// A database of some other service, with the table of keys and one that effects are written to.
pub(super) enum Database {
    Sqlite(PathBuf, #[expect(dead_code, reason = "it keeps the directory")] TempDir),
    Postgres(String),
}

const EFFECTS: &str = "CREATE TABLE effects (who text NOT NULL)";

impl Database {
    /// One of each.
    pub(super) async fn all() -> [Database; 2] {
        let directory = TempDir::new().unwrap();
        let file = Database::Sqlite(directory.path().join("service.db"), directory);
        let server = Database::Postgres(rushgate_test_support::postgres::shared().new_database());
        let all = [file, server];
        for database in &all {
            match database.connect().await {
                Session::Sqlite(sql) => {
                    sql.execute_batch("PRAGMA journal_mode = WAL").unwrap();
                    sql.execute_batch(sqlite::SCHEMA).unwrap();
                    sql.execute_batch(EFFECTS).unwrap();
                }
                Session::Postgres(mut sql) => {
                    sqlx::raw_sql(postgres::SCHEMA).execute(&mut sql).await.unwrap();
                    sqlx::raw_sql(EFFECTS).execute(&mut sql).await.unwrap();
                }
            }
        }
        all
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Database::Sqlite(..) => "sqlite",
            Database::Postgres(_) => "postgres",
        }
    }

    pub(super) async fn connect(&self) -> Session {
        match self {
            Database::Sqlite(path, _) => {
                let sql = rusqlite::Connection::open(path).unwrap();
                sql.busy_timeout(crate::world::PATIENCE).unwrap();
                Session::Sqlite(sql)
            }
            Database::Postgres(url) => Session::Postgres(sqlx::PgConnection::connect(url).await.unwrap()),
        }
    }
}

/// A connection of one of the service's workers.
pub(super) enum Session {
    Sqlite(rusqlite::Connection),
    Postgres(sqlx::PgConnection),
}

impl Session {
    async fn run(&mut self, on_sqlite: &'static str, on_postgres: &'static str) {
        match self {
            Session::Sqlite(sql) => sql.execute_batch(on_sqlite).unwrap(),
            Session::Postgres(sql) => {
                sqlx::raw_sql(on_postgres).execute(sql).await.unwrap();
            }
        }
    }

    pub(super) async fn begin(&mut self) {
        self.run("BEGIN IMMEDIATE", "BEGIN").await;
    }

    pub(super) async fn commit(&mut self) {
        self.run("COMMIT", "COMMIT").await;
    }

    pub(super) async fn roll_back(&mut self) {
        self.run("ROLLBACK", "ROLLBACK").await;
    }

    /// What an operation is done for.
    pub(super) async fn effect(&mut self) {
        self.run("INSERT INTO effects VALUES ('somebody')", "INSERT INTO effects VALUES ('somebody')").await;
    }

    pub(super) async fn effects(&mut self) -> i64 {
        const COUNT: &str = "SELECT count(*) FROM effects";
        match self {
            Session::Sqlite(sql) => sql.query_row(COUNT, [], |row| row.get(0)).unwrap(),
            Session::Postgres(sql) => sqlx::query_scalar(COUNT).fetch_one(sql).await.unwrap(),
        }
    }

    pub(super) async fn acquire(&mut self, operation: &Operation, now_ms: i64) -> Acquired {
        self.acquire_until(operation, now_ms, now_ms + KEPT_MS).await
    }

    /// The same, with another time to be kept.
    pub(super) async fn acquire_until(&mut self, operation: &Operation, now_ms: i64, keep_until: i64) -> Acquired {
        match self {
            Session::Sqlite(sql) => sqlite::acquire(sql, operation, now_ms, LEASE_MS, keep_until).unwrap(),
            Session::Postgres(sql) => postgres::acquire(sql, operation, now_ms, LEASE_MS, keep_until).await.unwrap(),
        }
    }

    pub(super) async fn claim(&mut self, operation: &Operation, now_ms: i64) -> Claim {
        match self.acquire(operation, now_ms).await {
            Acquired::Claimed(claim) => claim,
            other => panic!("{other:?}"),
        }
    }

    pub(super) async fn is_mine(&mut self, claim: &Claim, now_ms: i64) -> bool {
        match self {
            Session::Sqlite(sql) => sqlite::validate(sql, claim, now_ms).unwrap(),
            Session::Postgres(sql) => postgres::validate(sql, claim, now_ms).await.unwrap(),
        }
    }

    pub(super) async fn try_complete(&mut self, claim: &Claim, body: &[u8]) -> Result<Result<(), Lost>, String> {
        match self {
            Session::Sqlite(sql) => {
                sqlite::complete(sql, claim, body, NOW + KEPT_MS).map_err(|error| error.to_string())
            }
            Session::Postgres(sql) => {
                postgres::complete(sql, claim, body, NOW + KEPT_MS).await.map_err(|error| error.to_string())
            }
        }
    }

    pub(super) async fn complete(&mut self, claim: &Claim, body: &[u8]) -> Result<(), Lost> {
        self.try_complete(claim, body).await.unwrap()
    }

    pub(super) async fn fail(&mut self, claim: &Claim, body: &[u8]) -> Result<(), Lost> {
        match self {
            Session::Sqlite(sql) => sqlite::fail(sql, claim, body, NOW + KEPT_MS).unwrap(),
            Session::Postgres(sql) => postgres::fail(sql, claim, body, NOW + KEPT_MS).await.unwrap(),
        }
    }

    pub(super) async fn release(&mut self, claim: &Claim) {
        match self {
            Session::Sqlite(sql) => sqlite::release(sql, claim).unwrap(),
            Session::Postgres(sql) => postgres::release(sql, claim).await.unwrap(),
        }
    }

    pub(super) async fn sweep(&mut self, now_ms: i64, max: u32) -> u64 {
        match self {
            Session::Sqlite(sql) => sqlite::sweep(sql, now_ms, max).unwrap(),
            Session::Postgres(sql) => postgres::sweep(sql, now_ms, max).await.unwrap(),
        }
    }
}
