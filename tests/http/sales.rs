//! The admin listener: making, steering and auditing sales.

use serde_json::{Value, json};

use crate::client::{Answer, get, post};
use crate::contract::{assert_members, assert_refused, created, ms};
use crate::server::{Launch, Server};
use crate::shop::{Level, level_in, one, place, sale, wish, with, without};
use crate::time;

const SALE: [&str; 11] = [
    "sale_id",
    "starts_at",
    "ends_at",
    "boundary",
    "user_limit",
    "payment_timeout_s",
    "on_duplicate",
    "require_token",
    "shards",
    "state",
    "skus",
];

fn create(server: &Server, body: &Value) -> Answer {
    server.operator().send(post("/admin/v1/sales").json(body))
}

#[test]
fn a_sale_is_shown_as_it_was_made() {
    let server = Server::start();
    let (starts_at, ends_at) = (time::now_ms() + 3_600_000, time::now_ms() + 7_200_000);
    let full = json!({
        "sale_id": "Full_1.a-b", "starts_at": time::format(starts_at), "ends_at": time::format(ends_at),
        "boundary": "user_sku", "user_limit": 2, "payment_timeout_s": 60, "on_duplicate": "conflict",
        "require_token": true, "shards": 3,
        "skus": [
            {"sku_id": "a", "stock": 10, "unit_price": 0, "currency": "CNY"},
            {"sku_id": "b", "stock": 0, "unit_price": 1_000_000_000_000_i64, "currency": "EUR"},
        ],
    });
    let made = create(&server, &full);
    assert_eq!((made.status, &*made.media_type()), (201, "application/json"), "{made}");
    let shown = server.operator().send(get("/admin/v1/sales/Full_1.a-b"));
    assert_eq!((shown.status, &*shown.media_type()), (200, "application/json"), "{shown}");
    assert_eq!(made.json(), shown.json());

    let shown = shown.json();
    assert_members(&shown, &SALE);
    for member in SALE.into_iter().filter(|&member| member != "state" && member != "skus") {
        assert_eq!(shown[member], full[member], "{member}");
    }
    assert_eq!(shown["state"], "scheduled");
    assert_eq!((ms(&shown["starts_at"]), ms(&shown["ends_at"])), (starts_at, ends_at));
    for (sku, want) in shown["skus"].as_array().unwrap().iter().zip(full["skus"].as_array().unwrap()) {
        let stock = ["sku_id", "unit_price", "currency", "total", "available", "held", "sold", "shards"];
        assert_members(sku, &stock);
        for member in ["sku_id", "unit_price", "currency"] {
            assert_eq!(sku[member], want[member]);
        }
        let shards = sku["shards"].as_array().unwrap();
        assert_eq!(shards.len(), 3);
        for shard in shards {
            assert_members(shard, &["shard", "total", "available", "held", "sold"]);
        }
        let stock = want["stock"].as_u64().unwrap();
        let level = level_in(&shown, sku["sku_id"].as_str().unwrap());
        assert_eq!(level, Level { total: stock, available: stock, held: 0, sold: 0 });
    }
    server.finish();
}

#[test]
fn defaults_are_filled_in_and_null_is_the_same_as_nothing() {
    let server = Server::start();
    let shown = server.open(&sale("s", 10));
    let want = json!({
        "sale_id": "s", "starts_at": null, "ends_at": null, "boundary": "request", "user_limit": null,
        "payment_timeout_s": 900, "on_duplicate": "replay", "require_token": false, "state": "open",
        "shards": shown["shards"], "skus": shown["skus"],
    });
    assert_eq!(shown, want);
    assert!(shown["shards"].as_u64().is_some_and(|shards| (1..=1024).contains(&shards)), "{shown}");

    // Every spelling of the same content is the same sale.
    let nulls = json!({
        "starts_at": null, "ends_at": null, "boundary": null, "user_limit": null, "on_duplicate": null,
        "require_token": null, "shards": null, "time_zone": null,
    });
    let defaults = json!({
        "boundary": "request", "user_limit": null, "payment_timeout_s": 900, "on_duplicate": "replay",
        "require_token": false, "time_zone": "UTC",
    });
    for same in [json!({}), nulls, defaults] {
        let answer = create(&server, &with(sale("s", 10), same));
        assert_eq!(answer.status, 200, "{answer}");
        assert_eq!(answer.json(), shown);
    }
    // Here alone null says something: no payment step.
    assert_refused(&create(&server, &with(sale("s", 10), json!({"payment_timeout_s": null}))), "sale_exists");
    server.finish();
}

