//! Reading orders, sales, capabilities and the documents; methods and paths.

use serde_json::{Value, json};

use crate::client::{Client, escaped, get, request};
use crate::contract::{CODES, assert_current, assert_members, assert_refused, created};
use crate::server::Server;
use crate::shop::{one, place, sale, wish, with};
use crate::time;

#[test]
fn an_order_is_read_as_it_is_now() {
    let server = Server::start();
    server.open(&sale("s", 10));
    let mut buyer = server.buyer(1);
    let made = created(&buyer.send(place("a+b/c=d&e", &wish("s", 2))));
    let order_no = made["order_no"].as_str().unwrap();

    let key = escaped("a+b/c=d&e");
    let reads = [
        buyer.send(get(format!("/v1/orders/{order_no}"))),
        buyer.send(get(format!("/v1/orders?sale_id=s&idempotency_key={key}"))),
        buyer.send(get(format!("/v1/orders?idempotency_key={key}&sale_id=s"))),
        server.operator().send(get(format!("/admin/v1/orders/{order_no}"))),
        server.operator().send(get(format!("/admin/v1/orders?sale_id=s&user_id=1&idempotency_key={key}"))),
    ];
    for answer in &reads {
        assert_eq!(answer.status, 200, "{answer}");
        assert_eq!(answer.media_type(), "application/json");
        assert_eq!(answer.header("Cache-Control"), Some("no-store"), "{answer}");
        assert_current(&answer.json(), &made);
        assert_eq!(answer.json(), reads[0].json(), "one order, whoever reads it");
    }
    let now = reads[0].json();
    assert_eq!((&now["state"], &now["state_version"]), (&json!("pending_payment"), &json!(1)));
    server.finish();
}

#[test]
fn what_nobody_ordered_is_not_found() {
    let server = Server::start();
    server.open(&sale("s", 10));
    let mut buyer = server.buyer(1);
    let made = created(&buyer.send(one("s", "k")));
    let order_no = made["order_no"].as_str().unwrap();
    let unknown = ["0".repeat(26), order_no.to_lowercase(), order_no[1..].into(), format!("{order_no}0"), "x".into()];
    for no in unknown.iter().filter(|no| *no != order_no) {
        assert_refused(&buyer.send(get(format!("/v1/orders/{no}"))), "order_not_found");
        assert_refused(&server.operator().send(get(format!("/admin/v1/orders/{no}"))), "order_not_found");
    }
    for query in ["sale_id=s&idempotency_key=K", "sale_id=nowhere&idempotency_key=k"] {
        assert_refused(&buyer.send(get(format!("/v1/orders?{query}"))), "order_not_found");
    }
    assert_refused(&buyer.send(get("/v1/orders?idempotency_key=k")), "malformed_request");
    let mut operator = server.operator();
    for query in ["sale_id=s&user_id=2&idempotency_key=k", "sale_id=nowhere&user_id=1&idempotency_key=k"] {
        assert_refused(&operator.send(get(format!("/admin/v1/orders?{query}"))), "order_not_found");
    }
    for query in
        ["", "?sale_id=s", "?sale_id=s&user_id=1", "?user_id=1&idempotency_key=k", "?sale_id=s&idempotency_key=k"]
    {
        assert_refused(&operator.send(get(format!("/admin/v1/orders{query}"))), "malformed_request");
    }
    for user in ["0", "x", "-1", "01"] {
        let target = format!("/admin/v1/orders?sale_id=s&user_id={user}&idempotency_key=k");
        assert_refused(&operator.send(get(target)), "malformed_request");
    }
    server.finish();
}

/// One page: its orders, and the cursor of the next.
fn page(buyer: &mut Client, query: &str) -> (Vec<Value>, Option<String>) {
    let answer = buyer.send(get(format!("/v1/orders?sale_id=s{query}")));
    assert_eq!(answer.status, 200, "{answer}");
    assert_eq!(answer.header("Cache-Control"), Some("no-store"), "{answer}");
    let page = answer.json();
    assert_members(&page, &["orders", "next_cursor"]);
    let next = match &page["next_cursor"] {
        Value::Null => None,
        Value::String(cursor) => Some(cursor.clone()),
        other => panic!("a cursor is a text or null: {other}"),
    };
    (page["orders"].as_array().unwrap().clone(), next)
}

