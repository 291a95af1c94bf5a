//! `man`: the manual pages, one for each command, for packages.

use std::path::PathBuf;

use clap::{Args, CommandFactory};

use super::{Cli, CommandError};

/// Write the manual pages into a directory
#[derive(Args)]
#[command(
    hide = true,
    after_help = "\
EXAMPLES
  rushgate man /usr/local/share/man/man1"
)]
pub(super) struct Man {
    /// The directory, which exists
    directory: PathBuf,
}

impl Man {
    pub(super) fn run(&self) -> Result<(), CommandError> {
        let directory = self.directory.display();
        clap_mangen::generate_to(Cli::command(), &self.directory).map_err(|error| {
            CommandError::NotDone(format!("could not write the manual pages into {directory}: {error}"))
        })
    }
}
