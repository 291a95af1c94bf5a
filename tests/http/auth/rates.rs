//! How often one user, and one address, may come.

use serde_json::json;

use super::jwt;
use super::token::{SECRET, bearer, of_user};
use crate::client::{Answer, Client, Request, get, post, request};
use crate::contract::{assert_refused, created};
use crate::openapi::assert_described;
use crate::provider::{self, PaymentEvent, WechatpayEvent};
use crate::schema::Description;
use crate::server::{Launch, Server};
use crate::shop::{logged, one, persist, place, sale, wish, with};
use crate::wait::eventually;

/// One request a second, so that a test which comes as fast as it can is soon refused.
fn slow(what: &str, burst: &str) -> Launch {
    let limits = [&*format!("--limits-{what}-per-s"), "1", &*format!("--limits-{what}-burst"), burst];
    Launch::new().args(&["--auth-mode", "jwt", "--auth-jwt-secrets", SECRET]).args(&limits)
}

/// Sends until it is too much; that answer.
fn too_much(client: &mut Client, mut request: impl FnMut(usize) -> Request) -> Answer {
    let mut n = 0;
    eventually(|| {
        n += 1;
        Some(client.send(request(n))).filter(|answer| answer.status == 429)
    })
}

fn assert_rate_limited(answer: &Answer) {
    assert_refused(answer, "rate_limited");
    assert_eq!(answer.header("Retry-After"), Some("1"), "one token comes every second: {answer}");
}

#[test]
fn a_user_who_comes_too_often_is_told_when_to_come_back_and_loses_nothing() {
    let server = slow("user", "5").args(&["--limits-address-per-s", "0"]).start();
    server.open(&sale("s", 100_000));
    let mut client = server.stranger();
    let read = bearer(get("/v1/orders?sale_id=s"), &of_user(1));
    let order = bearer(one("s", "late"), &of_user(1));
    // Of a refused order there is nothing: neither units nor its key.
    let refused = eventually(|| {
        assert_rate_limited(&too_much(&mut client, |_| read.clone()));
        let answer = client.send(order.clone());
        (answer.status == 429).then_some(answer)
    });
    assert_rate_limited(&refused);
    assert_eq!(server.level("s", "sku-1").held, 0);
    // Nobody else is touched, wherever they come from, and what needs no user is open.
    created(&client.send(bearer(one("s", "k"), &of_user(2))));
    for _ in 0..20 {
        assert_eq!(client.send(get("/v1/sales/s")).status, 200);
    }
    let answer = persist(&mut client, &order);
    assert_eq!(created(&answer)["user_id"], 1);
    server.assert_balanced();
    server.finish();
}

#[test]
fn an_address_that_comes_too_often_is_refused_before_anything_else() {
    let server = slow("address", "5").args(&["--auth-trusted-proxies", "192.0.2.7"]).start();
    let mut client = server.stranger();
    // Who asks, for what, and what they say of where they come from makes no difference.
    for ask in [
        get("/v1/capabilities"),
        get("/nowhere"),
        request("BREW", "/v1/orders"),
        one("s", "k"),
        bearer(one("s", "k"), &of_user(1)),
        bearer(get("/v1/orders?sale_id=s"), "no.good.token"),
    ] {
        let answer =
            too_much(&mut client, |n| ask.clone().header("X-Forwarded-For", format!("198.51.100.{}", n % 256)));
        assert_rate_limited(&answer);
    }
    // Probes and operators are elsewhere.
    for _ in 0..20 {
        assert_eq!(server.operator().send(get("/readyz")).status, 200);
    }
    // It could be the operator's own proxy, so they are told, once.
    logged(&server, &["auth.trusted_proxies"], 1);
    server.finish_after_trouble();
}

#[test]
fn behind_a_proxy_each_client_has_an_address_of_their_own() {
    let server = slow("address", "5").args(&["--auth-trusted-proxies", "127.0.0.1"]).start();
    let mut client = server.stranger();
    let from = |address: &str| get("/v1/capabilities").header("X-Forwarded-For", format!("203.0.113.9, {address}"));
    assert_rate_limited(&too_much(&mut client, |_| from("198.51.100.7")));
    assert_eq!(client.send(from("198.51.100.8")).status, 200);
    assert_rate_limited(&too_much(&mut client, |n| from(&format!("2001:db8::{n:x}"))));
    assert_eq!(client.send(from("2001:db8:0:1::1")).status, 200);
    // Whom the proxy does not name is not counted: it would be everybody.
    for _ in 0..20 {
        assert_eq!(client.send(get("/v1/capabilities")).status, 200);
    }
    server.finish();
}

