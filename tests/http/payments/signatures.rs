//! Callbacks that prove nothing, and secrets that stay secret.

use serde_json::json;

use super::{assert_heard, assert_state, ordered, shop, tell};
use crate::client::{Answer, Request, get, post};
use crate::contract::{assert_members, assert_refused, code};
use crate::provider::{
    API_KEY, OTHER_SECRET, PATH, PaymentEvent, SECRET, WechatpayEvent, alipay, now_s, signature, standard, with_all,
    with_standard,
};
use crate::server::Server;
use crate::shop::logged;

#[test]
fn what_is_not_signed_is_not_believed() {
    let server = shop(with_standard());
    let order_no = ordered(&server, 1);
    let body = json!({
        "type": "payment.succeeded",
        "data": {"order_no": order_no, "payment_id": "pay-1", "amount": 1999, "currency": "CNY"},
    });
    let body = body.to_string().into_bytes();
    let at = now_s().to_string();
    let good = signature(SECRET, "evt-1", &at, &body);
    let other = signature(OTHER_SECRET, "evt-1", &at, &body);
    let changed = [b" ", &*body].concat();
    let headers = |id: bool, timestamp: bool, signature: bool| {
        let lines = [
            ("webhook-id", "evt-1", id),
            ("webhook-timestamp", &*at, timestamp),
            ("webhook-signature", &*good, signature),
        ];
        let sent = lines.iter().filter(|(_, _, is_sent)| *is_sent);
        sent.fold(post(PATH), |request, (name, value, _)| request.header(name, value)).text(&*body)
    };
    let forged: Vec<Request> = vec![
        post(PATH),
        post(PATH).text("not JSON"),
        headers(false, true, true),
        headers(true, false, true),
        headers(true, true, false),
        headers(true, true, true).header("webhook-id", "evt-1"),
        headers(true, true, true).header("webhook-timestamp", &at),
        headers(true, true, true).header("webhook-signature", &good),
        standard("evt-1", &at, &other, &body),
        standard("evt-2", &at, &good, &body),
        standard("evt-1", &(now_s() - 1).to_string(), &good, &body),
        standard("evt-1", &format!("0{at}"), &good, &body),
        standard("evt-1", &at, &good, &changed),
        standard("evt-1", &at, &good, b""),
        standard("evt-1", &at, &good[3..], &body),
        standard("evt-1", &at, &good[..good.len() - 1], &body),
        standard("evt-1", &at, &good.replacen("v1,", "v1a,", 1), &body),
        standard("evt-1", &at, &good.replacen("v1,", "v2,", 1), &body),
        standard("evt-1", &at, "v1,", &body),
        // Whoever orders for somebody cannot pay for them.
        post(PATH).header("X-User-Id", "1").key("k").text(&*body),
    ];
    for request in forged {
        let answer = server.stranger().send(request.clone());
        assert_eq!(code(&answer).as_deref(), Some("unauthenticated"), "{request:?}: {answer}");
    }
    assert_state(&server, 1, &order_no, "pending_payment", 1);
    // Nothing was kept: the same id is good once it is signed.
    assert_heard(&server.stranger().send(standard("evt-1", &at, &format!("v1a,x {other} {good}"), &body)));
    assert_state(&server, 1, &order_no, "paid", 2);
    server.finish();
}

#[test]
fn a_signature_is_good_for_five_minutes() {
    let server = shop(with_standard());
    let order_no = ordered(&server, 1);
    let event = PaymentEvent::paid("evt-1", &order_no);
    // The clock goes on between here and there, so the times ahead are a little further off.
    for at_s in [now_s() - 301, now_s() + 310, now_s() - 86_400, 0, now_s() * 1000] {
        assert_refused(&tell(&server, &event.clone().at(at_s)), "unauthenticated");
    }
    assert_state(&server, 1, &order_no, "pending_payment", 1);
    for at_s in [now_s() + 290, now_s() - 240] {
        assert_heard(&tell(&server, &event.clone().at(at_s)));
    }
    assert_state(&server, 1, &order_no, "paid", 2);
    server.finish();
}

