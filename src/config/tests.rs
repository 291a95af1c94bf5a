//! Settings as an operator meets them.

mod auth;

use super::*;

pub(super) fn load(flags: &[(&'static str, &str)], env: &[(&str, &str)], file: Option<&str>) -> Result<Loaded, Error> {
    let dir = tempfile::tempdir().unwrap();
    let file = file.map(|text| {
        let path = dir.path().join("rushgate.toml");
        std::fs::write(&path, text).unwrap();
        path
    });
    Config::load(&Layers {
        flags: flags.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
        env: env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        file,
    })
}

pub(super) fn refusal<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn default_toml_holds_every_key_with_a_comment_and_no_other() {
    let text = include_str!("default.toml");
    let (mut group, mut keys, mut commented) = (String::new(), Vec::new(), false);
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[') {
            group = format!("{}.", name.trim_end_matches(']'));
        } else if let Some((name, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            assert!(commented, "{name} has no comment");
            keys.push(format!("{group}{name}"));
        }
        commented = line.starts_with('#');
    }
    assert_eq!(keys, SETTINGS.iter().map(|key| key.name).collect::<Vec<_>>());
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    let loaded = load(&[], &[], None).unwrap();
    loaded.check().unwrap();
    let config = &loaded.config;
    assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.admin_listen.to_string(), "127.0.0.1:9090");
    assert!(matches!(&config.ledger, LedgerAddress::Sqlite(path) if *path == config.data_dir.join(LEDGER_FILE)));
    assert!(matches!(config.gate, GateAddress::Memory));
    assert_eq!((config.shards, config.auth.mode, config.auth.insecure_no_auth), (1, AuthMode::None, false));
    assert!(config.admin.token.is_none());
    assert!(config.tokens.keys.is_empty());
    assert_eq!(config.tokens.ttl_s, crate::limits::PURCHASE_TOKEN_TTL_S_DEFAULT);
    assert_eq!((config.drain.delay_s, config.drain.timeout_s), (0, crate::limits::DRAIN_S_DEFAULT));
    assert_eq!((config.log.level.as_str(), config.log.format), ("info", LogFormat::Json));
    assert_eq!(config.log.trace_one_in, 0);
}

#[test]
fn flags_beat_variables_beat_the_file_beats_defaults() {
    let file = "shards = 2\ndata_dir = '/file'\n[drain]\ntimeout_s = 3\n";
    let env = [("RUSHGATE_SHARDS", "4"), ("RUSHGATE_DATA_DIR", "/env"), ("RUSHGATE_LOG_FORMAT", "")];
    let loaded = load(&[("shards", "8")], &env, Some(file)).unwrap();
    assert_eq!(loaded.config.shards, 8);
    assert_eq!(loaded.config.data_dir, PathBuf::from("/env"));
    assert_eq!(loaded.config.drain.timeout_s, 3);
    assert_eq!(loaded.config.log.format, LogFormat::Json);

    let origin = |key| loaded.lines().find(|line| line.key == key).unwrap().origin;
    assert_eq!(origin("shards"), Origin::Flag("--shards".into()));
    assert_eq!(origin("data_dir"), Origin::Env("RUSHGATE_DATA_DIR".into()));
    assert!(matches!(origin("drain.timeout_s"), Origin::File(path) if path.ends_with("rushgate.toml")));
    assert_eq!(origin("log.format"), Origin::Default);
    assert_eq!(loaded.lines().count(), SETTINGS.len());
}

#[test]
fn the_file_is_named_by_flag_or_variable_and_must_be_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.toml");
    std::fs::write(&path, "shards = 7").unwrap();
    let env: Env = [("RUSHGATE_CONFIG".to_owned(), path.to_str().unwrap().to_owned())].into_iter().collect();
    let layers = Layers { env, ..Layers::default() };
    assert_eq!(Config::load(&layers).unwrap().config.shards, 7);

    let missing = Layers { file: Some(dir.path().join("b.toml")), ..layers };
    let text = refusal(Config::load(&missing));
    assert!(text.contains("b.toml (named by --config): No such file"), "{text}");
}