#[test]
fn a_listing_has_no_gap_and_no_repeat() {
    let server = Server::start();
    server.open(&sale("s", 1000));
    server.open(&sale("t", 1000));
    let mut buyer = server.buyer(1);
    assert_eq!(page(&mut buyer, ""), (vec![], None));
    let mut made: Vec<Value> = (0..45).map(|n| created(&buyer.send(one("s", &format!("k{n}"))))).collect();
    // Other users and other sales are none of this listing's business.
    created(&server.buyer(2).send(one("s", "k")));
    created(&buyer.send(one("t", "k")));
    made.reverse();

    for limit in ["", "&limit=1", "&limit=7", "&limit=45", "&limit=100"] {
        let size = limit.trim_start_matches("&limit=").parse().unwrap_or(20);
        assert_eq!(whole_listing(&mut buyer, limit, size, |_| {}), numbers(&made), "{limit}");
    }
    // Orders that arrive meanwhile are newer than the first page and do not disturb the others.
    let mut other = server.buyer(1);
    let mut late = Vec::new();
    let listed = whole_listing(&mut buyer, "&limit=7", 7, |n| {
        late.push(created(&other.send(one("s", &format!("late-{n}")))));
    });
    assert_eq!(listed, numbers(&made));
    late.reverse();
    late.extend(made);
    assert_eq!(whole_listing(&mut buyer, "&limit=100", 100, |_| {}), numbers(&late));
    server.finish();
}

fn numbers(orders: &[Value]) -> Vec<String> {
    orders.iter().map(|order| order["order_no"].as_str().unwrap().to_owned()).collect()
}

/// The numbers on all pages; `between` is called with the number of orders so far, after every page but the last.
fn whole_listing(buyer: &mut Client, limit: &str, size: usize, mut between: impl FnMut(usize)) -> Vec<String> {
    let (mut listed, mut next) = page(buyer, limit);
    while let Some(cursor) = next {
        assert_eq!(listed.len() % size, 0, "only the last page may be short");
        between(listed.len());
        let (orders, after) = page(buyer, &format!("{limit}&cursor={}", escaped(&cursor)));
        assert!(orders.len() <= size, "{limit}");
        listed.extend(orders);
        next = after;
    }
    for order in &listed {
        assert_current(order, order);
    }
    numbers(&listed)
}

#[test]
fn a_listing_asks_for_good_parameters() {
    let server = Server::start();
    server.open(&sale("s", 10));
    let mut buyer = server.buyer(1);
    assert_eq!(buyer.send(get("/v1/orders?sale_id=nowhere")).json(), json!({"orders": [], "next_cursor": null}));
    for query in ["", "?", "?limit=5", "?cursor=x"] {
        assert_refused(&buyer.send(get(format!("/v1/orders{query}"))), "malformed_request");
    }
    for limit in ["0", "007", "101", "-1", "1.5", "x", "", "1e1", "%2B5", "18446744073709551617"] {
        let answer = buyer.send(get(format!("/v1/orders?sale_id=s&limit={limit}")));
        assert_refused(&answer, "malformed_request");
    }
    for cursor in ["", "x", "0", "-1", "%00", "../../etc/passwd", "AAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
        let answer = buyer.send(get(format!("/v1/orders?sale_id=s&cursor={}", escaped(cursor))));
        assert_refused(&answer, "malformed_request");
    }
    server.finish();
}

#[test]
fn a_sale_is_shown_to_anyone_for_a_second() {
    let server = Server::start();
    let starts_at = time::format(time::now_ms() - 1000);
    let ends_at = time::format(time::now_ms() + 3_600_000);
    server.open(&with(sale("s", 10), json!({"starts_at": starts_at, "ends_at": ends_at})));
    server.open(&sale("bare", 10));
    server.open(&with(sale("later", 10), json!({"starts_at": ends_at})));
    let show = |sale_id: &str| {
        let answer = server.stranger().send(get(format!("/v1/sales/{sale_id}")));
        assert_eq!(answer.status, 200, "{answer}");
        assert_eq!(answer.header("Cache-Control"), Some("max-age=1"), "{answer}");
        answer.json()
    };
    let shown = show("s");
    let left_hint = shown["items"][0]["left_hint"].as_u64().expect("units");
    assert!(left_hint <= 10, "{shown}");
    let items = json!([{"sku_id": "sku-1", "unit_price": 1999, "currency": "CNY", "left_hint": left_hint}]);
    let want = json!({"sale_id": "s", "state": "open", "starts_at": starts_at, "ends_at": ends_at, "items": items});
    assert_eq!(shown, want);
    let bare = show("bare");
    assert_eq!((&bare["starts_at"], &bare["ends_at"]), (&Value::Null, &Value::Null));
    assert_eq!(show("later")["state"], "scheduled");
    for (step, state) in [("pause", "paused"), ("resume", "open"), ("end", "ended")] {
        server.switch("s", step);
        assert_eq!(show("s")["state"], state);
    }
    assert_refused(&server.stranger().send(get("/v1/sales/nowhere")), "sale_not_found");
    server.finish();
}

