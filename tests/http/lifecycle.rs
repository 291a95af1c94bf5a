//! After the order: cancel, ship, refund, expire. What needs a payment is in `payments.rs`.

use serde_json::{Value, json};

use crate::client::{Request, get, post};
use crate::contract::{assert_members, assert_refused, created, ms};
use crate::server::Server;
use crate::shop::{Level, crowd, one, place, sale, wish, with};
use crate::wait::eventually;

/// A step of an order, by its word.
fn step(order: &Value, word: &str, key: &str) -> Request {
    let order_no = order["order_no"].as_str().unwrap();
    match word {
        "cancel" => post(format!("/v1/orders/{order_no}/cancel")).key(key),
        _ => post(format!("/admin/v1/orders/{order_no}/{word}")).key(key),
    }
}

fn confirmed_sale(sale_id: &str, stock: u64) -> Value {
    with(sale(sale_id, stock), json!({"payment_timeout_s": null}))
}

#[test]
fn a_cancelled_order_gives_its_units_back_and_its_answer_stays() {
    let server = Server::start();
    server.open(&sale("s", 2));
    let mut buyer = server.buyer(1);
    let order = created(&buyer.send(place("k", &wish("s", 2))));
    assert_refused(&server.buyer(2).send(one("s", "k")), "sold_out");

    let first = buyer.send(step(&order, "cancel", "c"));
    assert_eq!((first.status, first.header("Idempotency-Replayed")), (200, None), "{first}");
    let cancelled = first.json();
    let mut want = order.clone();
    want["state"] = json!("cancelled");
    want["state_version"] = json!(2);
    want["updated_at"] = cancelled["updated_at"].clone();
    assert_eq!(cancelled, want);
    assert!(ms(&cancelled["updated_at"]) >= ms(&cancelled["created_at"]));
    assert_eq!(server.level("s", "sku-1"), Level { total: 2, available: 2, held: 0, sold: 0 });
    created(&server.buyer(2).send(one("s", "k")));

    let again = buyer.send(step(&order, "cancel", "\"c\""));
    assert_eq!((again.status, again.header("Idempotency-Replayed")), (200, Some("true")), "{again}");
    assert_eq!(again.body, first.body, "byte for byte");
    let other_key = buyer.send(step(&order, "cancel", "d"));
    assert_eq!((other_key.status, other_key.header("Idempotency-Replayed")), (200, None), "it is what was asked for");
    assert_eq!(other_key.body, first.body);
    assert_eq!(buyer.send(get(format!("/v1/orders/{}", order["order_no"].as_str().unwrap()))).json(), cancelled);

    // The order's own answer is history, and stays what it was.
    let replay = buyer.send(place("k", &wish("s", 2)));
    assert_eq!((replay.status, replay.header("Idempotency-Replayed")), (201, Some("true")), "{replay}");
    assert_eq!(replay.json(), order);
    server.assert_balanced();
    server.finish();
}

