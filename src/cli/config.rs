//! `config`: what the settings are, where each came from, and whether a server would start with them.

use clap::Subcommand;

use super::settings::SettingsFlags;
use super::{CommandError, screen};

/// Show or check the settings that `serve` would run with
#[derive(Subcommand)]
#[command(after_help = "\
EXAMPLES
  rushgate config print
  rushgate config check --config /etc/rushgate.toml")]
pub(super) enum ConfigCommand {
    /// Print every setting as TOML, with where its value came from; secrets are hidden
    #[command(after_help = "\
EXAMPLES
  rushgate config print
  RUSHGATE_SHARDS=4 rushgate config print --config rushgate.toml")]
    Print {
        #[command(flatten)]
        settings: SettingsFlags,
    },
    /// Say whether a server would start with these settings; exit code 2 if not
    #[command(after_help = "\
EXAMPLES
  rushgate config check
  rushgate config check --config rushgate.toml && rushgate serve --config rushgate.toml")]
    Check {
        #[command(flatten)]
        settings: SettingsFlags,
    },
}

impl ConfigCommand {
    pub(super) fn run(&self) -> Result<(), CommandError> {
        match self {
            ConfigCommand::Print { settings } => {
                let loaded = settings.load()?;
                let lines: Vec<_> =
                    loaded.lines().map(|line| (format!("{} = {}", line.key, line.value), line.origin)).collect();
                let width = lines.iter().map(|(setting, _)| setting.chars().count()).max().unwrap_or(0);
                let text: Vec<_> =
                    lines.iter().map(|(setting, origin)| format!("{setting:width$}  # {origin}")).collect();
                screen::out(&text.join("\n"))
            }
            ConfigCommand::Check { settings } => {
                settings.load()?.check()?;
                screen::out("settings are fine")
            }
        }
    }
}
