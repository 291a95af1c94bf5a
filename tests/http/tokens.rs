//! Purchase tokens: given out, taken once, and worth nothing to anybody else.

use serde_json::{Value, json};

use crate::client::{Answer, Client, Request, get, post};
use crate::contract::{assert_members, assert_refused, assert_replayed, code, created, ms};
use crate::server::{Launch, Server};
use crate::shop::{crowd, one, sale, wish, with};
use crate::time;
use crate::wait::eventually;

/// Draws a token.
fn draw(client: &mut Client, sale_id: &str) -> Value {
    let answer = client.send(post(format!("/v1/sales/{sale_id}/tokens")));
    given(&answer)
}

fn given(answer: &Answer) -> Value {
    assert_eq!((answer.status, &*answer.media_type()), (200, "application/json"), "{answer}");
    assert_eq!(answer.header("Cache-Control"), Some("no-store"), "{answer}");
    assert_members(&answer.json(), &["token", "expires_at"]);
    answer.json()
}

/// An order of one `sku-1` with a token and without a key.
fn with_token(sale_id: &str, token: &Value) -> Request {
    post("/v1/orders").header("Purchase-Token", token["token"].as_str().unwrap()).json(&wish(sale_id, 1))
}

#[test]
fn a_token_is_one_operation() {
    let server = Server::start();
    for boundary in ["request", "user_sku", "user_sale", "user_sku_day"] {
        for required in [true, false] {
            let id = format!("{boundary}-{required}");
            server.open(&with(sale(&id, 100), json!({"boundary": boundary, "require_token": required})));
            let mut buyer = server.buyer(1);
            let token = draw(&mut buyer, &id);
            let first = buyer.send(with_token(&id, &token));
            created(&first);
            assert_replayed(&buyer.send(with_token(&id, &token)), &first);
            for key in ["k", "k2", "", "not, a key"] {
                assert_replayed(&buyer.send(with_token(&id, &token).key(key)), &first);
            }
            let other = post("/v1/orders").header("Purchase-Token", token["token"].as_str().unwrap());
            assert_refused(&buyer.send(other.json(&wish(&id, 2))), "idempotency_key_reused");
            assert_refused(&server.buyer(2).send(with_token(&id, &token)), "token_invalid");
            let second = draw(&mut buyer, &id);
            assert_ne!(second["token"], token["token"], "each is another one");
            assert_ne!(created(&buyer.send(with_token(&id, &second)))["order_no"], first.json()["order_no"]);
            let keyed = buyer.send(one(&id, "k"));
            match required {
                true => assert_refused(&keyed, "token_required"),
                false => drop(created(&keyed)),
            }
        }
    }
    server.open(&sale("other", 100));
    let mut buyer = server.buyer(1);
    let elsewhere = draw(&mut buyer, "request-true");
    assert_refused(&buyer.send(with_token("other", &elsewhere)), "token_invalid");
    server.assert_balanced();
    server.finish();
}

#[test]
fn what_was_not_given_out_is_no_token() {
    let server = Server::start();
    server.open(&with(sale("s", 100), json!({"require_token": true})));
    let mut buyer = server.buyer(1);
    let token = draw(&mut buyer, "s");
    let text = token["token"].as_str().unwrap();
    let send = |client: &mut Client, token: &[u8]| {
        client.send(post("/v1/orders").header("Purchase-Token", token).json(&wish("s", 1)))
    };
    for at in 0..text.len() {
        let mut forged = text.as_bytes().to_vec();
        forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
        assert_refused(&send(&mut buyer, &forged), "token_invalid");
        assert_refused(&send(&mut buyer, &text.as_bytes()[..at]), "token_invalid");
    }
    let long = text.repeat(100);
    for odd in [&[text, "="].concat(), &[text, "A"].concat(), &["x", text].concat(), "a.b.c", "é", long.as_str()] {
        assert_refused(&send(&mut buyer, odd.as_bytes()), "token_invalid");
    }
    assert_refused(&send(&mut buyer, b"\xff"), "token_invalid");
    let twice = with_token("s", &token).header("Purchase-Token", text);
    assert_refused(&buyer.send(twice), "token_invalid");
    assert_eq!(server.level("s", "sku-1").available, 100, "none of them bought anything");
    created(&buyer.send(with_token("s", &token)));
    server.finish();
}

