//! Authentication and rates: the settings of `auth` and `limits` from values to types, and the keys they name.

use std::path::Path;

use toml::Value;

use super::read::Reader;
use super::{AuthMode, JwtAuth, Secret, key_file};
use crate::admission::Rate;
use crate::auth::{Algorithm, Keys, Proxies};
use crate::limits;

impl JwtAuth {
    /// The keys that tokens are checked with; if they cannot be used, the setting that is wrong and what to do.
    pub fn keys(&self) -> Result<Keys, (&'static str, String)> {
        let algorithm = self.algorithm.as_str();
        match (self.algorithm, &self.secrets, &self.public_keys_file) {
            (Algorithm::Hs256, Some(secrets), None) => {
                Keys::from_secrets(secrets.expose()).map_err(|invalid| (SECRETS, invalid.to_string()))
            }
            (Algorithm::Hs256, _, Some(_)) => Err((FILE, other_kind(algorithm, SECRETS))),
            (Algorithm::Hs256, None, None) => {
                let advice = "mode jwt needs the secret that tokens are signed with: set RUSHGATE_AUTH_JWT_SECRETS to 32 or \
                              more characters, or auth.jwt_algorithm to EdDSA or RS256 and auth.jwt_public_keys_file";
                Err((SECRETS, advice.to_owned()))
            }
            (Algorithm::EdDsa | Algorithm::Rs256, None, Some(file)) => {
                keys_in(file, self.algorithm).map_err(|reason| (FILE, reason))
            }
            (Algorithm::EdDsa | Algorithm::Rs256, Some(_), _) => Err((SECRETS, other_kind(algorithm, FILE))),
            (Algorithm::EdDsa | Algorithm::Rs256, None, None) => {
                Err((FILE, format!("{algorithm} needs a PEM file with the public key that tokens are checked with")))
            }
        }
    }
}

const SECRETS: &str = "auth.jwt_secrets";
const FILE: &str = "auth.jwt_public_keys_file";

fn other_kind(algorithm: &str, needed: &str) -> String {
    format!(
        "auth.jwt_algorithm is {algorithm}, whose keys are in {needed}; leave this one out, or set the other algorithm"
    )
}

fn keys_in(file: &Path, algorithm: Algorithm) -> Result<Keys, String> {
    let pem = key_file::read(file, limits::TOKEN_KEYS_FILE_BYTES_MAX).map_err(|error| error.to_string())?;
    Keys::from_pem(algorithm, &pem).map_err(|invalid| invalid.to_string())
}

impl Reader<'_> {
    pub(super) fn auth_mode(&mut self, key: &'static str) -> AuthMode {
        self.read(key, "none, jwt or gateway", AuthMode::None, |value| match value.as_str()? {
            "none" => Some(AuthMode::None),
            "jwt" => Some(AuthMode::Jwt),
            "gateway" => Some(AuthMode::Gateway),
            _ => None,
        })
    }

    pub(super) fn algorithm(&mut self, key: &'static str) -> Algorithm {
        self.read(key, "HS256, EdDSA or RS256", Algorithm::Hs256, |value| {
            let text = value.as_str()?;
            Algorithm::ALL.into_iter().find(|algorithm| algorithm.as_str() == text)
        })
    }

    pub(super) fn jwt_secrets(&mut self, key: &'static str) -> Option<Secret> {
        let (least, most) = limits::TOKEN_SECRET_BYTES.into_inner();
        let expected = format!(
            "empty, or up to {} secrets of {least} to {most} visible ASCII characters, separated by commas",
            limits::ACTIVE_KEYS_MAX
        );
        self.read(key, &expected, None, |value| match value.as_str()? {
            "" => Some(None),
            text => {
                let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic());
                (is_plain && Keys::from_secrets(text).is_ok()).then(|| Some(Secret::new(text)))
            }
        })
    }

    /// A text that may be empty, which is none.
    pub(super) fn text(&mut self, key: &'static str) -> Option<String> {
        self.read(key, "a text", None, |value| {
            let text = value.as_str()?;
            Some((!text.is_empty()).then(|| text.to_owned()))
        })
    }

    pub(super) fn proxies(&mut self, key: &'static str) -> Proxies {
        let expected = format!(
            "empty, or up to {} addresses and networks such as 192.0.2.7,10.0.0.0/8, each network by its first address, \
             separated by commas",
            limits::PROXIES_MAX
        );
        self.read(key, &expected, Proxies::default(), |value| Proxies::parse(value.as_str()?).ok())
    }

    /// The rate of one user or address. `auto` depends on the mode: without authentication a client may claim any user, so
    /// there is no rate.
    pub(super) fn rate(&mut self, mode: AuthMode, per_s: [&'static str; 2], usual: u32) -> Option<Rate> {
        let [per_s, burst] = per_s;
        let per_s = self.number_or_auto(per_s, 0).unwrap_or(match mode {
            AuthMode::None => 0,
            AuthMode::Jwt | AuthMode::Gateway => usual,
        });
        let burst = self.number_or_auto(burst, 1).unwrap_or_else(|| per_s.saturating_mul(2).min(limits::RATE_MAX));
        (per_s > 0).then_some(Rate { per_s, burst })
    }

    /// `None` for `auto`.
    fn number_or_auto(&mut self, key: &'static str, least: u32) -> Option<u32> {
        let most = limits::RATE_MAX;
        self.read(key, &format!("auto or a whole number, {least} to {most}"), None, |value| match value {
            Value::String(word) if word == "auto" => Some(None),
            value => u32::try_from(value.as_integer()?).ok().filter(|n| (least..=most).contains(n)).map(Some),
        })
    }
}
