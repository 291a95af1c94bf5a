//! The key that a client sends, parsed once: a [`Key`] is valid by being.

use crate::limits;

/// A text that is no valid idempotency key, with the rule it breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// Nothing between the quotes, or nothing at all.
    #[error("the key is empty")]
    Empty,
    /// More than 255 characters.
    #[error("the key is longer than 255 characters")]
    TooLong,
    /// A blank, a control character, a comma or anything beyond ASCII.
    #[error("the key holds a character that is not visible ASCII, or a comma")]
    Character,
    /// A quote that opens or closes nothing, an unknown escape, or parameters after the string.
    #[error("the key is not a whole quoted string, and a bare key holds no quote")]
    Quote,
    /// Two header lines, or sources that disagree.
    #[error("the key was sent more than once, with different values or in two header lines")]
    Ambiguous,
}

/// What the client sends as `Idempotency-Key`: 1–255 visible ASCII characters, no comma; case-sensitive.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key(Box<str>);

impl Key {
    /// Takes a bare key, or a whole structured-field string (RFC 9651, section 3.3.3) with its `\"` and `\\` escapes.
    pub fn parse(text: &[u8]) -> Result<Self, InvalidKey> {
        let key = match text {
            [] => return Err(InvalidKey::Empty),
            [b'"', rest @ ..] => unquote(rest)?,
            bare if bare.contains(&b'"') => return Err(InvalidKey::Quote),
            bare => bare.to_vec(),
        };
        if key.is_empty() {
            return Err(InvalidKey::Empty);
        }
        if key.len() > limits::KEY_CHARS_MAX {
            return Err(InvalidKey::TooLong);
        }
        if !key.iter().all(|b| b.is_ascii_graphic() && *b != b',') {
            return Err(InvalidKey::Character);
        }
        let key = String::from_utf8(key).map_err(|_| InvalidKey::Character)?;
        Ok(Key(key.into_boxed_str()))
    }

    /// The key itself, without quotes or escapes.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The inside of a structured-field string, given what follows its opening quote.
fn unquote(rest: &[u8]) -> Result<Vec<u8>, InvalidKey> {
    let mut key = Vec::with_capacity(rest.len());
    let mut bytes = rest.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' if bytes.as_slice().is_empty() => return Ok(key),
            b'"' => return Err(InvalidKey::Quote),
            b'\\' => match bytes.next() {
                Some(escaped @ (b'"' | b'\\')) => key.push(*escaped),
                _ => return Err(InvalidKey::Quote),
            },
            other => key.push(*other),
        }
    }
    Err(InvalidKey::Quote)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_and_a_bare_key_are_one_key() {
        let table: &[(&str, Result<&str, InvalidKey>)] = &[
            ("abc", Ok("abc")),
            ("\"abc\"", Ok("abc")),
            (r#""a\"b\\c""#, Ok(r#"a"b\c"#)),
            (r"a\b", Ok(r"a\b")),
            ("k;a=1", Ok("k;a=1")),
            ("", Err(InvalidKey::Empty)),
            ("\"\"", Err(InvalidKey::Empty)),
            ("\"", Err(InvalidKey::Quote)),
            ("a\"", Err(InvalidKey::Quote)),
            ("\"a", Err(InvalidKey::Quote)),
            ("\"k\";a=1", Err(InvalidKey::Quote)),
            ("\"k\" ", Err(InvalidKey::Quote)),
            (r#""a\x""#, Err(InvalidKey::Quote)),
            (r#""a\"#, Err(InvalidKey::Quote)),
            ("a,b", Err(InvalidKey::Character)),
            ("\"a b\"", Err(InvalidKey::Character)),
            ("a b", Err(InvalidKey::Character)),
            ("é", Err(InvalidKey::Character)),
            ("a\u{7f}", Err(InvalidKey::Character)),
        ];
        for (text, want) in table {
            let got = Key::parse(text.as_bytes());
            assert_eq!(got.as_ref().map(Key::as_str).map_err(|e| *e), *want, "{text:?}");
        }
        assert!(Key::parse(&[b'k'; 255]).is_ok());
        assert_eq!(Key::parse(&[b'k'; 256]), Err(InvalidKey::TooLong));
    }
}
