//! `log.trace_one_in`: what the log says of the time that an operation takes.

use serde_json::{Value, json};

use crate::client::{get, post};
use crate::contract::{assert_refused, assert_replayed, created};
use crate::provider::{PaymentEvent, SECRET, with_standard};
use crate::server::{Launch, Server};
use crate::shop::{one, sale, wish, with};

/// Ends a server, and reads the lines of its log that tell of spans.
fn spans(server: Server) -> Vec<Value> {
    let launch = server.launch.clone();
    server.finish();
    let log = launch.whole_log();
    let lines = log.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.filter(|line: &Value| line["message"] == "close").collect()
}

fn traced(launch: Launch, one_in: &str) -> Launch {
    launch.args(&["--log-trace-one-in", one_in])
}

/// The only one of `spans` that has these fields.
fn only<'s>(spans: &'s [Value], fields: &Value) -> &'s Value {
    let has = |line: &&Value| fields.as_object().unwrap().iter().all(|(name, value)| line["span"][name] == *value);
    let found: Vec<&Value> = spans.iter().filter(has).collect();
    assert_eq!(found.len(), 1, "{fields} in {spans:#?}");
    found[0]
}

/// The spans of the operation that was answered with this code, by name.
fn chain<'s>(spans: &'s [Value], code: &str) -> Vec<(&'s str, &'s Value)> {
    let operation = only(spans, &json!({"name": "operation", "code": code}));
    let of_it = |line: &&Value| line["span"]["operation"] == operation["span"]["operation"];
    let mut chain: Vec<_> =
        spans.iter().filter(of_it).map(|line| (line["span"]["name"].as_str().unwrap(), line)).collect();
    chain.sort_by_key(|(name, _)| *name);
    chain
}

fn names<'s>(chain: &[(&'s str, &Value)]) -> Vec<&'s str> {
    chain.iter().map(|(name, _)| *name).collect()
}

#[test]
fn every_operation_has_its_chain_of_spans() {
    let server = traced(with_standard(), "1").start();
    server.open(&sale("s", 10));
    let (mut buyer, mut operator) = (server.buyer(1), server.operator());
    let first = buyer.send(one("s", "k"));
    let order_no = created(&first)["order_no"].as_str().unwrap().to_owned();
    assert_replayed(&buyer.send(one("s", "k")), &first);
    assert_refused(&buyer.send(post("/v1/orders").key("m").text("{")), "malformed_request");
    assert_eq!(buyer.send(get(format!("/v1/orders/{order_no}"))).status, 200);
    assert_eq!(server.stranger().send(PaymentEvent::paid("e", &order_no).request()).status, 200);
    let forged = PaymentEvent::paid("f", &order_no).signed_with("whsec_Zm9yZ2VkIGZvcmdlZCBmb3JnZWQgZm9yZ2Vk");
    assert_eq!(
        server.stranger().send(forged.request()).status,
        401,
        "and it has no span: strangers cannot fill the log"
    );
    let ship = post(format!("/admin/v1/orders/{order_no}/ship")).key("c");
    assert_eq!(operator.send(ship.clone()).status, 200);
    let cancel = post(format!("/v1/orders/{order_no}/cancel")).key("c");
    assert_refused(&buyer.send(cancel), "invalid_transition");

    let spans = spans(server);
    let operations = [
        ("created", "/v1/orders", &["operation", "record", "reserve"][..], Some("append")),
        ("replayed", "/v1/orders", &["operation", "reserve"], None),
        ("malformed_request", "/v1/orders", &["operation"], None),
        ("applied", "/v1/payments/callbacks/{provider}", &["operation", "record"], Some("change")),
        ("taken", "/admin/v1/orders/{order_no}/ship", &["operation", "record"], Some("change")),
        ("invalid_transition", "/v1/orders/{order_no}/cancel", &["operation", "record"], Some("change")),
    ];
    for (code, route, spans_of_it, transaction) in operations {
        let chain = chain(&spans, code);
        assert_eq!(names(&chain), spans_of_it, "{code}");
        let operation = &chain[0].1["span"];
        assert!(operation["request_id"].is_string(), "{operation}");
        assert_eq!((&operation["method"], &operation["route"]), (&json!("POST"), &json!(route)));
        let is_known = code != "malformed_request";
        assert_eq!(operation["order_no"], if is_known { json!(order_no) } else { Value::Null }, "{code}");
        if let Some(transaction) = transaction {
            let batch = only(&spans, &json!({"name": transaction, "batch": chain[1].1["span"]["batch"]}));
            let count = if transaction == "append" { "orders" } else { "changes" };
            assert_eq!((&batch["span"]["ledger"], &batch["span"][count]), (&json!("sqlite"), &json!(1)), "{code}");
        }
    }
    let reserve = &chain(&spans, "created")[2].1["span"];
    assert_eq!((&reserve["sale"], &reserve["shard"]), (&json!("s"), &json!(0)));
    assert_eq!(spans.iter().filter(|line| line["span"]["name"] == "operation").count(), operations.len());
    for line in &spans {
        assert!(line["time.busy"].is_string() && line["time.idle"].is_string(), "{line}");
    }
}

#[test]
fn one_operation_of_n_has_spans_and_none_of_zero() {
    for (one_in, sampled) in [("0", &[][..]), ("3", &["k0", "k3"])] {
        let server = traced(Launch::new(), one_in).start();
        server.open(&sale("s", 10));
        let mut buyer = server.buyer(1);
        let orders: Vec<(String, Value)> = (0..5)
            .map(|n| format!("k{n}"))
            .map(|key| (key.clone(), created(&buyer.send(one("s", &key)))["order_no"].clone()))
            .collect();
        let spans = spans(server);
        for (key, order_no) in orders {
            let found = spans.iter().filter(|line| line["span"]["order_no"] == order_no).count();
            assert_eq!(found, usize::from(sampled.contains(&key.as_str())), "one in {one_in}: {key}");
        }
        // The order, its gate call, its record and the transaction.
        assert_eq!(spans.len(), 4 * sampled.len(), "{spans:#?}");
    }
}

#[test]
fn a_span_has_no_key_token_or_secret() {
    let server = traced(with_standard(), "1").start();
    server.open(&with(sale("s", 10), json!({"require_token": true})));
    let mut buyer = server.buyer(1);
    let drawn = buyer.send(post("/v1/sales/s/tokens"));
    let token = drawn.json()["token"].as_str().unwrap().to_owned();
    let order = post("/v1/orders").header("Purchase-Token", &token).key("canary-place").json(&wish("s", 1));
    let order_no = created(&buyer.send(order))["order_no"].as_str().unwrap().to_owned();
    let forged = post("/v1/orders").header("Purchase-Token", "canary-token").key("canary-forged").json(&wish("s", 1));
    assert_refused(&buyer.send(forged), "token_invalid");
    let report = PaymentEvent::paid("canary-event", &order_no);
    assert_eq!(server.stranger().send(report.request()).status, 200);
    let cancel = post(format!("/v1/orders/{order_no}/cancel")).key("canary-cancel").text("{\"user_id\":1}");
    assert_refused(&buyer.send(cancel), "invalid_transition");

    let spans = spans(server);
    assert_eq!(spans.iter().filter(|line| line["span"]["name"] == "operation").count(), 4, "{spans:#?}");
    for line in spans {
        let text = line.to_string();
        assert!(!["canary", &token, SECRET].iter().any(|secret| text.contains(secret)), "{text}");
    }
}
