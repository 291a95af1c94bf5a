//! Errors of statements, as the ledger's callers and its operators read them.

use rusqlite::{ErrorCode, Row};

use crate::ledger::Error;

/// An error of a statement, which is surely not done: a write runs in a transaction, whose commit has errors of its own
/// (`thread.rs`), and a reader cannot write.
impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            // Without a code of SQLite's own, a row did not read as it must.
            None | Some(ErrorCode::ConstraintViolation | ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Error::Corrupt(error.to_string())
            }
            Some(_) => Error::Unavailable(error.to_string()),
        }
    }
}

/// A column holds a value that this program does not write.
pub(super) fn unreadable(row: &Row<'_>, column: usize) -> Error {
    let statement = row.as_ref();
    let name = statement.column_name(column).unwrap_or("without a name");
    let value = row.get_ref(column).map_or_else(|error| error.to_string(), |value| format!("{value:?}"));
    Error::Corrupt(format!("column {name} holds {value}, which this program does not know"))
}

/// Fails unless a statement changed exactly one row.
pub(super) fn one_row(changed: usize, what: &str) -> Result<(), Error> {
    match changed {
        1 => Ok(()),
        0 => Err(Error::Corrupt(format!("{what} is missing"))),
        _ => Err(Error::Corrupt(format!("{what} has {changed} rows"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::Connection;

    #[test]
    fn an_operator_reads_what_is_wrong() {
        let connection = Connection::open_in_memory().unwrap();
        let read = |sql: &str| {
            let mut select = connection.prepare(sql).unwrap();
            let mut rows = select.query([]).unwrap();
            unreadable(rows.next().unwrap().unwrap(), 0).to_string()
        };
        let told = read("SELECT 'endless' AS switch");
        assert!(told.starts_with("ledger corrupt: column switch holds ") && told.contains("this program"), "{told}");
        assert_eq!(one_row(1, "a segment"), Ok(()));
        assert_eq!(
            one_row(0, "the segment of sku 7").unwrap_err().to_string(),
            "ledger corrupt: the segment of sku 7 is missing"
        );
        assert!(matches!(one_row(2, "the segment of sku 7"), Err(Error::Corrupt(_))));
        let damaged = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT), None);
        assert!(matches!(Error::from(damaged), Error::Corrupt(_)));
        let full = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL), None);
        assert!(matches!(Error::from(full), Error::Unavailable(_)));
    }
}
