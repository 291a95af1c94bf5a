//! Many at once: one operation stays one order, and exactly what is there is sold.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use crate::client::{Answer, Client, Request, connect, get, send_and_hang_up};
use crate::contract::{assert_refused, code, created, placed};
use crate::server::Server;
use crate::shop::{Level, crowd, one, persist, place, sale, wish, with};
use crate::wait::eventually;

/// `n` connections that all send `request` for `user`.
fn same(server: &Server, user: u64, request: &Request, n: usize) -> Vec<(Client, Request)> {
    (0..n).map(|_| (server.buyer(user), request.clone())).collect()
}

/// The bodies of the 201s.
fn bodies(answers: &[Answer]) -> BTreeSet<&[u8]> {
    answers.iter().filter(|answer| answer.status == 201).map(|answer| &*answer.body).collect()
}

#[test]
fn a_thousand_identical_requests_make_one_order() {
    let server = Server::start();
    server.open(&sale("s", 10));
    let answers = crowd(same(&server, 1, &one("s", "k"), 1000));
    for answer in &answers {
        match code(answer) {
            None => drop(placed(answer)),
            Some(code) => assert_eq!(code, "idempotency_in_progress", "{answer}"),
        }
    }
    let first = answers.iter().filter(|answer| answer.status == 201 && !answer.is_replayed());
    assert_eq!(first.count(), 1, "one of them made it, the others repeat it");
    assert_eq!(bodies(&answers).len(), 1);
    assert_eq!(server.level("s", "sku-1"), Level { total: 10, available: 9, held: 1, sold: 0 });
    server.finish();
}

#[test]
fn a_thousand_that_wait_all_get_the_order() {
    let server = Server::start();
    server.open(&sale("s", 10));
    let answers = crowd(same(&server, 1, &one("s", "k").header("Prefer", "wait=10"), 1000));
    for answer in &answers {
        placed(answer);
        assert_eq!(answer.header("Preference-Applied"), Some("wait=10"), "{answer}");
    }
    assert_eq!(answers.iter().filter(|answer| !answer.is_replayed()).count(), 1);
    assert_eq!(bodies(&answers).len(), 1);
    assert_eq!(server.level("s", "sku-1").held, 1);
    server.finish();
}

#[test]
fn of_two_contents_under_one_key_one_wins_and_the_other_is_told() {
    let server = Server::start();
    server.open(&sale("s", 100));
    let mut requests = Vec::new();
    for _ in 0..100 {
        requests.extend(same(&server, 1, &place("k", &wish("s", 1)), 1));
        requests.extend(same(&server, 1, &place("k", &wish("s", 2)), 1));
    }
    let answers = crowd(requests);
    let won = answers.iter().position(|answer| answer.status == 201).expect("somebody wins") % 2;
    for (n, answer) in answers.iter().enumerate() {
        match code(answer).as_deref() {
            None | Some("idempotency_in_progress") => assert_eq!(n % 2, won, "{answer}"),
            Some("idempotency_key_reused") => assert_ne!(n % 2, won, "{answer}"),
            Some(_) => panic!("{answer}"),
        }
    }
    assert_eq!(bodies(&answers).len(), 1);
    assert_eq!(server.level("s", "sku-1").held, won as u64 + 1);
    server.finish();
}

#[test]
fn two_hundred_users_five_times_each_buy_a_hundred_units() {
    let server = Server::start();
    server.open(&sale("s", 100));
    let users = 1..=200;
    let requests = (0..5).flat_map(|_| users.clone()).map(|user| (server.buyer(user), one("s", "k"))).collect();
    let answers = crowd(requests);
    let mut orders: BTreeMap<u64, BTreeSet<Vec<u8>>> = BTreeMap::new();
    let mut note = |user: u64, answer: &Answer| match code(answer).as_deref() {
        None => drop(orders.entry(user).or_default().insert(answer.body.clone())),
        Some("sold_out" | "idempotency_in_progress") => {}
        Some(_) => panic!("{answer}"),
    };
    for (user, answer) in (0..5).flat_map(|_| users.clone()).zip(&answers) {
        note(user, answer);
    }
    // Whoever was told to come back does, until everybody knows.
    for user in users {
        note(user, &persist(&mut server.buyer(user), &one("s", "k")));
    }
    assert_eq!(orders.len(), 100, "as many buyers as units");
    assert!(orders.values().all(|bodies| bodies.len() == 1), "one order each");
    assert_eq!(server.level("s", "sku-1"), Level { total: 100, available: 0, held: 100, sold: 0 });
    server.assert_balanced();
    server.finish();
}

#[test]
fn three_units_on_sixty_four_shards_sell_exactly_three() {
    let server = Server::start();
    // One after the other, from shards that mostly have nothing.
    server.open(&with(sale("calm", 3), json!({"shards": 64})));
    for user in 11..=13 {
        created(&server.buyer(user).send(one("calm", "k")));
    }
    assert_refused(&server.buyer(14).send(one("calm", "k")), "sold_out");
    // All at once.
    server.open(&with(sale("rush", 3), json!({"shards": 64})));
    let answers = crowd((1..=100).map(|user| (server.buyer(user), one("rush", "k"))).collect());
    let mut sold = 0;
    for (user, answer) in (1..=100).zip(&answers) {
        let last = if code(answer).as_deref() == Some("sold_out") {
            answer.clone()
        } else {
            persist(&mut server.buyer(user), &one("rush", "k"))
        };
        sold += u64::from(last.status == 201);
    }
    assert_eq!(sold, 3);
    for sale_id in ["calm", "rush"] {
        assert_eq!(server.level(sale_id, "sku-1"), Level { total: 3, available: 0, held: 3, sold: 0 });
    }
    server.assert_balanced();
    server.finish();
}

