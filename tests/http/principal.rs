//! Who is asking: without authentication, `X-User-Id` or `user_id` in the body; and the sales that ask for a token.

use serde_json::json;

use crate::client::{get, post};
use crate::contract::{assert_refused, assert_replayed, created};
use crate::server::{Launch, Server};
use crate::shop::{one, sale, wish, with};

#[test]
fn a_user_is_named_in_the_header_or_in_the_body() {
    let server = Server::start();
    server.open(&sale("s", 100));
    let order = |body: serde_json::Value| post("/v1/orders").key("k").json(&body);
    let named = |user: i64| with(wish("s", 1), json!({"user_id": user}));
    let mut anyone = server.stranger();

    assert_refused(&anyone.send(order(wish("s", 1))), "unauthenticated");
    let first = anyone.send(order(named(42)));
    assert_eq!(created(&first)["user_id"], 42);
    assert_replayed(&anyone.send(order(wish("s", 1)).header("X-User-Id", "42")), &first);
    assert_replayed(&anyone.send(order(named(42)).header("X-User-Id", "42")), &first);
    assert_refused(&anyone.send(order(named(43)).header("X-User-Id", "42")), "forbidden");

    let largest = anyone.send(order(wish("s", 1)).header("X-User-Id", i64::MAX.to_string()));
    assert_eq!(created(&largest)["user_id"], i64::MAX);
    server.finish();
}

#[test]
fn a_header_that_is_no_user_id_is_nobody() {
    let server = Server::start();
    server.open(&sale("s", 100));
    let mut anyone = server.stranger();
    let bad: &[&[u8]] = &[
        b"",
        b"0",
        b"007",
        b"-1",
        b"+1",
        b"1.0",
        b"1e3",
        b"0x1",
        b"abc",
        b"1 2",
        b"1,2",
        b"9223372036854775808",
        b"99999999999999999999999",
        "１".as_bytes(),
        b"\xff",
    ];
    for user in bad {
        eprintln!("{}", String::from_utf8_lossy(user));
        assert_refused(&anyone.send(one("s", "k").header("X-User-Id", user)), "unauthenticated");
        // A user in the body does not make up for it.
        let named = with(wish("s", 1), json!({"user_id": 1}));
        let answer = anyone.send(post("/v1/orders").key("k").json(&named).header("X-User-Id", user));
        assert_refused(&answer, "unauthenticated");
        for target in ["/v1/orders?sale_id=s", "/v1/orders/00000000000000000000000000"] {
            assert_refused(&anyone.send(get(target).header("X-User-Id", user)), "unauthenticated");
        }
    }
    assert_eq!(server.level("s", "sku-1").held, 0);
    server.finish();
}

#[test]
fn reading_orders_needs_a_user_and_the_rest_does_not() {
    let server = Server::start();
    server.open(&sale("s", 100));
    let order = created(&server.buyer(1).send(one("s", "k")));
    let order_no = order["order_no"].as_str().unwrap();
    let mut anyone = server.stranger();
    for target in [
        format!("/v1/orders/{order_no}"),
        "/v1/orders?sale_id=s&idempotency_key=k".into(),
        "/v1/orders?sale_id=s".into(),
    ] {
        assert_refused(&anyone.send(get(target)), "unauthenticated");
    }
    for target in ["/v1/sales/s", "/v1/capabilities", "/problems/sold_out", "/openapi.yaml"] {
        let answer = anyone.send(get(target));
        assert_eq!(answer.status, 200, "{target}: {answer}");
    }
    server.finish();
}

#[test]
fn somebody_elses_order_does_not_exist() {
    let server = Server::start();
    server.open(&sale("s", 100));
    let order = created(&server.buyer(1).send(one("s", "k")));
    let order_no = order["order_no"].as_str().unwrap();
    let mut other = server.buyer(2);
    let foreign = other.send(get(format!("/v1/orders/{order_no}")));
    assert_refused(&foreign, "order_not_found");
    // It cannot be told from one that nobody made.
    let nobodys = other.send(get("/v1/orders/00000000000000000000000000"));
    assert_refused(&nobodys, "order_not_found");
    assert_eq!(foreign.body, nobodys.body);
    assert_refused(&other.send(get("/v1/orders?sale_id=s&idempotency_key=k")), "order_not_found");
    assert_eq!(other.send(get("/v1/orders?sale_id=s")).json(), json!({"orders": [], "next_cursor": null}));
    server.finish();
}

#[test]
fn a_token_sale_takes_no_order_without_a_good_token() {
    let server = Server::start();
    server.open(&with(sale("s", 100), json!({"require_token": true})));
    let mut buyer = server.buyer(1);
    assert_refused(&buyer.send(one("s", "k")), "token_required");
    for token in ["x", "a.b.c", "00000000000000000000000000"] {
        assert_refused(&buyer.send(one("s", "k").header("Purchase-Token", token)), "token_invalid");
    }
    assert_eq!(server.level("s", "sku-1").available, 100);
    server.finish();
}

#[test]
fn without_authentication_only_loopback_is_listened_on() {
    let refusal = Launch::new().listen("0.0.0.0:0").try_start().err().expect("refused to start");
    assert_ne!(refusal.status.code(), Some(0));
    assert!(!refusal.log.is_empty() && !refusal.log.contains("panicked"), "{}", refusal.log);
}
