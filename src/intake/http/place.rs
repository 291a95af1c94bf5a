//! `POST /v1/orders`.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use http::header::{HeaderMap, HeaderValue};
use hyper::body::Incoming;
use serde::Deserialize;
use tracing::Span;

use super::key::key_of;
use crate::command::{RawOrder, RequestContext, RequestId, parse};
use crate::engine::Engine;
use crate::http::{Answer, MediaType, Repeated, read_json, single};
use crate::intake::guard::PendingPrincipal;
use crate::intake::{RefusalLog, refuse};
use crate::limits;
use crate::order::Refusal;
use crate::reply;

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
    request_id: RequestId,
    span: &Span,
    principal: PendingPrincipal<'_>,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let (head, body) = request.into_parts();
    let body = read_json(&head.headers, body, MediaType::Json).await?;
    let body: Body<'_> = parse(&body)?;
    let wait_s = preferred_wait_s(&head.headers);
    let wait = Duration::from_secs(wait_s.unwrap_or(0));
    let context = RequestContext::new(request_id, principal.user(body.user_id)?, wait).with_span(span);
    let raw = RawOrder {
        sale_id: &body.sale_id,
        sku_id: &body.sku_id,
        quantity: body.quantity,
        key: key_of(&head.headers, body.idempotency_key.as_deref()),
        token: token_of(&head.headers),
    };
    let order = raw.typed(context)?;
    let mut answer = match engine.place(&order).await {
        Ok(outcome) => {
            span.record("code", outcome.as_str());
            reply::outcome(&outcome)
        }
        Err(refusal) => {
            span.record("code", refusal.code.as_str());
            refuse(engine, &refusal, RefusalLog::Own);
            reply::refusal(&refusal)
        }
    };
    if let Some(applied) = wait_s.and_then(|wait_s| HeaderValue::from_str(&format!("wait={wait_s}")).ok()) {
        answer.headers_mut().insert("preference-applied", applied);
    }
    Ok(answer)
}

/// The purchase token. One that is no text, or that stands in two lines, is read as an empty one, which is not valid.
fn token_of(headers: &HeaderMap) -> Option<&str> {
    match single(headers, "purchase-token") {
        Ok(line) => line.map(|line| line.to_str().unwrap_or_default()),
        Err(Repeated) => Some(""),
    }
}

/// The seconds of `Prefer: wait=N` (RFC 7240), at most [`limits::WAIT_S_MAX`]. A preference that cannot be read is ignored, as
/// the RFC asks.
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

    fn headers(name: &'static str, lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        headers
    }

    #[test]
    fn a_wait_is_read_bounded_or_ignored() {
        let prefer = |lines: &[&str]| preferred_wait_s(&headers("prefer", lines));
        assert_eq!(prefer(&[]), None);
        assert_eq!(prefer(&["wait=5"]), Some(5));
        assert_eq!(prefer(&["respond-async, Wait = 5;x=y"]), Some(5));
        assert_eq!(prefer(&["respond-async", "wait=\"7\""]), Some(7));
        assert_eq!(prefer(&["wait=10000"]), Some(10));
        assert_eq!(prefer(&["wait=-1"]), None);
        assert_eq!(prefer(&["wait"]), None);
    }

    #[test]
    fn a_token_that_cannot_be_read_is_an_empty_one() {
        let token = |lines: &[&str]| token_of(&headers("purchase-token", lines)).map(str::to_owned);
        assert_eq!(token(&[]), None);
        assert_eq!(token(&["t"]), Some("t".to_owned()));
        assert_eq!(token(&["é"]), Some(String::new()));
        assert_eq!(token(&["t", "t"]), Some(String::new()));
    }
}
