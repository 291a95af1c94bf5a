//! Who may come in, and how often.

use super::super::*;
use super::{load, refusal};
use crate::admission::Rate;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
/// The example of RFC 8037.
const ED25519: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=
-----END PUBLIC KEY-----
";

fn checked(flags: &[(&'static str, &str)]) -> Result<Loaded, Error> {
    let loaded = load(flags, &[], None).unwrap();
    loaded.check().map(|()| loaded)
}

#[test]
fn a_mode_without_what_it_needs_is_refused_with_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = home.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (good, empty) = (file("good.pem", ED25519), file("empty.pem", ""));
    let (large, missing) = (file("large.pem", &ED25519.repeat(1000)), home.path().join("none.pem"));
    let (good, empty, large, missing) = (&*good, &*empty, &*large, missing.to_str().unwrap());

    const ALGORITHM: &str = "auth.jwt_algorithm";
    const SECRETS: &str = "auth.jwt_secrets";
    const FILE: &str = "auth.jwt_public_keys_file";
    let jwt = |flags: &[(&'static str, &str)]| checked(&[&[("auth.mode", "jwt")], flags].concat());
    jwt(&[(SECRETS, SECRET)]).unwrap();
    jwt(&[(SECRETS, SECRET), (ALGORITHM, "HS256"), ("listen", "0.0.0.0:8080")]).unwrap();
    jwt(&[(FILE, good), (ALGORITHM, "EdDSA")]).unwrap();
    for (flags, part) in [
        (&[][..], "auth.jwt_secrets = \"\" (default): mode jwt needs the secret"),
        (&[(FILE, good)], "auth.jwt_algorithm is HS256, whose keys are in auth.jwt_secrets"),
        (&[(FILE, good), (SECRETS, SECRET)], "(--auth-jwt-public-keys-file): auth.jwt_algorithm is HS256"),
        (&[(SECRETS, SECRET), (ALGORITHM, "EdDSA")], "whose keys are in auth.jwt_public_keys_file"),
        (&[(SECRETS, SECRET), (FILE, good), (ALGORITHM, "EdDSA")], "auth.jwt_secrets = \"***\""),
        (&[(ALGORITHM, "EdDSA")], "auth.jwt_public_keys_file = \"\" (default): EdDSA needs a PEM file"),
        (&[(ALGORITHM, "RS256")], "RS256 needs a PEM file"),
        (&[(FILE, good), (ALGORITHM, "RS256")], "a key is of another kind"),
        (&[(FILE, empty), (ALGORITHM, "EdDSA")], "there is no key"),
        (&[(FILE, large), (ALGORITHM, "EdDSA")], "is larger than 65536 bytes; leave nothing but keys in it"),
        (&[(FILE, missing), (ALGORITHM, "EdDSA")], "cannot be read: No such file"),
        (&[(FILE, "/"), (ALGORITHM, "EdDSA")], "cannot be read"),
    ] {
        let text = refusal(jwt(flags));
        assert!(text.contains(part) && !text.contains(SECRET) && text.lines().count() == 1, "{part} in {text}");
    }

    let text = refusal(checked(&[("auth.mode", "gateway")]));
    assert!(text.contains("auth.trusted_proxies = \"\" (default): mode gateway believes"), "{text}");
    checked(&[("auth.mode", "gateway"), ("auth.trusted_proxies", "10.0.0.0/8, ::1"), ("listen", "[::]:80")]).unwrap();
}

#[test]
fn rates_are_limited_where_users_are_known() {
    let rates = |flags: &[(&'static str, &str)]| load(flags, &[], None).unwrap().config.rates;
    let rate = |per_s, burst| Some(Rate { per_s, burst });
    assert_eq!(rates(&[]), Rates::default());
    for mode in ["jwt", "gateway"] {
        assert_eq!(rates(&[("auth.mode", mode)]), Rates { user: rate(20, 40), address: rate(200, 400) });
    }
    assert_eq!(rates(&[("auth.mode", "jwt"), ("limits.user_per_s", "0")]).user, None);
    assert_eq!(rates(&[("limits.user_per_s", "5")]).user, rate(5, 10));
    assert_eq!(rates(&[("limits.address_per_s", "5"), ("limits.address_burst", "1")]).address, rate(5, 1));
    assert_eq!(rates(&[("limits.address_per_s", "1000000")]).address, rate(1_000_000, 1_000_000));
    assert_eq!(rates(&[("limits.address_burst", "7")]).address, None);
    let file = Some("[limits]\nuser_per_s = 3\nuser_burst = \"auto\"\n");
    assert_eq!(load(&[], &[], file).unwrap().config.rates.user, rate(3, 6));
}
