//! The settings: read once at start-up, from defaults < file < `RUSHGATE_…` environment < flags, each value with
//! where it came from. Called by the command line only; everything else is handed a [`Config`].
//!
//! It must never show a secret: not in an error, not in `config print`, not in `Debug`.

mod auth;
mod check;
mod error;
mod key_file;
mod layers;
mod payments;
mod read;
mod secret;
mod setting;

pub use check::is_loopback;
pub use error::{Error, SettingProblem};
pub use layers::{Env, Layers, Origin};
pub use payments::{Payments, Unusable};
pub use secret::Secret;
pub use setting::{ADMIN_TOKEN_VARIABLE, CONFIG_VARIABLE, SERVER_VARIABLE, SETTINGS, Setting};

use std::net::SocketAddr;
use std::path::PathBuf;

use layers::Settings;
use read::Reader;

use crate::auth::{Algorithm, Proxies};
use crate::engine::OnGateFailure;
use crate::intake::Rates;
use crate::limits;

/// The file of the SQLite ledger inside the data directory.
pub const LEDGER_FILE: &str = "rushgate.db";

/// Everything that can be set, typed and within its range. `default.toml` explains each value to operators.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address of the public listener; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Address of the admin listener; port 0 takes any free one.
    pub admin_listen: SocketAddr,
    /// Directory of everything the process writes.
    pub data_dir: PathBuf,
    /// Where orders are recorded.
    pub ledger: LedgerAddress,
    /// Where stock is reserved during the rush.
    pub gate: GateAddress,
    /// What happens to orders whose gate cannot be used.
    pub on_gate_failure: OnGateFailure,
    /// Shards of a sale that names none, 1..=[`crate::limits::SHARDS_MAX`].
    pub shards: u16,
    /// How a buyer is recognised.
    pub auth: Auth,
    /// Rates of one user and of one address.
    pub rates: Rates,
    /// Purchase tokens.
    pub tokens: Tokens,
    /// What the admin listener asks for.
    pub admin: AdminSettings,
    /// How the process leaves.
    pub drain: Drain,
    /// What is logged, and how.
    pub log: Log,
    /// How payment providers are recognised.
    pub payments: Payments,
}

/// Where orders are recorded.
#[derive(Clone, Debug)]
pub enum LedgerAddress {
    /// A SQLite file.
    Sqlite(PathBuf),
    /// A PostgreSQL address, password included.
    Postgres(Secret),
}

/// Where stock is reserved during the rush.
#[derive(Clone, Debug)]
pub enum GateAddress {
    /// This process.
    Memory,
    /// One or more Redis addresses, separated by commas.
    Redis(Secret),
    /// A Redis Cluster address.
    RedisCluster(Secret),
}

/// How a buyer is recognised.
#[derive(Clone, Debug)]
pub struct Auth {
    /// Where the user of a request comes from.
    pub mode: AuthMode,
    /// Whether mode `none` is allowed on an address that other machines reach.
    pub insecure_no_auth: bool,
    /// How tokens are signed.
    pub jwt: JwtAuth,
    /// Proxies whose word about users and addresses counts.
    pub trusted_proxies: Proxies,
}

/// How tokens are signed, and by whom.
#[derive(Clone, Debug)]
pub struct JwtAuth {
    /// The one way in which they are.
    pub algorithm: Algorithm,
    /// Secrets separated by commas, for HS256.
    pub secrets: Option<Secret>,
    /// A PEM file of public keys, for the others.
    pub public_keys_file: Option<PathBuf>,
    /// What `iss` must be, if anything.
    pub issuer: Option<String>,
    /// What `aud` must be or hold, if anything.
    pub audience: Option<String>,
}

/// Where the user of a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMode {
    /// The request itself: development and load tests.
    None,
    /// A signed token.
    Jwt,
    /// A trusted proxy.
    Gateway,
}

/// Purchase tokens.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// What they are signed with, the first of them, and recognised by. None: a key of each sale's own.
    pub keys: Vec<Secret>,
    /// How long one makes a new order, in seconds, within [`crate::limits::PURCHASE_TOKEN_TTL_S`].
    pub ttl_s: u64,
}

