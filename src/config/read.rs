//! From values to types: each setting is parsed once, here, and refused with its range.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use toml::Value;
use tracing_subscriber::EnvFilter;

use super::layers::Settings;
use super::setting::Setting;
use super::{GateAddress, LEDGER_FILE, LedgerAddress, LogFormat, Secret, SettingProblem};
use crate::engine::OnGateFailure;
use crate::limits;

/// Reads settings one by one and gathers what is wrong. A wrong value gives a stand-in that never shows: a
/// configuration with problems is thrown away.
pub(super) struct Reader<'a> {
    settings: &'a Settings,
    problems: &'a mut Vec<SettingProblem>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(settings: &'a Settings, problems: &'a mut Vec<SettingProblem>) -> Self {
        Reader { settings, problems }
    }

    pub(super) fn read<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        stand_in: T,
        parse: impl FnOnce(&Value) -> Option<T>,
    ) -> T {
        // Every key has a default (a test holds that), so a missing one is a key that does not exist.
        let (Some(given), Some(known)) = (self.settings.get(key), Setting::find(key)) else { return stand_in };
        parse(&given.value).unwrap_or_else(|| {
            let (value, origin) = (known.shown(&given.value), given.origin.clone());
            self.problems.push(SettingProblem::Value { key, value, origin, expected: expected.to_owned() });
            stand_in
        })
    }

    pub(super) fn address(&mut self, key: &'static str) -> SocketAddr {
        let expected = "an IP address and a port, such as 127.0.0.1:8080 or [::1]:8080";
        let stand_in = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        self.read(key, expected, stand_in, |value| value.as_str()?.parse().ok())
    }

    pub(super) fn path(&mut self, key: &'static str) -> PathBuf {
        let path = |value: &Value| value.as_str().filter(|path| !path.is_empty()).map(PathBuf::from);
        self.read(key, "a path", PathBuf::new(), path)
    }

    pub(super) fn ledger(&mut self, key: &'static str, data_dir: &Path) -> LedgerAddress {
        let expected = "empty (SQLite in data_dir), sqlite:PATH_OF_FILE or postgres://...";
        let in_data_dir = data_dir.join(LEDGER_FILE);
        self.read(key, expected, LedgerAddress::Sqlite(in_data_dir.clone()), |value| match value.as_str()? {
            "" => Some(LedgerAddress::Sqlite(in_data_dir)),
            text => ledger(text),
        })
    }

    pub(super) fn gate(&mut self, key: &'static str) -> GateAddress {
        let expected =
            "memory, redis://...[,redis://...] or redis-cluster://..., over TLS rediss://... or rediss-cluster://...";
        self.read(key, expected, GateAddress::Memory, |value| gate(value.as_str()?))
    }

    pub(super) fn on_gate_failure(&mut self, key: &'static str) -> OnGateFailure {
        self.read(key, "ledger or shed", OnGateFailure::Ledger, |value| match value.as_str()? {
            "ledger" => Some(OnGateFailure::Ledger),
            "shed" => Some(OnGateFailure::Shed),
            _ => None,
        })
    }

    pub(super) fn shards(&mut self, key: &'static str) -> u16 {
        let max = limits::SHARDS_MAX;
        self.read(key, &format!("a whole number, 1 to {max}"), 1, |value| {
            u16::try_from(value.as_integer()?).ok().filter(|n| (1..=max).contains(n))
        })
    }

    pub(super) fn seconds(&mut self, key: &'static str, range: RangeInclusive<u64>) -> u64 {
        let expected = format!("a whole number of seconds, {} to {}", range.start(), range.end());
        let in_range = |value: &Value| u64::try_from(value.as_integer()?).ok().filter(|n| range.contains(n));
        self.read(key, &expected, *range.start(), in_range)
    }

    pub(super) fn switch(&mut self, key: &'static str) -> bool {
        self.read(key, "true or false", false, Value::as_bool)
    }

    pub(super) fn token(&mut self, key: &'static str) -> Option<Secret> {
        let (least, most) = limits::ADMIN_TOKEN_CHARS.into_inner();
        let expected = format!("empty, or {least} to {most} visible ASCII characters");
        self.read(key, &expected, None, |value| match value.as_str()? {
            "" => Some(None),
            text if limits::ADMIN_TOKEN_CHARS.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()) => {
                Some(Some(Secret::new(text)))
            }
            _ => None,
        })
    }

    pub(super) fn token_keys(&mut self, key: &'static str) -> Vec<Secret> {
        let ((least, most), count) = (limits::PURCHASE_TOKEN_KEY_CHARS.into_inner(), limits::ACTIVE_KEYS_MAX);
        let expected = format!(
            "empty, or up to {count} secrets of {least} to {most} visible ASCII characters, separated by commas"
        );
        let is_one = |text: &str| {
            limits::PURCHASE_TOKEN_KEY_CHARS.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
        };
        self.read(key, &expected, Vec::new(), |value| match value.as_str()? {
            "" => Some(Vec::new()),
            text => {
                let keys: Vec<&str> = text.split(',').collect();
                let fit = keys.len() <= count && keys.iter().all(|key| is_one(key));
                fit.then(|| keys.into_iter().map(Secret::new).collect())
            }
        })
    }

    pub(super) fn log_level(&mut self, key: &'static str) -> String {
        let expected = "off, error, warn, info, debug or trace, or a list such as info,hyper=warn";
        self.read(key, expected, String::new(), |value| {
            value.as_str().filter(|text| is_log_filter(text)).map(str::to_owned)
        })
    }

    pub(super) fn log_format(&mut self, key: &'static str) -> LogFormat {
        self.read(key, "json or text", LogFormat::Json, |value| match value.as_str()? {
            "json" => Some(LogFormat::Json),
            "text" => Some(LogFormat::Text),
            _ => None,
        })
    }

    pub(super) fn trace_one_in(&mut self, key: &'static str) -> u32 {
        let max = limits::TRACE_ONE_IN_MAX;
        self.read(key, &format!("a whole number, 0 to {max}"), 0, |value| {
            u32::try_from(value.as_integer()?).ok().filter(|n| *n <= max)
        })
    }
}

