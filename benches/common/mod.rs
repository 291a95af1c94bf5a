//! Orders to measure with, and the sale that they belong to.

#![allow(dead_code, reason = "not every bench has a ledger")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rushgate::ledger::{CreateOutcome, Ledger, SaleLedger, SqliteLedger};
use rushgate::order::{Currency, Fingerprint, Name, NewSale, NewSku, OrderNo, Reservation, Rules, Sale, Salt, UserId};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// The time of every order.
pub(crate) const NOW: i64 = 1_795_176_000_000;

/// Whether this run measures; `cargo test` runs everything once, with a tiny input.
pub(crate) fn is_measured() -> bool {
    let mut flags = std::env::args().skip(1);
    flags.by_ref().any(|flag| flag == "--bench") && !std::env::args().any(|flag| flag == "--test")
}

/// `full` in a run that measures, else `tiny`.
pub(crate) fn size(full: usize, tiny: usize) -> usize {
    if is_measured() { full } else { tiny }
}

/// Endless different orders of one unit, the same in every run: random users, and order numbers as evenly spread as
/// the hashes that they stand for.
pub(crate) struct Orders(u64);

impl Orders {
    /// A sequence; another `seed` starts another.
    pub(crate) fn new(seed: u64) -> Self {
        Orders(seed << 40)
    }

    /// The next order, of the sku at position `sku`.
    pub(crate) fn next(&mut self, sku: u16) -> Reservation {
        let [user, left, right, content] = [(); 4].map(|()| self.random());
        Reservation {
            order_no: OrderNo::from_bytes(((u128::from(left) << 64) | u128::from(right)).to_be_bytes()),
            fingerprint: Fingerprint::from_bytes(u128::from(content).to_be_bytes()),
            user: UserId::new((user >> 1) | 1).unwrap(),
            sku,
            quantity: 1,
            created_at: NOW,
        }
    }

    /// SplitMix64.
    fn random(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// A sale without limits in a new ledger file, whose tables and indexes others can be measured on once it is closed.
pub(crate) fn ledger(runtime: &Runtime, path: &Path) -> (SqliteLedger, Arc<Sale>) {
    let ledger = SqliteLedger::open(path).unwrap();
    let sku = NewSku {
        id: Name::parse("sku-1").unwrap(),
        stock: 1_000_000_000,
        unit_price: 1999,
        currency: Currency::parse("CNY").unwrap(),
    };
    let new = NewSale { id: Name::parse("bench").unwrap(), rules: rules(), shards_named: true, skus: vec![sku] };
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

/// The rules of every sale here.
pub(crate) fn rules() -> Rules {
    Rules::default()
}
