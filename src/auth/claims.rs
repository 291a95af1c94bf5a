//! The two JSON objects of a token. What is said twice is not taken: two readers could believe two different things.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::Value;

use super::error::InvalidToken;
use crate::limits;
use crate::order::UserId;

/// The members of an object, each of which appears once. Nested members are not examined.
pub(super) struct ClaimMembers(BTreeMap<String, Value>);

impl ClaimMembers {
    /// Reads an object, and nothing behind it.
    pub(super) fn read(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// A member that is a text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    /// The user in `sub`: canonical digits, as a text or as an integer.
    pub(super) fn user(&self) -> Result<UserId, InvalidToken> {
        let user = match self.0.get("sub") {
            Some(Value::String(text)) => UserId::parse(text).ok(),
            Some(Value::Number(number)) => number.as_u64().and_then(|number| UserId::new(number).ok()),
            _ => None,
        };
        user.ok_or(InvalidToken::Subject)
    }

    /// Whether the token is valid at this time, in seconds since 1970: `exp` must be there, `nbf` may. A clock that is behind
    /// ours makes a token valid early at most, never for longer.
    pub(super) fn valid_at(&self, now_s: i64) -> Result<(), InvalidToken> {
        let second = |name, round: fn(f64) -> f64| {
            self.0.get(name).map(|value| whole(value, round).ok_or(InvalidToken::Time)).transpose()
        };
        // Rounded so that a token is never valid for longer than it says.
        let expires_at = second("exp", f64::floor)?.ok_or(InvalidToken::NoExpiry)?;
        if expires_at <= now_s {
            return Err(InvalidToken::Expired);
        }
        match second("nbf", f64::ceil)? {
            Some(from) if from > now_s.saturating_add(limits::TOKEN_LEEWAY_S) => Err(InvalidToken::NotYetValid),
            _ => Ok(()),
        }
    }

    /// Whether `aud` is this text, or a list with it.
    pub(super) fn is_for(&self, audience: &str) -> bool {
        match self.0.get("aud") {
            Some(Value::String(one)) => one == audience,
            Some(Value::Array(several)) => several.iter().any(|one| one == audience),
            _ => false,
        }
    }
}

/// Seconds since 1970, which may have a fraction (RFC 7519, section 2).
fn whole(value: &Value, round: fn(f64) -> f64) -> Option<i64> {
    let seconds = value.as_i64().or_else(|| {
        let number = value.as_f64().filter(|_| !value.is_u64())?;
        // By way of its digits: what does not fit is none, where a cast would say something else.
        format!("{:.0}", round(number)).parse().ok()
    });
    seconds.filter(|seconds| *seconds >= 0)
}

impl<'de> Deserialize<'de> for ClaimMembers {
    fn deserialize<D: Deserializer<'de>>(object: D) -> Result<Self, D::Error> {
        struct Once;

        impl<'de> Visitor<'de> for Once {
            type Value = ClaimMembers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<ClaimMembers, A::Error> {
                let mut members = BTreeMap::new();
                while let Some((name, value)) = object.next_entry::<String, Value>()? {
                    if members.insert(name, value).is_some() {
                        return Err(A::Error::custom("a member twice"));
                    }
                }
                Ok(ClaimMembers(members))
            }
        }

        object.deserialize_map(Once)
    }
}
