//! The one place that knows every adapter: opens the stores that the settings name.

use std::sync::Arc;

use anyhow::bail;

use crate::config::{self, Config};
use crate::gate::{Gate, MemoryGate, Nodes, RedisGate};
use crate::ledger::{Ledger, PostgresLedger, SqliteLedger};

/// Opens the ledger of an engine, and makes it if it is not there.
pub(super) async fn ledger(config: &Config) -> anyhow::Result<Arc<dyn Ledger>> {
    match &config.ledger {
        config::LedgerAddress::Sqlite(path) => Ok(Arc::new(SqliteLedger::open(path)?)),
        config::LedgerAddress::Postgres(address) => {
            let ledger = PostgresLedger::open(address.expose()).await?;
            let alone = matches!(config.gate, config::GateAddress::Memory);
            match (ledger.claim(alone).await?, alone) {
                (true, _) => Ok(Arc::new(ledger)),
                (false, true) => bail!(
                    "another engine uses this ledger, and a memory gate cannot be shared: the two would load over each other \
                     without end; give all engines one gate with --gate redis://..., or stop the other one"
                ),
                (false, false) => bail!(
                    "an engine with a memory gate uses this ledger, and would load over this one without end; stop it, or \
                     start it with the same --gate"
                ),
            }
        }
    }
}

/// Opens a ledger that must be there: an audit of one that is not must not make it and find it sound.
pub(super) async fn existing_ledger(config: &Config) -> anyhow::Result<Arc<dyn Ledger>> {
    match &config.ledger {
        config::LedgerAddress::Sqlite(path) => Ok(Arc::new(SqliteLedger::open_existing(path)?)),
        config::LedgerAddress::Postgres(address) => {
            Ok(Arc::new(PostgresLedger::open_existing(address.expose()).await?))
        }
    }
}

/// Brings the ledger's schema up to date and answers its version.
pub(super) async fn migrate(config: &Config) -> anyhow::Result<i64> {
    match &config.ledger {
        config::LedgerAddress::Sqlite(path) => {
            let ledger = SqliteLedger::open(path)?;
            let version = ledger.schema_version().await;
            ledger.close().await;
            Ok(version?)
        }
        config::LedgerAddress::Postgres(address) => Ok(PostgresLedger::migrate(address.expose()).await?),
    }
}

/// Opens the gate of a ledger's orders.
pub(super) async fn gate(config: &Config, ledger: &dyn Ledger) -> anyhow::Result<Arc<dyn Gate>> {
    let (addresses, nodes) = match &config.gate {
        config::GateAddress::Memory => return Ok(Arc::new(MemoryGate::default())),
        config::GateAddress::Redis(addresses) => (addresses.expose().split(',').collect(), Nodes::Fixed),
        config::GateAddress::RedisCluster(address) => (vec![address.expose()], Nodes::Cluster),
    };
    Ok(Arc::new(RedisGate::connect(&addresses, nodes, ledger.id().await?).await?))
}
