//! Ends under load, gentle and not: what was answered 201 is there afterwards, once, and everything still sells.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Mutex, mpsc};

use serde_json::{Value, json};

use crate::client::{Answer, Client, escaped, get};
use crate::contract::{assert_current, code, placed};
use rushgate_test_support::process::signal;

use crate::random::Random;
use crate::server::{Launch, Server};
use crate::shop::{Level, persist, place, sale, wish, with};

const WORKERS: usize = 6;
const USERS: u64 = 40;
/// Units of every order here, so that the last order takes the last units.
const QUANTITY: u64 = 2;

/// What a client knows of one of its operations.
#[derive(Clone, Debug)]
struct Operation {
    user: u64,
    key: String,
    /// The body of the first 201 that arrived.
    body: Option<Vec<u8>>,
}

/// All operations so far; the clients' memory, which outlives every server.
#[derive(Default)]
struct Book(Mutex<Vec<Operation>>);

impl Book {
    /// An operation to send: a new one, or every third time one that was sent before.
    fn next(&self, random: &mut Random) -> (usize, Operation) {
        let mut operations = self.0.lock().unwrap();
        let n = if !operations.is_empty() && random.within(1, 3) == 1 {
            usize::try_from(random.number() % operations.len() as u64).unwrap()
        } else {
            let n = operations.len();
            operations.push(Operation { user: random.within(1, USERS), key: format!("k{n}"), body: None });
            n
        };
        (n, operations[n].clone())
    }

    /// Notes a 201, which must say what every earlier one said.
    fn note(&self, n: usize, answer: &Answer) {
        placed(answer);
        let mut operations = self.0.lock().unwrap();
        let known = operations[n].body.get_or_insert_with(|| answer.body.clone());
        assert_eq!(*known, answer.body, "an answer never changes");
    }

    fn all(&self) -> Vec<Operation> {
        self.0.lock().unwrap().clone()
    }
}

fn send(client: &mut Client, operation: &Operation) -> std::io::Result<Answer> {
    client.try_send(place(&operation.key, &wish("s", QUANTITY)))
}

/// Orders until nobody answers any more; rings at every answer.
fn work(to: SocketAddr, book: &Book, bell: &mpsc::SyncSender<()>, mut random: Random) {
    let mut clients: BTreeMap<u64, Client> = BTreeMap::new();
    loop {
        let (n, operation) = book.next(&mut random);
        let client = clients.entry(operation.user).or_insert_with(|| Client::new(to, Some(operation.user)));
        let Ok(answer) = send(client, &operation) else { return };
        match code(&answer).as_deref() {
            None => book.note(n, &answer),
            // A drain refuses new work; two workers may repeat the same operation; the end of the stock is no fault.
            Some("idempotency_in_progress" | "overloaded" | "sold_out") => {}
            Some(_) => panic!("{answer}"),
        }
        // A full row of rings says as much as one more.
        bell.try_send(()).ok();
    }
}

/// Loads the server until `answers` have come and then calls `end`, which ends it while the load goes on.
fn under_load(server: &mut Server, book: &Book, random: &mut Random, answers: u64, end: impl FnOnce(&mut Server)) {
    let (bell, rings) = mpsc::sync_channel(1024);
    let to = server.public;
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            let (bell, random) = (bell.clone(), random.split());
            scope.spawn(move || work(to, book, &bell, random));
        }
        drop(bell);
        for _ in 0..answers {
            rings.recv().expect("the workers go on until the server ends");
        }
        end(server);
    });
}

/// Sends every operation once more: each gets the answer it got before, and each order is there once.
fn assert_kept(server: &Server, book: &Book) {
    let mut made: BTreeMap<u64, BTreeSet<String>> = (1..=USERS).map(|user| (user, BTreeSet::new())).collect();
    for (n, operation) in book.all().into_iter().enumerate() {
        let mut buyer = server.buyer(operation.user);
        // Before the repeat, which would make it: what was acknowledged is there already.
        if let Some(body) = &operation.body {
            let order: Value = serde_json::from_slice(body).unwrap();
            let no = order["order_no"].as_str().unwrap();
            let by_key = format!("/v1/orders?sale_id=s&idempotency_key={}", escaped(&operation.key));
            for target in [format!("/v1/orders/{no}"), by_key] {
                let found = buyer.send(get(target));
                assert_eq!(found.status, 200, "{operation:?}: {found}");
                assert_current(&found.json(), &order);
            }
        }
        let answer = persist(&mut buyer, &place(&operation.key, &wish("s", QUANTITY)));
        if operation.body.is_none() && code(&answer).as_deref() == Some("sold_out") {
            continue;
        }
        book.note(n, &answer);
        let no = answer.json()["order_no"].as_str().unwrap().to_owned();
        assert!(made.get_mut(&operation.user).unwrap().insert(no), "two operations, two orders: {operation:?}");
    }
    for (user, made) in made {
        assert_eq!(listed(&mut server.buyer(user)), made, "one operation, one order: user {user}");
    }
}

