//! `POST /v1/orders/{order_no}/cancel`: the one step that a buyer takes.

use std::borrow::Cow;

use http::Request;
use hyper::body::Incoming;
use serde::Deserialize;

use crate::command::need_key;
use crate::engine::{Engine, TakeStep};
use crate::http::{MediaType, parse, read_json};
use crate::intake::guard::Principal;
use crate::order::{Code, OrderNo, Refusal, Step};
use crate::reply::{self, Answer};

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
    principal: Principal<'_>,
    order_no: &str,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let (head, body) = request.into_parts();
    let body = read_json(&head.headers, body, MediaType::JsonOrEmpty).await?;
    let body: Body<'_> = parse(&body)?;
    let user = principal.user(body.user_id)?;
    let key = need_key(&head.headers, body.idempotency_key.as_deref())?;
    let order_no = OrderNo::parse(order_no).ok_or(Code::OrderNotFound)?;
    let ask = TakeStep { order_no, user: Some(user), step: Step::Cancel, restock: false, key };
    let taken = engine.take_step(ask).await?;
    Ok(reply::step_taken(&taken.view, taken.is_replay))
}
