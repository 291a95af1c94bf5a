//! The query of a read: known names once each. Unknown names are ignored, because proxies add their own.

use std::borrow::Cow;

use crate::order::{Code, Refusal};

/// The values of a query by name.
pub struct UrlQuery<'a> {
    pairs: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl<'a> UrlQuery<'a> {
    /// Splits and decodes the part of the address behind the question mark.
    pub fn parse(text: Option<&'a str>) -> Self {
        UrlQuery { pairs: form_urlencoded::parse(text.unwrap_or_default().as_bytes()).collect() }
    }

    /// The value of `name`; a name that is sent twice is refused.
    pub fn get(&self, name: &'static str) -> Result<Option<&str>, Refusal> {
        let mut values = self.pairs.iter().filter(|(other, _)| other == name).map(|(_, value)| value.as_ref());
        let first = values.next();
        if values.next().is_some() {
            return Err(Refusal::because(Code::MalformedRequest, format!("{name} stands twice in the query")));
        }
        Ok(first)
    }

    /// The value of `name`; a request without one is refused.
    pub fn need(&self, name: &'static str) -> Result<&str, Refusal> {
        let missing = || Refusal::because(Code::MalformedRequest, format!("{name} is missing from the query"));
        self.get(name)?.filter(|value| !value.is_empty()).ok_or_else(missing)
    }
}