#[test]
fn who_may_cancel_and_with_what() {
    let server = Server::start();
    server.open(&sale("s", 9));
    server.open(&confirmed_sale("paid", 9));
    let mut buyer = server.buyer(1);
    let order = created(&buyer.send(one("s", "k")));
    let path = format!("/v1/orders/{}/cancel", order["order_no"].as_str().unwrap());

    assert_refused(&server.buyer(2).send(step(&order, "cancel", "c")), "order_not_found");
    assert_refused(&server.stranger().send(post(path.as_str()).key("c")), "unauthenticated");
    assert_refused(&buyer.send(post(path.as_str())), "idempotency_key_missing");
    assert_refused(&buyer.send(post(path.as_str()).key("a,b")), "idempotency_key_invalid");
    assert_refused(&buyer.send(post(path.as_str()).key("a").key("a")), "idempotency_key_invalid");
    let disagreeing = post(path.as_str()).key("a").json(&json!({"idempotency_key": "b"}));
    assert_refused(&buyer.send(disagreeing), "idempotency_key_invalid");
    assert_refused(&buyer.send(post(path.as_str()).key("c").json(&json!({"restock": true}))), "malformed_request");
    assert_refused(&buyer.send(post(path.as_str()).key("c").json(&json!({"user_id": 2}))), "forbidden");
    assert_refused(&buyer.send(post(path.as_str()).key("c").body("{}")), "unsupported_media_type");
    assert_refused(&buyer.send(post("/v1/orders/none/cancel").key("c")), "order_not_found");
    let unknown = format!("/v1/orders/{}/cancel", "0".repeat(26));
    assert_refused(&buyer.send(post(unknown).key("c")), "order_not_found");
    let confirmed = created(&buyer.send(one("paid", "k")));
    assert_refused(&buyer.send(step(&confirmed, "cancel", "c")), "invalid_transition");
    assert_eq!(server.level("s", "sku-1").held, 1, "nothing of this changed anything");

    let in_body = post(path.as_str()).json(&json!({"idempotency_key": "c", "user_id": 1}));
    assert_eq!(server.stranger().send(in_body).json()["state"], "cancelled");
    server.assert_balanced();
    server.finish();
}

#[test]
fn fifty_cancellations_at_once_are_one() {
    let server = Server::start();
    server.open(&sale("s", 5));
    let order = created(&server.buyer(1).send(place("k", &wish("s", 5))));
    let same = crowd((0..25).map(|_| (server.buyer(1), step(&order, "cancel", "c"))).collect());
    let firsts = same.iter().filter(|answer| answer.header("Idempotency-Replayed").is_none()).count();
    assert!(same.iter().all(|answer| answer.status == 200 && answer.body == same[0].body), "{}", same[0]);
    assert_eq!(firsts, 1, "one of them did it");
    let other = crowd((0..25).map(|n| (server.buyer(1), step(&order, "cancel", &format!("c{n}")))).collect());
    assert!(other.iter().all(|answer| answer.status == 200 && answer.body == same[0].body), "{}", other[0]);
    assert_eq!(server.level("s", "sku-1"), Level { total: 5, available: 5, held: 0, sold: 0 });
    server.assert_balanced();
    server.finish();
}

#[test]
fn a_confirmed_order_is_shipped_once() {
    let server = Server::start();
    server.open(&confirmed_sale("s", 3));
    let mut operator = server.operator();
    let order = created(&server.buyer(1).send(place("k", &wish("s", 2))));
    assert_refused(&operator.send(step(&order, "refund", "r")), "invalid_transition");
    let first = operator.send(step(&order, "ship", "s"));
    assert_eq!((first.status, first.header("Idempotency-Replayed")), (200, None), "{first}");
    assert_eq!((&first.json()["state"], &first.json()["state_version"]), (&json!("shipped"), &json!(2)));
    let again = operator.send(step(&order, "ship", "s").json(&json!({"idempotency_key": "s"})));
    assert_eq!((again.status, again.header("Idempotency-Replayed")), (200, Some("true")), "{again}");
    assert_eq!(again.body, first.body);
    assert_refused(&operator.send(step(&order, "ship", "t")), "invalid_transition");
    assert_eq!(server.level("s", "sku-1"), Level { total: 3, available: 1, held: 0, sold: 2 });

    let number = order["order_no"].as_str().unwrap();
    assert_refused(&operator.send(post(format!("/admin/v1/orders/{number}/ship"))), "idempotency_key_missing");
    assert_refused(&operator.send(post("/admin/v1/orders/none/ship").key("s")), "order_not_found");
    let odd = step(&order, "ship", "u").json(&json!({"restock": true}));
    assert_refused(&operator.send(odd), "malformed_request");
    assert_refused(&server.buyer(1).send(step(&order, "ship", "s")), "not_found");
    assert_refused(&server.buyer(1).send(step(&order, "refund", "s")), "not_found");
    server.assert_balanced();
    server.finish();
}

