//! The public reads.

use http::Request;
use hyper::body::Incoming;
use serde_json::json;

use crate::engine::Engine;
use crate::http::Query;
use crate::intake::guard::Principal;
use crate::limits;
use crate::order::{Boundary, Code, Key, OrderNo, Refusal, UserId};
use crate::reply::{self, Answer};

/// `GET /v1/orders/{order_no}`: another user's order does not exist.
pub(super) async fn order(engine: &Engine, principal: Principal<'_>, order_no: &str) -> Result<Answer, Refusal> {
    let user = principal.user(None)?;
    let order_no = OrderNo::parse(order_no).ok_or(Code::OrderNotFound)?;
    Ok(reply::ok_json(reply::order(&engine.order(Some(user), order_no).await?)))
}

/// `GET /v1/orders`: by key, or a page of the user's own.
pub(super) async fn orders(
    engine: &Engine,
    principal: Principal<'_>,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let user = principal.user(None)?;
    let query = Query::parse(request.uri().query());
    let sale_id = query.need("sale_id")?;
    if let Some(key) = query.get("idempotency_key")? {
        let invalid =
            |invalid: crate::order::InvalidKey| Refusal::because(Code::IdempotencyKeyInvalid, invalid.to_string());
        let key = Key::parse(key.as_bytes()).map_err(invalid)?;
        return Ok(reply::ok_json(reply::order(&engine.order_by_key(user, sale_id, &key).await?)));
    }
    let limit = match query.get("limit")? {
        None => limits::PAGE_ORDERS_DEFAULT,
        Some(text) => Some(text)
            .filter(|text| !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|text| text.parse().ok())
            .filter(|limit| (1..=limits::PAGE_ORDERS_MAX).contains(limit))
            .ok_or_else(|| Refusal::because(Code::MalformedRequest, "limit must be an integer from 1 to 100"))?,
    };
    let before = match query.get("cursor")? {
        None => None,
        Some(cursor) => Some(seq_of(engine, user, sale_id, cursor).await?),
    };
    // One more than asked for tells whether there is a next page.
    let mut page = engine.orders(user, sale_id, before, limit + 1).await?;
    let more = page.len() > usize::try_from(limit).unwrap_or(usize::MAX);
    page.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let next = page.last().filter(|_| more).map(|view| view.order.order_no);
    Ok(reply::ok_json(reply::orders(&page, next)))
}

/// Where a page ended. The cursor is the number of its last order: it tells nobody how many orders there are, and
/// only its owner can use it.
async fn seq_of(engine: &Engine, user: UserId, sale_id: &str, cursor: &str) -> Result<i64, Refusal> {
    let refusal = || Refusal::because(Code::MalformedRequest, "cursor is not one that this listing gave");
    let order_no = OrderNo::parse(cursor).ok_or_else(refusal)?;
    let last = engine.order(Some(user), order_no).await.map_err(|other| match other.code {
        Code::OrderNotFound => refusal(),
        _ => other,
    })?;
    if last.sale.id.as_str() == sale_id { Ok(last.order.seq) } else { Err(refusal()) }
}

/// `GET /v1/sales/{sale_id}`.
pub(super) async fn sale(engine: &Engine, sale_id: &str) -> Result<Answer, Refusal> {
    let (sale, state, left) = engine.sale_hint(sale_id).await?;
    Ok(reply::cached_json(reply::public_sale(&sale, state, &left), "max-age=1"))
}

/// `GET /v1/capabilities`: what a client needs to know to retry well.
pub(super) fn capabilities() -> Answer {
    let retryable: Vec<&str> = Code::ALL.iter().filter(|code| code.retryable()).map(|code| code.as_str()).collect();
    let boundaries: Vec<&str> = Boundary::ALL.iter().map(|boundary| boundary.as_str()).collect();
    let document = json!({
        "idempotency": {
            "key": {
                "sources": ["Idempotency-Key", "X-Idempotency-Key", "body member idempotency_key"],
                "syntax": "bare, or a whole structured-field string; both are one key",
                "characters": "visible ASCII (0x21-0x7E) without comma, case-sensitive",
                "length_min": 1,
                "length_max": limits::KEY_CHARS_MAX,
            },
            "scope": ["user", "operation", "sale or order"],
            "boundaries": boundaries,
            "replay_window": "as long as the order exists",
            "stored_outcomes": [201],
            "replay_marker": "Idempotency-Replayed",
            "fingerprint": "the validated command: sale, sku, quantity and user",
            "steps": {
                "operations": ["cancel", "ship", "refund"],
                "replay_window_s": limits::KEY_KEPT_MS / 1000,
                "stored_outcomes": [200],
                "keys_per_step": limits::KEYS_PER_STEP_MAX,
            },
            "in_progress": { "status": 409, "retry_after_s": limits::RETRY_AFTER_S, "prefer_wait_s_max": limits::WAIT_S_MAX },
        },
        "retryable_codes": retryable,
        "limits": {
            "body_bytes_max": limits::BODY_BYTES_MAX,
            "head_bytes_max": limits::HEAD_BYTES_MAX,
            "headers_max": limits::HEADERS_MAX,
            "quantity_max": limits::QUANTITY_MAX,
            "page_orders_max": limits::PAGE_ORDERS_MAX,
            "idle_connection_s": limits::HEAD_MS_MAX / 1000,
        },
    });
    reply::cached_json(document.to_string().into_bytes(), "max-age=3600")
}
