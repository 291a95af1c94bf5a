//! `completions`: what a shell needs to complete our commands.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, CommandError, screen};

/// Print the completions of a shell
#[derive(Args)]
#[command(after_help = "\
EXAMPLES
  rushgate completions bash > /etc/bash_completion.d/rushgate
  rushgate completions fish > ~/.config/fish/completions/rushgate.fish")]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(super) fn run(&self) -> Result<(), CommandError> {
        // Into memory first: the generator panics when its writer fails.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "rushgate", &mut script);
        screen::out(String::from_utf8_lossy(&script).trim_end())
    }
}
