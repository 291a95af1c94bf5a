//! What belongs to somebody else: a thousand orders of one user, and another user who knows all their numbers and keys.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::token::{bearer, of_user};
use super::{asks, jwt};
use crate::client::{Answer, get, post, request};
use crate::contract::{assert_refused, code, created};
use crate::schema::Description;
use crate::server::Server;
use crate::shop::{one, sale};

const ORDERS: usize = 1_000;
/// Connections at a time.
const CLIENTS: usize = 8;
const OWNER: u64 = 1;
const OTHER: u64 = 2;

fn key(n: usize) -> String {
    format!("key-{n}")
}

/// Does something for each number below [`ORDERS`], over several connections.
fn each<T: Send>(work: impl Fn(&mut crate::client::Client, usize) -> T + Sync, server: &Server) -> Vec<T> {
    let part = |first: usize| {
        let mut client = server.stranger();
        (first..ORDERS).step_by(CLIENTS).map(|n| (n, work(&mut client, n))).collect::<Vec<_>>()
    };
    let mut done: Vec<(usize, T)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CLIENTS).map(|first| scope.spawn(move || part(first))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    done.sort_by_key(|(n, _)| *n);
    done.into_iter().map(|(_, value)| value).collect()
}

#[test]
fn nothing_of_a_thousand_foreign_orders_is_seen_or_changed() {
    let server = jwt().start();
    server.open(&sale("s", 3_000));
    let (owner, other) = (of_user(OWNER), of_user(OTHER));
    let orders: Vec<Value> = each(|client, n| created(&client.send(bearer(one("s", &key(n)), &owner))), &server);
    let numbers: Vec<&str> = orders.iter().map(|order| order["order_no"].as_str().unwrap()).collect();
    let read = |answer: Answer| (answer.status, answer.body);
    let own = |client: &mut crate::client::Client, n: usize| {
        read(client.send(bearer(get(format!("/v1/orders/{}", numbers[n])), &owner)))
    };
    let before = each(own, &server);
    assert!(before.iter().all(|(status, _)| *status == 200));

    // To the other user these orders are as good as ones that nobody made.
    let mut client = server.stranger();
    let nobodys: Vec<Answer> =
        foreign("00000000000000000000000000", "never").into_iter().map(|r| client.send(bearer(r, &other))).collect();
    let differing = each(
        |client, n| {
            let answers = foreign(numbers[n], &key(n)).into_iter().map(|ask| client.send(bearer(ask, &other)));
            let same = |(answer, nobodys): (Answer, &Answer)| answer.status == 404 && answer.body == nobodys.body;
            answers.zip(&nobodys).filter(|(answer, nobodys)| !same((answer.clone(), nobodys))).count()
        },
        &server,
    );
    assert_eq!(differing.iter().sum::<usize>(), 0);
    assert_eq!(code(&nobodys[0]).as_deref(), Some("order_not_found"));
    let empty = json!({"orders": [], "next_cursor": null});
    assert_eq!(client.send(bearer(get("/v1/orders?sale_id=s"), &other)).json(), empty);
    for number in numbers.iter().step_by(100) {
        let page = client.send(bearer(get(format!("/v1/orders?sale_id=s&cursor={number}")), &other));
        assert_refused(&page, "malformed_request");
    }

    // The same key is another operation for another user.
    let own_orders: HashSet<&str> = numbers.iter().copied().collect();
    for n in (0..ORDERS).step_by(100) {
        let made = created(&client.send(bearer(one("s", &key(n)), &other)));
        assert_eq!(made["user_id"], OTHER);
        assert!(!own_orders.contains(made["order_no"].as_str().unwrap()));
    }

    assert_eq!(each(own, &server), before, "every order is as it was");
    assert_eq!(server.level("s", "sku-1").held, 1_010);
    server.assert_balanced();
    server.finish();
}

/// What one could try with a foreign order.
fn foreign(order_no: &str, key: &str) -> Vec<crate::client::Request> {
    vec![
        get(format!("/v1/orders/{order_no}")),
        get(format!("/v1/orders?sale_id=s&idempotency_key={key}")),
        post(format!("/v1/orders/{order_no}/cancel")).key("mine"),
        post(format!("/v1/orders/{order_no}/cancel")).key(key),
    ]
}

#[test]
fn the_operators_calls_are_not_on_the_public_listener() {
    let token = "admin-token-0123456789";
    let server = jwt().args(&["--admin-token", token]).start();
    server.open(&sale("s", 100));
    let mut client = server.stranger();
    let description = Description::load();
    let mut tried = 0;
    for (path, item) in description.paths().filter(|(_, item)| !description.listeners(item).contains(&"public")) {
        let target = path.replace("{sale_id}", "s").replace("{order_no}", &"0".repeat(26));
        for method in Description::methods(item) {
            for credentials in [of_user(1), token.to_owned()] {
                let answer = client.send(bearer(request(method, target.clone()), &credentials));
                assert_eq!(answer.status, 404, "{method} {path}: {answer}");
                tried += 1;
            }
        }
    }
    assert!(tried > 20, "{tried} calls were found");
    assert_eq!(client.send(get("/v1/sales/s")).json()["state"], "open");
    server.finish();
}

#[test]
fn somebody_unknown_gets_one_answer_whether_or_not_the_order_exists() {
    let server = jwt().start();
    server.open(&sale("s", 100));
    let mut client = server.stranger();
    let order = created(&client.send(bearer(one("s", "k"), &of_user(OWNER))));
    let exists = asks(order["order_no"].as_str().unwrap());
    for (exists, does_not) in exists.into_iter().zip(asks("00000000000000000000000000")) {
        let (exists, does_not) = (client.send(exists), client.send(does_not));
        assert_eq!((exists.status, exists.body), (does_not.status, does_not.body));
    }
    server.finish();
}
