//! Who is asking, with authentication: signed tokens, a gateway, rates, and what belongs to whom.

mod foreign;
mod rates;
mod secrets;
mod token;

use serde_json::json;

use crate::client::{Answer, Client, Request, get, post, raw};
use crate::contract::{assert_refused, assert_replayed, code, created};
use crate::server::Launch;
use crate::shop::{one, place, sale, wish, with};
use token::{Ed25519, SECRET, bearer, claims, hs256, in_s, of_user, rs256};

/// A server that takes tokens signed with [`SECRET`], from everybody as often as they like.
fn jwt() -> Launch {
    free(Launch::new().args(&["--auth-mode", "jwt", "--auth-jwt-secrets", SECRET]))
}

/// Without limits on rates.
fn free(launch: Launch) -> Launch {
    launch.args(&["--limits-user-per-s", "0", "--limits-address-per-s", "0"])
}

fn gateway(proxies: &str) -> Launch {
    free(Launch::new().args(&["--auth-mode", "gateway", "--auth-trusted-proxies", proxies]))
}

/// Every request of a buyer that needs a user: an order, and the reads.
fn asks(order_no: &str) -> Vec<Request> {
    vec![
        one("s", "asked"),
        post(format!("/v1/orders/{order_no}/cancel")).key("asked"),
        get(format!("/v1/orders/{order_no}")),
        get("/v1/orders?sale_id=s&idempotency_key=k"),
        get("/v1/orders?sale_id=s"),
    ]
}

/// 401, with what to send instead.
#[track_caller]
fn assert_unknown(answer: &Answer) {
    assert_refused(answer, "unauthenticated");
    assert_eq!(answer.header("WWW-Authenticate"), Some("Bearer"), "{answer}");
}

/// The same for a call that may not be there: only a path without a call answers `not_found`.
#[track_caller]
fn assert_unknown_to(ask: &Request, answer: &Answer) {
    if !ask.target.ends_with("/cancel") || code(answer).as_deref() != Some("not_found") {
        assert_unknown(answer);
    }
}

#[test]
fn a_token_names_the_user_and_nothing_else_does() {
    let server = jwt().start();
    server.open(&sale("s", 100));
    let mut client = server.stranger();
    let named = |user: u64| place("k", &with(wish("s", 1), json!({"user_id": user})));

    let first = client.send(bearer(one("s", "k"), &of_user(42)));
    assert_eq!(created(&first)["user_id"], 42);
    assert_replayed(&client.send(bearer(named(42), &of_user(42))), &first);
    assert_refused(&client.send(bearer(named(43), &of_user(42))), "forbidden");
    // The header of another mode says nothing here, whether it fits or not.
    for header in ["42", "43", "nobody"] {
        assert_replayed(&client.send(bearer(one("s", "k"), &of_user(42)).header("X-User-Id", header)), &first);
    }
    assert_unknown(&client.send(named(42)));
    assert_unknown(&client.send(named(42).header("X-User-Id", "42")));

    let order_no = created(&first)["order_no"].as_str().unwrap().to_owned();
    let read = client.send(bearer(get(format!("/v1/orders/{order_no}")), &of_user(42)));
    assert_eq!((read.status, &read.json()["user_id"]), (200, &json!(42)));
    for open in ["/v1/sales/s", "/v1/capabilities", "/problems/unauthenticated", "/openapi.yaml"] {
        assert_eq!(client.send(get(open)).status, 200, "{open} is for everybody");
        assert_eq!(client.send(bearer(get(open), "no.good.token")).status, 200, "{open} looks at no token");
    }
    server.finish();
}