#[test]
fn unknown_names_are_errors_that_name_the_nearest() {
    let text = refusal(load(&[], &[("RUSHGATE_SHARD", "2")], Some("lisen = 'x'\n[drain]\ntimout_s = 1\n[xyzzy]\n")));
    for part in [
        "unknown variable RUSHGATE_SHARD; did you mean RUSHGATE_SHARDS?",
        "unknown setting lisen (",
        "; did you mean listen?",
        "; did you mean drain.timeout_s?",
        "unknown setting xyzzy (",
        "; the settings are listen, admin_listen, ",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let text = refusal(load(&[], &[("RUSHGATE_ADMIN_TOKN", "hunter2-hunter2-hunter2")], None));
    assert!(text.contains("did you mean RUSHGATE_ADMIN_TOKEN?") && !text.contains("hunter2"), "{text}");
}

#[test]
fn variables_for_others_are_left_alone() {
    let env = [
        ("RUSHGATE_SERVER", "http://127.0.0.1:9090"),
        ("RUSHGATE_TEST_KEEP", "1"),
        ("RUSHGATE_SERVICE_HOST", "10.0.0.1"),
        ("RUSHGATE_SERVICE_PORT_HTTP", "8080"),
        ("RUSHGATE_PORT", "tcp://10.0.0.1:8080"),
        ("RUSHGATE_ADMIN_PORT_9090_TCP_PROTO", "tcp"),
    ];
    load(&[], &env, None).unwrap();
    refusal(load(&[], &[("RUSHGATE_PORT", "8080")], None));
}

#[test]
fn a_value_out_of_range_is_refused_with_its_range_and_origin() {
    let table = [
        ("shards", "0", "shards = 0 (--shards): must be a whole number, 1 to 1024"),
        ("shards", "1025", "1 to 1024"),
        ("shards", "many", r#"shards = "many" (--shards): must be a whole number"#),
        ("listen", "localhost", "must be an IP address and a port"),
        ("data_dir", "", "must be a path"),
        ("ledger", "sqlite:", "sqlite:PATH_OF_FILE"),
        ("gate.on_failure", "ignore", "must be ledger or shed"),
        ("gate.address", "disk", "must be memory, redis://"),
        ("auth.mode", "basic", "must be none, jwt or gateway"),
        ("auth.insecure_no_auth", "yes", "(--insecure-no-auth): must be true or false"),
        ("auth.jwt_algorithm", "none", "must be HS256, EdDSA or RS256"),
        ("auth.jwt_algorithm", "hs256", "must be HS256, EdDSA or RS256"),
        ("auth.jwt_secrets", "short", "up to 8 secrets of 32 to 1024 visible ASCII characters"),
        ("auth.jwt_secrets", "0123456789abcdef 0123456789abcdef", "visible ASCII"),
        ("auth.trusted_proxies", "0.0.0.0/0", "up to 64 addresses and networks such as"),
        ("auth.trusted_proxies", "proxy.internal", "each network by its first address"),
        ("limits.user_per_s", "1000001", "must be auto or a whole number, 0 to 1000000"),
        ("limits.user_burst", "0", "must be auto or a whole number, 1 to 1000000"),
        ("limits.address_per_s", "-1", "must be auto or a whole number, 0 to 1000000"),
        ("limits.address_burst", "many", "must be auto or a whole number, 1 to 1000000"),
        ("auth.token_keys", "short", "up to 8 secrets of 32 to 1024 visible ASCII characters, separated by commas"),
        ("auth.token_keys", "0123456789abcdef0123456789abcdef,", "up to 8 secrets of 32"),
        ("auth.token_keys", "0123456789abcdef 0123456789abcdef", "visible ASCII"),
        ("auth.token_ttl_s", "0", "a whole number of seconds, 1 to 86400"),
        ("auth.token_ttl_s", "86401", "1 to 86400"),
        ("drain.delay_s", "61", "a whole number of seconds, 0 to 60"),
        ("drain.timeout_s", "0", "a whole number of seconds, 1 to 600"),
        ("drain.timeout_s", "601", "1 to 600"),
        ("log.level", "inof", "must be off, error, warn, info"),
        ("log.format", "xml", "must be json or text"),
        ("log.trace_one_in", "-1", "a whole number, 0 to 1000000"),
        ("log.trace_one_in", "1000001", "a whole number, 0 to 1000000"),
    ];
    for (key, value, part) in table {
        let text = refusal(load(&[(key, value)], &[], None));
        assert!(text.contains(part) && text.lines().count() == 1, "{part} in {text}");
    }
    let text = refusal(load(&[], &[], Some("shards = '4'\nlisten = 8080\nauth = 'none'")));
    assert_eq!(text.lines().count(), 3, "{text}");
    for (key, value) in [("shards", "1024"), ("drain.delay_s", "60"), ("drain.timeout_s", "600"), ("listen", "[::1]:0")]
    {
        load(&[(key, value)], &[], None).unwrap();
    }
}

#[test]
fn secrets_are_never_shown() {
    let secrets = [
        ("admin.token", "hunter2-hunter2-hunter2"),
        ("ledger", "postgres://u:hunter2@db/x"),
        ("gate.address", "redis://:hunter2@a,redis://b"),
        ("auth.token_keys", "hunter2-hunter2-hunter2-hunter2-hunter2,hunter2-hunter2-hunter2-hunter2-hunter3"),
        ("auth.mode", "jwt"),
        ("auth.jwt_algorithm", "RS256"),
        ("auth.jwt_secrets", "hunter2-hunter2-hunter2-hunter2-hunter2,hunter2-hunter2-hunter2-hunter2-hunter3"),
    ];
    let loaded = load(&secrets, &[], None).unwrap();
    let lines: Vec<SettingLine> = loaded.lines().collect();
    let seen = format!("{loaded:?} {lines:?} {}", refusal(loaded.check()));
    assert!(!seen.contains("hunter2"), "{seen}");
    assert_eq!(loaded.config.admin.token.unwrap().expose(), "hunter2-hunter2-hunter2");
    let keys: Vec<&str> = loaded.config.tokens.keys.iter().map(Secret::expose).collect();
    assert_eq!(keys, ["hunter2-hunter2-hunter2-hunter2-hunter2", "hunter2-hunter2-hunter2-hunter2-hunter3"]);

    for bad in ["hunter2", "hunter2 hunter2 hunter2", "hunter2-hunter2-hünter2"] {
        let text = refusal(load(&[("admin.token", bad)], &[], None));
        assert!(text.contains("admin.token = \"***\"") && !text.contains("unter2"), "{text}");
    }
    let text = refusal(load(&[("auth.jwt_secrets", "hunter2")], &[], None));
    assert!(text.contains("auth.jwt_secrets = \"***\"") && !text.contains("unter2"), "{text}");
    let text = refusal(load(&[], &[], Some("shards = 1\n[admin]\ntoken = \"hunter2-hunter2")));
    assert!(text.contains("rushgate.toml, line 3: ") && !text.contains("hunter2"), "{text}");
}

#[test]
fn unsafe_listeners_are_refused() {
    let check = |flags: &[(&'static str, &str)]| load(flags, &[], None).unwrap().check();
    let text = refusal(check(&[("listen", "0.0.0.0:8080")]));
    assert!(text.contains("--insecure-no-auth") && text.contains("(--listen)"), "{text}");
    check(&[("listen", "0.0.0.0:8080"), ("auth.insecure_no_auth", "true")]).unwrap();
    check(&[("listen", "[::ffff:127.0.0.1]:0"), ("admin_listen", "[::1]:0")]).unwrap();

    let text = refusal(check(&[("admin_listen", "[::]:9090")]));
    assert!(text.contains("RUSHGATE_ADMIN_TOKEN"), "{text}");
    check(&[("admin_listen", "[::]:9090"), ("admin.token", "0123456789abcdef")]).unwrap();
}

#[test]
fn a_gate_is_an_address_or_a_group() {
    for text in ["gate = \"redis://a\"", "[gate]\naddress = \"redis://a\""] {
        let loaded = load(&[], &[], Some(text)).unwrap();
        assert!(matches!(&loaded.config.gate, GateAddress::Redis(nodes) if nodes.expose() == "redis://a"), "{text}");
        assert_eq!(loaded.config.on_gate_failure, OnGateFailure::Ledger);
    }
    let loaded = load(&[("gate.on_failure", "shed")], &[("RUSHGATE_GATE", "redis-cluster://a")], None).unwrap();
    assert!(matches!(loaded.config.gate, GateAddress::RedisCluster(_)));
    assert_eq!(loaded.config.on_gate_failure, OnGateFailure::Shed);
}