/// What the admin listener asks for.
#[derive(Clone, Debug)]
pub struct AdminSettings {
    /// The bearer token; `None`: nothing, allowed on loopback only.
    pub token: Option<Secret>,
}

/// How the process leaves after a stop signal.
#[derive(Clone, Copy, Debug)]
pub struct Drain {
    /// How long readiness answers 503 before the listener closes, in seconds, 0..=60.
    pub delay_s: u64,
    /// How long running requests may take after that, in seconds, 1..=600.
    pub timeout_s: u64,
}

/// What is logged, and how.
#[derive(Clone, Debug)]
pub struct Log {
    /// A `tracing` filter, checked.
    pub level: String,
    /// How a line looks.
    pub format: LogFormat,
    /// Of so many operations one is traced; 0: none.
    pub trace_one_in: u32,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For people.
    Text,
}

/// A [`Config`] that remembers where each value came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    settings: Settings,
}

/// One line of `config print`.
#[derive(Clone, Debug)]
pub struct SettingLine {
    /// The setting's dotted name.
    pub key: &'static str,
    /// Its value as TOML, hidden if it is a secret.
    pub value: String,
    /// Where the value came from.
    pub origin: Origin,
}

impl Config {
    /// Reads the layers and every value in them. What is wrong is reported all at once. Whether the values make a
    /// safe server is asked next, with [`Loaded::check`].
    pub fn load(layers: &Layers) -> Result<Loaded, Error> {
        let mut problems = Vec::new();
        let settings = layers::merge(layers, &mut problems);
        let mut reader = Reader::new(&settings, &mut problems);
        let data_dir = reader.path("data_dir");
        let mode = reader.auth_mode("auth.mode");
        let config = Config {
            listen: reader.address("listen"),
            admin_listen: reader.address("admin_listen"),
            ledger: reader.ledger("ledger", &data_dir),
            data_dir,
            gate: reader.gate("gate.address"),
            on_gate_failure: reader.on_gate_failure("gate.on_failure"),
            shards: reader.shards("shards"),
            auth: Auth {
                mode,
                insecure_no_auth: reader.switch("auth.insecure_no_auth"),
                jwt: JwtAuth {
                    algorithm: reader.algorithm("auth.jwt_algorithm"),
                    secrets: reader.jwt_secrets("auth.jwt_secrets"),
                    public_keys_file: reader.text("auth.jwt_public_keys_file").map(PathBuf::from),
                    issuer: reader.text("auth.jwt_issuer"),
                    audience: reader.text("auth.jwt_audience"),
                },
                trusted_proxies: reader.proxies("auth.trusted_proxies"),
            },
            rates: Rates {
                user: reader.rate(mode, ["limits.user_per_s", "limits.user_burst"], limits::USER_PER_S_DEFAULT),
                address: reader.rate(
                    mode,
                    ["limits.address_per_s", "limits.address_burst"],
                    limits::ADDRESS_PER_S_DEFAULT,
                ),
            },
            tokens: Tokens {
                keys: reader.token_keys("auth.token_keys"),
                ttl_s: reader.seconds("auth.token_ttl_s", limits::PURCHASE_TOKEN_TTL_S),
            },
            admin: AdminSettings { token: reader.token("admin.token") },
            drain: Drain {
                delay_s: reader.seconds("drain.delay_s", 0..=limits::DRAIN_DELAY_S_MAX),
                timeout_s: reader.seconds("drain.timeout_s", 1..=limits::DRAIN_TIMEOUT_S_MAX),
            },
            log: Log {
                level: reader.log_level("log.level"),
                format: reader.log_format("log.format"),
                trace_one_in: reader.trace_one_in("log.trace_one_in"),
            },
            payments: reader.payments(),
        };
        if problems.is_empty() { Ok(Loaded { config, settings }) } else { Err(Error(problems)) }
    }
}

impl Loaded {
    /// Every setting in the order of [`SETTINGS`], for `config print`.
    pub fn lines(&self) -> impl Iterator<Item = SettingLine> {
        SETTINGS.iter().filter_map(|key| {
            let given = self.settings.get(key.name)?;
            Some(SettingLine { key: key.name, value: key.shown(&given.value), origin: given.origin.clone() })
        })
    }
}

#[cfg(test)]
mod tests;