#[test]
fn every_public_call_says_that_it_may_be_too_much() {
    let server = slow("address", "1").start();
    let mut client = server.stranger();
    let description = Description::load();
    for operation in description.operations().iter().filter(|operation| operation.listeners.contains(&"public")) {
        let (method, path) = operation.name.split_once(' ').unwrap();
        let target = path.replace("{sale_id}", "s").replace("{order_no}", "0").replace("{code}", "sold_out");
        assert_described(&description, operation, &too_much(&mut client, |_| request(method, target.clone())));
    }
    server.finish();
}

#[test]
fn without_authentication_nobody_is_counted_unless_it_is_set() {
    let server = Server::start();
    let mut buyer = server.buyer(1);
    for _ in 0..1000 {
        assert_eq!(buyer.send(get("/v1/orders?sale_id=s")).status, 200);
    }
    server.finish();

    let server = Launch::new().args(&["--limits-user-per-s", "1", "--limits-user-burst", "5"]).start();
    server.open(&sale("s", 100));
    // The user stands in the body alone.
    let named = |n: usize| place(&format!("k{n}"), &with(wish("s", 1), json!({"user_id": 1})));
    assert_rate_limited(&too_much(&mut server.stranger(), named));
    created(&server.buyer(2).send(one("s", "k")));
    server.finish();
}

#[test]
fn with_authentication_a_rate_is_limited_by_default() {
    let server = Launch::new().args(&["--auth-mode", "jwt", "--auth-jwt-secrets", SECRET]).start();
    let mut client = server.stranger();
    let read = bearer(get("/v1/orders?sale_id=s"), &of_user(1));
    let mut taken = 0;
    let refused = too_much(&mut client, |n| {
        taken = n - 1;
        read.clone()
    });
    assert_rate_limited(&refused);
    assert!(taken >= 40, "{taken} at once are allowed");
    server.finish();
    let server = jwt().start();
    let mut client = server.stranger();
    assert!((0..1000).all(|_| client.send(read.clone()).status == 200));
    server.finish();
}

/// Providers come from a handful of addresses, with thousands of reports a second after a rush.
#[test]
fn a_good_signature_is_not_too_much_for_its_address() {
    let server = slow("address", "5").env("RUSHGATE_PAYMENTS_STANDARD_SECRETS", provider::SECRET).start();
    let mut client = server.stranger();
    for n in 0..1000 {
        let answer = client.send(PaymentEvent::paid(&format!("evt-{n}"), "shop-1").of("ping").request());
        assert_eq!(answer.status, 200, "{n}: {answer}");
    }
    // It has cost the address nothing.
    assert_eq!(client.send(get("/v1/capabilities")).status, 200);
    server.finish();
}

/// An APIv3 key that was replaced too soon must not shut WeChat Pay out as well.
#[test]
fn what_is_signed_and_cannot_be_opened_is_not_too_much_for_its_address() {
    let jwt = ["--auth-mode", "jwt", "--auth-jwt-secrets", SECRET];
    let server = provider::with_all().args(&jwt).args(&["--limits-address-per-s", "1", "--limits-address-burst", "5"]);
    let server = server.start();
    let mut client = server.stranger();
    let event = WechatpayEvent::paid("e", "shop-1").sealed_with("0123456789abcdefGHIJKLMNOPQRSTUW");
    assert!((0..30).all(|_| client.send(event.request()).status == 401));
    assert_eq!(client.send(get("/v1/capabilities")).status, 200);
    server.finish_after_trouble();
}

#[test]
fn bad_signatures_are_soon_too_many() {
    let server = slow("address", "5").env("RUSHGATE_PAYMENTS_STANDARD_SECRETS", provider::SECRET).start();
    let mut client = server.stranger();
    let good = PaymentEvent::paid("evt-1", "shop-1").of("ping");
    let bad = good.clone().signed_with(provider::OTHER_SECRET);
    let large = post(provider::PATH).text(vec![b' '; 70_000]);
    for unsigned in [bad.request(), large, post("/v1/payments/callbacks/nobody")] {
        let refused = eventually(|| {
            assert_rate_limited(&too_much(&mut client, |_| unsigned.clone()));
            // Then nothing of this address is even looked at.
            Some(client.send(good.request())).filter(|answer| answer.status == 429)
        });
        assert_rate_limited(&refused);
    }
    assert_eq!(persist(&mut client, &good.request()).status, 200);
    server.finish();
}
