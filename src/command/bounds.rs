//! Names, numbers and words within the bounds of the contract. A refusal names the member and the bound.

use std::borrow::Cow;
use std::fmt::Display;

use crate::limits;
use crate::order::{Code, Name, NameRef, Refusal};

pub(super) fn malformed(detail: impl Into<Cow<'static, str>>) -> Refusal {
    Refusal::because(Code::MalformedRequest, detail)
}

pub(super) fn name(member: &str, text: &str) -> Result<Name, Refusal> {
    Name::parse(text).map_err(|_| not_a_name(member))
}

pub(super) fn name_ref<'a>(member: &str, text: &'a str) -> Result<NameRef<'a>, Refusal> {
    NameRef::parse(text).map_err(|_| not_a_name(member))
}

fn not_a_name(member: &str) -> Refusal {
    malformed(format!("{member} must be 1-{} of A-Z a-z 0-9 . _ -", limits::NAME_CHARS_MAX))
}

/// A whole number from 1 to `max`.
pub(super) fn from_one<T: TryFrom<u64> + PartialOrd + Display>(member: &str, n: u64, max: T) -> Result<T, Refusal> {
    let value = T::try_from(n).ok().filter(|value| n >= 1 && *value <= max);
    value.ok_or_else(|| malformed(format!("{member} must be an integer from 1 to {max}")))
}

/// A whole number from 0 to `max`.
pub(super) fn from_zero(member: &str, n: i64, max: i64) -> Result<i64, Refusal> {
    if (0..=max).contains(&n) { Ok(n) } else { Err(malformed(format!("{member} must be an integer from 0 to {max}"))) }
}

/// One of the contract's words; left out, the default.
pub(super) fn word<T: Default>(
    member: &str,
    text: Option<String>,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<T, Refusal> {
    let Some(text) = text else { return Ok(T::default()) };
    parse(&text).ok_or_else(|| malformed(format!("{member} has a value that is not in the contract")))
}
