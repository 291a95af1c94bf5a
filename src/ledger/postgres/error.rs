//! Errors of the database, as the ledger's callers and its operators read them.

use sqlx::postgres::{PgDatabaseError, PgSeverity};

use crate::ledger::Error;

/// What can keep a ledger from being opened: the promise that would not hold, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum PostgresOpenError {
    /// The address cannot be parsed.
    #[error("cannot read the address of the database; it looks like postgres://user:password@host:5432/database")]
    Address,
    /// A parameter of the address would be ignored.
    #[error("the address of the database has the parameter {0:?}, {1}")]
    Parameter(String, &'static str),
    /// The server refuses the connection, or fails.
    #[error("cannot open the ledger in {0}: {1}")]
    Unavailable(String, Error),
    /// The server is too old.
    #[error("PostgreSQL {found} is too old: the schema needs 14 or later; upgrade the server")]
    Version {
        /// Its major version.
        found: i32,
    },
    /// The server is a standby.
    #[error(
        "refusing to start, an order might be answered that is lost or not there yet: this server is a replica; give the \
         address of the primary"
    )]
    Replica,
    /// A setting under which a confirmed order can be lost.
    #[error(
        "refusing to start, a confirmed order would not survive a power failure: {setting} is {found}; set it to on \
         for this server, database and user"
    )]
    NotDurable {
        /// The setting.
        setting: &'static str,
        /// Its value.
        found: String,
    },
    /// The database cannot store every text that a provider may sign.
    #[error(
        "refusing to start, a payment might not be recorded: the database stores text as {0}; make one with \
         CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"
    )]
    Encoding(String),
    /// Not the isolation that the statements are written for.
    #[error("refusing to start, stock would be counted from an old view: transactions are {0}, not read committed")]
    Isolation(String),
    /// A pooler shares connections between transactions.
    #[error(
        "refusing to start, time-outs and synchronous_commit would not hold: a pooler hands one connection to another \
         client between transactions; connect to PostgreSQL itself, or set pool_mode=session"
    )]
    Pooler,
    /// A constraint is missing or not valid.
    #[error(
        "refusing to start, {promise}: {constraint} of table {table} is missing or not valid; restore it, then audit the \
         ledger"
    )]
    Constraint {
        /// Where it belongs.
        table: &'static str,
        /// Its name.
        constraint: &'static str,
        /// What it guards.
        promise: &'static str,
    },
    /// No ledger was ever made there.
    #[error("there is no ledger in {0}; name another with --ledger")]
    Missing(String),
    /// Other sessions use the tables all the time.
    #[error(
        "cannot bring the schema up to date: for {0} seconds the tables were in use by {1}; end these sessions or stop the \
         engines, then start again"
    )]
    InUse(u64, String),
    /// Made by a newer rushgate.
    #[error("the ledger has schema version {found}, this program knows up to {known}; use a newer rushgate")]
    TooNew {
        /// In the database.
        found: i64,
        /// In this program.
        known: i64,
    },
}

/// An error of a statement. Its outcome is unknown unless the error is one of those after which surely nothing was done.
impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(database) => {
                let code = database.code().unwrap_or_default();
                let severity = database.try_downcast_ref::<PgDatabaseError>().map(PgDatabaseError::severity);
                refused(&code, severity, database.message())
            }
            // A row that cannot be what this program wrote.
            sqlx::Error::RowNotFound
            | sqlx::Error::TypeNotFound { .. }
            | sqlx::Error::ColumnIndexOutOfBounds { .. }
            | sqlx::Error::ColumnNotFound(_)
            | sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::Decode(_) => Error::Corrupt(error.to_string()),
            // Nothing was sent.
            sqlx::Error::Configuration(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Encode(_)
            | sqlx::Error::InvalidArgument(_) => Error::Unavailable(error.to_string()),
            _ => Error::Unknown(error.to_string()),
        }
    }
}

/// What the server says. With severity ERROR it has rolled the statement back; anything worse ends the connection, perhaps
/// after a commit.
fn refused(code: &str, severity: Option<PgSeverity>, message: &str) -> Error {
    let text = format!("{message} ({code})");
    match code {
        // Another transaction locked a row for too long: no sign of a ledger in trouble.
        "55P03" | "57014" | "40P01" => Error::Busy,
        // Damage that the server has found itself.
        "XX001" | "XX002" => Error::Corrupt(text),
        // Data exception, integrity constraint violation.
        _ if code.starts_with("22") || code.starts_with("23") => Error::Corrupt(text),
        _ => match severity {
            Some(PgSeverity::Error) => Error::Unavailable(text),
            Some(
                PgSeverity::Panic
                | PgSeverity::Fatal
                | PgSeverity::Warning
                | PgSeverity::Notice
                | PgSeverity::Debug
                | PgSeverity::Info
                | PgSeverity::Log,
            )
            | None => Error::Unknown(text),
        },
    }
}

/// The same error where surely nothing was committed.
pub(super) fn before_commit(error: Error) -> Error {
    match error {
        Error::Unknown(why) => Error::Unavailable(why),
        Error::Unavailable(_) | Error::Busy | Error::Corrupt(_) => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outcome_of_an_error_is_unknown_unless_it_is_known_better() {
        let lost = || sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into());
        for error in [lost(), sqlx::Error::Protocol("half a message".to_owned()), sqlx::Error::WorkerCrashed] {
            let text = error.to_string();
            assert_eq!(Error::from(error), Error::Unknown(text));
        }
        for error in [sqlx::Error::Encode("too large".into()), sqlx::Error::Tls("no certificate".into())] {
            let text = error.to_string();
            assert_eq!(Error::from(error), Error::Unavailable(text), "nothing was sent");
        }
        assert!(matches!(Error::from(sqlx::Error::RowNotFound), Error::Corrupt(_)));
        assert_eq!(before_commit(Error::from(lost())), Error::Unavailable(lost().to_string()));
    }

    #[test]
    fn the_server_says_whether_a_statement_was_rolled_back() {
        let (error, fatal) = (Some(PgSeverity::Error), Some(PgSeverity::Fatal));
        let told = |text: &str| format!("no ({text})");
        for (code, severity, expected) in [
            ("53100", error, Error::Unavailable(told("53100"))),
            ("57P01", fatal, Error::Unknown(told("57P01"))),
            ("XX000", Some(PgSeverity::Panic), Error::Unknown(told("XX000"))),
            ("08006", None, Error::Unknown(told("08006"))),
            ("55P03", error, Error::Busy),
            ("40P01", error, Error::Busy),
            ("23514", error, Error::Corrupt(told("23514"))),
            ("22003", error, Error::Corrupt(told("22003"))),
            ("XX001", error, Error::Corrupt(told("XX001"))),
            ("XX000", error, Error::Unavailable(told("XX000"))),
        ] {
            assert_eq!(refused(code, severity, "no"), expected, "{code} {severity:?}");
        }
    }
}
