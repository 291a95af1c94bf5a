//! openapi.yaml says what the server does, and the server does what openapi.yaml says.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::client::{Answer, Client, Request, get, post, request};
use crate::contract::{CODES, assert_refused, code, created};
use crate::provider::{self, PaymentEvent};
use crate::schema::{Description, FILE, Operation};
use crate::server::Server;
use crate::shop::{one, place, sale, wish, with};

#[test]
fn the_server_serves_the_file() {
    let server = Server::start();
    let answer = server.stranger().send(get("/openapi.yaml"));
    assert_eq!((answer.status, &*answer.media_type()), (200, "application/yaml"));
    assert_eq!(answer.body, std::fs::read(FILE).unwrap());
    server.finish();
}

#[test]
fn every_code_of_the_contract_is_described_with_its_status() {
    let description = Description::load();
    let described = description.root()["components"]["schemas"]["Code"]["enum"].as_array().unwrap();
    assert_eq!(described.iter().collect::<Vec<_>>(), CODES.iter().map(|row| row.0).collect::<Vec<_>>());
    for operation in description.operations() {
        for (status, response) in description.responses(&operation) {
            let codes = Description::codes(response);
            let is_problem = response["content"].get("application/problem+json").is_some();
            assert_eq!(codes.is_empty(), !is_problem, "{} {status} names its codes", operation.name);
            for code in codes {
                let row = CODES.iter().find(|row| row.0 == code).unwrap_or_else(|| panic!("no code {code}"));
                assert_eq!(row.1, status, "{code} of {}", operation.name);
                let example = &description.root()["components"]["examples"][code]["value"];
                assert_eq!(example["code"], code);
                assert_eq!((&example["status"], &example["retryable"]), (&json!(row.1), &json!(row.2)), "{code}");
            }
        }
    }
}

#[test]
fn every_example_is_valid() {
    let description = Description::load();
    let checked = examples(&description, "", description.root());
    assert!(checked > 100, "{checked} examples were found");
}

/// Checks the examples below `value`, wherever they stand beside a schema; how many there are.
fn examples(description: &Description, path: &str, value: &Value) -> usize {
    let value = description.at(value);
    let mut checked = 0;
    if let Some(schema) = value.get("schema") {
        let named = value.get("examples").and_then(Value::as_object).into_iter().flatten();
        let values = named.map(|(_, example)| &description.at(example)["value"]).chain(value.get("example"));
        for example in values {
            assert_eq!(description.faults(schema, example), [""; 0], "{path}");
            checked += 1;
        }
    }
    for (name, part) in
        value.as_object().into_iter().flatten().filter(|(name, _)| *name != "schema" && *name != "schemas")
    {
        checked += examples(description, &format!("{path}/{name}"), part);
    }
    for part in value.as_array().into_iter().flatten() {
        checked += examples(description, path, part);
    }
    checked
}

#[test]
fn every_path_takes_exactly_the_methods_described() {
    let server = Server::start();
    server.open(&sale("s", 10));
    let description = Description::load();
    for (path, item) in description.paths() {
        let target =
            path.replace("{sale_id}", "s").replace("{code}", "sold_out").replace("{order_no}", &"0".repeat(26));
        let target = target.replace("{provider}", "standard");
        let methods: BTreeSet<&str> = Description::methods(item).into_iter().collect();
        for listener in description.listeners(item) {
            for odd in ["BREW", "DELETE"] {
                let answer = on(&server, listener).send(request(odd, &target).header("X-User-Id", "1"));
                assert_refused(&answer, "method_not_allowed");
                let allow = answer.header("Allow").unwrap_or_else(|| panic!("{odd} {path}: {answer}"));
                assert_eq!(allow.split(',').map(str::trim).collect::<BTreeSet<_>>(), methods, "{path}");
            }
        }
        for listener in ["public", "admin"] {
            // Probes are asked for by name on the admin listener; elsewhere their paths are left open.
            if !description.listeners(item).contains(&listener) && path.starts_with("/v1") | path.starts_with("/admin")
            {
                assert_refused(&on(&server, listener).send(get(&target)), "not_found");
            }
        }
    }
    server.finish();
}

