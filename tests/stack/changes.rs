//! What an operator changes through one engine is in force at the other within a second.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::Client;
use crate::contract::{assert_refused, code};
use crate::shop::{one, persist, sale, with};
use crate::world::{SALE, Setup};

/// The promise of the contract.
const PROMPT: Duration = Duration::from_secs(1);

fn open(sale_id: &str, stock: u64) -> Value {
    with(sale(sale_id, stock), json!({"shards": 4, "payment_timeout_s": null}))
}

/// Sends new orders until one is answered with `want` (`None`: 201), which must be within a second of `since`.
#[track_caller]
fn soon(buyer: &mut Client, sale_id: &str, key: &str, since: Instant, want: Option<&str>) {
    let mut n = 0;
    let mut last = None;
    let seen = loop {
        n += 1;
        let answer = buyer.send(one(sale_id, &format!("{key}-{n}")));
        if code(&answer).as_deref() == want {
            break since.elapsed();
        }
        last = Some(answer);
        assert!(since.elapsed() < 10 * PROMPT, "{key}: not even within ten seconds; last {}", last.unwrap());
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(seen <= PROMPT, "{key}: seen after {seen:?}; the answer before was {last:?}");
}

#[test]
fn a_change_on_one_engine_reaches_the_other_within_a_second() {
    let world = Setup::new("a_change_on_one_engine").engines(2).start();
    let (here, there) = (world.engines[0].server(), world.engines[1].server());
    let mut buyer = there.buyer(7);
    world.open(100_000, json!({"shards": 4}));
    for round in 0..3 {
        here.switch(SALE, "pause");
        soon(&mut buyer, SALE, &format!("pause{round}"), Instant::now(), Some("sale_paused"));
        here.switch(SALE, "resume");
        soon(&mut buyer, SALE, &format!("resume{round}"), Instant::now(), None);
    }
    let before = Instant::now();
    here.switch(SALE, "end");
    soon(&mut buyer, SALE, "end", Instant::now(), Some("sale_ended"));
    eprintln!("an end took {:?}", before.elapsed());

    // A new sale, and one that is sold out until it is stocked again.
    for round in 0..3 {
        let id = format!("new{round}");
        here.open(&open(&id, 2));
        soon(&mut buyer, &id, "new", Instant::now(), None);
        assert_eq!(persist(&mut buyer, &one(&id, "rest")).status, 201, "the second of two units");
        assert_refused(&persist(&mut buyer, &one(&id, "too-late")), "sold_out");
        let answer = here.restock(&id, "c1", 5);
        assert_eq!(answer.status, 200, "{answer}");
        soon(&mut buyer, &id, "restocked", Instant::now(), None);
    }
    for mut engine in world.engines {
        engine.finish();
    }
}
