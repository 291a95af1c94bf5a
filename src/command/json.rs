//! JSON as the contract takes it: objects with known members only.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use super::bounds::malformed;
use crate::limits;
use crate::order::Refusal;

/// A `T` that was written as an object: a type with derived `Deserialize` also takes an array of its members in their order.
#[derive(Debug)]
pub struct Object<T>(pub T);

/// Parses a text, which must be an object. The refusal names an unknown or duplicate member, a wrong type or a number out of
/// range.
pub fn parse<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, Refusal> {
    serde_json::from_slice(text).map(|Object(value)| value).map_err(|error| malformed(bounded(error.to_string())))
}

/// The detail, which may quote the client, cut at a character.
fn bounded(mut detail: String) -> String {
    if detail.len() > limits::DETAIL_BYTES_MAX {
        let end = (0..=limits::DETAIL_BYTES_MAX).rev().find(|at| detail.is_char_boundary(*at)).unwrap_or(0);
        detail.truncate(end);
        detail.push('…');
    }
    detail
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(members)).map(Object)
            }
        }

        value.deserialize_map(ObjectVisitor(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_complaint_is_cut_at_a_character() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Nothing {}
        let body = format!("{{\"{}\":1}}", "é".repeat(1000));
        let detail = parse::<Nothing>(body.as_bytes()).unwrap_err().detail.unwrap();
        assert!(detail.len() <= limits::DETAIL_BYTES_MAX + 3, "{}", detail.len());
    }

    #[test]
    fn an_array_of_the_members_is_no_object() {
        #[derive(Debug, PartialEq, serde::Deserialize)]
        struct One {
            n: u8,
        }
        assert_eq!(parse::<One>(b"{\"n\":1}"), Ok(One { n: 1 }));
        assert!(parse::<One>(b"[1]").is_err());
    }
}
