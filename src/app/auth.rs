//! The authenticator and the rates that the settings describe.

use anyhow::anyhow;

use crate::auth::{Authenticator, Jwt, Mode};
use crate::clock::Clock;
use crate::config::{AuthMode, Config};
use crate::intake::RequestGuard;

/// The way into the public listener.
pub(super) fn request_guard(config: &Config) -> anyhow::Result<RequestGuard> {
    let auth = &config.auth;
    let mode = match auth.mode {
        AuthMode::None => Mode::None,
        AuthMode::Gateway => Mode::Gateway,
        AuthMode::Jwt => {
            let keys = auth.jwt.keys().map_err(|(key, advice)| anyhow!("{key}: {advice}"))?;
            Mode::Jwt(Jwt::new(keys, auth.jwt.issuer.clone(), auth.jwt.audience.clone()))
        }
    };
    let authenticator = Authenticator::new(mode, auth.trusted_proxies.clone(), Clock::System);
    Ok(RequestGuard::new(authenticator, config.rates))
}
