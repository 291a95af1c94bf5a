//! The order number: derived, never drawn, so that the ledger's unique index `(user_id, order_no)` recognises a
//! retry even when every other trace of the first attempt is gone.
//!
//! The derivation is a wire format. Its version and the sale's salt live in the ledger's sale row and never change;
//! `tests::golden` pins the bytes.

use std::fmt;

use super::{Boundary, Key, Rules, Salt, UserId};
use crate::clock::UnixMs;

/// The derivation that new sales are created with.
pub const DERIVATION: u8 = 1;

/// What makes an operation *the same operation*, by the sale's [`Boundary`].
#[derive(Clone, Copy, Debug)]
pub enum Identity<'a> {
    /// The client's key.
    Key(&'a Key),
    /// One order per user and sku.
    Sku(&'a str),
    /// One order per user.
    Sale,
    /// One order per user, sku and day (days since 1970-01-01, in the sale's time zone).
    SkuDay(&'a str, i64),
    /// One order per purchase token, by the number that was drawn for it.
    Token(&'a [u8; 16]),
}

impl<'a> Identity<'a> {
    /// The identity of an order for `sku` placed at `now_ms`, or `None` where the boundary needs a key and there is none.
    pub fn of(rules: &Rules, key: Option<&'a Key>, sku: &'a str, now_ms: UnixMs) -> Option<Self> {
        match rules.boundary {
            Boundary::Request => key.map(Identity::Key),
            Boundary::UserSku => Some(Identity::Sku(sku)),
            Boundary::UserSale => Some(Identity::Sale),
            Boundary::UserSkuDay => Some(Identity::SkuDay(sku, rules.time_zone.day(now_ms))),
        }
    }
}

/// 128 bits of BLAKE3, written as 26 characters of Crockford base32.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OrderNo([u8; 16]);

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

impl OrderNo {
    /// Derives the number: BLAKE3 keyed with `salt` over a domain tag, the version, and every field behind its
    /// length, cut to 128 bits.
    pub fn derive(salt: &Salt, sale: &str, user: UserId, identity: Identity<'_>) -> Self {
        let mut input = Input::new(b"rushgate order_no", DERIVATION);
        input.field(sale.as_bytes());
        input.field(&user.get().to_le_bytes());
        match identity {
            Identity::Key(key) => input.field(b"request").field(key.as_str().as_bytes()),
            Identity::Sku(sku) => input.field(b"user_sku").field(sku.as_bytes()),
            Identity::Sale => input.field(b"user_sale"),
            Identity::SkuDay(sku, day) => input.field(b"user_sku_day").field(sku.as_bytes()).field(&day.to_le_bytes()),
            Identity::Token(id) => input.field(b"token").field(id),
        };
        OrderNo(input.hash(salt))
    }

    /// Takes the 26 characters exactly as they are written: capitals only, no separator.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 26 {
            return None;
        }
        let mut n: u128 = 0;
        for (i, byte) in text.bytes().enumerate() {
            let digit = ALPHABET.iter().position(|&a| a == byte)?;
            // 26 characters carry 130 bits: the first may use three of its five only.
            if i == 0 && digit > 7 {
                return None;
            }
            n = n << 5 | u128::try_from(digit).ok()?;
        }
        Some(OrderNo(n.to_be_bytes()))
    }

    /// The 26 characters.
    pub fn to_ascii(self) -> [u8; 26] {
        let mut n = u128::from_be_bytes(self.0);
        let mut text = [b'0'; 26];
        for byte in text.iter_mut().rev() {
            let digit = usize::try_from(n & 31).unwrap_or(0);
            *byte = ALPHABET.get(digit).copied().unwrap_or(b'0');
            n >>= 5;
        }
        text
    }

    /// Wraps the ledger's bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        OrderNo(bytes)
    }

    /// The 16 bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for OrderNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.to_ascii()).unwrap_or(""))
    }
}

impl fmt::Debug for OrderNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Hash input in which no two field lists write the same bytes: each field stands behind its length.
///
/// It gathers before it hashes: most inputs are under 200 bytes, and one update of BLAKE3 is cheaper than ten.
pub(super) struct Input {
    bytes: Vec<u8>,
}

