//! `POST /v1/orders`: the answer, the repeats, and the refusals.

use serde_json::{Value, json};

use crate::client::{get, post};
use crate::contract::{assert_refused, assert_replayed, created, ms};
use crate::server::Server;
use crate::shop::{Level, one, place, sale, wish, with, without};
use crate::time;
use crate::wait::eventually;

#[test]
fn an_order_is_answered_with_exactly_what_the_contract_says() {
    let server = Server::start();
    server.open(&sale("s", 10));
    let before = time::now_ms();
    let answer = server.buyer(42).send(place("k", &wish("s", 3)));
    let after = time::now_ms();

    let order = created(&answer);
    let want = json!({
        "order_no": order["order_no"], "sale_id": "s", "sku_id": "sku-1", "user_id": 42, "quantity": 3,
        "unit_price": 1999, "amount": 5997, "currency": "CNY", "state": "pending_payment",
        "created_at": order["created_at"], "expires_at": order["expires_at"],
    });
    assert_eq!(order, want);
    let created_at = ms(&order["created_at"]);
    assert!((before..=after).contains(&created_at), "{before} {order} {after}");
    assert_eq!(ms(&order["expires_at"]) - created_at, 900_000, "the default time to pay");
    assert_eq!(answer.header("Preference-Applied"), None);
    assert_eq!(server.level("s", "sku-1"), Level { total: 10, available: 7, held: 3, sold: 0 });
    server.finish();
}

#[test]
fn without_a_payment_step_an_order_starts_confirmed() {
    let server = Server::start();
    server.open(&with(sale("s", 10), json!({"payment_timeout_s": null})));
    let order = created(&server.buyer(1).send(place("k", &wish("s", 2))));
    assert_eq!((&order["state"], &order["expires_at"]), (&json!("confirmed"), &Value::Null));
    assert_eq!(server.level("s", "sku-1"), Level { total: 10, available: 8, held: 0, sold: 2 });

    server.open(&with(sale("quick", 10), json!({"payment_timeout_s": 60})));
    let order = created(&server.buyer(1).send(one("quick", "k")));
    assert_eq!(ms(&order["expires_at"]) - ms(&order["created_at"]), 60_000);
    server.finish();
}

#[test]
fn a_free_unit_and_the_dearest_order_add_up() {
    let server = Server::start();
    let skus = json!([
        {"sku_id": "free", "stock": 5, "unit_price": 0, "currency": "USD"},
        {"sku_id": "dear", "stock": 1_000_000, "unit_price": 1_000_000_000_000_i64, "currency": "JPY"},
    ]);
    server.open(&json!({"sale_id": "s", "skus": skus}));
    let mut buyer = server.buyer(1);
    let free = created(&buyer.send(place("a", &json!({"sale_id": "s", "sku_id": "free", "quantity": 5}))));
    assert_eq!((&free["amount"], &free["currency"]), (&json!(0), &json!("USD")));
    let dear = created(&buyer.send(place("b", &json!({"sale_id": "s", "sku_id": "dear", "quantity": 1_000_000}))));
    assert_eq!(dear["amount"], 1_000_000_000_000_000_000_i64);
    server.finish();
}

#[test]
fn a_repeat_gets_the_same_bytes_whatever_became_of_the_sale() {
    let server = Server::start();
    server.open(&with(sale("s", 2), json!({"user_limit": 2})));
    let mut buyer = server.buyer(1);
    let order = place("k", &wish("s", 2));
    let first = buyer.send(order.clone());
    created(&first);

    // Sold out and at the user's limit.
    assert_replayed(&buyer.send(order.clone()), &first);
    server.switch("s", "pause");
    assert_replayed(&buyer.send(order.clone()), &first);
    server.switch("s", "resume");
    server.switch("s", "end");
    assert_replayed(&buyer.send(order.clone()), &first);
    // Over another connection, and after a restart, nothing is forgotten.
    assert_replayed(&server.buyer(1).send(order.clone()), &first);
    let mut server = server;
    server.kill9();
    server.assert_quiet();
    let server = server.restart();
    assert_replayed(&server.buyer(1).send(order), &first);
    assert_eq!(server.level("s", "sku-1").held, 2);
    server.finish_after_trouble();
}