#[test]
fn secrets_are_replaced_without_a_gap() {
    let both = format!("{OTHER_SECRET},{SECRET}");
    let mut server = shop(with_standard().env("RUSHGATE_PAYMENTS_STANDARD_SECRETS", &both));
    for (user, secret) in [(1, SECRET), (2, OTHER_SECRET)] {
        let order_no = ordered(&server, user);
        assert_heard(&tell(&server, &PaymentEvent::paid(&format!("evt-{user}"), &order_no).signed_with(secret)));
        assert_state(&server, user, &order_no, "paid", 2);
    }
    server.sigterm();
    assert!(server.wait().success());
    let server = server.launch.clone().env("RUSHGATE_PAYMENTS_STANDARD_SECRETS", OTHER_SECRET).start();
    let order_no = ordered(&server, 3);
    let event = PaymentEvent::paid("evt-3", &order_no);
    assert_refused(&tell(&server, &event), "unauthenticated");
    assert_heard(&tell(&server, &event.signed_with(OTHER_SECRET)));
    server.finish();
}

#[test]
fn only_providers_that_are_set_up_are_there() {
    let server = shop(with_standard());
    for provider in ["alipay", "wechatpay", "stripe", "Standard", "STANDARD", "%2573tandard", ""] {
        let answer = server.stranger().send(post(format!("/v1/payments/callbacks/{provider}")).text("{}"));
        assert_refused(&answer, "not_found");
    }
    let none = Server::start();
    assert_refused(&none.stranger().send(post(PATH).text("{}")), "not_found");
    assert_refused(&none.operator().send(post(PATH).text("{}")), "not_found");
    assert_refused(&server.stranger().send(get(PATH)), "method_not_allowed");
    none.finish();
    server.finish();
}

#[test]
fn what_is_signed_may_be_malformed() {
    let server = shop(with_standard());
    let order_no = ordered(&server, 1);
    let event = PaymentEvent::paid("evt-1", &order_no);
    for members in [
        json!({"amount": "1999"}),
        json!({"amount": 1999.0}),
        json!({"amount": -1}),
        json!({"amount": null}),
        json!({"currency": "cny"}),
        json!({"payment_id": ""}),
        json!({"payment_id": "x".repeat(129)}),
        json!({"order_no": 1}),
    ] {
        assert_refused(&tell(&server, &event.clone().with(members)), "malformed_request");
    }
    let at = now_s().to_string();
    for body in ["", "{}", "[]", "nonsense", "{\"type\":\"payment.succeeded\"}", "{\"type\":\"a\",\"type\":\"b\"}"] {
        let request = standard("evt-1", &at, &signature(SECRET, "evt-1", &at, body.as_bytes()), body.as_bytes());
        assert_refused(&server.stranger().send(request), "malformed_request");
    }
    let large = vec![b' '; 65_537];
    let answer = server.stranger().send(standard("evt-1", &at, &signature(SECRET, "evt-1", &at, &large), &large));
    assert_refused(&answer, "body_too_large");
    assert_state(&server, 1, &order_no, "pending_payment", 1);
    assert_heard(&tell(&server, &event));
    server.finish_after_trouble();
}

/// An answer in WeChat Pay's words.
#[track_caller]
fn assert_fail(answer: &Answer, status: u16) {
    assert_eq!((answer.status, answer.media_type().as_str()), (status, "application/json"), "{answer}");
    assert_members(&answer.json(), &["code", "message"]);
    assert_eq!(answer.json()["code"], "FAIL", "{answer}");
}

#[test]
fn forgeries_in_other_providers_names() {
    let server = shop(with_all());
    let order_no = ordered(&server, 1);
    let event = WechatpayEvent::paid("e1", &order_no);
    for signature in ["WECHATPAY/SIGNTEST/AAAA", "AAAA", "!", &"A".repeat(344)] {
        assert_fail(&server.stranger().send(event.forged(signature)), 401);
    }
    assert_fail(&server.stranger().send(post("/v1/payments/callbacks/wechatpay").text("{}")), 401);
    assert_fail(&server.stranger().send(post("/v1/payments/callbacks/wechatpay").text(vec![b' '; 65_537])), 413);
    let sealed = event.clone().sealed_with("0123456789abcdefGHIJKLMNOPQRSTUW");
    assert_fail(&server.stranger().send(sealed.request()), 401);
    let malformed = event.with(json!({"amount": {"total": "1999"}}));
    assert_fail(&server.stranger().send(malformed.request()), 400);

    let good = alipay("n1", &order_no, &[]);
    let dear = alipay("n1", &order_no, &[("total_amount", "20.99")]);
    let swapped = String::from_utf8(dear.bytes()).unwrap().replace("20%2E99", "19%2E99");
    assert_ne!(good.bytes(), swapped.as_bytes());
    let form = swapped.split_once("\r\n\r\n").unwrap().1.to_owned();
    let path = "/v1/payments/callbacks/alipay";
    for body in [form, String::new(), "sign_type=RSA2&sign=AAAA".to_owned(), "{}".to_owned()] {
        let answer = server.stranger().send(post(path).body(body));
        assert_eq!((answer.status, &*answer.body), (401, b"failure".as_slice()), "{answer}");
    }
    assert_state(&server, 1, &order_no, "pending_payment", 1);
    // What a provider has signed and we cannot read is told of, with the reason and nothing of what was sent.
    let told = logged(&server, &["payment callback cannot be read"], 2);
    assert!(told.iter().all(|line| line.contains("WARN") && line.contains("wechatpay")), "{told:?}");
    assert!(told[0].contains("wechatpay_api_v3_keys") && told[1].contains("malformed_request"), "{told:?}");
    server.finish_after_trouble();
}

