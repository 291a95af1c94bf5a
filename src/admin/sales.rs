//! Calls that make and change sales.

use std::sync::Arc;

use http::Request;
use hyper::body::Incoming;
use serde::Deserialize;

use crate::command::{RawRestock, RawSale, parse};
use crate::engine::Engine;
use crate::http::{Answer, MediaType, read_json};
use crate::order::{Refusal, Switch};
use crate::reply;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EmptyBody {}

/// `POST /admin/v1/sales`: 201 if the sale is new, 200 if the same sale exists.
pub(super) async fn create(
    engine: &Arc<Engine>,
    default_shards: u16,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let (head, body) = request.into_parts();
    let body = read_json(&head.headers, body, MediaType::Json).await?;
    let (is_new, view) = engine.create_sale(parse::<RawSale>(&body)?.typed(default_shards)?).await?;
    let document = reply::sale(&view);
    Ok(if is_new { reply::created_json(document) } else { reply::ok_json(document) })
}

/// `POST …/restock`.
pub(super) async fn restock(
    engine: &Arc<Engine>,
    sale_id: &str,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let (head, body) = request.into_parts();
    let body = read_json(&head.headers, body, MediaType::Json).await?;
    let view = engine.restock_sale(sale_id, parse::<RawRestock>(&body)?.typed()?).await?;
    Ok(reply::ok_json(reply::sale(&view)))
}

/// `POST …/pause`, `…/resume`, `…/end`.
pub(super) async fn switch(
    engine: &Arc<Engine>,
    sale_id: &str,
    switch: Switch,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let (head, body) = request.into_parts();
    let body = read_json(&head.headers, body, MediaType::JsonOrEmpty).await?;
    let EmptyBody {} = parse(&body)?;
    Ok(reply::ok_json(reply::sale(&engine.switch_sale(sale_id, switch).await?)))
}