#[test]
fn days_begin_in_the_time_zone_of_the_sale() {
    let server = Server::start();
    let daily = |zone: Value| with(sale("s", 10), json!({"boundary": "user_sku_day", "time_zone": zone}));
    for bad in ["Mars/Olympus", "", "+08:00", "Asia/Shanghai\0"] {
        assert_refused(&create(&server, &daily(json!(bad))), "malformed_request");
    }
    assert_refused(&create(&server, &daily(json!(8))), "malformed_request");
    let shown = server.open(&daily(json!("Asia/Shanghai")));
    assert_eq!(shown["time_zone"], "Asia/Shanghai");
    assert_members(&shown, &[&SALE[..], &["time_zone"]].concat());
    assert_eq!(create(&server, &daily(json!("Asia/Shanghai"))).status, 200);
    for other in [json!("Asia/Tokyo"), json!("UTC"), json!(null)] {
        assert_refused(&create(&server, &daily(other)), "sale_exists");
    }
    let in_utc = server.open(&with(sale("utc", 10), json!({"boundary": "user_sku_day"})));
    assert_eq!(in_utc["time_zone"], "UTC");
    let keyed = server.open(&with(sale("keyed", 10), json!({"time_zone": "Asia/Shanghai"})));
    assert_members(&keyed, &SALE);
    assert_refused(&create(&server, &sale("keyed", 10)), "sale_exists");
    server.finish();
}

#[test]
fn the_same_sale_again_is_200_and_another_is_409() {
    let server = Server::start();
    server.open(&with(sale("s", 10), json!({"shards": 4})));
    created(&server.buyer(1).send(one("s", "k")));
    let again = create(&server, &with(sale("s", 10), json!({"shards": 4})));
    assert_eq!(again.status, 200, "{again}");
    assert_eq!(level_in(&again.json(), "sku-1"), Level { total: 10, available: 9, held: 1, sold: 0 });

    let base = with(sale("s", 10), json!({"shards": 4}));
    let sku = base["skus"][0].clone();
    let others = [
        json!({"boundary": "user_sale"}),
        json!({"user_limit": 1}),
        json!({"payment_timeout_s": 60}),
        json!({"on_duplicate": "conflict"}),
        json!({"require_token": true}),
        json!({"shards": 5}),
        json!({"starts_at": time::format(time::now_ms())}),
        json!({"ends_at": time::format(time::now_ms() + 3_600_000)}),
        json!({"skus": [with(sku.clone(), json!({"stock": 11}))]}),
        json!({"skus": [with(sku.clone(), json!({"unit_price": 1}))]}),
        json!({"skus": [with(sku.clone(), json!({"currency": "USD"}))]}),
        json!({"skus": [with(sku.clone(), json!({"sku_id": "sku-2"}))]}),
        json!({"skus": [sku.clone(), with(sku, json!({"sku_id": "sku-2"}))]}),
    ];
    for other in others {
        assert_refused(&create(&server, &with(base.clone(), other)), "sale_exists");
    }
    // What was sold, restocked or switched since does not make it another sale.
    server.restock("s", "c", 5);
    server.switch("s", "pause");
    let again = create(&server, &base);
    assert_eq!((again.status, &again.json()["state"]), (200, &json!("paused")), "{again}");
    server.finish();
}