#[test]
fn a_server_refuses_to_start_with_half_a_provider() {
    let bad = "whsec_aHVudGVyMg==";
    let Err(refusal) = with_standard().env("RUSHGATE_PAYMENTS_STANDARD_SECRETS", bad).try_start() else {
        panic!("it started")
    };
    assert_eq!(refusal.status.code(), Some(2), "{}", refusal.log);
    assert!(refusal.log.contains("payments.standard_secrets = \"***\""), "{}", refusal.log);
    assert!(!refusal.log.contains("aHVudGVyMg"), "{}", refusal.log);
    let Err(refusal) = with_standard().arg("--payments-alipay-app-id=1").try_start() else { panic!("it started") };
    assert!(refusal.log.contains("set payments.alipay_public_key_file too"), "{}", refusal.log);
}

#[test]
fn secrets_are_nowhere_to_be_seen() {
    let launch = with_all().arg("--log-level=debug");
    let server = shop(launch.clone());
    let order_no = ordered(&server, 1);
    let buyer_secret = "canary-in-the-body";
    let marked = json!({"buyer": buyer_secret});
    let good = PaymentEvent::paid("evt-1", &order_no).with(marked.clone());
    let requests = [
        good.request(),
        good.clone().signed_with(OTHER_SECRET).request(),
        good.clone().with(json!({"amount": buyer_secret})).request(),
        good.clone().with(json!({"amount": 1})).request(),
        PaymentEvent::paid("evt-2", "00000000000000000000000000").with(marked.clone()).request(),
        standard(buyer_secret, "0", "v1,", b"{}"),
        alipay("n1", &order_no, &[("buyer_logon_id", buyer_secret)]),
        alipay("n2", "other", &[("buyer_logon_id", buyer_secret)]),
        WechatpayEvent::paid("e1", &order_no).with(json!({"payer": marked})).request(),
        WechatpayEvent::paid("e2", &order_no).forged(&"canary".repeat(8)),
    ];
    let mut seen = String::new();
    for request in requests {
        seen.push_str(&server.stranger().send(request).to_string());
    }
    for path in ["/metrics", "/admin/v1/verify", "/admin/v1/sales", &format!("/admin/v1/orders/{order_no}")] {
        seen.push_str(&server.operator().send(get(path)).to_string());
    }
    server.finish_after_trouble();
    let log = launch.whole_log();
    assert!(log.contains("payment callback"), "what is heard is in the log: {log}");
    for secret in [SECRET, OTHER_SECRET, API_KEY, &SECRET[6..], buyer_secret, "canarycanary", "v1,"] {
        assert!(!seen.contains(secret), "{secret} in {seen}");
        assert!(!log.contains(secret), "{secret} in {log}");
    }
}

#[test]
fn a_list_is_no_payment() {
    let server = shop(with_standard());
    let order_no = ordered(&server, 1);
    let body = json!({"type": "payment.succeeded", "data": [order_no, "pay-1", 1999, "CNY"]}).to_string();
    let at_s = now_s().to_string();
    let signed = signature(SECRET, "evt-1", &at_s, body.as_bytes());
    let answer = server.stranger().send(standard("evt-1", &at_s, &signed, body.as_bytes()));
    assert_refused(&answer, "malformed_request");
    assert_state(&server, 1, &order_no, "pending_payment", 1);
    server.finish_after_trouble();
}
