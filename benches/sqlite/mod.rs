//! A ledger file to measure with, and plain connections to it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rushgate::ledger::{CreateOutcome, Ledger, SaleLedger, SqliteLedger};
use rushgate::order::{Currency, Name, NewSale, NewSku, Rules, Sale, Salt};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::common::NOW;

/// A sale without limits in a new ledger file, whose tables and indexes others can be measured on once it is closed.
pub(crate) fn ledger(runtime: &Runtime, path: &Path) -> (SqliteLedger, Arc<Sale>) {
    let ledger = SqliteLedger::open(path).unwrap();
    let sku = NewSku {
        id: Name::parse("sku-1").unwrap(),
        stock: 1_000_000_000,
        unit_price: 1999,
        currency: Currency::parse("CNY").unwrap(),
    };
    let new =
        NewSale { id: Name::parse("bench").unwrap(), rules: Rules::default(), shards_named: true, skus: vec![sku] };
    match runtime.block_on(ledger.create_sale(new, Salt::new([9; 32]), NOW)).unwrap() {
        CreateOutcome::New(sale) => (ledger, Arc::new(sale)),
        other => panic!("{other:?}"),
    }
}

/// The same, closed: the path of a file with the ledger's tables and the sale.
pub(crate) fn tables(runtime: &Runtime, path: PathBuf) -> PathBuf {
    let (ledger, _) = self::ledger(runtime, &path);
    runtime.block_on(ledger.close());
    path
}

/// What both drivers are told, as the ledger tells its writer.
pub(crate) fn settings() -> [(&'static str, String); 5] {
    [
        ("journal_mode", "WAL".to_owned()),
        ("synchronous", "FULL".to_owned()),
        ("foreign_keys", "ON".to_owned()),
        ("cache_size", format!("-{}", rushgate::limits::SQLITE_WRITER_CACHE_KIB)),
        ("wal_autocheckpoint", rushgate::limits::SQLITE_CHECKPOINT_PAGES.to_string()),
    ]
}

/// A plain connection with those settings.
pub(crate) fn connection(path: &Path) -> rusqlite::Connection {
    let connection = rusqlite::Connection::open(path).unwrap();
    for (setting, value) in settings() {
        connection.execute_batch(&format!("PRAGMA {setting} = {value}")).unwrap();
    }
    connection
}

/// Not the system's temporary directory: that one may be memory, where a commit costs nothing.
pub(crate) fn directory() -> TempDir {
    std::fs::create_dir_all(env!("CARGO_TARGET_TMPDIR")).unwrap();
    TempDir::with_prefix_in("rushgate-bench-", env!("CARGO_TARGET_TMPDIR")).unwrap()
}
