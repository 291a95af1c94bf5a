//! What payment providers report, and what it does to orders.

mod signatures;

use serde_json::{Value, json};

use crate::client::{Answer, get, post};
use crate::contract::{assert_current, assert_refused, code, created};
use crate::provider::{self, PaymentEvent, WechatpayEvent, alipay, with_all, with_standard};
use crate::server::{Launch, Server};
use crate::shop::{Level, crowd, logged, one, persist, sale, with};
use crate::wait::eventually;

/// The number of a new order of one `sku-1`, waiting for its payment.
fn ordered(server: &Server, user: u64) -> String {
    let order = created(&server.buyer(user).send(one("s", &format!("key-{user}"))));
    assert_eq!(order["state"], "pending_payment", "{order}");
    order["order_no"].as_str().unwrap().to_owned()
}

/// The order as it is now.
fn order(server: &Server, user: u64, order_no: &str) -> Value {
    let answer = server.buyer(user).send(get(format!("/v1/orders/{order_no}")));
    assert_eq!(answer.status, 200, "{answer}");
    assert_current(&answer.json(), &answer.json());
    answer.json()
}

#[track_caller]
fn assert_state(server: &Server, user: u64, order_no: &str, state: &str, state_version: u64) {
    let now = order(server, user, order_no);
    assert_eq!((&now["state"], &now["state_version"]), (&json!(state), &json!(state_version)), "{now}");
}

/// Sends an event of Standard Webhooks.
fn tell(server: &Server, event: &PaymentEvent) -> Answer {
    server.stranger().send(event.request())
}

/// The answer of a report that is kept.
#[track_caller]
fn assert_heard(answer: &Answer) {
    assert_eq!((answer.status, answer.media_type().as_str()), (200, "application/json"), "{answer}");
    assert_eq!(answer.json(), json!({}), "{answer}");
}

fn cancel(server: &Server, user: u64, order_no: &str) {
    let request = post(format!("/v1/orders/{order_no}/cancel")).key("cancel");
    let answer = server.buyer(user).send(request);
    assert_eq!((answer.status, &answer.json()["state"]), (200, &json!("cancelled")), "{answer}");
}

fn shop(launch: Launch) -> Server {
    let server = launch.start();
    server.open(&sale("s", 100));
    server
}

#[test]
fn a_payment_pays_its_order_once() {
    let server = shop(with_standard());
    let order_no = ordered(&server, 1);
    let paid = PaymentEvent::paid("evt-1", &order_no);
    let first = tell(&server, &paid);
    assert_heard(&first);
    assert_state(&server, 1, &order_no, "paid", 2);
    let again = tell(&server, &paid);
    assert_eq!((again.status, &again.body), (first.status, &first.body));
    // The same payment as another event, and signed at another time.
    assert_heard(&tell(&server, &PaymentEvent::paid("evt-2", &order_no)));
    assert_heard(&tell(&server, &paid.clone().at(provider::now_s() - 60)));
    assert_state(&server, 1, &order_no, "paid", 2);
    assert_eq!(server.level("s", "sku-1"), Level { total: 100, available: 99, held: 0, sold: 1 });
    let metrics = String::from_utf8(server.operator().send(get("/metrics")).body).unwrap();
    assert!(metrics.contains("\nrushgate_steps_total{step=\"pay\"} 1\n"), "one step, however often it is reported");
    for note in ["applied", "repeat"] {
        let once = format!("\nrushgate_payment_reports_total{{note=\"{note}\"}} 1\n");
        assert!(metrics.contains(&once), "each report once, however often it is sent: {metrics}");
    }
    server.assert_balanced();
    server.finish();
}

#[test]
fn fifty_at_once_are_one_payment() {
    let server = shop(with_standard());
    let order_no = ordered(&server, 1);
    let same = PaymentEvent::paid("evt-1", &order_no).request();
    let others = (0..10).map(|n| PaymentEvent::paid(&format!("evt-{n}"), &order_no).request());
    let requests: Vec<_> = (0..50).map(|_| same.clone()).chain(others).collect();
    let answers = crowd(requests.iter().map(|request| (server.stranger(), request.clone())).collect());
    for (answer, request) in answers.iter().zip(&requests) {
        match code(answer).as_deref() {
            // What a provider does: it sends again what was not taken in.
            Some("overloaded" | "ledger_unavailable" | "unknown_outcome") => {
                assert_heard(&persist(&mut server.stranger(), request));
            }
            _ => assert_heard(answer),
        }
    }
    assert_state(&server, 1, &order_no, "paid", 2);
    server.assert_balanced();
    server.finish();
}