fn on(server: &Server, listener: &str) -> Client {
    match listener {
        "public" => server.stranger(),
        "admin" => server.operator(),
        other => panic!("a server is described as public or admin, not {other}"),
    }
}

/// Requests that reach every operation, the good and the bad side of it. The order matters.
fn tour([order_no, confirmed, unpaid]: [&str; 3]) -> Vec<Request> {
    let user = |request: Request| request.header("X-User-Id", "1");
    let admin = |path: &str| post(format!("/admin/v1/sales{path}"));
    let change = json!({"change_id": "c", "sku_id": "sku-1", "quantity": 5});
    let big = "x".repeat(70_000);
    vec![
        admin("").json(&sale("toured", 5)),
        admin("").json(&sale("toured", 5)),
        admin("")
            .json(&with(sale("full", 5), json!({"starts_at": "2030-01-01T00:00:00.000Z", "payment_timeout_s": null}))),
        admin("").json(&sale("toured", 6)),
        admin("").json(&json!({})),
        admin("").body("{}"),
        admin("").text(big.clone()),
        admin("").json(&with(sale("daily", 5), json!({"boundary": "user_sku_day", "time_zone": "Asia/Shanghai"}))),
        admin("").json(&with(sale("token", 5), json!({"require_token": true}))),
        admin("").json(&with(sale("conflict", 5), json!({"on_duplicate": "conflict", "user_limit": 1}))),
        get("/admin/v1/sales"),
        get("/admin/v1/sales/toured"),
        get("/admin/v1/sales/nowhere"),
        admin("/toured/restock").json(&change),
        admin("/toured/restock").json(&with(change.clone(), json!({"quantity": 6}))),
        admin("/toured/restock").json(&with(change.clone(), json!({"change_id": "d", "quantity": -50}))),
        admin("/toured/restock").json(&with(change.clone(), json!({"sku_id": "none"}))),
        admin("/toured/restock").json(&json!({})),
        admin("/toured/restock").body("{}"),
        admin("/toured/restock").text(big.clone()),
        admin("/nowhere/restock").json(&change),
        user(one("toured", "k")),
        user(one("toured", "k")),
        user(place("k", &wish("toured", 2))),
        user(place("k2", &wish("toured", 100))),
        user(post("/v1/orders").json(&wish("toured", 1))),
        user(one("toured", "\"")),
        user(place("k", &json!({}))),
        user(place("k", &with(wish("toured", 1), json!({"user_id": 2})))),
        user(place("k", &with(wish("toured", 1), json!({"sku_id": "none"})))),
        user(one("nowhere", "k")),
        user(one("full", "k")),
        user(one("token", "k")),
        user(one("token", "k").header("Purchase-Token", "x")),
        user(post("/v1/sales/token/tokens")),
        user(post("/v1/sales/token/tokens").json(&json!({"user_id": 1}))),
        user(post("/v1/sales/token/tokens").json(&json!({"user_id": 2}))),
        user(post("/v1/sales/token/tokens").json(&json!({"x": 2}))),
        user(post("/v1/sales/token/tokens").body("{}")),
        user(post("/v1/sales/token/tokens").text(big.clone())),
        user(post("/v1/sales/nowhere/tokens")),
        post("/v1/sales/token/tokens"),
        user(get("/api/token?sale_id=token")),
        user(get("/api/token?sale_id=nowhere")),
        user(get("/api/token")),
        get("/api/token?sale_id=token"),
        user(one("conflict", "k")),
        user(one("conflict", "k")),
        user(one("conflict", "k2")),
        user(post("/v1/orders").key("k").body("{}")),
        user(post("/v1/orders").key("k").text(big)),
        one("toured", "k"),
        user(get(format!("/v1/orders/{order_no}"))),
        user(get("/v1/orders/0")),
        get(format!("/v1/orders/{order_no}")),
        user(get("/v1/orders?sale_id=toured")),
        user(get("/v1/orders?sale_id=toured&limit=1")),
        user(get("/v1/orders?sale_id=nowhere")),
        user(get("/v1/orders?sale_id=toured&idempotency_key=k")),
        user(get("/v1/orders?sale_id=toured&idempotency_key=none")),
        user(get("/v1/orders?sale_id=toured&idempotency_key=%22")),
        user(get("/v1/orders")),
        get("/v1/orders?sale_id=toured"),
        PaymentEvent::paid("evt-1", order_no).request(),
        PaymentEvent::paid("evt-1", order_no).request(),
        PaymentEvent::paid("evt-2", order_no).with(json!({"amount": "1999"})).request(),
        PaymentEvent::paid("evt-3", order_no).signed_with(provider::OTHER_SECRET).request(),
        PaymentEvent::paid("evt-4", "00000000000000000000000000").request(),
        post(provider::PATH).body(vec![b'x'; 70_000]),
        post("/v1/payments/callbacks/nobody"),
        get("/v1/sales/toured"),
        get("/v1/sales/full"),
        get("/v1/sales/nowhere"),
        get("/v1/capabilities"),
        get("/openapi.yaml"),
        get("/problems/sold_out"),
        get("/problems/none"),
        user(post(format!("/v1/orders/{unpaid}/cancel"))),
        user(post(format!("/v1/orders/{unpaid}/cancel")).key("\"")),
        user(post(format!("/v1/orders/{unpaid}/cancel")).key("c").body("{}")),
        user(post(format!("/v1/orders/{unpaid}/cancel")).key("c").text("x".repeat(70_000))),
        user(post(format!("/v1/orders/{unpaid}/cancel")).key("c").json(&json!({"user_id": 2}))),
        user(post("/v1/orders/0/cancel").key("c")),
        post(format!("/v1/orders/{unpaid}/cancel")).key("c"),
        post(format!("/admin/v1/orders/{unpaid}/ship")).key("c"),
        post(format!("/admin/v1/orders/{unpaid}/refund")).key("c"),
        post(format!("/admin/v1/orders/{order_no}/refund")).key("c"),
        post(format!("/admin/v1/orders/{order_no}/refund")).key("c"),
        post(format!("/admin/v1/orders/{order_no}/refund")).key("c").json(&json!({"restock": true})),
        user(post(format!("/v1/orders/{unpaid}/cancel")).key("c")),
        user(post(format!("/v1/orders/{unpaid}/cancel")).key("c")),
        post(format!("/admin/v1/orders/{confirmed}/ship")),
        post(format!("/admin/v1/orders/{confirmed}/ship")).key("c").json(&json!({"x": 1})),
        post(format!("/admin/v1/orders/{confirmed}/ship")).key("c"),
        post(format!("/admin/v1/orders/{confirmed}/ship")).key("c"),
        post("/admin/v1/orders/0/ship").key("c"),
        post(format!("/admin/v1/orders/{confirmed}/refund")),
        post(format!("/admin/v1/orders/{confirmed}/refund")).key("c").json(&json!({"restock": 1})),
        post("/admin/v1/orders/0/refund").key("c"),
        get(format!("/admin/v1/orders/{order_no}")),
        get("/admin/v1/orders/0"),
        get(format!("/admin/v1/orders/{order_no}/history")),
        get("/admin/v1/orders/0/history"),
        get("/admin/v1/orders?sale_id=toured&user_id=1&idempotency_key=k"),
        get("/admin/v1/orders?sale_id=toured&user_id=9&idempotency_key=k"),
        get("/admin/v1/orders?sale_id=toured&user_id=1&idempotency_key=%22"),
        get("/admin/v1/orders"),
        get("/admin/v1/verify"),
        get("/admin/v1/verify?sale_id=toured"),
        get("/admin/v1/verify?sale_id=nowhere"),
        get("/healthz"),
        get("/readyz"),
        get("/metrics"),
        get("/"),
        admin("/toured/pause"),
        user(one("toured", "k3")),
        admin("/toured/pause").json(&json!({"x": 1})),
        admin("/nowhere/pause"),
        admin("/toured/resume"),
        admin("/nowhere/resume"),
        admin("/toured/end"),
        admin("/nowhere/end"),
        user(post("/v1/sales/toured/tokens")),
        user(get("/api/token?sale_id=toured")),
        admin("/toured/resume"),
        user(one("toured", "k3")),
        user(one("toured", "k")),
    ]
}