#[test]
fn an_operator_sees_what_happened() {
    let server = Server::start();
    server.open(&confirmed_sale("s", 3));
    let mut operator = server.operator();
    let order = created(&server.buyer(1).send(one("s", "k")));
    let path = format!("/admin/v1/orders/{}/history", order["order_no"].as_str().unwrap());
    let before = operator.send(get(path.as_str())).json();
    assert_eq!((&before["history"], &before["payments"]), (&json!([]), &json!([])));
    operator.send(step(&order, "ship", "s"));
    let after = operator.send(get(path.as_str())).json();
    let [shipped] = after["history"].as_array().unwrap().as_slice() else { panic!("{after}") };
    assert_members(shipped, &["state_version", "step", "from", "to", "by", "at"]);
    let told = ["state_version", "step", "from", "to", "by"].map(|member| shipped[member].clone());
    assert_eq!(told, [json!(2), json!("ship"), json!("confirmed"), json!("shipped"), json!("operator")]);
    assert_eq!(shipped["at"], after["updated_at"]);
    server.finish();
}

#[test]
fn what_is_not_paid_expires_and_sells_again() {
    let server = Server::start();
    server.open(&with(sale("s", 3), json!({"payment_timeout_s": 1, "user_limit": 3, "shards": 2})));
    let mut buyer = server.buyer(1);
    let order = created(&buyer.send(place("k", &wish("s", 3))));
    assert_refused(&server.buyer(2).send(one("s", "k")), "sold_out");
    let path = format!("/v1/orders/{}", order["order_no"].as_str().unwrap());
    let expired = eventually(|| {
        let now = buyer.send(get(path.as_str())).json();
        (now["state"] != "pending_payment").then_some(now)
    });
    assert_eq!((&expired["state"], &expired["state_version"]), (&json!("expired"), &json!(2)));
    let late_ms = ms(&expired["updated_at"]) - ms(&expired["expires_at"]);
    assert!(late_ms >= 0, "not before its time: {expired}");
    assert_refused(&buyer.send(step(&order, "cancel", "c")), "invalid_transition");
    // The units sell again, to another and to the same user, whose limit they no longer fill.
    created(&server.buyer(2).send(one("s", "k")));
    created(&buyer.send(place("k2", &wish("s", 2))));
    assert_refused(&server.buyer(3).send(one("s", "k")), "sold_out");
    server.assert_balanced();
    server.finish();
}

#[test]
fn an_ended_sales_orders_are_cancelled_and_shipped() {
    let server = Server::start();
    server.open(&sale("s", 3));
    server.open(&confirmed_sale("t", 3));
    let unpaid = created(&server.buyer(1).send(one("s", "k")));
    let confirmed = created(&server.buyer(1).send(one("t", "k")));
    server.switch("s", "end");
    server.switch("t", "end");
    assert_eq!(server.buyer(1).send(step(&unpaid, "cancel", "c")).json()["state"], "cancelled");
    assert_eq!(server.operator().send(step(&confirmed, "ship", "c")).json()["state"], "shipped");
    assert_refused(&server.buyer(2).send(one("s", "k")), "sale_ended");
    assert_eq!(server.level("s", "sku-1").available, 3);
    server.assert_balanced();
    server.finish();
}

#[test]
fn answers_and_orders_outlive_a_crash() {
    let mut server = Server::start();
    server.open(&sale("s", 3));
    let order = created(&server.buyer(1).send(one("s", "k")));
    let first = server.buyer(1).send(step(&order, "cancel", "c"));
    server.kill9();
    let server = server.restart();
    let again = server.buyer(1).send(step(&order, "cancel", "c"));
    assert_eq!((again.header("Idempotency-Replayed"), &again.body), (Some("true"), &first.body), "{again}");
    assert_eq!(server.level("s", "sku-1"), Level { total: 3, available: 3, held: 0, sold: 0 });
    server.assert_balanced();
    server.finish();
}
