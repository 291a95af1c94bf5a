//! Opens the ledger: checks what the promises rest on, brings the schema up to date and looks at the result.

use std::time::Duration;

use sqlx::Row;
use tokio::time::Instant;

use super::error::{PostgresOpenError, before_commit};
use super::session::{Address, Found, Purpose, Session};
use crate::ledger::{Error, idempotency};
use crate::limits;

/// The oldest server: bloom filters in BRIN, `client_connection_check_interval`. Version 13 is out of support.
const VERSION_MIN: i32 = 140_000;

/// Schema changes in order, never edited once merged.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001_ledger.sql"),
    include_str!("migrations/0002_life.sql"),
    idempotency::postgres::SCHEMA,
];

/// Connects, brings the schema up to date if it is behind, and answers the ledger's id.
pub(super) async fn open(address: &Address) -> Result<i64, PostgresOpenError> {
    let failed = |error| PostgresOpenError::Unavailable(address.to_string(), error);
    migrate(address).await?;
    let mut session = connect(address).await?;
    let mut other = connect(address).await?;
    if !keeps_its_session(&mut session, &mut other).await.map_err(failed)? {
        return Err(PostgresOpenError::Pooler);
    }
    check_constraints(&mut session).await.map_err(failed)??;
    let id = ledger_id(&mut session).await.map_err(failed)?;
    session.close().await;
    other.close().await;
    Ok(id)
}

async fn connect(address: &Address) -> Result<Session, PostgresOpenError> {
    let failed = |error| PostgresOpenError::Unavailable(address.to_string(), error);
    let session = address.connect(Purpose::Changes).await.map_err(failed)?;
    check(&session.found)?;
    Ok(session)
}

/// Checks that the server is one on which every promise holds.
pub(super) fn check(found: &Found) -> Result<(), PostgresOpenError> {
    if found.version < VERSION_MIN {
        return Err(PostgresOpenError::Version { found: found.version / 10_000 });
    }
    if found.in_recovery {
        return Err(PostgresOpenError::Replica);
    }
    if found.encoding != "UTF8" {
        return Err(PostgresOpenError::Encoding(found.encoding.clone()));
    }
    for (setting, value) in [("fsync", &found.fsync), ("full_page_writes", &found.full_page_writes)] {
        if value != "on" {
            return Err(PostgresOpenError::NotDurable { setting, found: value.clone() });
        }
    }
    if !matches!(found.synchronous_commit.as_str(), "on" | "remote_apply") {
        let found = found.synchronous_commit.clone();
        return Err(PostgresOpenError::NotDurable { setting: "synchronous_commit", found });
    }
    match found.isolation.as_str() {
        "read committed" => Ok(()),
        other => Err(PostgresOpenError::Isolation(other.to_owned())),
    }
}

const MARK: &str = "SELECT set_config('rushgate.session', $1, false)";
const SELECT_MARK: &str = "SELECT coalesce(current_setting('rushgate.session', true), '')";

/// Whether a session's settings stay with it while another session is in a transaction. Behind a pooler that shares
/// connections between transactions, one of the two would find the other's, or none.
async fn keeps_its_session(session: &mut Session, other: &mut Session) -> Result<bool, Error> {
    sqlx::query(MARK).bind("this").execute(&mut session.sql).await?;
    other.begin().await?;
    let theirs: String = sqlx::query_scalar(SELECT_MARK).fetch_one(&mut other.sql).await?;
    let ours: String = sqlx::query_scalar(SELECT_MARK).fetch_one(&mut session.sql).await?;
    other.roll_back().await?;
    Ok(ours == "this" && theirs.is_empty())
}

const SELECT_ID: &str = "SELECT id FROM ledger_id";

/// The number that tells this ledger from every other.
pub(super) async fn ledger_id(session: &mut Session) -> Result<i64, Error> {
    let patience = Duration::from_millis(limits::POSTGRES_CONNECT_MS_MAX);
    let id = sqlx::query_scalar(SELECT_ID).fetch_one(&mut session.sql);
    match tokio::time::timeout(patience, id).await {
        Ok(id) => id.map_err(|error| before_commit(error.into())),
        Err(_) => Err(Error::Unavailable("PostgreSQL does not answer".to_owned())),
    }
}

const REWRITE_ID: &str = "UPDATE ledger_id SET id = id";

/// Writes the id that is there, and commits it.
pub(super) async fn rewrite_id(session: &mut Session) -> Result<(), Error> {
    session.begin().await?;
    sqlx::query(REWRITE_ID).execute(&mut session.sql).await?;
    session.commit().await
}

/// Any number, the same in every rushgate.
const CLAIM_ALONE: &str = "SELECT pg_try_advisory_lock(8296544203513488)";
const CLAIM_BESIDE: &str = "SELECT pg_try_advisory_lock_shared(8296544203513488)";