#[test]
fn every_operation_answers_as_described() {
    let server = provider::with_standard().start();
    server.open(&sale("first", 10));
    server.open(&with(sale("free", 10), json!({"payment_timeout_s": null})));
    let order = created(&server.buyer(1).send(one("first", "k")));
    let confirmed = created(&server.buyer(1).send(one("free", "k")));
    let unpaid = created(&server.buyer(1).send(one("first", "unpaid")));
    let numbers = [&order, &confirmed, &unpaid].map(|order| order["order_no"].as_str().unwrap());
    let description = Description::load();
    let operations = description.operations();
    let mut seen: BTreeMap<&str, BTreeSet<u16>> = operations.iter().map(|o| (&*o.name, BTreeSet::new())).collect();
    let (mut public, mut admin) = (server.stranger(), server.operator());
    for request in tour(numbers) {
        let operation = operations.iter().find(|operation| is_of(&request, &operation.name));
        let operation = operation.unwrap_or_else(|| panic!("not described: {request:?}"));
        for listener in &operation.listeners {
            let client = if *listener == "public" { &mut public } else { &mut admin };
            let answer = client.send(request.clone());
            assert_described(&description, operation, &answer);
            seen.get_mut(&*operation.name).unwrap().insert(answer.status);
        }
    }
    for (name, statuses) in seen {
        assert!(statuses.iter().any(|&status| status < 300), "{name} was seen with {statuses:?} only");
    }
    // A callback that is signed and malformed is told of.
    server.finish_after_trouble();
}

