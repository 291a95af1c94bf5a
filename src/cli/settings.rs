//! The flags that are settings, for the commands that run on a configuration of their own.

use std::path::PathBuf;

use clap::Args;

use super::CommandError;
use crate::config::{Config, Env, Layers, Loaded};

/// Every setting.
#[derive(Args)]
#[command(next_help_heading = "Settings")]
pub(super) struct SettingsFlags {
    #[command(flatten)]
    store: StoreFlags,
    /// Where buyers connect, such as 127.0.0.1:8080
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<String>,
    /// Where operators, probes and metrics connect, such as 127.0.0.1:9090
    #[arg(long, value_name = "IP:PORT")]
    admin_listen: Option<String>,
    /// Orders whose gate cannot be used: ledger (they go straight to the ledger) or shed (they are refused)
    #[arg(long, value_name = "MODE")]
    gate_on_failure: Option<String>,
    /// Shards of a sale that names none, 1 to 1024
    #[arg(long, value_name = "N")]
    shards: Option<String>,
    /// How a buyer is recognised: none (development), jwt (a signed token) or gateway (X-User-Id from a trusted proxy)
    #[arg(long, value_name = "MODE")]
    auth_mode: Option<String>,
    /// Allow auth mode none where other machines can connect
    #[arg(long)]
    insecure_no_auth: bool,
    /// How tokens are signed: HS256, EdDSA or RS256
    #[arg(long, value_name = "ALG")]
    auth_jwt_algorithm: Option<String>,
    /// Secrets of HS256, comma-separated; better in RUSHGATE_AUTH_JWT_SECRETS, others can see a command line
    #[arg(long, value_name = "SECRETS")]
    auth_jwt_secrets: Option<String>,
    /// Public keys of EdDSA or RS256, PEM
    #[arg(long, value_name = "FILE")]
    auth_jwt_public_keys_file: Option<String>,
    /// What the iss of a token must be
    #[arg(long, value_name = "ISSUER")]
    auth_jwt_issuer: Option<String>,
    /// What the aud of a token must be or hold
    #[arg(long, value_name = "AUDIENCE")]
    auth_jwt_audience: Option<String>,
    /// Proxies whose X-User-Id and X-Forwarded-For are believed, such as 10.0.0.0/8,192.0.2.7
    #[arg(long, value_name = "NETWORKS")]
    auth_trusted_proxies: Option<String>,
    /// Secrets of purchase tokens, the first signs; better in RUSHGATE_AUTH_TOKEN_KEYS, others can see a command line
    #[arg(long, value_name = "KEY,...")]
    auth_token_keys: Option<String>,
    /// Seconds that a purchase token makes a new order, 1 to 86400
    #[arg(long, value_name = "N")]
    auth_token_ttl_s: Option<String>,
    /// Requests a second of one user; 0 for no limit
    #[arg(long, value_name = "N")]
    limits_user_per_s: Option<String>,
    /// Requests of one user at once, after a rest
    #[arg(long, value_name = "N")]
    limits_user_burst: Option<String>,
    /// Requests a second of one address; 0 for no limit
    #[arg(long, value_name = "N")]
    limits_address_per_s: Option<String>,
    /// Requests of one address at once, after a rest
    #[arg(long, value_name = "N")]
    limits_address_burst: Option<String>,
    /// What the admin listener asks for; better in RUSHGATE_ADMIN_TOKEN, others can see a command line
    #[arg(long, value_name = "TOKEN")]
    admin_token: Option<String>,
    /// Seconds of answering "not ready" before the listener closes, 0 to 60
    #[arg(long, value_name = "N")]
    drain_delay_s: Option<String>,
    /// Seconds that running requests may take after that, 1 to 600
    #[arg(long, value_name = "N")]
    drain_timeout_s: Option<String>,
    /// off, error, warn, info, debug, trace, or a list such as info,hyper=warn
    #[arg(long, value_name = "FILTER")]
    log_level: Option<String>,
    /// json or text
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// Trace one operation in N in the log; 0 traces none
    #[arg(long, value_name = "N")]
    log_trace_one_in: Option<String>,
    #[command(flatten)]
    payments: PaymentFlags,
}

/// The settings of payment providers.
#[derive(Args)]
pub(super) struct PaymentFlags {
    /// Secrets of Standard Webhooks; better in RUSHGATE_PAYMENTS_STANDARD_SECRETS, others can see a command line
    #[arg(long, value_name = "SECRETS")]
    payments_standard_secrets: Option<String>,
    /// File with Alipay's public key of the app
    #[arg(long, value_name = "FILE")]
    payments_alipay_public_key_file: Option<String>,
    /// App that payments by Alipay must be of
    #[arg(long, value_name = "ID")]
    payments_alipay_app_id: Option<String>,
    /// Seller that payments by Alipay must go to
    #[arg(long, value_name = "ID")]
    payments_alipay_seller_id: Option<String>,
    /// WeChat Pay's public keys by their serials, SERIAL=FILE[,SERIAL=FILE...]
    #[arg(long, value_name = "KEYS")]
    payments_wechatpay_public_keys: Option<String>,
    /// APIv3 keys of the merchant; better in RUSHGATE_PAYMENTS_WECHATPAY_API_V3_KEYS, others can see a command line
    #[arg(long, value_name = "KEYS")]
    payments_wechatpay_api_v3_keys: Option<String>,
    /// Merchant that payments by WeChat Pay must go to
    #[arg(long, value_name = "ID")]
    payments_wechatpay_mchid: Option<String>,
    /// App that payments by WeChat Pay must be of
    #[arg(long, value_name = "ID")]
    payments_wechatpay_appid: Option<String>,
}