#[test]
fn spelling_is_not_content() {
    let server = Server::start();
    server.open(&sale("s", 10));
    let mut buyer = server.buyer(7);
    let first = buyer.send(place("k", &wish("s", 1)));
    created(&first);
    let spellings = [
        r#"{"quantity":1,"sku_id":"sku-1","sale_id":"s"}"#,
        "\r\n\t { \"sale_id\" : \"s\" , \"sku_id\" : \"sku-1\" , \"quantity\" : 1 } \n",
        r#"{"sale_\u0069d":"\u0073","sku_id":"sku\u002d1","quantity":1}"#,
        r#"{"sale_id":"s","sku_id":"sku-1","quantity":1,"user_id":7}"#,
        r#"{"sale_id":"s","sku_id":"sku-1","quantity":1,"user_id":null,"idempotency_key":null}"#,
        r#"{"sale_id":"s","sku_id":"sku-1","quantity":1,"idempotency_key":"k"}"#,
    ];
    for spelling in spellings {
        assert_replayed(&buyer.send(post("/v1/orders").key("k").text(spelling)), &first);
    }
    let alone = with(wish("s", 1), json!({"user_id": 7, "idempotency_key": "k"}));
    assert_replayed(&server.stranger().send(post("/v1/orders").json(&alone)), &first);
    for content_type in ["application/json; charset=utf-8", "Application/JSON", "application/json;charset=UTF-8"] {
        let order = post("/v1/orders").key("k").header("Content-Type", content_type);
        assert_replayed(&buyer.send(order.body(wish("s", 1).to_string())), &first);
    }
    assert_eq!(server.level("s", "sku-1").held, 1);
    server.finish();
}

#[test]
fn the_same_key_with_other_content_is_refused_and_shows_nothing() {
    let server = Server::start();
    let skus = json!([
        {"sku_id": "sku-1", "stock": 1, "unit_price": 1, "currency": "CNY"},
        {"sku_id": "sku-2", "stock": 9, "unit_price": 1, "currency": "CNY"},
    ]);
    server.open(&json!({"sale_id": "s", "skus": skus}));
    let mut buyer = server.buyer(1);
    let first = buyer.send(one("s", "k"));
    let order_no = created(&first)["order_no"].as_str().unwrap().to_owned();
    let other_sku = place("k", &with(wish("s", 1), json!({"sku_id": "sku-2"})));
    // In every state of the sale, and although it is sold out.
    for step in ["", "pause", "resume", "end"] {
        if !step.is_empty() {
            server.switch("s", step);
        }
        for other in [place("k", &wish("s", 2)), other_sku.clone()] {
            let answer = buyer.send(other);
            assert_refused(&answer, "idempotency_key_reused");
            assert!(!String::from_utf8_lossy(&answer.body).contains(&order_no), "{answer}");
        }
    }
    assert_replayed(&buyer.send(one("s", "k")), &first);
    server.finish();
}

#[test]
fn a_body_that_is_no_order_is_malformed() {
    let server = Server::start();
    server.open(&sale("s", 2_000_000));
    let mut buyer = server.buyer(1);
    let ok = wish("s", 1);
    let mut bad = Vec::from(
        [
            "",
            " ",
            "x",
            "null",
            "[]",
            "\"s\"",
            "1",
            "{",
            "{}",
            "{}{}",
            // By position is not by name.
            r#"["s","sku-1",1]"#,
            r#"["s","sku-1",1,1,"k"]"#,
            r#"{"sale_id":"s","sku_id":"sku-1","quantity":1}x"#,
            r#"{"sale_id":"s","sku_id":"sku-1","quantity":1,}"#,
            r#"{"sale_id":"s","sku_id":"sku-1","quantity":1,"quantity":1}"#,
            r#"{"sale_id":"s","sku_id":"sku-1","quantity":1,"sale_\u0069d":"s"}"#,
            r#"{"sale_id":"s","sku_id":"sku-1","quantity":1,"user_id":1,"user_id":1}"#,
            r#"{"sale_id":"s","sku_id":"sku-1","quantity":01}"#,
            r#"{"sale_id":"s","sku_id":"sku-1","quantity":1.0}"#,
            r#"{"sale_id":"s","sku_id":"sku-1","quantity":1e0}"#,
            r#"{"sale_id":"s","sku_id":"sku-1","quantity":1e999}"#,
            r#"{"sale_id":"s","sku_id":"sku-1","quantity":18446744073709551617}"#,
            r#"{"sale_id":"s","sku_id":"sku-1","quantity":NaN}"#,
            r#"{"sale_id":"s\ud800","sku_id":"sku-1","quantity":1}"#,
        ]
        .map(str::to_owned),
    );
    for quantity in [json!(0), json!(-1), json!(1_000_001), json!("1"), json!(true), json!(null), json!([1])] {
        bad.push(with(ok.clone(), json!({"quantity": quantity})).to_string());
    }
    for member in ["sale_id", "sku_id", "quantity"] {
        bad.push(without(ok.clone(), member).to_string());
        for value in [json!(null), json!({}), json!(["s"]), json!(false)] {
            bad.push(with(ok.clone(), json!({ member: value })).to_string());
        }
    }
    for member in ["sale_id", "sku_id"] {
        for value in ["", "a b", "a/b", "秒杀", "a\u{0}", &"x".repeat(65)] {
            bad.push(with(ok.clone(), json!({ member: value })).to_string());
        }
        bad.push(with(ok.clone(), json!({ member: 5 })).to_string());
    }
    for extra in [json!({"note": ""}), json!({"unit_price": 1}), json!({"Quantity": 1}), json!({"": null})] {
        bad.push(with(ok.clone(), extra).to_string());
    }
    for user_id in [json!("1"), json!(0), json!(-1), json!(1.0), json!(true), json!(9_223_372_036_854_775_808_u64)] {
        bad.push(with(ok.clone(), json!({"user_id": user_id})).to_string());
    }
    for idempotency_key in [json!(5), json!(true), json!(["k"])] {
        bad.push(with(ok.clone(), json!({"idempotency_key": idempotency_key})).to_string());
    }
    for body in bad {
        eprintln!("{body}");
        assert_refused(&buyer.send(post("/v1/orders").key("k").text(body)), "malformed_request");
    }
    // None of them used up the key.
    created(&buyer.send(place("k", &wish("s", 1_000_000))));
    server.finish();
}

