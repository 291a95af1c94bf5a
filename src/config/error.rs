//! What can be wrong with settings. Every text names the setting, the value unless it is secret, where the value came
//! from, and what would be right.

use std::fmt;
use std::path::PathBuf;

use super::SETTINGS;
use super::origin::Origin;

/// Everything that is wrong with the settings, at least one thing.
#[derive(Clone, Debug)]
pub struct Error(pub Vec<SettingProblem>);

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingProblem {
    /// The settings file cannot be read.
    #[error("settings file {} (named by {origin}): {reason}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The layer that named it.
        origin: Origin,
        /// What the system said.
        reason: String,
    },
    /// The settings file is not TOML.
    #[error("settings file {}, line {line}: {reason}", .path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What the parser said, without the line itself: it may hold a secret.
        reason: String,
    },
    /// There is no such setting.
    #[error("unknown {}; {}", unknown(.name, .origin), nearest_or_list(.nearest))]
    Unknown {
        /// What was set.
        name: String,
        /// Where.
        origin: Origin,
        /// What was probably meant.
        nearest: Option<String>,
    },
    /// A variable that is not Unicode.
    #[error("{name} is not valid UTF-8")]
    NotUnicode {
        /// The variable.
        name: String,
    },
    /// A value of the wrong type or out of range.
    #[error("{key} = {value} ({origin}): must be {expected}")]
    Value {
        /// The setting.
        key: &'static str,
        /// What was set, hidden if it is a secret.
        value: String,
        /// Where.
        origin: Origin,
        /// What would be right.
        expected: String,
    },
    /// A value that is valid by itself, but not safe here, or of no use without another.
    #[error("{key} = {value} ({origin}): {advice}")]
    Refused {
        /// The setting.
        key: &'static str,
        /// What was set, hidden if it is a secret.
        value: String,
        /// Where.
        origin: Origin,
        /// Why not, and what to do.
        advice: String,
    },
}

fn unknown(name: &str, origin: &Origin) -> String {
    match origin {
        Origin::Env(_) => format!("variable {name}"),
        Origin::Default | Origin::File(_) | Origin::Flag(_) => format!("setting {name} ({origin})"),
    }
}

fn nearest_or_list(nearest: &Option<String>) -> String {
    match nearest {
        Some(name) => format!("did you mean {name}?"),
        None => format!("the settings are {}", SETTINGS.iter().map(|key| key.name).collect::<Vec<_>>().join(", ")),
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            write!(f, "{}{problem}", if i == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}