#[test]
fn what_was_heard_is_known_after_a_crash() {
    let mut server = shop(with_standard());
    let order_no = ordered(&server, 1);
    let paid = PaymentEvent::paid("evt-1", &order_no);
    assert_heard(&tell(&server, &paid));
    server.kill9();
    let server = server.restart();
    assert_state(&server, 1, &order_no, "paid", 2);
    assert_heard(&tell(&server, &paid));
    assert_heard(&tell(&server, &PaymentEvent::paid("evt-2", &order_no)));
    assert_state(&server, 1, &order_no, "paid", 2);
    server.assert_balanced();
    server.finish();
}

#[test]
fn what_does_not_fit_is_acknowledged_and_moves_nothing() {
    let server = shop(with_standard());
    let order_no = ordered(&server, 1);
    let off = [json!({"amount": 1998}), json!({"amount": 2000}), json!({"amount": 0}), json!({"currency": "USD"})];
    for (n, members) in off.into_iter().enumerate() {
        let event = PaymentEvent::paid(&format!("off-{n}"), &order_no).with(members);
        assert_heard(&tell(&server, &event));
        assert_heard(&tell(&server, &event));
    }
    assert_state(&server, 1, &order_no, "pending_payment", 1);
    assert_heard(&tell(&server, &PaymentEvent::paid("evt-1", &order_no)));
    // A second payment is for the operator to look at.
    assert_heard(&tell(&server, &PaymentEvent::paid("evt-2", &order_no).with(json!({"payment_id": "pay-2"}))));
    assert_state(&server, 1, &order_no, "paid", 2);
    server.assert_balanced();
    server.finish_after_trouble();
}

/// The history of an order, as an operator sees it: the notes, and the ids that the reports are kept under.
fn noted(server: &Server, order_no: &str) -> Vec<(String, String)> {
    let answer = server.operator().send(get(format!("/admin/v1/orders/{order_no}/history")));
    assert_eq!(answer.status, 200, "{answer}");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let payments = answer.json()["payments"].as_array().unwrap().clone();
    payments.iter().map(|kept| (text(&kept["note"]), text(&kept["event_id"]))).collect()
}