#[test]
fn a_large_order_gathers_its_units_from_several_shards() {
    let server = Server::start();
    for (sale_id, shards, stock) in [("few", 64, 3), ("many", 64, 200), ("odd", 7, 100)] {
        server.open(&with(sale(sale_id, stock), json!({"shards": shards})));
        assert_refused(&server.buyer(1).send(place("k", &wish(sale_id, stock + 1))), "sold_out");
        created(&server.buyer(1).send(place("k", &wish(sale_id, stock))));
        assert_refused(&server.buyer(2).send(one(sale_id, "k")), "sold_out");
        assert_eq!(server.level(sale_id, "sku-1"), Level { total: stock, available: 0, held: stock, sold: 0 });
    }
    // Orders of three out of a hundred, from all sides: 33 fit, and the unit that is left is sold to whoever wants one.
    server.open(&with(sale("threes", 100), json!({"shards": 64})));
    let three = place("k", &wish("threes", 3));
    crowd((1..=60).map(|user| (server.buyer(user), three.clone().header("Prefer", "wait=10"))).collect());
    let sold = (1..=60).filter(|&user| persist(&mut server.buyer(user), &three).status == 201).count();
    assert_eq!(sold, 33);
    created(&server.buyer(99).send(one("threes", "k")));
    assert_eq!(server.level("threes", "sku-1").available, 0);
    server.assert_balanced();
    server.finish();
}

#[test]
fn a_user_cannot_outrun_the_limit() {
    let server = Server::start();
    server.open(&with(sale("s", 100), json!({"user_limit": 2, "shards": 4})));
    let mut requests = Vec::new();
    for user in 1..=5 {
        requests.extend((0..40).map(|n| (server.buyer(user), one("s", &format!("k{n}")))));
    }
    for answer in crowd(requests) {
        assert!(matches!(code(&answer).as_deref(), None | Some("limit_reached")), "{answer}");
    }
    for user in 1..=5 {
        let orders = server.buyer(user).send(get("/v1/orders?sale_id=s")).json();
        assert_eq!(orders["orders"].as_array().unwrap().len(), 2, "{orders}");
    }
    assert_eq!(server.level("s", "sku-1").held, 10);
    server.finish();
}

#[test]
fn of_many_in_a_conflict_sale_one_is_told_yes() {
    let server = Server::start();
    server.open(&with(sale("s", 100), json!({"on_duplicate": "conflict"})));
    let answers = crowd(same(&server, 1, &one("s", "k"), 200));
    let made: Vec<_> = answers.iter().filter(|answer| answer.status == 201).map(created).collect();
    assert_eq!(made.len(), 1);
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        match code(answer).as_deref() {
            Some("idempotency_in_progress") => {}
            Some("idempotency_conflict") => assert_eq!(answer.json()["order_no"], made[0]["order_no"]),
            _ => panic!("{answer}"),
        }
    }
    assert_eq!(server.level("s", "sku-1").held, 1);
    server.finish();
}

#[test]
fn a_client_that_hangs_up_finds_its_order() {
    let server = Server::start();
    server.open(&with(sale("s", 1000), json!({"shards": 8})));
    let users = 1..=60;
    for user in users.clone() {
        let order = one("s", "k").header("X-User-Id", user.to_string());
        send_and_hang_up(server.public, &order.bytes());
    }
    for user in users.clone() {
        let mut buyer = server.buyer(user);
        let made = placed(&persist(&mut buyer, &one("s", "k")));
        let found = buyer.send(get("/v1/orders?sale_id=s&idempotency_key=k")).json();
        assert_eq!(found["order_no"], made["order_no"]);
    }
    let held = |want: u64| eventually(|| (server.level("s", "sku-1").held == want).then_some(()));
    held(60);

    // Half a request is none: the key is as good as new.
    for user in users.clone() {
        let order = one("s", "half").header("X-User-Id", user.to_string()).bytes();
        let cut = order.len() * usize::try_from(user).unwrap() / 61;
        send_and_hang_up(server.public, &order[..cut]);
    }
    for user in users {
        let mut buyer = server.buyer(user);
        assert_refused(&buyer.send(get("/v1/orders?sale_id=s&idempotency_key=half")), "order_not_found");
        created(&buyer.send(one("s", "half")));
    }
    held(120);
    server.assert_balanced();
    server.finish();
}

#[test]
fn a_reset_connection_costs_no_order() {
    let server = Server::start();
    server.open(&with(sale("s", 1000), json!({"shards": 8})));
    // An unread answer makes the kernel reset the connection when it is closed.
    for user in 1..=30_u64 {
        let mut stream = connect(server.public).unwrap();
        let order = one("s", "k").header("X-User-Id", user.to_string()).bytes();
        std::io::Write::write_all(&mut stream, &[get("/v1/capabilities").bytes(), order].concat()).unwrap();
        stream.peek(&mut [0]).unwrap();
        drop(stream);
    }
    for user in 1..=30 {
        placed(&persist(&mut server.buyer(user), &one("s", "k")));
    }
    assert_eq!(server.level("s", "sku-1").held, 30);
    server.assert_balanced();
    server.finish();
}
