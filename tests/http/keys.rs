//! The idempotency key: how it is spelled, where it is sent, and what it is unique within.

use serde_json::json;

use crate::client::{escaped, get, post};
use crate::contract::{assert_refused, assert_replayed, created};
use crate::server::Server;
use crate::shop::{one, place, sale, wish, with};
use crate::time;

#[test]
fn a_quoted_and_a_bare_key_are_one() {
    let server = Server::start();
    server.open(&sale("s", 100));
    let mut buyer = server.buyer(1);
    let long = "k".repeat(255);
    let pairs = [
        ("abc".to_owned(), "\"abc\"".to_owned()),
        (r"a\b".into(), r#""a\\b""#.into()),
        ("!#$%&'()*+-./:;<=>?@[]^_`{|}~".into(), "\"!#$%&'()*+-./:;<=>?@[]^_`{|}~\"".into()),
        ("k;a=1".into(), "\"k;a=1\"".into()),
        (long.clone(), format!("\"{long}\"")),
    ];
    for (bare, quoted) in pairs {
        let first = buyer.send(one("s", &bare));
        created(&first);
        for same in [&bare, &quoted] {
            assert_replayed(&buyer.send(one("s", same)), &first);
            let x = post("/v1/orders").header("X-Idempotency-Key", same).json(&wish("s", 1));
            assert_replayed(&buyer.send(x), &first);
            let body = with(wish("s", 1), json!({"idempotency_key": same}));
            assert_replayed(&buyer.send(post("/v1/orders").json(&body)), &first);
            let found = buyer.send(get(format!("/v1/orders?sale_id=s&idempotency_key={}", escaped(same))));
            assert_eq!(found.json()["order_no"], first.json()["order_no"], "{found}");
        }
    }
    // A quote inside can only be sent as an escape.
    let first = buyer.send(one("s", r#""a\"b""#));
    created(&first);
    assert_replayed(&buyer.send(one("s", r#""a\"b""#)), &first);
    assert_eq!(server.level("s", "sku-1").held, 6);
    server.finish();
}

#[test]
fn anything_else_is_no_key() {
    let server = Server::start();
    server.open(&sale("s", 100));
    let mut buyer = server.buyer(1);
    let too_long = "k".repeat(256);
    let quoted_too_long = format!("\"{too_long}\"");
    let bad: &[&[u8]] = &[
        b"",
        b"\"\"",
        b"\"",
        b"a\"",
        b"\"a",
        b"a\"b",
        b"\"k\";a=1",
        b"\"k\" ;a=1",
        b"\"a\"b\"",
        br#""a\x""#,
        br#""a\""#,
        b"a,b",
        b"\"a,b\"",
        b"a b",
        b"\"a b\"",
        b"a\tb",
        "é".as_bytes(),
        b"\xff",
        too_long.as_bytes(),
        quoted_too_long.as_bytes(),
    ];
    for key in bad {
        eprintln!("{}", String::from_utf8_lossy(key));
        for name in ["Idempotency-Key", "X-Idempotency-Key"] {
            let answer = buyer.send(post("/v1/orders").header(name, key).json(&wish("s", 1)));
            assert_refused(&answer, "idempotency_key_invalid");
        }
        let Ok(text) = std::str::from_utf8(key) else { continue };
        let body = with(wish("s", 1), json!({"idempotency_key": text}));
        assert_refused(&buyer.send(post("/v1/orders").json(&body)), "idempotency_key_invalid");
        let find = get(format!("/v1/orders?sale_id=s&idempotency_key={}", escaped(text)));
        assert_refused(&buyer.send(find), "idempotency_key_invalid");
    }
    let body = with(wish("s", 1), json!({"idempotency_key": "a\u{7f}b\n"}));
    assert_refused(&buyer.send(post("/v1/orders").json(&body)), "idempotency_key_invalid");
    assert_eq!(server.level("s", "sku-1").held, 0);
    server.finish();
}

#[test]
fn several_keys_must_agree_and_one_must_be_there() {
    let server = Server::start();
    server.open(&sale("s", 100));
    let mut buyer = server.buyer(1);
    let order = || post("/v1/orders");
    let keyed = |key: &str| with(wish("s", 1), json!({"idempotency_key": key}));

    assert_refused(&buyer.send(order().json(&wish("s", 1))), "idempotency_key_missing");
    let null = with(wish("s", 1), json!({"idempotency_key": null}));
    assert_refused(&buyer.send(order().json(&null)), "idempotency_key_missing");
    let disagreeing = [
        order().key("a").header("X-Idempotency-Key", "b").json(&wish("s", 1)),
        order().key("a").json(&keyed("b")),
        order().key("a").json(&keyed("A")),
        order().header("X-Idempotency-Key", "a").json(&keyed("b")),
        order().key("a").header("X-Idempotency-Key", "a").json(&keyed("b")),
        // Two lines are refused even if they agree.
        order().key("a").key("a").json(&wish("s", 1)),
        order().key("a").key("b").json(&wish("s", 1)),
        order().header("X-Idempotency-Key", "a").header("X-Idempotency-Key", "a").json(&wish("s", 1)),
        // A good key does not make up for a bad one.
        order().key("a").header("X-Idempotency-Key", "").json(&wish("s", 1)),
        order().key("").json(&keyed("a")),
    ];
    for request in disagreeing {
        assert_refused(&buyer.send(request), "idempotency_key_invalid");
    }
    let all = order().key("\"a\"").header("X-Idempotency-Key", "a").json(&keyed("a"));
    created(&buyer.send(all));
    server.finish();
}

#[test]
fn a_key_is_scoped_to_user_and_sale_and_is_case_sensitive() {
    let server = Server::start();
    server.open(&sale("s", 100));
    server.open(&sale("t", 100));
    let mut numbers = Vec::new();
    for (user, sale_id, key) in [(1, "s", "k"), (2, "s", "k"), (1, "t", "k"), (1, "s", "K"), (12, "s", "k")] {
        numbers.push(created(&server.buyer(user).send(one(sale_id, key)))["order_no"].to_string());
    }
    numbers.sort();
    numbers.dedup();
    assert_eq!(numbers.len(), 5, "{numbers:?}");
    server.finish();
}

#[test]
fn a_boundary_recognises_the_operation_without_a_key() {
    let server = Server::start();
    for boundary in ["user_sku", "user_sale"] {
        let sku = |sku_id: &str| json!({"sku_id": sku_id, "stock": 100, "unit_price": 1, "currency": "CNY"});
        let skus = json!([sku("sku-1"), sku("sku-2")]);
        server.open(&json!({"sale_id": boundary, "boundary": boundary, "skus": skus}));
        let mut buyer = server.buyer(1);
        let first = buyer.send(post("/v1/orders").json(&wish(boundary, 1)));
        created(&first);
        assert_replayed(&buyer.send(post("/v1/orders").json(&wish(boundary, 1))), &first);
        // A key is ignored, whatever it is.
        assert_replayed(&buyer.send(one(boundary, "a")), &first);
        assert_replayed(&buyer.send(one(boundary, "b")), &first);
        assert_refused(&buyer.send(place("c", &wish(boundary, 2))), "idempotency_key_reused");
        let other_sku = buyer.send(place("d", &with(wish(boundary, 1), json!({"sku_id": "sku-2"}))));
        if boundary == "user_sku" {
            created(&other_sku);
        } else {
            assert_refused(&other_sku, "idempotency_key_reused");
        }
        created(&server.buyer(2).send(post("/v1/orders").json(&wish(boundary, 1))));
    }
    server.finish();
}

#[test]
fn a_daily_boundary_lasts_a_day() {
    let server = Server::start();
    server.open(&with(sale("s", 1000), json!({"boundary": "user_sku_day"})));
    let day = || time::now_ms() / 86_400_000;
    for user in 1.. {
        let before = day();
        let mut buyer = server.buyer(user);
        let first = buyer.send(post("/v1/orders").json(&wish("s", 1)));
        created(&first);
        let again = buyer.send(one("s", "ignored"));
        let other = buyer.send(post("/v1/orders").json(&wish("s", 2)));
        // Past midnight the answers would rightly differ, so such a run is made again with another user.
        if day() == before {
            assert_replayed(&again, &first);
            assert_refused(&other, "idempotency_key_reused");
            break;
        }
    }
    server.finish();
}