fn ledger(text: &str) -> Option<LedgerAddress> {
    if let Some(path) = text.strip_prefix("sqlite:") {
        // Not `sqlite://…`, which means different files to different programs, and nothing that vanishes on exit.
        let is_file = !path.is_empty() && !path.starts_with("//") && !path.contains(":memory:");
        return is_file.then(|| LedgerAddress::Sqlite(path.into()));
    }
    let is_postgres = ["postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme));
    is_postgres.then(|| LedgerAddress::Postgres(Secret::new(text)))
}

fn gate(text: &str) -> Option<GateAddress> {
    let is_of = |address: &str, schemes: &[&str]| {
        schemes.iter().any(|scheme| address.strip_prefix(scheme).is_some_and(|place| !place.is_empty()))
    };
    if text == "memory" {
        Some(GateAddress::Memory)
    } else if is_of(text, &["redis-cluster://", "rediss-cluster://"]) {
        Some(GateAddress::RedisCluster(Secret::new(text)))
    } else if text.split(',').all(|node| is_of(node, &["redis://", "rediss://", "redis+unix://"])) {
        Some(GateAddress::Redis(Secret::new(text)))
    } else {
        None
    }
}

/// Whether `text` says what it seems to say. To `EnvFilter` a bare `inof` is a module of that name, and logs nothing:
/// a bare word must be a level.
fn is_log_filter(text: &str) -> bool {
    let is_level = |word: &str| {
        ["off", "error", "warn", "info", "debug", "trace"].iter().any(|level| word.eq_ignore_ascii_case(level))
    };
    let plain = |part: &str| part.contains('=') || part.contains('[') || is_level(part);
    EnvFilter::try_new(text).is_ok() && text.split(',').all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_level_is_not_taken_for_a_module() {
        for good in ["info", "OFF", "warn,rushgate=debug", "info,rushgate::engine=trace", "warn,[order]=debug"] {
            assert!(is_log_filter(good), "{good}");
        }
        for bad in ["inof", "info,hyper", "rushgate=loud", "", "info,", "info, hyper=warn"] {
            assert!(!is_log_filter(bad), "{bad}");
        }
    }

    #[test]
    fn a_ledger_is_a_file_or_an_address() {
        assert!(
            matches!(ledger("sqlite:/srv/x.db"), Some(LedgerAddress::Sqlite(path)) if path == Path::new("/srv/x.db"))
        );
        assert!(matches!(ledger("postgres://db/x"), Some(LedgerAddress::Postgres(_))));
        for bad in ["sqlite:", "sqlite://x.db", "sqlite::memory:", "x.db", "mysql://db"] {
            assert!(ledger(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_gate_is_memory_or_addresses() {
        assert!(matches!(gate("memory"), Some(GateAddress::Memory)));
        assert!(matches!(gate("redis://a,redis://b:6380"), Some(GateAddress::Redis(_))));
        assert!(matches!(gate("rediss://a,redis+unix:///run/redis.sock"), Some(GateAddress::Redis(_))));
        for cluster in ["redis-cluster://a", "rediss-cluster://a,b"] {
            assert!(matches!(gate(cluster), Some(GateAddress::RedisCluster(_))), "{cluster}");
        }
        for bad in [
            "",
            "redis://",
            "redis://a,b",
            "redis",
            "Memory",
            "redis+unix://",
            "rediss-cluster://",
            "redis://a,redis-cluster://b",
        ] {
            assert!(gate(bad).is_none(), "{bad}");
        }
    }
}