#[test]
fn what_is_not_there_is_not_found() {
    let server = Server::start();
    server.open(&sale("s", 10));
    let mut buyer = server.buyer(1);
    assert_refused(&buyer.send(one("nowhere", "k")), "sale_not_found");
    assert_refused(&buyer.send(one("S", "k")), "sale_not_found");
    let other_sku = with(wish("s", 1), json!({"sku_id": "SKU-1"}));
    assert_refused(&buyer.send(place("k", &other_sku)), "sku_not_found");
    for target in ["/v1", "/v1/order", "/v1/orders/a/b", "/V1/orders", "/v2/orders", "//v1/orders"] {
        assert_refused(&buyer.send(get(target)), "not_found");
    }
    created(&buyer.send(one("s", "k")));
    server.finish();
}

#[test]
fn a_closed_sale_says_why() {
    let server = Server::start();
    let hour = 3_600_000;
    server.open(&with(sale("later", 10), json!({"starts_at": time::format(time::now_ms() + hour)})));
    server.open(&sale("s", 10));
    let mut buyer = server.buyer(1);

    let answer = buyer.send(one("later", "k"));
    assert_refused(&answer, "sale_not_open");
    let retry_after: u64 = answer.header("Retry-After").expect("the opening is known").parse().unwrap();
    assert!((3500..=3600).contains(&retry_after), "{answer}");

    server.switch("s", "pause");
    assert_refused(&buyer.send(one("s", "k")), "sale_paused");
    server.switch("s", "resume");
    let first = buyer.send(one("s", "k"));
    created(&first);
    server.switch("s", "end");
    assert_refused(&buyer.send(one("s", "k2")), "sale_ended");
    assert_eq!(server.level("s", "sku-1").held, 1);
    server.finish();
}

#[test]
fn the_window_opens_and_closes_by_itself() {
    let server = Server::start();
    let now = time::now_ms();
    let window = json!({"starts_at": time::format(now + 500), "ends_at": time::format(now + 4_000)});
    server.open(&with(sale("s", 1_000_000), window));
    let mut buyer = server.buyer(1);
    let mut n = 0;
    let mut until = |state: &str, codes: &[&str]| {
        eventually(|| {
            n += 1;
            let answer = buyer.send(one("s", &format!("k{n}")));
            let code = crate::contract::code(&answer).unwrap_or_default();
            assert!(code == state || codes.contains(&&*code), "{answer}");
            (code == state).then_some(())
        });
    };
    until("", &["sale_not_open"]);
    until("sale_ended", &[""]);
    server.finish();
}

