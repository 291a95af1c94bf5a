//! The settings that exist: their names, and what may be shown of their values.

use toml::Value;

/// Names the settings file; the same as `--config`.
pub const CONFIG_VARIABLE: &str = "RUSHGATE_CONFIG";
/// Names the server that `sale`, `order` and `verify` ask; the same as `--server`.
pub const SERVER_VARIABLE: &str = "RUSHGATE_SERVER";
/// The setting `admin.token`, which `sale`, `order` and `verify` read too.
pub const ADMIN_TOKEN_VARIABLE: &str = "RUSHGATE_ADMIN_TOKEN";

/// The prefix of every variable of this program.
pub(super) const PREFIX: &str = "RUSHGATE_";

/// Every setting, in the order of `default.toml`.
pub const SETTINGS: &[Setting] = &[
    Setting { name: "listen", kind: ValueKind::Text },
    Setting { name: "admin_listen", kind: ValueKind::Text },
    Setting { name: "data_dir", kind: ValueKind::Text },
    Setting { name: "ledger", kind: ValueKind::Store },
    Setting { name: "shards", kind: ValueKind::Whole },
    Setting { name: "gate.address", kind: ValueKind::Store },
    Setting { name: "gate.on_failure", kind: ValueKind::Text },
    Setting { name: "auth.mode", kind: ValueKind::Text },
    Setting { name: "auth.insecure_no_auth", kind: ValueKind::Switch },
    Setting { name: "auth.jwt_algorithm", kind: ValueKind::Text },
    Setting { name: "auth.jwt_secrets", kind: ValueKind::Secret },
    Setting { name: "auth.jwt_public_keys_file", kind: ValueKind::Text },
    Setting { name: "auth.jwt_issuer", kind: ValueKind::Text },
    Setting { name: "auth.jwt_audience", kind: ValueKind::Text },
    Setting { name: "auth.trusted_proxies", kind: ValueKind::Text },
    Setting { name: "auth.token_keys", kind: ValueKind::Secret },
    Setting { name: "auth.token_ttl_s", kind: ValueKind::Whole },
    Setting { name: "limits.user_per_s", kind: ValueKind::Whole },
    Setting { name: "limits.user_burst", kind: ValueKind::Whole },
    Setting { name: "limits.address_per_s", kind: ValueKind::Whole },
    Setting { name: "limits.address_burst", kind: ValueKind::Whole },
    Setting { name: "admin.token", kind: ValueKind::Secret },
    Setting { name: "drain.delay_s", kind: ValueKind::Whole },
    Setting { name: "drain.timeout_s", kind: ValueKind::Whole },
    Setting { name: "log.level", kind: ValueKind::Text },
    Setting { name: "log.format", kind: ValueKind::Text },
    Setting { name: "log.trace_one_in", kind: ValueKind::Whole },
    Setting { name: "payments.standard_secrets", kind: ValueKind::Secret },
    Setting { name: "payments.alipay_public_key_file", kind: ValueKind::Text },
    Setting { name: "payments.alipay_app_id", kind: ValueKind::Text },
    Setting { name: "payments.alipay_seller_id", kind: ValueKind::Text },
    Setting { name: "payments.wechatpay_public_keys", kind: ValueKind::Text },
    Setting { name: "payments.wechatpay_api_v3_keys", kind: ValueKind::Secret },
    Setting { name: "payments.wechatpay_mchid", kind: ValueKind::Text },
    Setting { name: "payments.wechatpay_appid", kind: ValueKind::Text },
];

/// A setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its dotted name, as in the file.
    pub name: &'static str,
    kind: ValueKind,
}

/// How a text becomes a value, and how much of the value may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ValueKind {
    Text,
    /// The address of a store, which may hold a password.
    Store,
    Secret,
    /// A whole number, or a word instead of one.
    Whole,
    /// true or false.
    Switch,
}

