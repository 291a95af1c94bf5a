//! Payment providers as an operator sets them up.

use crate::config::tests::{load, refusal};
use crate::order::Provider;

const STANDARD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const API_KEYS: &str = "hunter2hunter2hunter2hunter2hunt,0123456789abcdef0123456789abcdef";
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/payments");

fn file(name: &str) -> String {
    format!("{FOLDER}/{name}")
}

/// The providers that these settings make, or what a server says that cannot start with them.
fn check(flags: &[(&'static str, &str)]) -> Result<Vec<Provider>, String> {
    let loaded = load(flags, &[], None).map_err(|error| error.to_string())?;
    loaded.check().map_err(|error| error.to_string())?;
    let providers = loaded.config.payments.providers().unwrap();
    Ok(Provider::ALL.iter().copied().filter(|provider| providers.has(*provider)).collect())
}

#[test]
fn a_provider_is_there_when_it_is_set_up() {
    assert_eq!(check(&[]).unwrap(), []);
    let two = format!("{STANDARD}, whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
    assert_eq!(check(&[("payments.standard_secrets", &two)]).unwrap(), [Provider::Standard]);
    for name in ["provider_public.pem", "provider_certificate.pem"] {
        let flags = [("payments.alipay_public_key_file", &*file(name)), ("payments.alipay_app_id", "2021000000000001")];
        assert_eq!(check(&flags).unwrap(), [Provider::Alipay]);
    }
    let keys = format!(
        "PUB_KEY_ID_1={},5157F09EFDC096DE15EBE81A47057A7232F1B8E1={}",
        file("provider_public.pem"),
        file("provider_certificate.pem")
    );
    let flags = [
        ("payments.wechatpay_public_keys", &*keys),
        ("payments.wechatpay_api_v3_keys", API_KEYS),
        ("payments.wechatpay_mchid", "1230000109"),
    ];
    assert_eq!(check(&flags).unwrap(), [Provider::Wechatpay]);
}

#[test]
fn half_a_provider_is_refused_with_what_is_missing() {
    let key = file("provider_public.pem");
    for (flags, part) in [
        (
            vec![("payments.alipay_app_id", "2021")],
            "(--payments-alipay-app-id): set payments.alipay_public_key_file too, or leave it out",
        ),
        (vec![("payments.alipay_seller_id", "2088")], "set payments.alipay_public_key_file too"),
        (vec![("payments.alipay_public_key_file", &*key)], "set payments.alipay_app_id too"),
        (
            vec![("payments.wechatpay_mchid", "1")],
            "set payments.wechatpay_public_keys and payments.wechatpay_api_v3_keys too, or leave it out",
        ),
        (vec![("payments.wechatpay_appid", "wx1")], "and payments.wechatpay_mchid too"),
        (
            vec![("payments.wechatpay_api_v3_keys", API_KEYS), ("payments.wechatpay_mchid", "1")],
            "payments.wechatpay_api_v3_keys = \"***\" (--payments-wechatpay-api-v3-keys): set payments.wechatpay_public_keys too",
        ),
    ] {
        let text = check(&flags).unwrap_err();
        assert!(text.contains(part) && !text.contains("unter2"), "{part} in {text}");
    }
}

#[test]
fn a_key_file_is_refused_by_what_it_holds() {
    let alipay = |name: &str| {
        let flags = [("payments.alipay_public_key_file", &*file(name)), ("payments.alipay_app_id", "2021")];
        check(&flags).unwrap_err()
    };
    for (name, part) in [
        ("missing.pem", "No such file"),
        ("README.md", "holds no public key"),
        ("provider.pem", "holds a private key"),
        ("short_public.pem", "holds an RSA key of 1024 bits"),
        ("curve_public.pem", "not RSA"),
    ] {
        let text = alipay(name);
        assert!(text.contains(part) && text.contains(&file(name)), "{part} in {text}");
        assert!(text.starts_with("payments.alipay_public_key_file = "), "{text}");
    }
    let keys = format!("PUB_KEY_ID_1={}", file("provider_certificate.pem"));
    let flags = [
        ("payments.wechatpay_public_keys", &*keys),
        ("payments.wechatpay_api_v3_keys", API_KEYS),
        ("payments.wechatpay_mchid", "1"),
    ];
    let text = check(&flags).unwrap_err();
    assert!(text.contains("serial 5157F09EFDC096DE15EBE81A47057A7232F1B8E1, not PUB_KEY_ID_1"), "{text}");
    // Other commands look at no key file.
    load(&flags, &[], None).unwrap();
}

#[test]
fn a_key_file_is_read_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.pem");
    let keys = std::fs::read_to_string(file("provider_public.pem")).unwrap();
    let check = |bytes: usize| {
        let text = format!("{keys}{}", "\n".repeat(bytes - keys.len()));
        std::fs::write(&path, text).unwrap();
        let flags = [("payments.alipay_public_key_file", path.to_str().unwrap()), ("payments.alipay_app_id", "2021")];
        check(&flags)
    };
    let most = usize::try_from(crate::limits::KEY_FILE_BYTES_MAX).unwrap();
    assert_eq!(check(most).unwrap(), [Provider::Alipay]);
    assert!(check(most + 1).unwrap_err().contains("larger than"));
}

#[test]
fn secrets_of_providers_are_never_shown() {
    let env = [("RUSHGATE_PAYMENTS_STANDARD_SECRETS", STANDARD), ("RUSHGATE_PAYMENTS_WECHATPAY_API_V3_KEYS", API_KEYS)];
    let loaded = load(&[], &env, None).unwrap();
    let lines: Vec<_> = loaded.lines().collect();
    let seen = format!("{loaded:?} {lines:?} {:?} {}", loaded.config.payments, refusal(loaded.check()));
    assert!(!seen.contains("unter2") && !seen.contains("MfKQ9r8"), "{seen}");
    for bad in
        ["whsec_hunter2", "hunter2", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw,"]
    {
        let text = refusal(load(&[("payments.standard_secrets", bad)], &[], None));
        assert!(text.contains("payments.standard_secrets = \"***\" (--payments-standard-secrets): must be empty, or"));
        assert!(!text.contains("unter2") && !text.contains("MfKQ9r8"), "{text}");
    }
    let text = refusal(load(&[("payments.wechatpay_api_v3_keys", "hunter2")], &[], None));
    assert!(text.contains("keys of 32 characters") && !text.contains("unter2"), "{text}");
}

#[test]
fn values_that_are_no_ids_or_lists_are_refused() {
    for (key, value) in [
        ("payments.alipay_app_id", "a b"),
        ("payments.wechatpay_mchid", "é"),
        ("payments.wechatpay_public_keys", "/path"),
        ("payments.wechatpay_public_keys", "=path"),
        ("payments.wechatpay_public_keys", "serial="),
        ("payments.wechatpay_public_keys", "a=b,"),
        ("payments.wechatpay_public_keys", &["a=b"; 17].join(",")),
    ] {
        let text = refusal(load(&[(key, value)], &[], None));
        assert!(text.starts_with(key) && text.contains("must be empty, or"), "{text}");
    }
    let text = refusal(load(&[], &[], Some("[payments]\nalipay_app_id = 2021000000000001")));
    assert!(text.contains("in quotes"), "{text}");
}
