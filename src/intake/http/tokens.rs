//! `POST /v1/sales/{sale_id}/tokens` and `GET /api/token`: a purchase token for the user who asks.

use http::Request;
use hyper::body::Incoming;
use serde::Deserialize;

use crate::command::parse;
use crate::engine::Engine;
use crate::http::{Answer, MediaType, UrlQuery, read_json};
use crate::intake::guard::PendingPrincipal;
use crate::order::{Refusal, UserId};
use crate::reply;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenBody {
    #[serde(default)]
    user_id: Option<u64>,
}

pub(super) async fn post(
    engine: &Engine,
    principal: PendingPrincipal<'_>,
    sale_id: &str,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let (head, body) = request.into_parts();
    let body = read_json(&head.headers, body, MediaType::JsonOrEmpty).await?;
    let body: TokenBody = parse(&body)?;
    token(engine, principal.user(body.user_id)?, sale_id)
}

pub(super) fn get(
    engine: &Engine,
    principal: PendingPrincipal<'_>,
    request: &Request<Incoming>,
) -> Result<Answer, Refusal> {
    let user = principal.user(None)?;
    token(engine, user, UrlQuery::parse(request.uri().query()).need("sale_id")?)
}

fn token(engine: &Engine, user: UserId, sale_id: &str) -> Result<Answer, Refusal> {
    let given = engine.purchase_token(user, sale_id)?;
    Ok(reply::ok_json(reply::purchase_token(&given.token, given.expires_at)))
}
