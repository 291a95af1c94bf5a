//! `POST /v1/orders/{order_no}/cancel`: the one step that a buyer takes.

use std::borrow::Cow;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use serde::Deserialize;
use tracing::Span;

use super::key::key_of;
use crate::command::{Principal, RawStep, RequestContext, RequestId, parse};
use crate::engine::Engine;
use crate::http::{Answer, MediaType, read_json};
use crate::intake::guard::PendingPrincipal;
use crate::order::{Refusal, Step};
use crate::reply;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'a> {
    #[serde(default)]
    user_id: Option<u64>,
    #[serde(borrow, default)]
    idempotency_key: Option<Cow<'a, str>>,
}

pub(super) async fn cancel(
    engine: &Engine,
    request_id: RequestId,
    span: &Span,
    principal: PendingPrincipal<'_>,
    order_no: &str,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let (head, body) = request.into_parts();
    let body = read_json(&head.headers, body, MediaType::JsonOrEmpty).await?;
    let body: Body<'_> = parse(&body)?;
    let buyer = Principal::Buyer(principal.user(body.user_id)?);
    let key = key_of(&head.headers, body.idempotency_key.as_deref());
    let raw = RawStep { order_no, step: Step::Cancel, restock: false, key };
    let context = RequestContext::new(request_id, buyer, Duration::ZERO).with_span(span);
    let taken = engine.take_step(raw.typed(context)?).await?;
    span.record("code", taken.as_str());
    Ok(reply::step_taken(&taken.view, taken.is_replay))
}