#[test]
fn no_token_but_a_good_one_is_taken() {
    let server = jwt().start();
    server.open(&sale("s", 100));
    let mut client = server.stranger();
    let order = created(&client.send(bearer(one("s", "k"), &of_user(42))));
    let order_no = order["order_no"].as_str().unwrap();

    let good = of_user(42);
    let (head, rest) = good.split_once('.').unwrap();
    let (payload, signature) = rest.split_once('.').unwrap();
    let other_user = of_user(43).split('.').nth(1).unwrap().to_owned();
    let none = token::unsigned(&json!({"alg": "none"}), &claims(42));
    let bad = [
        String::new(),
        "x".to_owned(),
        format!("{head}.{payload}"),
        format!("{head}.{payload}."),
        format!("{head}.{other_user}.{signature}"),
        format!("{good}="),
        none.clone(),
        format!("{none}."),
        format!("{none}.{signature}"),
        hs256(&json!({"alg": "HS256"}), &claims(42), "another-secret-another-secret-32"),
        hs256(&json!({"alg": "hs256"}), &claims(42), SECRET),
        hs256(&json!({"alg": "RS256"}), &claims(42), SECRET),
        hs256(&json!({"alg": "HS256", "crit": ["exp"]}), &claims(42), SECRET),
        hs256(&json!({"alg": "HS256"}), &with(claims(42), json!({"exp": in_s(-60)})), SECRET),
        hs256(&json!({"alg": "HS256"}), &with(claims(42), json!({"exp": in_s(0)})), SECRET),
        hs256(&json!({"alg": "HS256"}), &with(claims(42), json!({"nbf": in_s(60)})), SECRET),
        hs256(&json!({"alg": "HS256"}), &json!({"sub": "42"}), SECRET),
        hs256(&json!({"alg": "HS256"}), &json!({"exp": in_s(60)}), SECRET),
        hs256(&json!({"alg": "HS256"}), &with(claims(42), json!({"sub": "0"})), SECRET),
        hs256(&json!({"alg": "HS256"}), &with(claims(42), json!({"pad": "x".repeat(8192)})), SECRET),
    ];
    for token in &bad {
        for ask in asks(order_no) {
            eprintln!("{} with {token}", ask.target);
            // A user in a header or in the body does not make up for it.
            let answer = client.send(bearer(ask.clone(), token).header("X-User-Id", "42"));
            assert_unknown_to(&ask, &answer);
        }
    }
    let twice = bearer(bearer(one("s", "twice"), &good), &good);
    assert_unknown(&client.send(twice));
    assert_unknown(&client.send(one("s", "basic").header("Authorization", "Basic NDI6NDI=")));
    // Who is asking is asked before the body is looked at.
    assert_unknown(&client.send(post("/v1/orders").text("{")));
    assert_eq!(server.level("s", "sku-1").held, 1, "nothing was ordered");
    server.finish();
}

#[test]
fn a_connection_outlives_a_refusal_before_the_body() {
    let server = jwt().start();
    let order = |length: usize| one_of(length).bytes();
    let next = get("/v1/capabilities").bytes();
    // As large as a body may be: more than arrives with the head. It is read and thrown away.
    let answers = raw(server.public, &[order(65_536), next.clone()].concat(), 2);
    assert_unknown(&answers[0]);
    assert_eq!((answers[0].header("Connection"), answers[1].status), (None, 200));
    // Larger ones, and ones that wait to be asked for, are not; the answer says so.
    let asked_for = one_of(10).header("Expect", "100-continue").bytes();
    let head = asked_for[..asked_for.len() - 10].to_vec();
    for bytes in [[order(65_537), next].concat(), head] {
        let answers = raw(server.public, &bytes, 2);
        assert_unknown(&answers[0]);
        assert_eq!((answers[0].header("Connection"), answers.len()), (Some("close"), 1));
    }
    server.finish();
}

/// An order from nobody, with a body of this length.
fn one_of(length: usize) -> Request {
    post("/v1/orders").key("k").text("x".repeat(length))
}

#[test]
fn public_keys_are_read_from_a_file_and_replaced_one_by_one() {
    let (old, new, foreign) = (Ed25519::new(1), Ed25519::new(2), Ed25519::new(3));
    let launch = Launch::new();
    let file = launch.home().join("keys.pem");
    std::fs::write(&file, format!("{}{}", old.pem(), new.pem())).unwrap();
    let keys = ["--auth-jwt-algorithm", "EdDSA", "--auth-jwt-public-keys-file", file.to_str().unwrap()];
    let named = ["--auth-jwt-issuer", "https://id.example", "--auth-jwt-audience", "rushgate"];
    let server = free(launch.args(&["--auth-mode", "jwt"]).args(&keys).args(&named)).start();
    server.open(&sale("s", 100));
    let mut client = server.stranger();
    let claims = |members| with(with(claims(42), json!({"iss": "https://id.example", "aud": ["rushgate"]})), members);

    let first = client.send(bearer(one("s", "k"), &old.token(&claims(json!({})))));
    assert_eq!(created(&first)["user_id"], 42);
    assert_replayed(&client.send(bearer(one("s", "k"), &new.token(&claims(json!({}))))), &first);
    for bad in [
        foreign.token(&claims(json!({}))),
        old.token(&claims(json!({"iss": "https://other.example"}))),
        old.token(&claims(json!({"aud": "other"}))),
        hs256(&json!({"alg": "HS256"}), &claims(json!({})), &old.pem()),
        hs256(&json!({"alg": "EdDSA"}), &claims(json!({})), &old.pem()),
    ] {
        assert_unknown(&client.send(bearer(one("s", "k"), &bad)));
    }
    server.finish();
}