#[test]
fn tokens_are_for_users_and_for_sales_that_have_not_ended() {
    let server = Server::start();
    let (starts_at, ends_at) = (time::now_ms() + 3_600_000, time::now_ms() + 7_200_000);
    let scheduled = json!({"starts_at": time::format(starts_at), "ends_at": time::format(ends_at)});
    server.open(&with(sale("later", 10), scheduled));
    server.open(&with(sale("soon-over", 10), json!({"ends_at": time::format(time::now_ms() + 60_000)})));
    server.open(&sale("s", 10));
    let (mut buyer, mut anyone) = (server.buyer(1), server.stranger());

    let before = time::now_ms();
    let token = draw(&mut buyer, "later");
    let lasts_ms = ms(&token["expires_at"]) - before;
    assert!((300_000..310_000).contains(&lasts_ms), "{lasts_ms} ms");
    assert_refused(&buyer.send(with_token("later", &token)), "sale_not_open");
    assert!(ms(&draw(&mut buyer, "soon-over")["expires_at"]) <= before + 61_000, "no longer than the sale");
    server.switch("s", "pause");
    let paused = draw(&mut buyer, "s");
    assert_refused(&buyer.send(with_token("s", &paused)), "sale_paused");
    server.switch("s", "resume");
    let first = buyer.send(with_token("s", &paused));
    created(&first);
    server.switch("s", "end");

    let of_page = |client: &mut Client, sale_id: &str| client.send(get(format!("/api/token?sale_id={sale_id}")));
    given(&of_page(&mut buyer, "later"));
    for (sale_id, code) in [("s", "sale_ended"), ("none", "sale_not_found"), ("a%20b", "sale_not_found")] {
        assert_refused(&of_page(&mut buyer, sale_id), code);
        assert_refused(&buyer.send(post(format!("/v1/sales/{sale_id}/tokens"))), code);
    }
    assert_refused(&of_page(&mut anyone, "later"), "unauthenticated");
    assert_refused(&anyone.send(post("/v1/sales/later/tokens")), "unauthenticated");
    assert_refused(&buyer.send(get("/api/token")), "malformed_request");
    assert_replayed(&buyer.send(with_token("s", &paused)), &first);

    let named = |body: Value| post("/v1/sales/later/tokens").json(&body);
    given(&anyone.send(named(json!({"user_id": 5}))));
    given(&buyer.send(named(json!({}))));
    assert_refused(&buyer.send(named(json!({"user_id": 5}))), "forbidden");
    assert_refused(&buyer.send(named(json!({"sale_id": "later"}))), "malformed_request");
    assert_refused(&buyer.send(post("/v1/sales/later/tokens").body("{}")), "unsupported_media_type");
    server.finish();
}

#[test]
fn an_expired_token_replays_its_order_and_makes_none() {
    let launch = Launch::new().arg("--auth-token-ttl-s").arg("2");
    let server = launch.start();
    server.open(&with(sale("s", 10), json!({"require_token": true})));
    let mut buyer = server.buyer(1);
    let unused = draw(&mut buyer, "s");
    // On a machine that is busy a token may have expired before it is sent.
    let (used, first) = eventually(|| {
        let token = draw(&mut buyer, "s");
        let answer = buyer.send(with_token("s", &token));
        (answer.status == 201).then_some((token, answer))
    });
    created(&first);
    eventually(|| (time::now_ms() > ms(&used["expires_at"])).then_some(()));
    eventually(|| (time::now_ms() > ms(&unused["expires_at"])).then_some(()));
    assert_refused(&buyer.send(with_token("s", &unused)), "token_invalid");
    assert_replayed(&buyer.send(with_token("s", &used)), &first);
    let text = used["token"].as_str().unwrap();
    let other = post("/v1/orders").header("Purchase-Token", text).json(&wish("s", 2));
    assert_refused(&buyer.send(other), "idempotency_key_reused");
    server.finish();
}

#[test]
fn a_secret_is_replaced_while_tokens_are_about() {
    let (old, new) = ("an-old-secret-of-32-characters-or-more", "a-new-secret-of-32-characters-or-more");
    let launch = Launch::new();
    let start = |keys: &str| launch.clone().arg("--auth-token-keys").arg(keys).start();
    let stop = |mut server: Server| {
        server.sigterm();
        assert!(server.wait().success());
        let log = server.log();
        assert!(!log.contains(old) && !log.contains(new), "a secret is in the log: {log}");
        server.assert_quiet();
    };
    let server = start(old);
    server.open(&sale("s", 10));
    let (first, second) = (draw(&mut server.buyer(1), "s"), draw(&mut server.buyer(1), "s"));
    let made = server.buyer(1).send(with_token("s", &first));
    created(&made);
    stop(server);

    let server = start(&format!("{new},{old}"));
    assert_replayed(&server.buyer(1).send(with_token("s", &first)), &made);
    created(&server.buyer(1).send(with_token("s", &second)));
    let third = draw(&mut server.buyer(1), "s");
    stop(server);

    let server = start(new);
    created(&server.buyer(1).send(with_token("s", &third)));
    assert_refused(&server.buyer(1).send(with_token("s", &first)), "token_invalid");
    stop(server);
}

#[test]
fn a_crowd_with_one_token_makes_one_order() {
    let server = Server::start();
    server.open(&with(sale("s", 100), json!({"require_token": true, "shards": 4})));
    let token = draw(&mut server.buyer(1), "s");
    let requests = (0..100).map(|_| (server.buyer(1), with_token("s", &token).header("Prefer", "wait=10"))).collect();
    let answers = crowd(requests);
    let (first, others): (Vec<Answer>, Vec<Answer>) =
        answers.into_iter().partition(|answer| answer.status == 201 && !answer.is_replayed());
    assert_eq!(first.len(), 1, "one of them made the order");
    for answer in others {
        match code(&answer) {
            Some(code) => assert_eq!(code, "idempotency_in_progress", "{answer}"),
            None => assert_replayed(&answer, &first[0]),
        }
    }
    assert_eq!(server.level("s", "sku-1").available, 99);
    server.finish();
}