#[test]
fn sold_out_and_the_limit_count_units() {
    let server = Server::start();
    let skus = json!([
        {"sku_id": "sku-1", "stock": 10, "unit_price": 1, "currency": "CNY"},
        {"sku_id": "sku-2", "stock": 10, "unit_price": 1, "currency": "CNY"},
    ]);
    server.open(&json!({"sale_id": "s", "user_limit": 3, "skus": skus}));
    let mut buyer = server.buyer(1);
    assert_refused(&buyer.send(place("a", &wish("s", 4))), "limit_reached");
    let first = buyer.send(place("b", &wish("s", 2)));
    created(&first);
    assert_refused(&buyer.send(place("c", &wish("s", 2))), "limit_reached");
    created(&buyer.send(place("c", &wish("s", 1))));
    assert_refused(&buyer.send(place("d", &wish("s", 1))), "limit_reached");
    assert_replayed(&buyer.send(place("b", &wish("s", 2))), &first);
    // Another sku and another user have limits of their own.
    created(&buyer.send(place("e", &with(wish("s", 3), json!({"sku_id": "sku-2"})))));
    created(&server.buyer(2).send(place("a", &wish("s", 3))));
    created(&server.buyer(3).send(place("a", &wish("s", 3))));
    // One unit is left: two are too many, one is not.
    assert_refused(&server.buyer(4).send(place("a", &wish("s", 2))), "sold_out");
    created(&server.buyer(4).send(place("a", &wish("s", 1))));
    assert_refused(&server.buyer(5).send(place("a", &wish("s", 1))), "sold_out");
    assert_eq!(server.level("s", "sku-1"), Level { total: 10, available: 0, held: 10, sold: 0 });
    assert_eq!(server.level("s", "sku-2"), Level { total: 10, available: 7, held: 3, sold: 0 });
    server.assert_balanced();
    server.finish();
}

#[test]
fn a_refusal_uses_up_no_key() {
    let server = Server::start();
    server.open(&sale("s", 1));
    created(&server.buyer(1).send(one("s", "k")));
    let mut buyer = server.buyer(2);
    assert_refused(&buyer.send(one("s", "k")), "sold_out");
    assert_refused(&buyer.send(place("k", &wish("s", 5))), "sold_out");
    assert_refused(&buyer.send(post("/v1/orders").key("k").text("{}")), "malformed_request");
    let no_type = post("/v1/orders").key("k").body(wish("s", 1).to_string());
    assert_refused(&buyer.send(no_type), "unsupported_media_type");
    assert_eq!(server.restock("s", "c1", 2).status, 200);
    // Neither a replay nor another content: the key is as good as new, and the sale sells at once.
    created(&buyer.send(place("k", &wish("s", 2))));
    server.finish();
}

#[test]
fn a_conflict_sale_names_the_order_instead_of_repeating_it() {
    let server = Server::start();
    server.open(&with(sale("s", 10), json!({"on_duplicate": "conflict"})));
    let mut buyer = server.buyer(1);
    let order = created(&buyer.send(one("s", "k")));
    for step in ["", "pause", "end"] {
        if !step.is_empty() {
            server.switch("s", step);
        }
        let answer = buyer.send(one("s", "k"));
        assert_refused(&answer, "idempotency_conflict");
        assert_eq!(answer.json()["order_no"], order["order_no"]);
        assert_refused(&buyer.send(place("k", &wish("s", 2))), "idempotency_key_reused");
    }
    server.finish();
}

#[test]
fn prefer_wait_is_echoed_up_to_ten_seconds() {
    let server = Server::start();
    server.open(&sale("s", 1));
    let mut buyer = server.buyer(1);
    let prefers = [
        ("wait=0", Some("wait=0")),
        ("wait=5", Some("wait=5")),
        ("wait=10", Some("wait=10")),
        ("wait=99", Some("wait=10")),
        ("respond-async, wait=3", Some("wait=3")),
        ("return=minimal", None),
        ("wait=soon", None),
        ("wait=-1", None),
    ];
    for (prefer, applied) in prefers {
        // The first is created, the others are replayed; all are finished, so nobody waits.
        let answer = buyer.send(one("s", "k").header("Prefer", prefer));
        assert_eq!(answer.status, 201, "{answer}");
        assert_eq!(answer.header("Preference-Applied"), applied, "{prefer}: {answer}");
    }
    let answer = buyer.send(one("s", "k2").header("Prefer", "wait=2"));
    assert_refused(&answer, "sold_out");
    assert_eq!(answer.header("Preference-Applied"), Some("wait=2"), "{answer}");
    server.finish();
}
