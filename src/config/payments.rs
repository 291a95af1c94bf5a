//! The settings of payment providers: each by itself when it is read, together with its key files when a server is about to
//! start. A command that takes no payments never looks at the files.

use std::fmt;
use std::path::{Path, PathBuf};

use toml::Value;

use super::read::Reader;
use super::{Secret, key_file};
use crate::limits;
use crate::order::NameRef;
use crate::payment::{Alipay, Providers, PublicKey, Standard, Wechatpay};

const ALIPAY_KEYS: &str = "payments.alipay_public_key_file";
const WECHATPAY_KEYS: &str = "payments.wechatpay_public_keys";

/// How the engine verifies payment providers. A provider without settings does not exist.
#[derive(Clone, Debug, Default)]
pub struct Payments {
    /// Active secrets of Standard Webhooks, separated by commas.
    pub standard_secrets: Option<Secret>,
    /// File with Alipay's public keys of the app.
    pub alipay_public_key_file: Option<PathBuf>,
    /// The app that payments by Alipay must be of.
    pub alipay_app_id: Option<String>,
    /// The seller that payments by Alipay must go to; `None`: any.
    pub alipay_seller_id: Option<String>,
    /// Files with WeChat Pay's public keys, by serial.
    pub wechatpay_public_keys: Vec<(String, PathBuf)>,
    /// Active APIv3 keys, separated by commas.
    pub wechatpay_api_v3_keys: Option<Secret>,
    /// The merchant that payments by WeChat Pay must go to.
    pub wechatpay_mchid: Option<String>,
    /// The app that payments by WeChat Pay must be of; `None`: any.
    pub wechatpay_appid: Option<String>,
}

/// Settings that are valid one by one, but make no provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable {
    /// The setting to look at.
    pub key: &'static str,
    /// What is wrong, and what to do; shows no secret.
    pub advice: String,
}

impl Payments {
    /// Reads the key files and makes the providers.
    pub fn providers(&self) -> Result<Providers, Unusable> {
        Ok(Providers { standard: self.standard()?, alipay: self.alipay()?, wechatpay: self.wechatpay()? })
    }

    fn standard(&self) -> Result<Option<Standard>, Unusable> {
        let make = |secrets: &Secret| {
            Standard::new(secrets.expose()).map_err(|invalid| unusable("payments.standard_secrets", invalid))
        };
        self.standard_secrets.as_ref().map(make).transpose()
    }

    fn alipay(&self) -> Result<Option<Alipay>, Unusable> {
        match (&self.alipay_public_key_file, &self.alipay_app_id) {
            (None, None) => match &self.alipay_seller_id {
                None => Ok(None),
                Some(_) => {
                    Err(unusable("payments.alipay_seller_id", format!("set {ALIPAY_KEYS} too, or leave it out")))
                }
            },
            (None, Some(_)) => {
                Err(unusable("payments.alipay_app_id", format!("set {ALIPAY_KEYS} too, or leave it out")))
            }
            (Some(_), None) => Err(unusable(ALIPAY_KEYS, "set payments.alipay_app_id too, or leave it out")),
            (Some(file), Some(app_id)) => {
                let (app_id, seller_id) = (app_id.clone(), self.alipay_seller_id.clone());
                Ok(Some(Alipay { keys: read_keys(ALIPAY_KEYS, file)?, app_id, seller_id }))
            }
        }
    }

    fn wechatpay(&self) -> Result<Option<Wechatpay>, Unusable> {
        let given = [
            (WECHATPAY_KEYS, !self.wechatpay_public_keys.is_empty()),
            ("payments.wechatpay_api_v3_keys", self.wechatpay_api_v3_keys.is_some()),
            ("payments.wechatpay_mchid", self.wechatpay_mchid.is_some()),
            ("payments.wechatpay_appid", self.wechatpay_appid.is_some()),
        ];
        let Some((first, _)) = given.into_iter().find(|(_, is_given)| *is_given) else { return Ok(None) };
        let (Some(api_keys), Some(mchid)) = (&self.wechatpay_api_v3_keys, &self.wechatpay_mchid) else {
            return Err(incomplete(first, given));
        };
        if self.wechatpay_public_keys.is_empty() {
            return Err(incomplete(first, given));
        }
        let mut keys = Vec::new();
        for (serial, file) in &self.wechatpay_public_keys {
            for key in read_keys(WECHATPAY_KEYS, file)? {
                if let Some(other) = key.serial().filter(|other| !other.eq_ignore_ascii_case(serial)) {
                    let advice = format!("{} is the certificate with the serial {other}, not {serial}", file.display());
                    return Err(unusable(WECHATPAY_KEYS, advice));
                }
                keys.push((serial.clone(), key));
            }
        }
        let made = Wechatpay::new(keys, api_keys.expose(), mchid.clone(), self.wechatpay_appid.clone());
        made.map(Some).map_err(|invalid| unusable("payments.wechatpay_api_v3_keys", invalid))
    }
}