#[test]
fn impossible_sales_are_malformed() {
    let server = Server::start();
    let base = sale("s", 10);
    let sku = base["skus"][0].clone();
    let with_sku = |members: Value| with(base.clone(), json!({"skus": [with(sku.clone(), members)]}));
    let mut bad = vec![
        json!([]),
        json!(null),
        json!({}),
        without(base.clone(), "sale_id"),
        without(base.clone(), "skus"),
        with(base.clone(), json!({"skus": []})),
        with(base.clone(), json!({"skus": null})),
        with(base.clone(), json!({"skus": {}})),
        with(base.clone(), json!({"skus": [sku, sku]})),
        with(base.clone(), json!({"skus": [5]})),
        // By position is not by name.
        with(base.clone(), json!({"skus": [["sku-1", 10, 1999, "CNY"]]})),
        with(base.clone(), json!({"note": "x"})),
        with_sku(json!({"note": "x"})),
    ];
    let members = [
        (
            "sale_id",
            vec![json!(null), json!(""), json!("a b"), json!("a/b"), json!("é"), json!("x".repeat(65)), json!(5)],
        ),
        (
            "starts_at",
            vec![json!(5), json!(""), json!("tomorrow"), json!("2026-13-01T00:00:00.000Z"), json!("2026-11-20")],
        ),
        ("ends_at", vec![json!(5), json!(""), json!("2026-02-30T00:00:00.000Z")]),
        ("boundary", vec![json!(""), json!("user"), json!("Request"), json!(1)]),
        ("user_limit", vec![json!(-1), json!("1"), json!(1.0), json!(true)]),
        ("payment_timeout_s", vec![json!(-1), json!("900"), json!(900.0)]),
        ("on_duplicate", vec![json!(""), json!("ignore"), json!(true)]),
        ("require_token", vec![json!("true"), json!(1)]),
        ("shards", vec![json!(0), json!(-1), json!(1025), json!("4"), json!(4.0)]),
    ];
    for (member, values) in members {
        bad.extend(values.into_iter().map(|value| with(base.clone(), json!({ member: value }))));
    }
    let members = [
        ("sku_id", vec![json!(null), json!(""), json!("a b"), json!("x".repeat(65)), json!(5)]),
        ("stock", vec![json!(null), json!(-1), json!("5"), json!(1.5), json!(1_000_000_001)]),
        ("unit_price", vec![json!(null), json!(-1), json!("5"), json!(19.99), json!(1_000_000_000_001_i64)]),
        ("currency", vec![json!(null), json!(""), json!("cny"), json!("CN"), json!("CNYY"), json!("C1Y"), json!(156)]),
    ];
    for (member, values) in members {
        bad.extend(values.into_iter().map(|value| with_sku(json!({ member: value }))));
        bad.push(with(base.clone(), json!({"skus": [without(sku.clone(), member)]})));
    }
    let (early, late) = (time::format(time::now_ms()), time::format(time::now_ms() + 1000));
    bad.push(with(base.clone(), json!({"starts_at": late, "ends_at": early})));
    for body in bad {
        eprintln!("{body}");
        assert_refused(&create(&server, &body), "malformed_request");
    }
    for text in [r#"{"sale_id":"s","sale_id":"s","skus":[]}"#, "", "{", "nonsense"] {
        assert_refused(&server.operator().send(post("/admin/v1/sales").text(text)), "malformed_request");
    }
    assert_refused(&server.operator().send(post("/admin/v1/sales").body("{}")), "unsupported_media_type");
    assert_eq!(server.operator().send(get("/admin/v1/sales")).json(), json!({"sales": []}));
    server.finish();
}

