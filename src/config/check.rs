//! What is right by itself but wrong together, or unsafe.

use std::net::SocketAddr;

use super::setting::Setting;
use super::{AuthMode, Error, Loaded, SettingProblem};

impl Loaded {
    /// Whether a server may start with these settings.
    pub fn check(&self) -> Result<(), Error> {
        let mut problems = Vec::new();
        self.check_auth(&mut problems);
        self.check_admin(&mut problems);
        self.check_payments(&mut problems);
        if problems.is_empty() { Ok(()) } else { Err(Error(problems)) }
    }

    fn check_auth(&self, problems: &mut Vec<SettingProblem>) {
        let (auth, listen) = (&self.config.auth, self.config.listen);
        match auth.mode {
            AuthMode::Jwt => {
                if let Err((key, advice)) = auth.jwt.keys() {
                    problems.push(self.refused(key, &advice));
                }
            }
            AuthMode::Gateway if auth.trusted_proxies.is_empty() => {
                let advice = "mode gateway believes X-User-Id from these addresses only; name the proxies in front of this \
                              server, such as 10.0.0.0/8 or 127.0.0.1";
                problems.push(self.refused("auth.trusted_proxies", advice));
            }
            AuthMode::Gateway => {}
            AuthMode::None if is_loopback(listen) || auth.insecure_no_auth => {}
            AuthMode::None => {
                let advice = "other machines reach this address and auth.mode = none lets anyone order in anyone's name; \
                              listen on a loopback address, or allow it with --insecure-no-auth (load tests)";
                problems.push(self.refused("listen", advice));
            }
        }
    }

    fn check_admin(&self, problems: &mut Vec<SettingProblem>) {
        if !is_loopback(self.config.admin_listen) && self.config.admin.token.is_none() {
            let advice = "other machines reach this address and there is no admin.token; set RUSHGATE_ADMIN_TOKEN to \
                          16 or more characters, or listen on a loopback address";
            problems.push(self.refused("admin_listen", advice));
        }
    }

    fn check_payments(&self, problems: &mut Vec<SettingProblem>) {
        if let Err(unusable) = self.config.payments.providers() {
            problems.push(self.refused(unusable.key, &unusable.advice));
        }
    }

    fn refused(&self, key: &'static str, advice: &str) -> SettingProblem {
        let (value, origin) = match (self.settings.get(key), Setting::find(key)) {
            (Some(given), Some(known)) => (known.shown(&given.value), given.origin.clone()),
            _ => (String::new(), super::Origin::Default),
        };
        SettingProblem::Refused { key, value, origin, advice: advice.to_owned() }
    }
}

/// Whether only this machine reaches an address. An IPv4-mapped IPv6 address counts as the IPv4 address.
pub fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}