/// The numbers of all orders of a user.
fn listed(buyer: &mut Client) -> BTreeSet<String> {
    let mut numbers = BTreeSet::new();
    let mut cursor = String::new();
    loop {
        let page = buyer.send(get(format!("/v1/orders?sale_id=s&limit=100{cursor}"))).json();
        for order in page["orders"].as_array().unwrap() {
            assert!(numbers.insert(order["order_no"].as_str().unwrap().to_owned()), "listed twice: {order}");
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={}", escaped(next)),
            None => return numbers,
        }
    }
}

/// Orders until everybody is told `sold_out`.
fn sell_the_rest(server: &Server, book: &Book, random: &mut Random) {
    let to = server.public;
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            let mut random = random.split();
            scope.spawn(move || {
                loop {
                    let (n, operation) = book.next(&mut random);
                    let mut buyer = Client::new(to, Some(operation.user));
                    let answer = persist(&mut buyer, &place(&operation.key, &wish("s", QUANTITY)));
                    match code(&answer).as_deref() {
                        None => book.note(n, &answer),
                        Some("sold_out") => return,
                        Some(_) => panic!("{answer}"),
                    }
                }
            });
        }
    });
}

#[test]
fn a_gentle_end_under_load_loses_nothing() {
    let mut random = Random::seeded("a_gentle_end_under_load_loses_nothing");
    let mut server = Server::start();
    server.open(&with(sale("s", 1_000_000), json!({"shards": 8})));
    let book = Book::default();
    for name in ["TERM", "INT", "HUP"] {
        under_load(&mut server, &book, &mut random, 150, |server| {
            signal(server.pid(), name);
            let status = server.wait();
            assert_eq!(status.code(), Some(0), "SIG{name}: {status}");
        });
        server.assert_quiet();
        server = server.restart();
        assert_kept(&server, &book);
    }
    let orders = book.all().iter().filter(|operation| operation.body.is_some()).count() as u64;
    assert_eq!(server.level("s", "sku-1").held, orders * QUANTITY);
    server.assert_balanced();
    server.finish();
}

#[test]
fn fifty_kills_under_load_lose_nothing_and_strand_nothing() {
    const STOCK: u64 = 12_000;
    let mut random = Random::seeded("fifty_kills_under_load_lose_nothing_and_strand_nothing");
    let mut server = Server::start();
    server.open(&with(sale("s", STOCK), json!({"shards": 8})));
    let book = Book::default();
    for _ in 0..50 {
        let answers = random.within(1, 150);
        under_load(&mut server, &book, &mut random, answers, Server::kill9);
        server.assert_no_bug();
        server = server.restart();
    }
    assert_kept(&server, &book);
    server.assert_balanced();

    sell_the_rest(&server, &book, &mut random);
    assert_kept(&server, &book);
    let orders = book.all().iter().filter(|operation| operation.body.is_some()).count() as u64;
    assert_eq!(orders * QUANTITY, STOCK, "everything is sold, and nothing twice");
    assert_eq!(server.level("s", "sku-1"), Level { total: STOCK, available: 0, held: STOCK, sold: 0 });
    server.assert_balanced();
    server.finish_after_trouble();
}

#[test]
fn who_ignores_a_hang_up_goes_on() {
    let server = Launch::new().ignoring_hang_up().start();
    server.open(&sale("s", 2));
    signal(server.pid(), "HUP");
    server.assert_sells("s", 2);
    let launch = server.launch.clone();
    server.finish();
    let log = launch.whole_log();
    assert!(log.contains("SIGTERM: stopping") && !log.contains("SIGHUP"), "{log}");
}
