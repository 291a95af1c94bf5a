//! `POST /admin/v1/orders/{order_no}/ship` and `…/refund`: the steps that a seller takes.

use std::borrow::Cow;

use http::Request;
use hyper::body::Incoming;
use serde::Deserialize;

use crate::command::need_key;
use crate::engine::{Engine, TakeStep};
use crate::http::{MediaType, parse, read_json};
use crate::order::{Code, OrderNo, Refusal, Step};
use crate::reply::{self, Answer};

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
    let key = need_key(&head.headers, member.as_deref())?;
    let order_no = OrderNo::parse(order_no).ok_or(Code::OrderNotFound)?;
    let taken = engine.take_step(TakeStep { order_no, user: None, step, restock, key }).await?;
    Ok(reply::step_taken(&taken.view, taken.is_replay))
}
