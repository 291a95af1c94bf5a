//! Opening the ledger: the process lock, the settings that durability rests on (set, then read back), migrations.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use crate::ledger::idempotency;
use crate::limits;

/// What can keep a ledger from being opened, with what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum SqliteOpenError {
    /// The folder or its lock file cannot be made.
    #[error("cannot use the data directory {0}: {1}; give another with --data-dir, or make this one writable")]
    Directory(String, std::io::Error),
    /// There is no such file.
    #[error("there is no ledger {0}; name another with --data-dir or --ledger")]
    Missing(String),
    /// Another process has it open.
    #[error(
        "another rushgate process uses {0}; one ledger file has one writer, so stop that process or give another --data-dir"
    )]
    Locked(String),
    /// SQLite refused.
    #[error("cannot open the ledger {0}: {1}")]
    Sqlite(String, rusqlite::Error),
    /// The promise of durability would not hold.
    #[error("refusing to start, an order would not survive a power failure: {0}")]
    Unsafe(String),
    /// Made by a newer rushgate.
    #[error("the ledger has schema version {found}, this program knows up to {known}; use a newer rushgate")]
    TooNew {
        /// In the file.
        found: i64,
        /// In this program.
        known: i64,
    },
    /// `quick_check` found damage after an unclean stop.
    #[error("the ledger file is damaged: {0}; restore it from a backup, or ask for help before touching it")]
    Damaged(String),
}

/// Schema changes in order, never edited once merged. The file's `user_version` counts those applied.
pub(super) const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001_ledger.sql"),
    include_str!("migrations/0002_ledger_id.sql"),
    include_str!("migrations/0003_life.sql"),
    idempotency::sqlite::SCHEMA,
];

/// The oldest SQLite without the write-ahead-log reset bug.
const SQLITE_VERSION_MIN: i32 = 3_051_003;

/// Takes the exclusive lock beside the ledger file `path`; it is held until the file is dropped or the process dies. Waits for
/// it up to [`limits::SQLITE_LOCK_TRIES`] times [`limits::SQLITE_LOCK_PAUSE_MS`].
pub(super) fn lock(path: &Path) -> Result<File, SqliteOpenError> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let named = || directory.display().to_string();
    // No other user of this machine may read it: it holds orders, and the salts that number them.
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(|error| SqliteOpenError::Directory(named(), error))?;
    let mut lock_path = path.as_os_str().to_owned();
    lock_path.push(".lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(lock_path)
        .map_err(|error| SqliteOpenError::Directory(named(), error))?;
    // A process that was just killed, or a child that it was starting, holds the lock for a moment longer.
    for _ in 0..limits::SQLITE_LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(limits::SQLITE_LOCK_PAUSE_MS)),
            Err(TryLockError::Error(error)) => return Err(SqliteOpenError::Directory(named(), error)),
        }
    }
    Err(SqliteOpenError::Locked(named()))
}

/// Opens the one writer: checks what durability rests on, and brings the schema up to date.
pub(super) fn writer(path: &Path) -> Result<Connection, SqliteOpenError> {
    // SQLite removes the log on a clean close: a log that is still there is the sign of a crash.
    let unclean = std::fs::metadata(with_suffix(path, "-wal")).is_ok_and(|log| log.len() > 0);
    let mut connection =
        Connection::open_with_flags(path, flags(OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE))
            .map_err(|error| sqlite(path, error))?;
    set_up_writer(&mut connection).map_err(|error| sqlite(path, error))?;
    check_durability(&connection).map_err(|error| sqlite(path, error))?.map_err(SqliteOpenError::Unsafe)?;
    if unclean {
        let found: String =
            connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(|error| sqlite(path, error))?;
        if found != "ok" {
            return Err(SqliteOpenError::Damaged(found));
        }
        tracing::info!("the last process stopped without closing the ledger; a check found the file sound");
    }
    migrate(&mut connection, path)?;
    Ok(connection)
}

/// Opens a connection that only reads.
pub(super) fn reader(path: &Path) -> Result<Connection, SqliteOpenError> {
    let connection = Connection::open_with_flags(path, flags(OpenFlags::SQLITE_OPEN_READ_ONLY))
        .map_err(|error| sqlite(path, error))?;
    connection
        .execute_batch(&format!("PRAGMA mmap_size = 0; PRAGMA cache_size = -{}", limits::SQLITE_READER_CACHE_KIB))
        .map_err(|error| sqlite(path, error))?;
    Ok(connection)
}

fn flags(mode: OpenFlags) -> OpenFlags {
    // Each connection lives on one thread, so SQLite need not lock it.
    mode | OpenFlags::SQLITE_OPEN_NO_MUTEX
}

fn set_up_writer(connection: &mut Connection) -> Result<(), rusqlite::Error> {
    connection.execute_batch(&format!(
        "PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA fullfsync = ON;
         PRAGMA foreign_keys = ON;
         PRAGMA mmap_size = 0;
         PRAGMA cache_size = -{};
         PRAGMA wal_autocheckpoint = {};",
        limits::SQLITE_WRITER_CACHE_KIB,
        limits::SQLITE_CHECKPOINT_PAGES
    ))?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

/// Reads the settings back: a file system may refuse write-ahead logging, a build may lack a fix.
fn check_durability(connection: &Connection) -> Result<Result<(), String>, rusqlite::Error> {
    if rusqlite::version_number() < SQLITE_VERSION_MIN {
        return Ok(Err(format!("SQLite {} can corrupt its log; 3.51.3 or later is needed", rusqlite::version())));
    }
    let journal: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
    if journal != "wal" {
        return Ok(Err(format!("journal_mode is {journal}, not wal; use a local file system")));
    }
    let synchronous: i64 = connection.query_row("PRAGMA synchronous", [], |row| row.get(0))?;
    if synchronous != 2 {
        return Ok(Err(format!("synchronous is {synchronous}, not 2 (FULL)")));
    }
    Ok(Ok(()))
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<(), SqliteOpenError> {
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    let found = schema_version(connection).map_err(|error| sqlite(path, error))?;
    if found > known {
        return Err(SqliteOpenError::TooNew { found, known });
    }
    for (version, statements) in (1..).zip(MIGRATIONS).skip(usize::try_from(found).unwrap_or(0)) {
        connection
            .execute_batch(&format!("BEGIN EXCLUSIVE; {statements}; PRAGMA user_version = {version}; COMMIT"))
            .map_err(|error| sqlite(path, error))?;
        tracing::info!(version, "ledger schema migrated");
    }
    Ok(())
}

pub(super) fn schema_version(connection: &Connection) -> Result<i64, rusqlite::Error> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Writes the version that is there: the first page goes to the log, where the same row written again would be left out.
pub(super) fn rewrite_version(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.pragma_update(None, "user_version", schema_version(connection)?)
}

fn with_suffix(path: &Path, suffix: &str) -> std::path::PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

pub(super) fn sqlite(path: &Path, error: rusqlite::Error) -> SqliteOpenError {
    SqliteOpenError::Sqlite(path.display().to_string(), error)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    #[test]
    fn a_lock_that_is_let_go_in_time_is_waited_for() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("a.db");
        let first = lock(&path).unwrap();
        let (begin, begun) = sync_channel(0);
        let second = std::thread::spawn(move || {
            begin.send(()).unwrap();
            lock(&path)
        });
        begun.recv().unwrap();
        // Whether the second asks before or after this, it gets the lock; before, it had to wait.
        std::thread::sleep(Duration::from_millis(3 * limits::SQLITE_LOCK_PAUSE_MS));
        drop(first);
        second.join().unwrap().unwrap();
    }
}
