//! `POST /v1/orders`.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use http::header::{HeaderMap, HeaderValue};
use hyper::body::Incoming;
use serde::Deserialize;

use crate::command::key_of;
use crate::engine::{Engine, PlaceOrder};
use crate::http::{MediaType, parse, read_json};
use crate::intake::guard::Principal;
use crate::limits;
use crate::order::{Code, Name, Refusal};
use crate::reply::{self, Answer};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'a> {
    #[serde(borrow)]
    sale_id: Cow<'a, str>,
    #[serde(borrow)]
    sku_id: Cow<'a, str>,
    quantity: u64,
    #[serde(default)]
    user_id: Option<u64>,
    #[serde(default)]
    idempotency_key: Option<String>,
}

pub(super) async fn place(
    engine: &Arc<Engine>,
    principal: Principal<'_>,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let (head, body) = request.into_parts();
    let body = read_json(&head.headers, body, MediaType::Json).await?;
    let body: Body<'_> = parse(&body)?;
    let user = principal.user(body.user_id)?;
    let quantity = u32::try_from(body.quantity).ok().filter(|quantity| (1..=limits::QUANTITY_MAX).contains(quantity));
    let malformed = |detail: &'static str| Refusal::because(Code::MalformedRequest, detail);
    let quantity = quantity.ok_or_else(|| malformed("quantity must be an integer from 1 to 1000000"))?;
    if !Name::is_valid(&body.sale_id) || !Name::is_valid(&body.sku_id) {
        return Err(malformed("sale_id and sku_id are 1-64 of A-Z a-z 0-9 . _ -"));
    }
    let wait_s = preferred_wait_s(&head.headers);
    let order = PlaceOrder {
        user,
        sale_id: &body.sale_id,
        sku_id: &body.sku_id,
        quantity,
        key: key_of(&head.headers, body.idempotency_key.as_deref()),
        token: token_of(&head.headers),
        wait: Duration::from_secs(wait_s.unwrap_or(0)),
    };
    let mut answer = match engine.place(&order).await {
        Ok(outcome) => reply::outcome(&outcome),
        Err(refusal) => {
            engine.metrics().refuse(refusal.code);
            reply::refusal(&refusal)
        }
    };
    if let Some(applied) = wait_s.and_then(|wait_s| HeaderValue::from_str(&format!("wait={wait_s}")).ok()) {
        answer.headers_mut().insert("preference-applied", applied);
    }
    Ok(answer)
}

/// The purchase token. One that is no text, or of which there are two, is a token that nobody issued.
fn token_of(headers: &HeaderMap) -> Option<&str> {
    let mut lines = headers.get_all("purchase-token").iter();
    let line = lines.next()?;
    let is_alone = lines.next().is_none();
    Some(line.to_str().ok().filter(|_| is_alone).unwrap_or_default())
}

/// The seconds of `Prefer: wait=N` (RFC 7240), at most [`limits::WAIT_S_MAX`]; a preference we cannot read is
/// ignored, as that document asks.
fn preferred_wait_s(headers: &HeaderMap) -> Option<u64> {
    let lines = headers.get_all("prefer").iter().filter_map(|line| line.to_str().ok());
    let mut preferences = lines.flat_map(|line| line.split(','));
    let wait = preferences.find_map(|preference| {
        let (name, value) = preference.split(';').next()?.split_once('=')?;
        name.trim().eq_ignore_ascii_case("wait").then(|| value.trim().trim_matches('"'))
    })?;
    Some(wait.parse::<u64>().ok()?.min(limits::WAIT_S_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_read_bounded_or_ignored() {
        let prefer = |lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append("prefer", line.parse().unwrap());
            }
            preferred_wait_s(&headers)
        };
        assert_eq!(prefer(&[]), None);
        assert_eq!(prefer(&["wait=5"]), Some(5));
        assert_eq!(prefer(&["respond-async, Wait = 5;x=y"]), Some(5));
        assert_eq!(prefer(&["respond-async", "wait=\"7\""]), Some(7));
        assert_eq!(prefer(&["wait=10000"]), Some(10));
        assert_eq!(prefer(&["wait=-1"]), None);
        assert_eq!(prefer(&["wait"]), None);
    }
}
