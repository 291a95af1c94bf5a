//! The layers that settings come from, merged: defaults < file < environment < flags.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::origin::Origin;
use super::setting::{CONFIG_VARIABLE, PREFIX, SERVER_VARIABLE, SETTINGS, Setting, nearest};
use super::{Error, SettingProblem};

const DEFAULT: &str = include_str!("default.toml");

/// What was said on the command line and in the environment. No `Debug`: values may be secret.
#[derive(Clone, Default)]
pub struct Layers {
    /// Dotted names and values of the flags that were given.
    pub flags: Vec<(&'static str, String)>,
    /// Our variables.
    pub env: Env,
    /// `--config`; without it `RUSHGATE_CONFIG` is asked.
    pub file: Option<PathBuf>,
}

/// The `RUSHGATE_…` variables of the process, or those that a test makes up.
#[derive(Clone, Default)]
pub struct Env(Vec<(String, String)>);

/// The value of each setting that was given, by dotted name, with where it came from.
pub(super) type Settings = BTreeMap<&'static str, Given>;

/// A value and where it came from.
#[derive(Clone)]
pub(super) struct Given {
    pub(super) value: Value,
    pub(super) origin: Origin,
}

/// Puts the layers on top of each other. A layer with a problem still gives what is fine in it, so that everything
/// wrong is found at once.
pub(super) fn merge(layers: &Layers, problems: &mut Vec<SettingProblem>) -> Settings {
    let mut settings = Settings::new();
    add_toml(DEFAULT, &Origin::Default, Path::new("default.toml"), &mut settings, problems);
    if let Some((path, named_by)) = file(layers) {
        match std::fs::read_to_string(&path) {
            Ok(text) => add_toml(&text, &Origin::File(path.clone()), &path, &mut settings, problems),
            Err(error) => problems.push(SettingProblem::File { path, origin: named_by, reason: error.to_string() }),
        }
    }
    for (name, text) in layers.env.settings() {
        let origin = Origin::Env(name.to_owned());
        match SETTINGS.iter().find(|key| key.variable() == name) {
            Some(key) => drop(settings.insert(key.name, Given { value: key.value_of(text), origin })),
            None => problems.push(SettingProblem::Unknown {
                name: name.to_owned(),
                origin,
                nearest: nearest_variable(name),
            }),
        }
    }
    for (name, text) in &layers.flags {
        match Setting::find(name) {
            Some(key) => {
                let given = Given { value: key.value_of(text), origin: Origin::Flag(key.flag()) };
                settings.insert(key.name, given);
            }
            None => {
                let origin = Origin::Flag((*name).to_owned());
                problems.push(SettingProblem::Unknown { name: (*name).to_owned(), origin, nearest: nearest_key(name) });
            }
        }
    }
    settings
}

fn file(layers: &Layers) -> Option<(PathBuf, Origin)> {
    match &layers.file {
        Some(path) => Some((path.clone(), Origin::Flag("--config".to_owned()))),
        None => Some((layers.env.get(CONFIG_VARIABLE)?.into(), Origin::Env(CONFIG_VARIABLE.to_owned()))),
    }
}

fn add_toml(text: &str, origin: &Origin, path: &Path, settings: &mut Settings, problems: &mut Vec<SettingProblem>) {
    match text.parse::<Table>() {
        Ok(table) => add_table("", table, origin, settings, problems),
        Err(error) => {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            problems.push(SettingProblem::Syntax { path: path.to_owned(), line, reason: error.message().to_owned() });
        }
    }
}

/// Adds a table under its dotted name; a name that is no setting and no group of settings is a problem.
fn add_table(group: &str, table: Table, origin: &Origin, settings: &mut Settings, problems: &mut Vec<SettingProblem>) {
    for (name, value) in table {
        let name = if group.is_empty() { name } else { format!("{group}.{name}") };
        match (Setting::find(&name).or_else(|| short(&name, &value)), value) {
            (Some(key), value) => drop(settings.insert(key.name, Given { value, origin: origin.clone() })),
            (None, Value::Table(table)) if !table.is_empty() || is_group(&name) => {
                add_table(&name, table, origin, settings, problems);
            }
            (None, _) => {
                let nearest = nearest_key(&name);
                problems.push(SettingProblem::Unknown { name, origin: origin.clone(), nearest });
            }
        }
    }
}

/// The setting that a group stands for when it is given as one value: `gate = "memory"`.
fn short(name: &str, value: &Value) -> Option<&'static Setting> {
    SETTINGS.iter().find(|key| key.short() == name && !value.is_table())
}

fn is_group(name: &str) -> bool {
    SETTINGS.iter().any(|key| key.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
}

fn nearest_key(name: &str) -> Option<String> {
    nearest(name, SETTINGS.iter().map(|key| key.name)).map(str::to_owned)
}

fn nearest_variable(name: &str) -> Option<String> {
    // Without the prefix, which would make all of them alike.
    let bare = |name: &str| name.trim_start_matches(PREFIX).to_owned();
    let all: Vec<String> = SETTINGS.iter().map(|key| bare(&key.variable())).chain([bare(CONFIG_VARIABLE)]).collect();
    nearest(&bare(name), all.iter().map(String::as_str)).map(|found| format!("{PREFIX}{found}"))
}

impl Env {
    /// The variables of this process that start with `RUSHGATE_`.
    pub fn of_process() -> Result<Env, Error> {
        let mut variables = Vec::new();
        let mut problems = Vec::new();
        for (name, value) in std::env::vars_os() {
            let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
            match value.into_string() {
                Ok(value) => variables.push((name.to_owned(), value)),
                Err(_) => problems.push(SettingProblem::NotUnicode { name: name.to_owned() }),
            }
        }
        variables.sort();
        if problems.is_empty() { Ok(Env(variables)) } else { Err(Error(problems)) }
    }

    /// The value of a variable; an empty one is as good as none, because compose files and shells pass those on.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, value)| n == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// The variables that must be settings.
    fn settings(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        all.filter(|(name, value)| !value.is_empty() && !is_for_others(name, value))
    }
}

/// Variables with our prefix that are no settings of the server: those of the client commands and of the tests, and
/// the links that Kubernetes sets in every pod beside a service called `rushgate` or `rushgate-…`
/// (`RUSHGATE_SERVICE_HOST`, `RUSHGATE_ADMIN_PORT_9090_TCP`, `RUSHGATE_PORT=tcp://…`).
fn is_for_others(name: &str, value: &str) -> bool {
    let ours = [CONFIG_VARIABLE, SERVER_VARIABLE].contains(&name) || name.starts_with("RUSHGATE_TEST_");
    let service = name.contains("_SERVICE_HOST") || name.contains("_SERVICE_PORT");
    let link = ["_TCP", "_UDP", "_SCTP"].iter().any(|protocol| name.contains(protocol)) && name.contains("_PORT_");
    ours || service || link || (name.ends_with("_PORT") && value.contains("://"))
}

impl FromIterator<(String, String)> for Env {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        Env(variables.into_iter().collect())
    }
}

/// Where it came from only: the value may be secret.
impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.origin, f)
    }
}
