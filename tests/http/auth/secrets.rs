//! What nobody must find anywhere: secrets of the server, and credentials that clients sent.

use serde_json::json;

use super::token::{SECRET, bearer, claims, hs256, in_s, of_user};
use super::{asks, jwt};
use crate::client::{Answer, Client, get, post, raw};
use crate::contract::created;
use crate::shop::{one, sale, with};

#[test]
fn no_secret_is_in_any_answer_metric_or_line_of_the_log() {
    let admin_token = "canary-admin-token-0123456789";
    let (good, other) = (of_user(42), of_user(43));
    let expired = hs256(&json!({"alg": "HS256"}), &with(claims(42), json!({"exp": in_s(-60)})), SECRET);
    let forged = hs256(&json!({"alg": "HS256"}), &claims(42), "canary-of-a-forger-canary-of-a-forger");
    let nonsense = "canary-that-is-no-token".to_owned();
    let tokens = [good.clone(), other, expired, forged, nonsense];
    // What is secret of a token is its signature; the rest is there to be read, but not in a log.
    let secrets: Vec<&str> = tokens.iter().flat_map(|token| token.split('.')).filter(|part| part.len() > 40).collect();
    let secrets = [&[SECRET, admin_token, "canary"], &secrets[..]].concat();

    let launch = jwt().admin_listen("0.0.0.0:0").args(&[
        "--admin-token",
        admin_token,
        "--log-level",
        "debug",
        "--log-trace-one-in",
        "1",
    ]);
    let server = secrets.iter().fold(launch, |launch, secret| launch.secret(secret)).start();
    let mut operator = Client::new(([127, 0, 0, 1], server.admin.port()).into(), None);
    let mut answers: Vec<Answer> = Vec::new();
    answers.push(operator.send(bearer(post("/admin/v1/sales").json(&sale("s", 100)), admin_token)));
    assert_eq!(answers[0].status, 201, "{}", answers[0]);
    let mut client = server.stranger();
    let order = client.send(bearer(one("s", "k"), &good));
    let order_no = created(&order)["order_no"].as_str().unwrap().to_owned();
    answers.push(order);
    for token in &tokens {
        for ask in asks(&order_no) {
            answers.push(client.send(bearer(ask, token)));
        }
        for target in ["/v1/sales/s", "/v1/capabilities", "/problems/unauthenticated", "/nowhere", "/metrics"] {
            answers.push(client.send(bearer(get(target), token)));
        }
        answers.push(client.send(bearer(post("/v1/orders").text("{"), token)));
        answers.push(client.send(bearer(post("/v1/orders").text("x".repeat(70_000)), token)));
        for target in ["/admin/v1/sales", "/metrics", "/admin/v1/verify", "/"] {
            answers.push(operator.send(bearer(get(target), token)));
        }
        // Heads that the parser itself refuses.
        let head = format!("GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nbroken\r\n\r\n");
        answers.extend(raw(server.public, head.as_bytes(), 1));
    }
    for target in ["/metrics", "/admin/v1/sales", "/admin/v1/sales/s", "/admin/v1/verify", "/"] {
        let answer = operator.send(bearer(get(target), admin_token));
        assert_eq!(answer.status, 200, "{answer}");
        answers.push(answer);
    }
    assert!(answers.iter().any(|answer| answer.status == 401) && answers.iter().any(|answer| answer.status == 413));
    for answer in &answers {
        let text = answer.to_string();
        assert!(!secrets.iter().any(|secret| text.contains(secret)), "{text}");
    }
    // Also wants a log without any of them.
    server.finish();
}