/// Whether a request is of an operation, such as `GET /v1/orders/{order_no}`.
fn is_of(request: &Request, operation: &str) -> bool {
    let (method, path) = operation.split_once(' ').unwrap();
    let sent: Vec<&str> = request.target.split('?').next().unwrap().split('/').collect();
    let described: Vec<&str> = path.split('/').collect();
    let is_same = |(sent, described): (&&str, &&str)| described.starts_with('{') || sent == described;
    request.method == method && sent.len() == described.len() && sent.iter().zip(&described).all(is_same)
}

/// Status, content type, code, headers and body are among those described.
pub(crate) fn assert_described(description: &Description, operation: &Operation<'_>, answer: &Answer) {
    let name = &operation.name;
    let response = description.response(operation, answer.status);
    let response = response.unwrap_or_else(|| panic!("{name} does not list this: {answer}"));
    let content = response["content"].get(answer.media_type());
    let content = content.unwrap_or_else(|| panic!("{name} does not list this content type: {answer}"));
    if let Some(code) = code(answer) {
        assert!(Description::codes(response).contains(&&*code), "{name} does not list {code}: {answer}");
    }
    for header in ["Location", "Idempotency-Replayed", "Retry-After"] {
        let described = response["headers"].get(header).is_some();
        assert!(described || answer.header(header).is_none(), "{name} does not list {header}: {answer}");
    }
    if answer.media_type().ends_with("json") {
        assert_eq!(description.faults(&content["schema"], &answer.json()), [""; 0], "{name}: {answer}");
    }
}