#[test]
fn a_token_may_be_signed_with_rsa() {
    let file = format!("{}/provider_public.pem", crate::provider::FOLDER);
    let keys = ["--auth-jwt-algorithm", "RS256", "--auth-jwt-public-keys-file", &file];
    let server = free(Launch::new().args(&["--auth-mode", "jwt"]).args(&keys)).start();
    server.open(&sale("s", 100));
    let mut client = server.stranger();
    let good = rs256(&claims(42));
    let first = client.send(bearer(one("s", "k"), &good));
    assert_eq!(created(&first)["user_id"], 42);
    assert_replayed(&client.send(bearer(one("s", "k"), &good)), &first);
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let of_another = rs256(&claims(43));
    for bad in [
        rs256(&with(claims(42), json!({"exp": in_s(0)}))),
        format!("{}.{signature}", of_another.rsplit_once('.').unwrap().0),
        format!("{signed}."),
        // The public key is no secret.
        hs256(&json!({"alg": "HS256"}), &claims(42), &std::fs::read_to_string(&file).unwrap()),
        hs256(&json!({"alg": "RS256"}), &claims(42), &std::fs::read_to_string(&file).unwrap()),
        Ed25519::new(1).token(&claims(42)),
    ] {
        assert_unknown(&client.send(bearer(one("s", "other"), &bad)));
    }
    server.finish();
}

#[test]
fn a_gateway_names_the_user() {
    let server = gateway("127.0.0.0/8").start();
    server.open(&sale("s", 100));
    let mut client = server.stranger();
    let named = |user: u64| place("k", &with(wish("s", 1), json!({"user_id": user})));

    let first = server.buyer(42).send(one("s", "k"));
    assert_eq!(created(&first)["user_id"], 42);
    assert_replayed(&client.send(named(42).header("X-User-Id", "42")), &first);
    assert_refused(&client.send(named(43).header("X-User-Id", "42")), "forbidden");
    let order_no = created(&first)["order_no"].as_str().unwrap().to_owned();
    for ask in asks(&order_no) {
        for bad in [
            ask.clone(),
            ask.clone().header("X-User-Id", ""),
            ask.clone().header("X-User-Id", "042"),
            ask.clone().header("X-User-Id", "42").header("X-User-Id", "42"),
            bearer(ask.clone(), &of_user(42)),
        ] {
            assert_unknown_to(&ask, &client.send(bad));
        }
    }
    // Without the header a user in the body is nobody.
    assert_unknown(&client.send(named(42)));
    assert_eq!(server.level("s", "sku-1").held, 1);
    server.finish();
}

#[test]
fn nobody_else_is_believed_to_be_the_gateway() {
    let server = gateway("192.0.2.7").start();
    server.open(&sale("s", 100));
    let mut buyer: Client = server.buyer(42);
    for ask in asks("00000000000000000000000000") {
        assert_unknown_to(&ask, &buyer.send(ask.clone()));
        assert_unknown_to(&ask, &buyer.send(ask.clone().header("X-Forwarded-For", "192.0.2.7")));
    }
    assert_eq!(buyer.send(get("/v1/sales/s")).status, 200);
    assert_eq!(server.level("s", "sku-1").held, 0);
    server.finish();
}

#[test]
fn a_mode_without_what_it_needs_does_not_start() {
    for (args, advice) in [
        (&["--auth-mode", "jwt"][..], "RUSHGATE_AUTH_JWT_SECRETS"),
        (&["--auth-mode", "jwt", "--auth-jwt-secrets", "too-short"], "32 to 1024"),
        (&["--auth-mode", "jwt", "--auth-jwt-algorithm", "RS256", "--auth-jwt-secrets", SECRET], "public_keys_file"),
        (&["--auth-mode", "gateway"], "auth.trusted_proxies"),
    ] {
        let refusal = Launch::new().args(args).try_start().err().expect("refused to start");
        assert_eq!(refusal.status.code(), Some(2), "{}", refusal.log);
        assert!(refusal.log.contains(advice) && !refusal.log.contains(SECRET), "{}", refusal.log);
    }
    // With what it needs, it may listen where others connect.
    jwt().listen("0.0.0.0:0").start().finish();
}
