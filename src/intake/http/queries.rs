//! The public reads.

use http::Request;
use hyper::body::Incoming;
use serde_json::json;

use crate::engine::Engine;
use crate::http::{Answer, UrlQuery};
use crate::intake::guard::PendingPrincipal;
use crate::intake::pages::{not_a_limit, page};
use crate::limits;
use crate::order::{Boundary, Code, Key, OrderNo, Refusal, Retry};
use crate::reply;

/// `GET /v1/orders/{order_no}`: another user's order does not exist.
pub(super) async fn order(engine: &Engine, principal: PendingPrincipal<'_>, order_no: &str) -> Result<Answer, Refusal> {
    let user = principal.user(None)?;
    let order_no = OrderNo::parse(order_no).ok_or(Code::OrderNotFound)?;
    Ok(reply::ok_json(reply::order(&engine.order(Some(user), order_no).await?)))
}

/// `GET /v1/orders`: the order of a key, or a page of the user's own orders.
pub(super) async fn orders(
    engine: &Engine,
    principal: PendingPrincipal<'_>,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let user = principal.user(None)?;
    let query = UrlQuery::parse(request.uri().query());
    let sale_id = query.need("sale_id")?;
    if let Some(key) = query.get("idempotency_key")? {
        let key = Key::parse(key.as_bytes())?;
        return Ok(reply::ok_json(reply::order(&engine.order_by_key(user, sale_id, &key).await?)));
    }
    let limit = match query.get("limit")? {
        None => limits::PAGE_ORDERS_DEFAULT,
        Some(text) => plain_number(text).ok_or_else(not_a_limit)?,
    };
    let page = page(engine, user, sale_id, query.get("cursor")?, limit).await?;
    Ok(reply::ok_json(reply::orders(&page.orders, page.next)))
}

/// Decimal digits without a sign or a leading zero.
fn plain_number(text: &str) -> Option<u32> {
    let is_plain = !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_plain)
}

/// `GET /v1/sales/{sale_id}`.
pub(super) async fn sale(engine: &Engine, sale_id: &str) -> Result<Answer, Refusal> {
    let (sale, state, left) = engine.sale_hint(sale_id).await?;
    Ok(reply::cached_json(reply::public_sale(&sale, state, &left), "max-age=1"))
}

/// `GET /v1/capabilities`: what a client needs to know to retry well.
pub(super) fn capabilities() -> Answer {
    let retryable = Code::ALL.iter().filter(|code| code.retry() != Retry::Never);
    let retryable: Vec<&str> = retryable.map(|code| code.as_str()).collect();
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
