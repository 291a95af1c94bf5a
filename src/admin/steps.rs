//! `POST /admin/v1/orders/{order_no}/ship` and `…/refund`: the steps that an operator takes.

use std::borrow::Cow;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use serde::Deserialize;
use tracing::Span;

use crate::command::{Principal, RawStep, RequestContext, RequestId, parse};
use crate::engine::Engine;
use crate::http::{Answer, MediaType, read_json};
use crate::intake::http::key_of;
use crate::order::{Refusal, Step};
use crate::reply;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ShipBody<'a> {
    #[serde(borrow, default)]
    idempotency_key: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RefundBody<'a> {
    #[serde(default)]
    restock: Option<bool>,
    #[serde(borrow, default)]
    idempotency_key: Option<Cow<'a, str>>,
}

pub(super) async fn take(
    engine: &Engine,
    request_id: RequestId,
    span: &Span,
    step: Step,
    order_no: &str,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let (head, body) = request.into_parts();
    let body = read_json(&head.headers, body, MediaType::JsonOrEmpty).await?;
    let (restock, member) = if step == Step::Refund {
        let body: RefundBody<'_> = parse(&body)?;
        (body.restock.unwrap_or(false), body.idempotency_key)
    } else {
        let body: ShipBody<'_> = parse(&body)?;
        (false, body.idempotency_key)
    };
    let raw = RawStep { order_no, step, restock, key: key_of(&head.headers, member.as_deref()) };
    let context = RequestContext::new(request_id, Principal::Operator, Duration::ZERO).with_span(span);
    let taken = engine.take_step(raw.typed(context)?).await?;
    span.record("code", taken.as_str());
    Ok(reply::step_taken(&taken.view, taken.is_replay))
}