#[test]
fn all_sales_are_listed() {
    let server = Server::start();
    let ids = ["a", "b", "c"];
    for sale_id in ids {
        server.open(&sale(sale_id, 10));
    }
    server.switch("b", "end");
    let answer = server.operator().send(get("/admin/v1/sales"));
    assert_eq!((answer.status, &*answer.media_type()), (200, "application/json"));
    let listed = answer.json();
    assert_members(&listed, &["sales"]);
    let mut names: Vec<&str> =
        listed["sales"].as_array().unwrap().iter().map(|s| s["sale_id"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ids);
    let ended = listed["sales"].as_array().unwrap().iter().find(|sale| sale["sale_id"] == "b").unwrap();
    assert_eq!(ended["state"], "ended");
    server.finish();
}

#[test]
fn a_restock_applies_once() {
    let server = Server::start();
    let sku = |sku_id: &str| json!({"sku_id": sku_id, "stock": 2, "unit_price": 1, "currency": "CNY"});
    server.open(&json!({"sale_id": "s", "shards": 8, "skus": [sku("sku-1"), sku("sku-2")]}));
    server.open(&sale("t", 5));
    created(&server.buyer(1).send(place("k", &wish("s", 2))));
    assert_refused(&server.buyer(2).send(one("s", "k")), "sold_out");

    for _ in 0..2 {
        let answer = server.restock("s", "c1", 3);
        assert_eq!(answer.status, 200, "{answer}");
        assert_members(&answer.json(), &SALE);
        assert_eq!(level_in(&answer.json(), "sku-1"), Level { total: 5, available: 3, held: 2, sold: 0 });
        assert_eq!(level_in(&answer.json(), "sku-2").total, 2);
    }
    assert_refused(&server.restock("s", "c1", 4), "change_exists");
    for (change_id, code) in [("c1", "change_exists"), ("c0", "sku_not_found")] {
        let unknown = json!({"change_id": change_id, "sku_id": "nothing", "quantity": 3});
        assert_refused(&server.operator().send(post("/admin/v1/sales/s/restock").json(&unknown)), code);
    }
    // An id is one per sale.
    assert_eq!(level_in(&server.restock("t", "c1", 4).json(), "sku-1").total, 9);
    assert_refused(&server.restock("s", "c2", -4), "not_enough_stock");
    // A refused change has not used its id up.
    assert_eq!(level_in(&server.restock("s", "c2", -2).json(), "sku-1").available, 1);
    // At once, and all of it, wherever its shard is.
    created(&server.buyer(3).send(one("s", "k")));
    assert_refused(&server.buyer(4).send(one("s", "k")), "sold_out");
    assert_eq!(server.level("s", "sku-1"), Level { total: 3, available: 0, held: 3, sold: 0 });
    // The change is remembered by its id even after it was sold.
    assert_eq!(server.restock("s", "c1", 3).status, 200);
    assert_eq!(server.level("s", "sku-1").total, 3);
    server.assert_balanced();
    server.finish();
}

#[test]
fn a_sale_may_end_with_the_year_9999() {
    let server = Server::start();
    for (sale_id, ends_at) in [("s", "9999-12-31T23:59:59.999Z"), ("t", "9999-12-30T22:00:01.000Z")] {
        let forever = with(sale(sale_id, 1), json!({"ends_at": ends_at}));
        let made = create(&server, &forever);
        assert_eq!((made.status, &made.json()["ends_at"]), (201, &json!(ends_at)), "{made}");
        assert_eq!(create(&server, &forever).status, 200);
        let shown = server.stranger().send(get(format!("/v1/sales/{sale_id}"))).json();
        assert_eq!((&shown["ends_at"], &shown["state"]), (&json!(ends_at), &json!("open")));
    }
    created(&server.buyer(1).send(one("s", "k")));
    server.finish();
}

#[test]
fn a_restock_names_what_it_changes() {
    let server = Server::start();
    server.open(&sale("s", 10));
    let mut operator = server.operator();
    let good = json!({"change_id": "c", "sku_id": "sku-1", "quantity": 1});
    let mut send =
        |sale_id: &str, body: &Value| operator.send(post(format!("/admin/v1/sales/{sale_id}/restock")).json(body));
    assert_refused(&send("nowhere", &good), "sale_not_found");
    assert_refused(&send("s", &with(good.clone(), json!({"sku_id": "sku-9"}))), "sku_not_found");
    for member in ["change_id", "sku_id", "quantity"] {
        assert_refused(&send("s", &without(good.clone(), member)), "malformed_request");
        assert_refused(&send("s", &with(good.clone(), json!({ member: null }))), "malformed_request");
    }
    assert_refused(&send("s", &json!(["c", "sku-1", 1])), "malformed_request");
    for bad in [
        json!({"change_id": ""}),
        json!({"change_id": "a b"}),
        json!({"change_id": "x".repeat(65)}),
        json!({"change_id": 1}),
        json!({"quantity": "1"}),
        json!({"quantity": 1.0}),
        json!({"quantity": 9_223_372_036_854_775_808_u64}),
        json!({"note": 1}),
    ] {
        assert_refused(&send("s", &with(good.clone(), bad)), "malformed_request");
    }
    assert_eq!(server.level("s", "sku-1").total, 10);
    server.finish();
}

#[test]
fn pause_resume_and_end_twice_are_once() {
    let server = Server::start();
    server.open(&sale("s", 10));
    let path = |to: &str| format!("/admin/v1/sales/s/{to}");
    let mut operator = server.operator();
    for (to, state) in
        [("resume", "open"), ("pause", "paused"), ("resume", "open"), ("pause", "paused"), ("end", "ended")]
    {
        for request in [post(path(to)), post(path(to)).json(&json!({}))] {
            let answer = operator.send(request);
            assert_eq!(answer.status, 200, "{answer}");
            assert_members(&answer.json(), &SALE);
            assert_eq!(answer.json()["state"], state);
        }
        let refused = server.buyer(1).send(one("s", &format!("{to}-{state}"))).status;
        assert_eq!(
            refused,
            match state {
                "open" => 201,
                "paused" => 409,
                _ => 410,
            }
        );
    }
    assert_refused(&operator.send(post(path("resume"))), "invalid_transition");
    for body in ["{\"x\":1}", "[]", "x", "null"] {
        assert_refused(&operator.send(post(path("end")).text(body)), "malformed_request");
    }
    for to in ["pause", "resume", "end"] {
        assert_refused(&operator.send(post(format!("/admin/v1/sales/nowhere/{to}"))), "sale_not_found");
    }
    assert_refused(&operator.send(post(path("stop"))), "not_found");
    assert_refused(&operator.send(get("/admin/v1/sales/nowhere")), "sale_not_found");
    server.finish();
}

#[test]
fn switches_and_changes_outlive_a_crash() {
    let mut server = Server::start();
    for sale_id in ["paused", "ended", "open"] {
        server.open(&sale(sale_id, 10));
    }
    server.switch("paused", "pause");
    server.switch("ended", "end");
    server.restock("open", "c", 5);
    created(&server.buyer(1).send(one("open", "k")));
    let before = server.operator().send(get("/admin/v1/sales")).json();
    server.kill9();
    server.assert_quiet();
    let server = server.restart();
    assert_eq!(server.operator().send(get("/admin/v1/sales")).json(), before);
    assert_refused(&server.buyer(1).send(one("paused", "k")), "sale_paused");
    assert_refused(&server.buyer(1).send(one("ended", "k")), "sale_ended");
    assert_eq!(level_in(&server.restock("open", "c", 5).json(), "sku-1").total, 15);
    assert_eq!(create(&server, &sale("open", 10)).status, 200);
    server.finish_after_trouble();
}

#[test]
fn the_audit_names_its_checks() {
    let server = Server::start();
    server.open(&sale("s", 10));
    created(&server.buyer(1).send(one("s", "k")));
    for target in ["/admin/v1/verify", "/admin/v1/verify?sale_id=s"] {
        let answer = server.operator().send(get(target));
        assert_eq!((answer.status, &*answer.media_type()), (200, "application/json"), "{answer}");
        let found = answer.json();
        assert_members(&found, &["ok", "checks"]);
        assert_eq!(found["ok"], true, "{found}");
        let checks = found["checks"].as_array().unwrap();
        assert!(!checks.is_empty());
        for check in checks {
            assert_members(check, &["name", "ok", "detail"]);
            assert!(check["ok"] == true && check["name"].is_string() && check["detail"].is_string(), "{check}");
        }
    }
    assert_refused(&server.operator().send(get("/admin/v1/verify?sale_id=nowhere")), "sale_not_found");
    assert_refused(&server.operator().send(get("/admin/v1/verify?sale_id=")), "malformed_request");
    server.finish();
}

#[test]
fn probes_answer_by_their_status() {
    let server = Server::start();
    for target in ["/healthz", "/readyz"] {
        let answer = server.operator().send(get(target));
        assert_eq!((answer.status, &*answer.media_type()), (200, "text/plain"), "{answer}");
    }
    server.finish();
}

#[test]
fn the_demo_is_one_open_sale() {
    let mut server = Launch::new().arg("--demo").start();
    let shown = server.stranger().send(get("/v1/sales/demo")).json();
    assert_eq!((&shown["state"], &shown["items"][0]["sku_id"]), (&json!("open"), &json!("sku-1")));
    let first = created(&server.buyer(1).send(place("k", &wish("demo", 100))));
    assert_eq!((&first["unit_price"], &first["currency"]), (&json!(1999), &json!("CNY")));
    let level = server.level("demo", "sku-1");
    assert_eq!((level.total, level.available), (10_000, 9_900));
    // It is not made again where it is there.
    server.kill9();
    server.assert_quiet();
    let server = server.restart();
    assert_eq!(server.level("demo", "sku-1"), level);
    server.finish_after_trouble();
}
