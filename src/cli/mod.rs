//! The command line: one file per group of commands. It reads flags and settings, calls the composition code or a
//! running server, and prints. Called by `main`; nothing else may know it.

mod client;
mod completions;
mod config;
mod health;
mod man;
mod order;
mod rebuild;
mod sale;
mod screen;
mod serve;
mod settings;
mod table;
mod token;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Help and version come this way too. A reader that has gone away has seen enough.
        Err(answer) => {
            drop(answer.print());
            return ExitCode::from(u8::try_from(answer.exit_code()).unwrap_or(2));
        }
    };
    match cli.command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

const AFTER_HELP: &str = "\
EXIT CODES
  0  fine
  1  not done: the server refused, the books do not balance, or a store or listener failed
  2  wrong usage or settings
  3  the server cannot be reached, or did not answer

EXAMPLES
  rushgate serve --demo
  rushgate sale show demo
  rushgate verify
  RUSHGATE_LISTEN=127.0.0.1:8081 rushgate config print";

/// Flash-sale order engine: each order exactly once, never oversold, nothing lost
#[derive(Parser)]
#[command(name = "rushgate", version, after_help = AFTER_HELP, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Serve(Box<serve::Serve>),
    Migrate(Box<serve::Migrate>),
    #[command(subcommand)]
    Sale(Box<sale::SaleCommand>),
    #[command(subcommand)]
    Order(order::OrderCommand),
    Verify(verify::Verify),
    Rebuild(rebuild::Rebuild),
    #[command(subcommand)]
    Token(token::TokenCommand),
    Health(health::Health),
    #[command(subcommand)]
    Config(Box<config::ConfigCommand>),
    Completions(completions::Completions),
    Man(man::Man),
}

impl Command {
    fn run(self) -> Result<(), CommandError> {
        match self {
            Command::Serve(serve) => serve.run(),
            Command::Migrate(migrate) => migrate.run(),
            Command::Sale(sale) => sale.run(),
            Command::Order(order) => order.run(),
            Command::Verify(verify) => verify.run(),
            Command::Rebuild(rebuild) => rebuild.run(),
            Command::Token(token) => token.run(),
            Command::Health(health) => health.run(),
            Command::Config(config) => config.run(),
            Command::Completions(completions) => completions.run(),
            Command::Man(man) => man.run(),
        }
    }
}

/// Why a command failed. The kind is the exit code, the text goes to stderr.
#[derive(Debug)]
enum CommandError {
    /// The server said no, or a store or listener failed.
    NotDone(String),
    /// The books do not balance; the report has been printed.
    Unbalanced,
    /// Wrong usage or settings.
    Usage(String),
    /// No answer from the server.
    Unreachable(String),
}

impl CommandError {
    fn report(&self) -> ExitCode {
        let code = match self {
            CommandError::NotDone(_) | CommandError::Unbalanced => 1,
            CommandError::Usage(_) => 2,
            CommandError::Unreachable(_) => 3,
        };
        match self {
            CommandError::NotDone(text) | CommandError::Usage(text) | CommandError::Unreachable(text) => {
                screen::err(text)
            }
            CommandError::Unbalanced => {}
        }
        ExitCode::from(code)
    }
}

impl From<crate::config::Error> for CommandError {
    fn from(error: crate::config::Error) -> Self {
        CommandError::Usage(error.to_string())
    }
}

/// Trouble that the composition code reports.
impl From<anyhow::Error> for CommandError {
    fn from(error: anyhow::Error) -> Self {
        CommandError::NotDone(format!("{error:#}"))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_commands_are_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_one_line_of_purpose_and_examples() {
        fn walk(command: &clap::Command, path: &str) {
            let name = format!("{path}{}", command.get_name());
            let about = command.get_about().unwrap_or_else(|| panic!("{name} says no purpose")).to_string();
            assert_eq!(about.lines().count(), 1, "{name}: {about}");
            let after = command.get_after_help().unwrap_or_else(|| panic!("{name} has no examples")).to_string();
            let examples = after.split_once("EXAMPLES\n").unwrap_or_else(|| panic!("{name} has no examples")).1;
            assert!(examples.lines().any(|line| line.contains(&name)), "{name}: {examples}");
            command.get_subcommands().for_each(|sub| walk(sub, &format!("{name} ")));
        }
        walk(&Cli::command(), "");
    }

    #[test]
    fn every_example_parses() {
        fn walk(command: &clap::Command) {
            let after = command.get_after_help().unwrap().to_string();
            for line in after.split_once("EXAMPLES\n").unwrap().1.lines() {
                // From the program's name up to a pipe or a redirection.
                let words = line.split_whitespace().skip_while(|word| *word != "rushgate");
                let words: Vec<&str> = words.take_while(|word| !matches!(*word, "|" | ">" | "&&")).collect();
                assert!(!words.is_empty() && line.len() <= 100, "{line}");
                if let Err(error) = Cli::try_parse_from(&words) {
                    panic!("{line}: {error}");
                }
            }
            command.get_subcommands().for_each(walk);
        }
        walk(&Cli::command());
    }

    #[test]
    fn exit_codes_are_those_of_the_help() {
        let code = |failure: CommandError| format!("{:?}", failure.report());
        assert_eq!(code(CommandError::NotDone(String::new())), format!("{:?}", ExitCode::from(1)));
        assert_eq!(code(CommandError::Unbalanced), format!("{:?}", ExitCode::from(1)));
        assert_eq!(code(CommandError::Usage(String::new())), format!("{:?}", ExitCode::from(2)));
        assert_eq!(code(CommandError::Unreachable(String::new())), format!("{:?}", ExitCode::from(3)));
    }
}