impl Setting {
    /// The setting with this dotted name.
    pub(super) fn find(name: &str) -> Option<&'static Setting> {
        SETTINGS.iter().find(|key| key.name == name)
    }

    /// Its variable: `drain.delay_s` is `RUSHGATE_DRAIN_DELAY_S`.
    pub fn variable(&self) -> String {
        format!("{PREFIX}{}", self.short().replace('.', "_").to_ascii_uppercase())
    }

    /// Its flag, dashes included: `drain.delay_s` is `--drain-delay-s`.
    pub fn flag(&self) -> String {
        match self.short() {
            // Long enough to be read twice, without the word before it.
            "auth.insecure_no_auth" => "--insecure-no-auth".to_owned(),
            name => format!("--{}", name.replace(['.', '_'], "-")),
        }
    }

    /// Its name where no group stands around it: "the gate" means its address.
    pub(super) fn short(&self) -> &'static str {
        match self.name {
            "gate.address" => "gate",
            name => name,
        }
    }

    /// Text from a variable or a flag as the value it would be in a file. What does not fit stays text, and is then
    /// refused together with its range.
    pub(super) fn value_of(&self, text: &str) -> Value {
        let typed = match self.kind {
            ValueKind::Text | ValueKind::Store | ValueKind::Secret => None,
            ValueKind::Whole => text.parse().ok().map(Value::Integer),
            ValueKind::Switch => text.parse().ok().map(Value::Boolean),
        };
        typed.unwrap_or_else(|| Value::String(text.to_owned()))
    }

    /// The value as TOML, without what is secret in it.
    pub(super) fn shown(&self, value: &Value) -> String {
        let text = match (self.kind, value) {
            (ValueKind::Secret, Value::String(text)) if text.is_empty() => String::new(),
            (ValueKind::Secret, _) => "***".to_owned(),
            (ValueKind::Store, Value::String(text)) => without_password(text),
            (ValueKind::Text | ValueKind::Whole | ValueKind::Switch | ValueKind::Store, value) => {
                return value.to_string();
            }
        };
        Value::String(text).to_string()
    }
}

/// The address of a store if it cannot hold a password, else only its scheme.
fn without_password(address: &str) -> String {
    if address.starts_with("sqlite:") || !address.contains(['@', '?', '=']) {
        return address.to_owned();
    }
    match address.split_once(':') {
        Some((scheme, _)) if scheme.bytes().all(|b| b.is_ascii_alphabetic() || b == b'-') => format!("{scheme}:***"),
        _ => "***".to_owned(),
    }
}

/// The candidate that `name` was most likely meant to be, if any is close.
pub(super) fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_one_rule() {
        let key = Setting::find("drain.delay_s").unwrap();
        assert_eq!((key.variable().as_str(), key.flag().as_str()), ("RUSHGATE_DRAIN_DELAY_S", "--drain-delay-s"));
        assert_eq!(Setting::find("admin.token").unwrap().variable(), ADMIN_TOKEN_VARIABLE);
        assert_eq!(Setting::find("auth.insecure_no_auth").unwrap().flag(), "--insecure-no-auth");
        let gate = Setting::find("gate.address").unwrap();
        assert_eq!((gate.variable().as_str(), gate.flag().as_str()), ("RUSHGATE_GATE", "--gate"));
        assert!(Setting::find("drain").is_none());
    }

    #[test]
    fn no_password_is_shown() {
        for (address, shown) in [
            ("postgres://u:hunter2@db/x", "postgres:***"),
            ("postgres://db/x?password=hunter2", "postgres:***"),
            ("host=db password=hunter2", "***"),
            ("u:hunter2@db", "u:***"),
            ("redis-cluster://a,redis://:hunter2@b", "redis-cluster:***"),
            ("redis://a:6379", "redis://a:6379"),
            ("sqlite:/srv/a@b.db", "sqlite:/srv/a@b.db"),
        ] {
            assert_eq!(without_password(address), shown);
        }
        let token = Setting::find("admin.token").unwrap();
        assert_eq!(token.shown(&Value::Integer(123_456)), r#""***""#);
        assert_eq!(token.shown(&Value::String(String::new())), r#""""#);
    }

    #[test]
    fn a_misspelt_name_finds_its_neighbour() {
        let nearest_key = |name| nearest(name, SETTINGS.iter().map(|key| key.name));
        for (name, key) in [
            ("shard", "shards"),
            ("lisen", "listen"),
            ("admin-listen", "admin_listen"),
            ("auht.mode", "auth.mode"),
            ("drain.timeout", "drain.timeout_s"),
            ("datadir", "data_dir"),
        ] {
            assert_eq!(nearest_key(name), Some(key), "{name}");
        }
        assert_eq!(nearest_key("xyzzy"), None);
    }
}
