//! The one place that knows every adapter: opens the stores that the settings name.

use std::sync::Arc;

use crate::config::{self, Config};
use crate::gate::{Gate, MemoryGate, Nodes, RedisGate};
use crate::ledger::{Ledger, PostgresLedger, SqliteLedger};

/// Opens the ledger, and makes it if it is not there.
pub(super) async fn ledger(config: &Config) -> anyhow::Result<Arc<dyn Ledger>> {
    match &config.ledger {
        config::Ledger::Sqlite(path) => Ok(Arc::new(SqliteLedger::open(path)?)),
        config::Ledger::Postgres(address) => Ok(Arc::new(PostgresLedger::open(address.expose()).await?)),
    }
}

/// Opens a ledger that must be there: an audit of one that is not must not make it and find it sound.
pub(super) async fn existing_ledger(config: &Config) -> anyhow::Result<Arc<dyn Ledger>> {
    match &config.ledger {
        config::Ledger::Sqlite(path) => Ok(Arc::new(SqliteLedger::open_existing(path)?)),
        config::Ledger::Postgres(address) => Ok(Arc::new(PostgresLedger::open_existing(address.expose()).await?)),
    }
}

/// Brings the ledger's schema up to date and answers its version.
pub(super) async fn migrate(config: &Config) -> anyhow::Result<i64> {
    match &config.ledger {
        config::Ledger::Sqlite(path) => {
            let ledger = SqliteLedger::open(path)?;
            let version = ledger.schema_version().await;
            ledger.close().await;
            Ok(version?)
        }
        config::Ledger::Postgres(address) => Ok(PostgresLedger::migrate(address.expose()).await?),
    }
}

/// Opens the gate of a ledger's orders.
pub(super) async fn gate(config: &Config, ledger: &dyn Ledger) -> anyhow::Result<Arc<dyn Gate>> {
    let (addresses, nodes) = match &config.gate {
        config::Gate::Memory => return Ok(Arc::new(MemoryGate::default())),
        config::Gate::Redis(addresses) => (addresses.expose().split(',').collect(), Nodes::Fixed),
        config::Gate::RedisCluster(address) => (vec![address.expose()], Nodes::Cluster),
    };
    Ok(Arc::new(RedisGate::connect(&addresses, nodes, ledger.id().await?).await?))
}
