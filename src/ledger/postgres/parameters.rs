//! The parameters of an address. The driver ignores those that it does not know, and prints their values: a misspelt `sslmode` would
//! send orders in clear.

use super::error::PostgresOpenError;

/// What the driver reads. <https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS> has their meaning.
const KNOWN: &[&str] = &[
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];
const UNKNOWN: &str = "which rushgate does not know; see docs/DEPLOY.md for those that it does";
const NOT_VERIFIED: &str = "which has no effect unless sslmode is verify-ca or verify-full";
const NO_PARTNER: &str = "which has no effect alone: sslcert and sslkey go together";

/// Refuses a parameter that would be ignored, by its name and without its value, which may be a secret.
pub(super) fn check(url: &str) -> Result<(), PostgresOpenError> {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let query = query.split_once('#').map_or(query, |(query, _)| query);
    let parameters: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
    let refuse = |name: &str, why| Err(PostgresOpenError::Parameter(name.to_owned(), why));
    let first = |names: &[&str]| parameters.iter().find(|(name, _)| names.contains(&&**name));
    for (name, _) in &parameters {
        let is_option = name.starts_with("options[") && name.ends_with(']');
        if !is_option && !KNOWN.contains(&&**name) {
            return refuse(name, UNKNOWN);
        }
    }
    let verifies = first(&["sslmode", "ssl-mode"]).is_some_and(|(_, mode)| mode.starts_with("verify-"));
    if !verifies && let Some((name, _)) = first(&["sslrootcert", "ssl-root-cert", "ssl-ca"]) {
        return refuse(name, NOT_VERIFIED);
    }
    match (first(&["sslcert", "ssl-cert"]), first(&["sslkey", "ssl-key"])) {
        (Some((name, _)), None) | (None, Some((name, _))) => refuse(name, NO_PARTNER),
        (Some(_), Some(_)) | (None, None) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_that_would_be_ignored_is_refused_without_its_value() {
        for good in
            ["", "?", "?sslmode=verify-full&sslrootcert=/a", "?options[jit]=off", "?host=/run/postgresql&port=1"]
        {
            assert!(check(&format!("postgres://a:b@c/d{good}")).is_ok(), "{good}");
        }
        for (bad, name, why) in [
            ("?sslmod=hunter2", "sslmod", UNKNOWN),
            ("?host=/run&target_session_attrs=hunter2", "target_session_attrs", UNKNOWN),
            ("?SSLMODE=hunter2", "SSLMODE", UNKNOWN),
            ("?options[=hunter2", "options[", UNKNOWN),
            ("?sslrootcert=hunter2", "sslrootcert", NOT_VERIFIED),
            ("?sslmode=require&ssl-ca=hunter2", "ssl-ca", NOT_VERIFIED),
            ("?sslmode=verify-ca&sslkey=hunter2", "sslkey", NO_PARTNER),
            ("?sslcert=hunter2", "sslcert", NO_PARTNER),
        ] {
            let error = check(&format!("postgres://a:b@c/d{bad}")).unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{error}");
            assert!(matches!(error, PostgresOpenError::Parameter(n, w) if (&*n, w) == (name, why)), "{bad}");
        }
    }
}
