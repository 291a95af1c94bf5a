//! `rebuild`: fills the gate from the ledger. Running engines do so by themselves; this is for an operator in doubt.

use clap::Args;

use super::settings::StoreFlags;
use super::table::table;
use super::{CommandError, screen};
use crate::app;

/// Load the gate anew from the ledger, while engines run
#[derive(Args)]
#[command(after_help = "\
Every shard of every sale that has not ended gets a new epoch, with the stock that the ledger has for it. Orders go on
meanwhile. The gate forgets the keys it knew; the ledger knows them.

EXAMPLES
  rushgate rebuild --gate redis://10.0.0.1,redis://10.0.0.2 --ledger postgres://rushgate@db/rushgate
  rushgate rebuild --config /etc/rushgate.toml")]
pub(super) struct Rebuild {
    #[command(flatten)]
    store: StoreFlags,
}

impl Rebuild {
    pub(super) fn run(&self) -> Result<(), CommandError> {
        let loaded = self.store.load()?;
        let sales = app::rebuild(&loaded.config)?;
        let rows: Vec<Vec<String>> = sales
            .iter()
            .map(|sale| vec![sale.sale_id.clone(), sale.shards.to_string(), sale.not_loaded.to_string()])
            .collect();
        screen::out(&table(&["sale", "shards", "not loaded"], &rows))?;
        match sales.iter().map(|sale| sale.not_loaded).sum::<usize>() {
            0 => Ok(()),
            missing => Err(CommandError::NotDone(format!(
                "{missing} shards could not be loaded: their Redis cannot be used; engines load them when it can"
            ))),
        }
    }
}