impl Input {
    pub(super) fn new(domain: &[u8], version: u8) -> Self {
        let mut input = Input { bytes: Vec::with_capacity(256) };
        input.field(domain).field(&[version]);
        input
    }

    pub(super) fn field(&mut self, field: &[u8]) -> &mut Self {
        let length = u32::try_from(field.len()).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(field);
        self
    }

    pub(super) fn hash(&self, salt: &Salt) -> [u8; 16] {
        let hash = blake3::keyed_hash(salt.as_bytes(), &self.bytes);
        let mut short = [0; 16];
        short.copy_from_slice(hash.as_bytes().first_chunk::<16>().unwrap_or(&[0; 16]));
        short
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(sale: &str, user: u64, identity: Identity<'_>) -> String {
        OrderNo::derive(&Salt::new([7; 32]), sale, UserId::new(user).unwrap(), identity).to_string()
    }

    /// These strings are promises to every order ever made: if one changes, retries stop finding their orders. They
    /// were computed by another program, from the description of `OrderNo::derive` and Python's `blake3`.
    #[test]
    fn golden() {
        let key = Key::parse(b"abc").unwrap();
        let long = Key::parse(&[b'z'; 255]).unwrap();
        assert_eq!(number("demo", 42, Identity::Key(&key)), "2EA1Y4G9MYGN66X8VTCCFH635K");
        assert_eq!(number("demo", 42, Identity::Key(&long)), "7Y2B0ETMCQAD333W6HFBSB0JJH");
        assert_eq!(number("demo", i64::MAX as u64, Identity::Key(&key)), "2889HVXG7KBMH0N76E62N2Y6F1");
        assert_eq!(number("demo", 42, Identity::Sku("sku-1")), "4CCY75PKBX32B02GPCE25TW2ZV");
        assert_eq!(number("demo", 42, Identity::Sale), "7DZRGXVSEZPTKFYMVP2E991JM2");
        assert_eq!(number("demo", 42, Identity::SkuDay("sku-1", 20_777)), "07TN6E144TEGK03K1JZ3666KYM");
        let id = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
        assert_eq!(number("demo", 42, Identity::Token(&id)), "3ZXV3TJ884SEG5JTZY54N8PM08");
    }

    #[test]
    fn every_part_of_the_identity_counts() {
        let (a, b) = (Key::parse(b"a").unwrap(), Key::parse(b"b").unwrap());
        let all = [
            number("s", 1, Identity::Key(&a)),
            number("s", 1, Identity::Key(&b)),
            number("s", 2, Identity::Key(&a)),
            number("t", 1, Identity::Key(&a)),
            number("s", 1, Identity::Sku("a")),
            number("s", 1, Identity::SkuDay("a", 1)),
            number("s", 1, Identity::SkuDay("a", 2)),
            number("s", 1, Identity::Sale),
            number("s", 1, Identity::Token(&[1; 16])),
            number("s", 1, Identity::Token(&[2; 16])),
        ];
        let distinct: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
    }

    #[test]
    fn a_number_reads_back_and_nothing_else_does() {
        let no = OrderNo::from_bytes([0xff; 16]);
        assert_eq!(no.to_string(), "7ZZZZZZZZZZZZZZZZZZZZZZZZZ");
        assert_eq!(OrderNo::parse(&no.to_string()), Some(no));
        assert_eq!(OrderNo::parse("00000000000000000000000000"), Some(OrderNo::from_bytes([0; 16])));
        for bad in ["", "8ZZZZZZZZZZZZZZZZZZZZZZZZZ", "7ZZZZZZZZZZZZZZZZZZZZZZZZU", "7zzzzzzzzzzzzzzzzzzzzzzzzz", "7ZZ"]
        {
            assert_eq!(OrderNo::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_day_before_1970_is_a_day_too() {
        let rules = Rules { boundary: Boundary::UserSkuDay, ..Rules::default() };
        let sku = |now_ms| match Identity::of(&rules, None, "s", now_ms) {
            Some(Identity::SkuDay(_, day)) => day,
            other => panic!("{other:?}"),
        };
        assert_eq!((sku(-1), sku(0), sku(86_400_000)), (-1, 0, 1));
    }
}
