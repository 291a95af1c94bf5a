//! `serve` and `migrate`: the commands that run the engine or its stores.

use clap::Args;

use super::settings::SettingsFlags;
use super::{CommandError, screen};
use crate::app;

/// Run the engine until it is told to stop
#[derive(Args)]
#[command(after_help = "\
EXAMPLES
  rushgate serve --demo
  rushgate serve --config /etc/rushgate.toml
  RUSHGATE_ADMIN_TOKEN=$TOKEN rushgate serve --admin-listen 0.0.0.0:9090
  rushgate serve --gate redis://10.0.0.1,redis://10.0.0.2 --ledger postgres://rushgate@db/rushgate
  rushgate serve --listen 127.0.0.1:0 --data-dir /tmp/rush --log-format text")]
pub(super) struct Serve {
    /// Make an open sale `demo` if it is not there, and print a line that buys one unit
    #[arg(long)]
    demo: bool,
    #[command(flatten)]
    settings: SettingsFlags,
}

/// Bring the ledger's tables up to date, and say what was done
#[derive(Args)]
#[command(after_help = "\
EXAMPLES
  rushgate migrate
  rushgate migrate --data-dir /srv/rushgate
  rushgate migrate --ledger postgres://rushgate@db/rushgate
  rushgate migrate --ledger sqlite:/srv/rushgate/rushgate.db")]
pub(super) struct Migrate {
    #[command(flatten)]
    settings: SettingsFlags,
}

impl Serve {
    pub(super) fn run(&self) -> Result<(), CommandError> {
        let loaded = self.settings.load()?;
        loaded.check()?;
        Ok(app::serve(loaded.config, self.demo)?)
    }
}

impl Migrate {
    pub(super) fn run(&self) -> Result<(), CommandError> {
        let loaded = self.settings.load()?;
        screen::out(&app::migrate(&loaded.config)?)
    }
}