#[test]
fn capabilities_tell_the_bounds_of_the_contract() {
    let server = Server::start();
    let answer = server.stranger().send(get("/v1/capabilities"));
    assert_eq!((answer.status, &*answer.media_type()), (200, "application/json"));
    let told = answer.json();
    let retryable: Vec<&str> = CODES.iter().filter(|row| row.2).map(|row| row.0).collect();
    for (pointer, want) in [
        ("/idempotency/key/length_max", json!(255)),
        ("/idempotency/boundaries", json!(["request", "user_sku", "user_sale", "user_sku_day"])),
        ("/idempotency/stored_outcomes", json!([201])),
        ("/idempotency/steps/replay_window_s", json!(7 * 24 * 3600)),
        ("/idempotency/steps/keys_per_step", json!(16)),
        ("/idempotency/replay_marker", json!("Idempotency-Replayed")),
        ("/idempotency/in_progress", json!({"status": 409, "retry_after_s": 1, "prefer_wait_s_max": 10})),
        ("/retryable_codes", json!(retryable)),
        ("/limits/body_bytes_max", json!(65536)),
        ("/limits/head_bytes_max", json!(32768)),
        ("/limits/headers_max", json!(64)),
        ("/limits/quantity_max", json!(1_000_000)),
        ("/limits/page_orders_max", json!(100)),
    ] {
        assert_eq!(told.pointer(pointer), Some(&want), "{pointer}");
    }
    server.finish();
}

#[test]
fn every_problem_has_a_page_on_both_listeners() {
    let server = Server::start();
    for mut anyone in [server.stranger(), server.operator()] {
        for (code, _, _) in CODES {
            let answer = anyone.send(get(format!("/problems/{code}")));
            assert_eq!((answer.status, &*answer.media_type()), (200, "text/html"), "{answer}");
            assert!(String::from_utf8_lossy(&answer.body).contains(code), "{answer}");
        }
        for code in ["", "nope", "SOLD_OUT", "sold_out/", "..", "%2e%2e"] {
            assert_refused(&anyone.send(get(format!("/problems/{code}"))), "not_found");
        }
    }
    server.finish();
}

#[test]
fn head_is_get_without_the_body() {
    let server = Server::start();
    server.open(&sale("s", 10));
    let mut buyer = server.buyer(1);
    let order_no = created(&buyer.send(one("s", "k")))["order_no"].as_str().unwrap().to_owned();
    let same = |client: &mut Client, target: &str| {
        let (got, head) = (client.send(get(target)), client.send(request("HEAD", target)));
        assert_eq!(head.status, got.status, "{target}");
        assert!(head.body.is_empty() && !got.body.is_empty(), "{target}");
        for name in ["Content-Type", "Cache-Control", "Retry-After"] {
            assert_eq!(head.header(name), got.header(name), "{name} of {target}");
        }
    };
    for target in ["/v1/sales/s", "/v1/sales/no", "/v1/capabilities", "/openapi.yaml", "/problems/sold_out", "/no"] {
        same(&mut buyer, target);
    }
    same(&mut buyer, &format!("/v1/orders/{order_no}"));
    same(&mut buyer, "/v1/orders?sale_id=s");
    let mut operator = server.operator();
    for target in ["/admin/v1/sales", "/admin/v1/sales/s", "/admin/v1/verify", "/healthz", "/readyz"] {
        same(&mut operator, target);
    }
    server.finish();
}

#[test]
fn a_path_may_encode_what_it_need_not() {
    let server = Server::start();
    server.open(&sale("a.b", 10));
    let mut anyone = server.stranger();
    for path in ["/v1/sales/a.b", "/v1/sales/%61%2Eb", "/%76%31/sales/a%2eb"] {
        assert_eq!(anyone.send(get(path)).json()["sale_id"], "a.b", "{path}");
        assert_refused(&anyone.send(request("DELETE", path)), "method_not_allowed");
    }
    assert_eq!(server.operator().send(get("/admin/v1/%73ales/a%2Eb")).status, 200);
    for path in ["/v1%2Fsales/a.b", "/v1/sales/%2561.b", "/v1/sales/a.b%00"] {
        let answer = anyone.send(get(path));
        assert_eq!(answer.status, 404, "{path}: {answer}");
    }
    server.finish();
}

#[test]
fn what_belongs_to_the_operator_is_not_on_the_public_listener() {
    let server = Server::start();
    server.open(&sale("s", 10));
    let mut anyone = server.stranger();
    for method in ["GET", "POST", "PUT", "DELETE"] {
        for target in
            ["/metrics", "/admin", "/admin/v1/sales", "/admin/v1/sales/s", "/admin/v1/sales/s/end", "/admin/v1/verify"]
        {
            assert_refused(&anyone.send(request(method, target)), "not_found");
        }
    }
    let mut operator = server.operator();
    for target in ["/v1/orders", "/v1/sales/s", "/v1/capabilities"] {
        assert_refused(&operator.send(get(target)), "not_found");
    }
    let metrics = operator.send(get("/metrics"));
    assert_eq!(metrics.status, 200, "{metrics}");
    assert!(String::from_utf8_lossy(&metrics.body).contains("# TYPE "), "{metrics}");
    server.finish();
}