/// Takes the lock that engines share, or that one has alone; it is held as long as the session.
pub(super) async fn claim(session: &mut Session, alone: bool) -> Result<bool, Error> {
    let claim = if alone { CLAIM_ALONE } else { CLAIM_BESIDE };
    Ok(sqlx::query_scalar(claim).fetch_one(&mut session.sql).await?)
}

/// Any number, the same in every rushgate: two that start at once migrate in turn.
const LOCK: &str = "SELECT pg_advisory_xact_lock(8296544203513487)";
const CREATE_VERSIONS: &str = "CREATE TABLE IF NOT EXISTS schema_versions \
     (version bigint PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())";
const HAS_VERSIONS: &str = "SELECT to_regclass('schema_versions') IS NOT NULL";
const SELECT_VERSION: &str = "SELECT coalesce(max(version), 0) FROM schema_versions";
const INSERT_VERSION: &str = "INSERT INTO schema_versions (version) VALUES ($1)";

/// Brings the schema up to date, in one transaction, and answers its version. Any number of processes may do so at
/// once.
pub(super) async fn migrate(address: &Address) -> Result<i64, PostgresOpenError> {
    let failed = |error| PostgresOpenError::Unavailable(address.to_string(), error);
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    let mut session = connect(address).await?;
    let found = version(&mut session).await.map_err(failed)?;
    if found > known {
        return Err(PostgresOpenError::TooNew { found, known });
    }
    if found < known {
        apply_in_time(&mut session, address).await?;
    }
    let version = version(&mut session).await.map_err(failed)?;
    session.close().await;
    Ok(version)
}

/// Whether there is a ledger at all.
pub(super) async fn find(address: &Address) -> Result<(), PostgresOpenError> {
    let mut session = connect(address).await?;
    let found = version(&mut session).await;
    session.close().await;
    match found.map_err(|error| PostgresOpenError::Unavailable(address.to_string(), error))? {
        0 => Err(PostgresOpenError::Missing(address.to_string())),
        _ => Ok(()),
    }
}

/// The number of schema changes that the database has; 0 before the first.
pub(super) async fn version(session: &mut Session) -> Result<i64, Error> {
    let is_made: bool = sqlx::query_scalar(HAS_VERSIONS).fetch_one(&mut session.sql).await?;
    match is_made {
        true => Ok(sqlx::query_scalar(SELECT_VERSION).fetch_one(&mut session.sql).await?),
        false => Ok(0),
    }
}

/// Applies what is missing, as often as it takes. Every session queues behind a migration that waits for a table, so it does
/// not wait for long, and makes way; a transaction that began before the tables were locked may also wait for it crosswise.
async fn apply_in_time(session: &mut Session, address: &Address) -> Result<(), PostgresOpenError> {
    let failed = |error| PostgresOpenError::Unavailable(address.to_string(), error);
    let (started, patience) = (Instant::now(), Duration::from_secs(limits::POSTGRES_MIGRATION_S_MAX));
    let mut told: Option<Instant> = None;
    loop {
        match apply(session).await {
            // The server has answered: the session is good for another try.
            Err(Error::Busy) => session.roll_back().await.map_err(failed)?,
            done => return done.map_err(failed),
        }
        let holders = holders(session).await.map_err(failed)?;
        if started.elapsed() >= patience {
            return Err(PostgresOpenError::InUse(patience.as_secs(), holders));
        }
        if told.is_none_or(|told| told.elapsed() >= Duration::from_secs(limits::POSTGRES_MIGRATION_TOLD_S)) {
            told = Some(Instant::now());
            tracing::warn!(%holders, "could not bring the ledger's schema up to date yet: its tables are in use by {holders}");
        }
        tokio::time::sleep(Duration::from_millis(limits::POSTGRES_MIGRATION_PAUSE_MS)).await;
    }
}

/// The sessions that have something of these tables locked, the oldest transactions first.
const SELECT_HOLDERS: &str = "SELECT coalesce(string_agg(format('%s (process %s, %s s)', w.name, w.pid, w.age_s), ', ' \
         ORDER BY w.age_s DESC), 'sessions that this user may not see') \
     FROM (SELECT a.pid, coalesce(nullif(a.application_name, ''), 'unnamed') AS name, \
             extract(epoch FROM clock_timestamp() - a.xact_start)::bigint AS age_s FROM pg_stat_activity a \
         WHERE a.xact_start IS NOT NULL AND a.pid <> pg_backend_pid() AND EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid \
             AND l.granted AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
             AND l.relation IN (to_regclass('sales'), to_regclass('segments'), to_regclass('orders'))) \
         ORDER BY a.xact_start LIMIT 5) AS w";

