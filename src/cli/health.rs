//! `health`: is a running server ready? For containers without a shell, and for people.

use clap::Args;

use super::client::ServerFlags;
use super::{CommandError, screen};

/// Ask a running server whether it is ready: exit code 0 if it is
#[derive(Args)]
#[command(after_help = "\
EXAMPLES
  rushgate health
  rushgate health --live
  rushgate health --server http://127.0.0.1:9091")]
pub(super) struct Health {
    /// Ask only whether the process lives: also true while it stops, or while its ledger is away
    #[arg(long)]
    live: bool,
    #[command(flatten)]
    server: ServerFlags,
}

impl Health {
    pub(super) fn run(&self) -> Result<(), CommandError> {
        let (path, word) = if self.live { ("/healthz", "live") } else { ("/readyz", "ready") };
        self.server.client()?.get(path)?;
        screen::out(word)
    }
}