#[test]
fn an_id_that_says_something_else_is_shown_with_its_own_order() {
    let server = shop(with_standard());
    let [first, other] = [ordered(&server, 1), ordered(&server, 2)];
    assert_heard(&tell(&server, &PaymentEvent::paid("evt-1", &first)));
    for _ in 0..3 {
        assert_heard(&tell(&server, &PaymentEvent::paid("evt-1", &other)));
    }
    assert_state(&server, 1, &first, "paid", 2);
    assert_state(&server, 2, &other, "pending_payment", 1);
    assert_eq!(noted(&server, &first), [("applied".to_owned(), "evt-1".to_owned())]);
    let [(note, id)] = &noted(&server, &other)[..] else { panic!("not one report") };
    assert_eq!((note.as_str(), id.len()), ("id_reused", "evt-1#01234567".len()), "{id}");
    // Each time, and as a new one once.
    let told = logged(&server, &["id_reused", "WARN"], 3);
    assert!(told.iter().all(|line| line.contains(&other)), "with its own order: {told:?}");
    let new = told.iter().filter(|line| line.contains(r#""is_new":true"#)).count();
    assert_eq!(new, 1, "{told:?}");
    server.assert_balanced();
    server.finish_after_trouble();
}

/// A refund of its own, of so much.
fn part(order_no: &str, id: &str, amount: u64) -> PaymentEvent {
    PaymentEvent::refunded(id, order_no).with(json!({"payment_id": format!("refund-{id}"), "amount": amount}))
}

#[test]
fn more_back_than_was_paid_is_told_of() {
    let server = shop(with_standard());
    let order_no = ordered(&server, 1);
    let part = |id: &str, amount: u64| part(&order_no, id, amount);
    // Refunds that waited for their payment may be too much as well.
    assert_heard(&tell(&server, &part("a", 1999)));
    assert_heard(&tell(&server, &part("b", 1)));
    assert_heard(&tell(&server, &PaymentEvent::paid("paid", &order_no)));
    assert_state(&server, 1, &order_no, "refunded", 3);
    assert_heard(&tell(&server, &part("c", 1)));
    let notes: Vec<String> = noted(&server, &order_no).into_iter().map(|(note, _)| note).collect();
    assert_eq!(notes, ["over_refunded", "over_refunded", "applied", "over_refunded"]);
    // With the payment, and then.
    logged(&server, &["over_refunded", "WARN"], 2);
    server.assert_balanced();
    server.finish_after_trouble();
}

#[test]
fn an_order_that_is_not_there_is_sent_again() {
    let server = shop(with_standard());
    for order_no in ["00000000000000000000000000", "7ZZZZZZZZZZZZZZZZZZZZZZZZZ", "shop-1", ""] {
        let paid = PaymentEvent::paid("evt-1", order_no);
        assert_refused(&tell(&server, &paid), "order_not_found");
        assert_refused(&tell(&server, &paid), "order_not_found");
        assert_refused(&tell(&server, &paid.of("payment.failed")), "order_not_found");
    }
    // Nothing of it was kept: the id is free for an order that exists.
    let order_no = ordered(&server, 1);
    assert_heard(&tell(&server, &PaymentEvent::paid("evt-1", &order_no)));
    assert_state(&server, 1, &order_no, "paid", 2);
    server.finish();
}

#[test]
fn a_payment_that_comes_too_late_is_due_for_refund() {
    let server = with_standard().start();
    server.open(&with(sale("s", 100), json!({"payment_timeout_s": 1})));
    let expired = ordered(&server, 1);
    eventually(|| (order(&server, 1, &expired)["state"] == "expired").then_some(()));
    server.open(&sale("t", 100));
    let answer = server.buyer(2).send(one("t", "key"));
    let cancelled = created(&answer)["order_no"].as_str().unwrap().to_owned();
    cancel(&server, 2, &cancelled);
    for (user, order_no) in [(1, expired), (2, cancelled)] {
        assert_heard(&tell(&server, &PaymentEvent::paid(&format!("paid-{user}"), &order_no)));
        assert_state(&server, user, &order_no, "refund_due", 3);
        assert_heard(&tell(&server, &PaymentEvent::paid(&format!("paid-{user}"), &order_no)));
        assert_heard(&tell(&server, &PaymentEvent::refunded(&format!("back-{user}"), &order_no)));
        assert_state(&server, user, &order_no, "refunded", 4);
    }
    // The units went back once, when the order ended.
    for sale_id in ["s", "t"] {
        assert_eq!(server.level(sale_id, "sku-1"), Level { total: 100, available: 100, held: 0, sold: 0 });
    }
    server.assert_balanced();
    server.finish();
}

#[test]
fn a_refund_waits_for_its_payment() {
    let server = shop(with_standard());
    let order_no = ordered(&server, 1);
    assert_heard(&tell(&server, &PaymentEvent::refunded("back", &order_no)));
    assert_state(&server, 1, &order_no, "pending_payment", 1);
    assert_heard(&tell(&server, &PaymentEvent::paid("paid", &order_no)));
    assert_eq!(order(&server, 1, &order_no)["state"], "refunded");
    // A report of a refund puts nothing back on sale.
    assert_eq!(server.level("s", "sku-1"), Level { total: 100, available: 99, held: 0, sold: 1 });
    server.assert_balanced();
    server.finish();
}

#[test]
fn the_same_events_end_alike_in_any_order() {
    let server = shop(with_standard());
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    for (user, order_of) in (1..).zip(orders) {
        let order_no = ordered(&server, user);
        let events = [
            PaymentEvent::paid(&format!("failed-{user}"), &order_no).of("payment.failed"),
            PaymentEvent::paid(&format!("paid-{user}"), &order_no),
            PaymentEvent::refunded(&format!("back-{user}"), &order_no),
        ];
        for at in order_of {
            assert_heard(&tell(&server, &events[at]));
        }
        assert_eq!(order(&server, user, &order_no)["state"], "refunded", "{order_of:?}");
    }
    server.assert_balanced();
    server.finish();
}

#[test]
fn parts_of_a_refund_add_up() {
    let server = shop(with_standard());
    let order_no = ordered(&server, 1);
    assert_heard(&tell(&server, &PaymentEvent::paid("paid", &order_no)));
    let part = |id: &str, amount: u64| part(&order_no, id, amount);
    assert_heard(&tell(&server, &part("a", 999)));
    assert_state(&server, 1, &order_no, "paid", 2);
    assert_heard(&tell(&server, &part("b", 1000)));
    assert_state(&server, 1, &order_no, "refunded", 3);
    server.finish();
}

#[test]
fn other_events_are_acknowledged() {
    let server = shop(with_standard());
    let order_no = ordered(&server, 1);
    let paid = PaymentEvent::paid("evt-1", &order_no);
    assert_heard(&tell(&server, &paid.clone().of("payment.disputed")));
    assert_heard(&tell(&server, &paid.clone().of("payment.disputed")));
    assert_heard(&tell(&server, &PaymentEvent::paid("evt-2", &order_no).of("payment.failed")));
    assert_state(&server, 1, &order_no, "pending_payment", 1);
    // Members that we do not know are no mistake here.
    let more = PaymentEvent::paid("evt-3", &order_no).with(json!({"method": "card", "nested": [{}]}));
    assert_heard(&tell(&server, &more));
    assert_state(&server, 1, &order_no, "paid", 2);
    server.finish();
}

#[test]
fn alipay_is_told_success_in_seven_bytes() {
    let server = shop(with_all());
    let order_no = ordered(&server, 1);
    let tell = |members: &[(&str, &str)], id: &str, order_no: &str| {
        let answer = server.stranger().send(alipay(id, order_no, members));
        assert_eq!(answer.media_type(), "text/plain", "{answer}");
        (answer.status, String::from_utf8(answer.body).unwrap())
    };
    let (success, failure) = ("success".to_owned(), "failure".to_owned());
    assert_eq!(tell(&[("trade_status", "WAIT_BUYER_PAY")], "n0", &order_no), (200, success.clone()));
    assert_eq!(tell(&[("total_amount", "19.98")], "n1", &order_no), (200, success.clone()));
    assert_eq!(tell(&[("app_id", "2021000000000002")], "n2", &order_no), (200, success.clone()));
    assert_state(&server, 1, &order_no, "pending_payment", 1);
    for _ in 0..2 {
        assert_eq!(tell(&[], "n3", &order_no), (200, success.clone()));
        assert_state(&server, 1, &order_no, "paid", 2);
    }
    assert_eq!(tell(&[("trade_status", "TRADE_FINISHED")], "n4", &order_no), (200, success.clone()));
    assert_eq!(tell(&[("trade_status", "TRADE_CLOSED")], "n4b", &order_no), (200, success.clone()));
    assert_state(&server, 1, &order_no, "paid", 2);
    let odd = noted(&server, &order_no).into_iter().filter(|(note, _)| note == "impossible");
    assert_eq!(odd.map(|(_, id)| id).collect::<Vec<_>>(), ["n4b"], "a trade that was paid is not closed like that");
    let half = [("refund_fee", "10"), ("gmt_refund", "2026-11-20 21:00:00.000"), ("out_biz_no", "r1")];
    assert_eq!(tell(&half, "n5", &order_no), (200, success.clone()));
    assert_state(&server, 1, &order_no, "paid", 2);
    let whole = [
        ("refund_fee", "19.99"),
        ("gmt_refund", "2026-11-20 22:00:00.000"),
        ("out_biz_no", "r2"),
        ("trade_status", "TRADE_CLOSED"),
    ];
    assert_eq!(tell(&whole, "n6", &order_no), (200, success));
    assert_state(&server, 1, &order_no, "refunded", 3);
    assert_eq!(tell(&[], "n7", "00000000000000000000000000"), (404, failure.clone()));
    assert_eq!(tell(&[], "n8", "another-shop"), (404, failure.clone()));
    assert_eq!(tell(&[("total_amount", "1.999")], "n9", &order_no), (400, failure));
    server.assert_balanced();
    server.finish_after_trouble();
}

#[test]
fn wechatpay_is_told_204() {
    let server = shop(with_all());
    let order_no = ordered(&server, 1);
    let tell = |event: &WechatpayEvent| server.stranger().send(event.request());
    let assert_heard = |answer: &Answer| assert_eq!((answer.status, answer.body.len()), (204, 0), "{answer}");
    assert_heard(&tell(&WechatpayEvent::paid("e0", &order_no).with(json!({"mchid": "1"}))));
    assert_heard(&tell(&WechatpayEvent::paid("e1", &order_no).with(json!({"amount": {"total": 1}}))));
    assert_state(&server, 1, &order_no, "pending_payment", 1);
    for _ in 0..2 {
        assert_heard(&tell(&WechatpayEvent::paid("e2", &order_no)));
        assert_state(&server, 1, &order_no, "paid", 2);
    }
    assert_heard(&tell(&WechatpayEvent::refunded("e3", &order_no)));
    assert_state(&server, 1, &order_no, "refunded", 3);
    for (id, kind) in [("f1", "REFUND.ABNORMAL"), ("f2", "REFUND.CLOSED")] {
        assert_heard(&tell(&WechatpayEvent::refunded(id, &order_no).of(kind)));
        let lost = tell(&WechatpayEvent::refunded(id, "00000000000000000000000000").of(kind));
        assert_eq!((lost.status, &lost.json()["code"]), (404, &json!("FAIL")), "{lost}");
    }
    let failed = noted(&server, &order_no).into_iter().filter(|(note, _)| note == "refund_failed");
    assert_eq!(failed.map(|(_, id)| id).collect::<Vec<_>>(), ["f1", "f2"]);
    assert_state(&server, 1, &order_no, "refunded", 3);
    let unknown = tell(&WechatpayEvent::paid("e4", "00000000000000000000000000"));
    assert_eq!((unknown.status, &unknown.json()["code"]), (404, &json!("FAIL")), "{unknown}");
    server.assert_balanced();
    server.finish_after_trouble();
}