impl PaymentFlags {
    fn given(&self) -> Vec<(&'static str, String)> {
        given([
            ("payments.standard_secrets", &self.payments_standard_secrets),
            ("payments.alipay_public_key_file", &self.payments_alipay_public_key_file),
            ("payments.alipay_app_id", &self.payments_alipay_app_id),
            ("payments.alipay_seller_id", &self.payments_alipay_seller_id),
            ("payments.wechatpay_public_keys", &self.payments_wechatpay_public_keys),
            ("payments.wechatpay_api_v3_keys", &self.payments_wechatpay_api_v3_keys),
            ("payments.wechatpay_mchid", &self.payments_wechatpay_mchid),
            ("payments.wechatpay_appid", &self.payments_wechatpay_appid),
        ])
    }
}

/// The settings that say where the ledger and the gate are.
#[derive(Args)]
pub(super) struct StoreFlags {
    #[command(flatten)]
    ledger: LedgerFlags,
    /// Where stock is reserved during the rush: memory, redis://HOST[,redis://HOST...] or redis-cluster://HOST
    #[arg(long, value_name = "GATE")]
    gate: Option<String>,
}

/// The settings that say where the ledger is.
#[derive(Args)]
pub(super) struct LedgerFlags {
    /// Settings file, TOML [env: RUSHGATE_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory of everything rushgate writes, the SQLite ledger included
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Where orders are recorded: sqlite:PATH_OF_FILE or postgres://USER@HOST/DATABASE
    #[arg(long, value_name = "LEDGER")]
    ledger: Option<String>,
}

impl SettingsFlags {
    /// Reads all layers.
    pub(super) fn load(&self) -> Result<Loaded, CommandError> {
        let mut layers = self.store.layers()?;
        layers.flags.extend(self.given());
        layers.flags.extend(self.payments.given());
        Ok(Config::load(&layers)?)
    }

    fn given(&self) -> Vec<(&'static str, String)> {
        let insecure_no_auth = self.insecure_no_auth.then(|| "true".to_owned());
        given([
            ("listen", &self.listen),
            ("admin_listen", &self.admin_listen),
            ("gate.on_failure", &self.gate_on_failure),
            ("shards", &self.shards),
            ("auth.mode", &self.auth_mode),
            ("auth.insecure_no_auth", &insecure_no_auth),
            ("auth.jwt_algorithm", &self.auth_jwt_algorithm),
            ("auth.jwt_secrets", &self.auth_jwt_secrets),
            ("auth.jwt_public_keys_file", &self.auth_jwt_public_keys_file),
            ("auth.jwt_issuer", &self.auth_jwt_issuer),
            ("auth.jwt_audience", &self.auth_jwt_audience),
            ("auth.trusted_proxies", &self.auth_trusted_proxies),
            ("auth.token_keys", &self.auth_token_keys),
            ("auth.token_ttl_s", &self.auth_token_ttl_s),
            ("limits.user_per_s", &self.limits_user_per_s),
            ("limits.user_burst", &self.limits_user_burst),
            ("limits.address_per_s", &self.limits_address_per_s),
            ("limits.address_burst", &self.limits_address_burst),
            ("admin.token", &self.admin_token),
            ("drain.delay_s", &self.drain_delay_s),
            ("drain.timeout_s", &self.drain_timeout_s),
            ("log.level", &self.log_level),
            ("log.format", &self.log_format),
            ("log.trace_one_in", &self.log_trace_one_in),
        ])
    }
}

impl StoreFlags {
    /// Reads all layers.
    pub(super) fn load(&self) -> Result<Loaded, CommandError> {
        Ok(Config::load(&self.layers()?)?)
    }

    fn layers(&self) -> Result<Layers, CommandError> {
        let mut layers = self.ledger.layers()?;
        layers.flags.extend(self.given());
        Ok(layers)
    }

    fn given(&self) -> Vec<(&'static str, String)> {
        given([("gate.address", &self.gate)])
    }
}

impl LedgerFlags {
    /// Whether any of them was given.
    pub(super) fn any(&self) -> bool {
        self.config.is_some() || self.data_dir.is_some() || self.ledger.is_some()
    }

    /// Reads all layers.
    pub(super) fn load(&self) -> Result<Loaded, CommandError> {
        Ok(Config::load(&self.layers()?)?)
    }

    fn layers(&self) -> Result<Layers, CommandError> {
        Ok(Layers { flags: self.given(), env: Env::of_process()?, file: self.config.clone() })
    }

    fn given(&self) -> Vec<(&'static str, String)> {
        given([("data_dir", &self.data_dir), ("ledger", &self.ledger)])
    }
}

fn given<const N: usize>(flags: [(&'static str, &Option<String>); N]) -> Vec<(&'static str, String)> {
    flags.into_iter().filter_map(|(key, text)| Some((key, text.clone()?))).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::config::SETTINGS;

    #[derive(Parser)]
    struct TestLine {
        #[command(flatten)]
        settings: SettingsFlags,
    }

    #[test]
    fn every_setting_has_its_flag() {
        for key in SETTINGS {
            let flag = key.flag();
            let words = if key.name == "auth.insecure_no_auth" { vec!["x", &flag] } else { vec!["x", &flag, "true"] };
            let settings = TestLine::try_parse_from(words).unwrap_or_else(|error| panic!("{error}")).settings;
            let stores = [settings.store.given(), settings.store.ledger.given()].concat();
            let given = [settings.given(), stores, settings.payments.given()].concat();
            assert_eq!(given, [(key.name, "true".to_owned())]);
        }
    }
}
