//! Identifiers, parsed once at the edge: inside, a [`UserId`] or a [`Name`] is valid by being.

use std::fmt;

use crate::limits;

/// A text that is no valid id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid id")]
pub struct InvalidId;

/// A buyer: a positive integer below 2^63.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(i64);

impl UserId {
    /// Takes 1..2^63.
    pub fn new(n: u64) -> Result<Self, InvalidId> {
        match i64::try_from(n) {
            Ok(n) if n > 0 => Ok(UserId(n)),
            _ => Err(InvalidId),
        }
    }

    /// Takes canonical decimal digits only: no sign, no leading zero, no blank.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        if text.starts_with('0') || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(InvalidId);
        }
        UserId::new(text.parse().map_err(|_| InvalidId)?)
    }

    /// The number, always positive.
    pub fn get(self) -> i64 {
        self.0
    }

    /// The shard of this user in a sale of `shards` shards.
    pub fn shard(self, shards: u16) -> u16 {
        // The remainder of a positive number by a u16 fits a u16.
        u16::try_from(self.0 % i64::from(shards.max(1))).unwrap_or(0)
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A sale, sku or change id: 1–64 of `A–Z a–z 0–9 . _ -`, so it needs no escaping in JSON, a path or a log line.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Box<str>);

impl Name {
    /// Checks length and alphabet.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        NameRef::parse(text).map(|name| Name(name.0.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A [`Name`] that is borrowed: the path of an order looks names up and keeps none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameRef<'a>(&'a str);

impl<'a> NameRef<'a> {
    /// Checks length and alphabet.
    pub fn parse(text: &'a str) -> Result<Self, InvalidId> {
        let is_valid = !text.is_empty()
            && text.len() <= limits::NAME_CHARS_MAX
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        if is_valid { Ok(NameRef(text)) } else { Err(InvalidId) }
    }

    /// The text.
    pub fn as_str(self) -> &'a str {
        self.0
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// An ISO 4217 currency code: three capital letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Currency([u8; 3]);

impl Currency {
    /// Takes three capital ASCII letters; whether the code is in use is the seller's business.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        match text.as_bytes() {
            [a, b, c] if text.bytes().all(|b| b.is_ascii_uppercase()) => Ok(Currency([*a, *b, *c])),
            _ => Err(InvalidId),
        }
    }

    /// The three letters.
    pub fn as_str(&self) -> &str {
        // Three ASCII letters always read.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_ids_are_canonical_positive_numbers() {
        assert_eq!(UserId::parse("9223372036854775807").unwrap().get(), i64::MAX);
        for bad in ["", "0", "007", "-1", "+1", " 1", "1 ", "1.0", "9223372036854775808", "99999999999999999999", "一"]
        {
            assert_eq!(UserId::parse(bad), Err(InvalidId), "{bad:?}");
        }
        assert_eq!(UserId::new(0), Err(InvalidId));
        assert_eq!(UserId::new(1 << 63), Err(InvalidId));
        assert_eq!(UserId::new(130).unwrap().shard(64), 2);
    }

    #[test]
    fn names_are_short_and_plain() {
        assert!(Name::parse("Sale_1.a-b").is_ok());
        assert!(Name::parse(&"x".repeat(64)).is_ok());
        for bad in ["", "a b", "a/b", "秒杀", "a\"", &"x".repeat(65)] {
            assert_eq!(Name::parse(bad), Err(InvalidId), "{bad:?}");
        }
    }

    #[test]
    fn currencies_are_three_capitals() {
        assert_eq!(Currency::parse("CNY").unwrap().as_str(), "CNY");
        for bad in ["", "cny", "CN", "CNYY", "C1Y", "元"] {
            assert_eq!(Currency::parse(bad), Err(InvalidId), "{bad:?}");
        }
    }
}