/// The sessions that use the tables, as text.
async fn holders(session: &mut Session) -> Result<String, Error> {
    Ok(sqlx::query_scalar(SELECT_HOLDERS).fetch_one(&mut session.sql).await?)
}

/// An index of many orders takes its time, and so does another process that migrates.
const WITHOUT_TIME_OUTS: &str = "SELECT set_config(name, '0', true) FROM pg_settings WHERE name IN ('statement_timeout', \
     'lock_timeout', 'transaction_timeout', 'idle_in_transaction_session_timeout')";
const WITH_LOCK_TIME_OUT: &str = "SELECT set_config('lock_timeout', $1, true)";

async fn apply(session: &mut Session) -> Result<(), Error> {
    session.begin().await?;
    sqlx::query(WITHOUT_TIME_OUTS).execute(&mut session.sql).await?;
    sqlx::query(LOCK).execute(&mut session.sql).await?;
    sqlx::query(WITH_LOCK_TIME_OUT)
        .bind(limits::POSTGRES_MIGRATION_LOCK_MS.to_string())
        .execute(&mut session.sql)
        .await?;
    sqlx::raw_sql(CREATE_VERSIONS).execute(&mut session.sql).await?;
    // Read under the lock: another process may have done it all.
    let found: i64 = sqlx::query_scalar(SELECT_VERSION).fetch_one(&mut session.sql).await?;
    let missing = (1_i64..).zip(MIGRATIONS).skip(usize::try_from(found).unwrap_or(0));
    for (version, statements) in missing {
        sqlx::raw_sql(*statements).execute(&mut session.sql).await?;
        sqlx::query(INSERT_VERSION).bind(version).execute(&mut session.sql).await?;
    }
    session.commit().await?;
    if usize::try_from(found).is_ok_and(|found| found < MIGRATIONS.len()) {
        tracing::info!(from = found, to = MIGRATIONS.len(), "ledger schema migrated");
    }
    Ok(())
}

/// The constraints that each promise ends at: table, name, what the definition begins with, promise.
const CONSTRAINTS: &[(&str, &str, &str, &str)] = &[
    ("orders", "orders_user_order_unique", "PRIMARY KEY (user_id, order_no)", "an order might stand twice"),
    ("segments", "segments_pkey", "PRIMARY KEY (sku_no, shard)", "stock might be counted twice"),
    ("segments", "segments_never_oversold", "CHECK", "a unit might be sold twice"),
    ("buyers", "buyers_pkey", "PRIMARY KEY (sku_no, user_id)", "a user might pass the limit"),
    ("epochs", "epochs_pkey", "PRIMARY KEY (sale_no, shard)", "two engines might load one gate"),
    ("transfers", "transfers_pkey", "PRIMARY KEY (id)", "units might be moved twice"),
    ("restocks", "restocks_pkey", "PRIMARY KEY (sale_no, change_id)", "units might be added twice"),
    ("sales", "sales_id_unique", "UNIQUE (id)", "a sale might be made twice"),
    ("order_steps", "order_steps_pkey", "PRIMARY KEY (order_no, state_version)", "an order might take a step twice"),
    (
        "payment_reports",
        "payment_reports_event_unique",
        "PRIMARY KEY (provider, event_id)",
        "a payment might count twice",
    ),
    ("idempotency_keys", "idempotency_keys_pkey", "PRIMARY KEY (scope, key)", "a change might be made twice"),
];

const SELECT_CONSTRAINTS: &str = "SELECT t.relname::text AS relname, c.conname::text AS conname, \
     pg_get_constraintdef(c.oid) AS definition FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid \
     LEFT JOIN pg_index i ON i.indexrelid = c.conindid \
     WHERE t.oid IN (SELECT to_regclass(w.name) FROM unnest($1::text[]) AS w(name)) AND c.convalidated \
     AND (c.contype = 'c' OR (i.indisunique AND i.indisvalid AND i.indisready AND i.indimmediate))";

async fn check_constraints(session: &mut Session) -> Result<Result<(), PostgresOpenError>, Error> {
    let tables: Vec<&str> = CONSTRAINTS.iter().map(|(table, ..)| *table).collect();
    let rows = sqlx::query(SELECT_CONSTRAINTS).bind(tables).fetch_all(&mut session.sql).await?;
    let mut valid: Vec<(String, String, String)> = Vec::with_capacity(rows.len());
    for row in rows {
        valid.push((row.try_get("relname")?, row.try_get("conname")?, row.try_get("definition")?));
    }
    for (table, constraint, begins, promise) in CONSTRAINTS.iter().copied() {
        let stands = |(on, name, definition): &(String, String, String)| {
            on == table && name == constraint && definition.starts_with(begins)
        };
        if !valid.iter().any(stands) {
            return Ok(Err(PostgresOpenError::Constraint { table, constraint, promise }));
        }
    }
    Ok(Ok(()))
}