fn unusable(key: &'static str, advice: impl fmt::Display) -> Unusable {
    Unusable { key, advice: advice.to_string() }
}

/// Some of WeChat Pay's settings are there; the last, the app, may be left out.
fn incomplete(first: &'static str, given: [(&'static str, bool); 4]) -> Unusable {
    let missing: Vec<&str> = given.iter().take(3).filter(|(_, is_given)| !is_given).map(|(key, _)| *key).collect();
    unusable(first, format!("set {} too, or leave it out", missing.join(" and ")))
}

fn read_keys(key: &'static str, path: &Path) -> Result<Vec<PublicKey>, Unusable> {
    let wrong = |reason: &dyn fmt::Display| unusable(key, format!("{} {reason}", path.display()));
    let text = key_file::read(path, limits::KEY_FILE_BYTES_MAX).map_err(|error| wrong(&error))?;
    PublicKey::read_all(&text).map_err(|invalid| wrong(&invalid))
}

impl Reader<'_> {
    pub(super) fn payments(&mut self) -> Payments {
        let secrets = format!("empty, or {}", Standard::expected());
        let api_keys = format!("empty, or {}", Wechatpay::expected_api_keys());
        Payments {
            standard_secrets: self.secrets("payments.standard_secrets", &secrets, |text| Standard::new(text).is_ok()),
            alipay_public_key_file: self.optional(ALIPAY_KEYS, "empty, or a path", |text| Some(PathBuf::from(text))),
            alipay_app_id: self.id("payments.alipay_app_id"),
            alipay_seller_id: self.id("payments.alipay_seller_id"),
            wechatpay_public_keys: self.key_files(WECHATPAY_KEYS),
            wechatpay_api_v3_keys: self.secrets(
                "payments.wechatpay_api_v3_keys",
                &api_keys,
                Wechatpay::is_api_key_list,
            ),
            wechatpay_mchid: self.id("payments.wechatpay_mchid"),
            wechatpay_appid: self.id("payments.wechatpay_appid"),
        }
    }

    /// A text, or nothing where it is empty.
    fn optional<T>(&mut self, key: &'static str, expected: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        self.read(key, expected, None, |value: &Value| match value.as_str()? {
            "" => Some(None),
            text => parse(text).map(Some),
        })
    }

    fn secrets(&mut self, key: &'static str, expected: &str, is_good: impl FnOnce(&str) -> bool) -> Option<Secret> {
        self.optional(key, expected, |text| is_good(text).then(|| Secret::new(text)))
    }

    fn id(&mut self, key: &'static str) -> Option<String> {
        let expected = format!("empty, or 1 to {} of A-Z a-z 0-9 . _ - in quotes", limits::NAME_CHARS_MAX);
        self.optional(key, &expected, |text| NameRef::parse(text).is_ok().then(|| text.to_owned()))
    }

    fn key_files(&mut self, key: &'static str) -> Vec<(String, PathBuf)> {
        let one = |pair: &str| {
            let (serial, file) = pair.trim().split_once('=')?;
            (NameRef::parse(serial).is_ok() && !file.is_empty()).then(|| (serial.to_owned(), PathBuf::from(file)))
        };
        let expected = format!("empty, or up to {} of SERIAL=FILE, separated by commas", limits::PUBLIC_KEYS_MAX);
        let files = self.optional(key, &expected, |text| {
            let files: Option<Vec<_>> = text.split(',').map(one).collect();
            files.filter(|files| files.len() <= limits::PUBLIC_KEYS_MAX)
        });
        files.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
