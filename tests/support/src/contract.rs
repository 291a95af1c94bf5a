//! The contract's tables: what every answer has, whatever the test that got it is about.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::client::Answer;
use crate::time;

/// Every code, its status, and whether the same request with the same key is worth repeating.
pub const CODES: [(&str, u16, bool); 31] = [
    ("malformed_request", 400, false),
    ("idempotency_key_missing", 400, false),
    ("idempotency_key_invalid", 400, false),
    ("unauthenticated", 401, false),
    ("forbidden", 403, false),
    ("token_invalid", 403, false),
    ("token_required", 403, false),
    ("not_found", 404, false),
    ("sale_not_found", 404, false),
    ("sku_not_found", 404, false),
    ("order_not_found", 404, false),
    ("method_not_allowed", 405, false),
    ("idempotency_in_progress", 409, true),
    ("idempotency_conflict", 409, false),
    ("sold_out", 409, false),
    ("limit_reached", 409, false),
    ("sale_not_open", 409, true),
    ("sale_paused", 409, true),
    ("invalid_transition", 409, false),
    ("sale_exists", 409, false),
    ("change_exists", 409, false),
    ("not_enough_stock", 409, false),
    ("sale_ended", 410, false),
    ("body_too_large", 413, false),
    ("unsupported_media_type", 415, false),
    ("idempotency_key_reused", 422, false),
    ("rate_limited", 429, true),
    ("overloaded", 503, true),
    ("gate_unavailable", 503, true),
    ("ledger_unavailable", 503, true),
    ("unknown_outcome", 503, true),
];

/// The members of an order as it was created.
const ORDER: [&str; 11] = [
    "order_no",
    "sale_id",
    "sku_id",
    "user_id",
    "quantity",
    "unit_price",
    "amount",
    "currency",
    "state",
    "created_at",
    "expires_at",
];

/// Exactly these members, in any order.
pub fn assert_members(value: &Value, want: &[&str]) {
    let got: BTreeSet<&str> =
        value.as_object().unwrap_or_else(|| panic!("no object: {value}")).keys().map(|k| &**k).collect();
    assert_eq!(got, want.iter().copied().collect(), "members of {value}");
}

/// The code of a refusal, after checking everything that every refusal has; `None` for a success.
pub fn code(answer: &Answer) -> Option<String> {
    if answer.status < 300 {
        return None;
    }
    assert_eq!(answer.media_type(), "application/problem+json", "{answer}");
    let problem = answer.json();
    let code = problem["code"].as_str().unwrap_or_else(|| panic!("no code: {answer}"));
    let (_, status, retryable) = *CODES.iter().find(|row| row.0 == code).unwrap_or_else(|| panic!("unknown: {answer}"));
    assert_eq!(answer.status, status, "{answer}");
    assert_eq!(problem["status"], status, "{answer}");
    assert_eq!(problem["retryable"], retryable, "{answer}");
    assert_eq!(problem["type"], format!("/problems/{code}"), "{answer}");
    assert!(problem["title"].as_str().is_some_and(|title| !title.is_empty()), "{answer}");
    let mut members = vec!["type", "title", "status", "code", "retryable"];
    if problem.get("detail").is_some() {
        assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{answer}");
        members.push("detail");
    }
    if code == "idempotency_conflict" {
        members.push("order_no");
        assert_order_no(&problem["order_no"]);
    }
    assert_members(&problem, &members);
    assert!(!answer.is_replayed(), "a refusal is never stored: {answer}");
    assert_eq!(answer.header("Location"), None, "{answer}");
    let retry_after = answer.header("Retry-After").map(|value| value.parse::<u64>().expect("whole seconds"));
    match (code, status) {
        ("idempotency_in_progress", _) => assert_eq!(retry_after, Some(1), "{answer}"),
        (_, 429 | 503) => assert!(retry_after.is_some(), "{answer}"),
        _ => assert!(retryable || retry_after.is_none(), "{answer}"),
    }
    Some(code.into())
}

/// A refusal with this code.
#[track_caller]
pub fn assert_refused(answer: &Answer, want: &str) {
    assert_eq!(code(answer).as_deref(), Some(want), "{answer}");
}

/// The first answer to an order.
#[track_caller]
pub fn created(answer: &Answer) -> Value {
    assert!(!answer.is_replayed(), "{answer}");
    placed(answer)
}

/// A repeat of `first`.
#[track_caller]
pub fn assert_replayed(answer: &Answer, first: &Answer) {
    placed(answer);
    assert!(answer.is_replayed(), "{answer}");
    assert_eq!(answer.body, first.body, "byte for byte");
}

/// The answer to an order, the first or a repeat.
#[track_caller]
pub fn placed(answer: &Answer) -> Value {
    assert_eq!(answer.status, 201, "{answer}");
    assert_eq!(answer.media_type(), "application/json", "{answer}");
    let order = answer.json();
    assert_members(&order, &ORDER);
    assert_order(&order);
    let location = format!("/v1/orders/{}", order["order_no"].as_str().unwrap());
    assert_eq!(answer.header("Location"), Some(&*location), "{answer}");
    order
}

/// An order as it is now, and the one it was made as.
#[track_caller]
pub fn assert_current(now: &Value, made: &Value) {
    let mut members = ORDER.to_vec();
    members.extend(["state_version", "updated_at"]);
    assert_members(now, &members);
    assert_order(now);
    assert!(now["state_version"].as_u64().is_some_and(|version| version >= 1), "{now}");
    assert!(ms(&now["updated_at"]) >= ms(&now["created_at"]), "{now}");
    for member in ORDER.into_iter().filter(|&member| member != "state") {
        assert_eq!(now[member], made[member], "{member} never changes");
    }
}

/// What holds for every order at any time.
fn assert_order(order: &Value) {
    assert_order_no(&order["order_no"]);
    let number = |member: &str| order[member].as_i64().unwrap_or_else(|| panic!("{member} is an integer: {order}"));
    assert!(number("user_id") >= 1 && number("quantity") >= 1, "{order}");
    assert_eq!(number("amount"), number("unit_price") * number("quantity"), "{order}");
    assert!(order["currency"].as_str().is_some_and(|currency| currency.len() == 3), "{order}");
    let created_at = ms(&order["created_at"]);
    match order["state"].as_str() {
        Some("confirmed") => assert!(order["expires_at"].is_null(), "{order}"),
        _ => assert!(ms(&order["expires_at"]) > created_at, "{order}"),
    }
}

fn assert_order_no(value: &Value) {
    let text = value.as_str().unwrap_or_else(|| panic!("an order_no is a text: {value}"));
    assert_eq!(text.len(), 26, "{text}");
    assert!(text.bytes().all(|b| b"0123456789ABCDEFGHJKMNPQRSTVWXYZ".contains(&b)), "{text}");
}

/// A time with milliseconds and Z.
pub fn ms(value: &Value) -> i64 {
    time::parse(value.as_str().unwrap_or_else(|| panic!("a time is a text: {value}")))
}
