//! Many clients at once, each with its own mind: retries, other contents, hanging up in mid-flight, failing writes, a
//! clock that jumps. Afterwards everything must add up.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rushgate::command::RestockSale;
use rushgate::engine::Engine;
use rushgate::order::{Order, OrderNo, Outcome, Refusal, Retry, Rules};

use crate::engines::until;
use crate::faults::Fault;
use crate::world::{PATIENCE, World, key, name, new_sale, place, place_and_wait, rules, user, word};
use rushgate_test_support::random::Random;

const USERS: u64 = 12;
const KEYS: u64 = 5;
const CLIENTS: u64 = 16;
const REQUESTS: usize = 40;

/// What a client asked for, and the number it was told if it was told one.
type Heard = (u64, u64, u32, Option<OrderNo>);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_leaves_balanced_books() {
    let mut random = Random::seeded("a_crowd_leaves_balanced_books");
    for round in 0..8 {
        play(round, &mut random).await;
    }
}

async fn play(round: usize, random: &mut Random) {
    let mut world = World::new().await;
    let shards = 1 + random.below(8) as u16;
    let user_limit = random.percent(50).then(|| 2 + random.below(4) as u32);
    let stock = 1 + random.below(90) as i64;
    let about = format!("round {round}: {shards} shards, {stock} units, limit {user_limit:?}");
    world.create(new_sale("s", Rules { user_limit, ..rules(shards) }, &[("a", stock)])).await;

    let clients: Vec<_> = (0..CLIENTS).map(|_| tokio::spawn(client(world.engine.clone(), random.split()))).collect();
    let changes = Mutex::default();
    let trouble = trouble(&world, &changes, random.split());
    let heard = async {
        let mut heard = Vec::new();
        for client in clients {
            heard.extend(client.await.unwrap());
        }
        heard
    };
    let heard = tokio::select! {
        heard = heard => heard,
        never = trouble => never,
    };
    world.ledger.mend();
    world.quiet().await;
    // What was asked of the stock may still be done, until somebody asks again.
    for change in changes.into_inner().unwrap() {
        until(async || match world.engine.restock_sale("s", change.clone()).await {
            Ok(_) => true,
            Err(refusal) => refusal.code.retry() == Retry::Never,
        })
        .await;
    }

    if random.percent(30) {
        world.restart().await;
    }
    settle_everything(&world, &heard, &about).await;
    assert_eq!(world.findings(None).await, [], "{about}");
    sell_the_rest(&world, &about).await;
    assert_eq!(world.findings(None).await, [], "{about}: sold out");
}

/// The content of a request: a key stands for one quantity, but for a slip now and then.
fn quantity(user_id: u64, key: u64) -> u32 {
    1 + u32::from((user_id + key).is_multiple_of(3))
}

async fn client(engine: Arc<Engine>, mut random: Random) -> Vec<Heard> {
    let mut heard = Vec::new();
    for _ in 0..REQUESTS {
        let (user_id, key) = (1 + random.below(USERS), random.below(KEYS));
        let quantity = quantity(user_id, key) + u32::from(random.percent(4));
        let wait = if random.percent(30) { Duration::from_millis(20) } else { Duration::ZERO };
        let key_text = format!("k{key}");
        let mut order = pin!(place_and_wait(&engine, "s", user_id, &key_text, "a", quantity, wait));
        let answer = match random.below(10) {
            0 => None,
            1 => poll_some(order.as_mut(), 1).await,
            2 => poll_some(order.as_mut(), 1 + random.below(5)).await,
            3 => tokio::time::timeout(Duration::from_micros(random.below(3_000)), order).await.ok(),
            _ => Some(order.await),
        };
        let number = answer.and_then(|answer| answer.ok()).map(|outcome| match outcome {
            Outcome::Created(receipt) | Outcome::Replayed(receipt) => receipt.order_no,
        });
        heard.push((user_id, key, quantity, number));
    }
    heard
}

/// Polls a request a few times; then its client hangs up.
async fn poll_some<T>(mut order: std::pin::Pin<&mut impl Future<Output = T>>, polls: u64) -> Option<T> {
    for _ in 0..polls {
        if let std::task::Poll::Ready(answer) = futures_util::poll!(order.as_mut()) {
            return Some(answer);
        }
        tokio::task::yield_now().await;
    }
    None
}

/// Plans faults, restocks and sets the clock, until it is dropped.
async fn trouble(world: &World, changes: &Mutex<Vec<RestockSale>>, mut random: Random) -> ! {
    let pick = |random: &mut Random, faults: &[Fault]| faults[random.below(faults.len() as u64) as usize];
    for change in 0_u64.. {
        match random.below(8) {
            0 | 1 => world.ledger.plan([pick(&mut random, &Fault::ALL)]),
            2 => world.ledger.plan_moves([pick(&mut random, &Fault::ALL)]),
            3 => world.clock.advance(random.below(20_000) as i64 - 10_000),
            4 if random.percent(30) => {
                let units = 1 + random.below(4) as i64;
                let units = if random.percent(40) { -units } else { units };
                let change = RestockSale { change_id: name(&format!("c{change}")), sku_id: name("a"), units };
                changes.lock().unwrap().push(change.clone());
                drop(world.engine.restock_sale("s", change).await);
            }
            _ => {}
        }
        tokio::time::sleep(Duration::from_micros(200 + random.below(2_000))).await;
    }
    unreachable!("the crowd is gone long before")
}

/// Repeats a request until its answer is one that stays.
async fn for_good(world: &World, user_id: u64, key_text: &str, quantity: u32) -> Result<Outcome, Refusal> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let answer = place(&world.engine, "s", user_id, key_text, "a", quantity).await;
        match &answer {
            Err(refusal) if refusal.code.retry() != Retry::Never && tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            _ => return answer,
        }
    }
}

/// Repeats every request, and holds the answers and the ledger against what the clients were told.
async fn settle_everything(world: &World, heard: &[Heard], about: &str) {
    let mut told: BTreeMap<(u64, u64), (u32, OrderNo)> = BTreeMap::new();
    for (user_id, key, quantity, number) in heard {
        if let Some(number) = number {
            let first = told.entry((*user_id, *key)).or_insert((*quantity, *number));
            assert_eq!(*first, (*quantity, *number), "{about}: one order per key, with one content");
        }
    }
    let ledger = orders_by_user(world).await;
    for ((user_id, key), (quantity, number)) in &told {
        let order = ledger[user_id].iter().find(|order| order.order_no == *number);
        let order = order.unwrap_or_else(|| panic!("{about}: {number} was confirmed and is not in the ledger"));
        assert_eq!(order.quantity, *quantity, "{about}: user {user_id} key {key}");
    }
    for (user_id, key, quantity, _) in heard {
        let answer = for_good(world, *user_id, &format!("k{key}"), *quantity).await;
        match (told.get(&(*user_id, *key)), word(&answer)) {
            (Some((first, number)), got) if first == quantity => {
                assert_eq!(got, ("replayed", Some(*number)), "{about}");
            }
            (Some(_), got) => assert_eq!(got, ("idempotency_key_reused", None), "{about}"),
            (None, ("created" | "replayed", Some(number))) => {
                told.insert((*user_id, *key), (*quantity, number));
            }
            (None, ("sold_out" | "limit_reached" | "idempotency_key_reused", None)) => {}
            (None, got) => panic!("{about}: {got:?}"),
        }
    }
    let ledger = orders_by_user(world).await;
    for (user_id, orders) in ledger {
        let keys = (0..KEYS).filter(|key| told.contains_key(&(user_id, *key))).count();
        let mut numbers: Vec<_> = orders.iter().map(|order| order.order_no).collect();
        numbers.sort();
        numbers.dedup();
        assert_eq!((numbers.len(), orders.len()), (keys, keys), "{about}: user {user_id} has one order per key");
    }
}

async fn orders_by_user(world: &World) -> BTreeMap<u64, Vec<Order>> {
    let mut orders = BTreeMap::new();
    for user_id in 1..=USERS {
        let views = world.engine.orders(user(user_id), "s", None, 100).await.unwrap();
        orders.insert(user_id, views.into_iter().map(|view| view.order).collect());
    }
    orders
}

/// New users, from every shard, buy what is left: all of it, and no more.
async fn sell_the_rest(world: &World, about: &str) {
    let (available, held, _) = world.levels("s", "a").await;
    for n in 0..available as u64 {
        let answer = word(&for_good(world, 1_000 + n, "k", 1).await);
        assert_eq!(answer.0, "created", "{about}: unit {n} of {available}");
        let found = world.engine.order_by_key(user(1_000 + n), "s", &key("k")).await.unwrap();
        assert_eq!(Some(found.order.order_no), answer.1, "{about}");
    }
    for user_id in 1_000_000..1_000_008 {
        assert_eq!(word(&for_good(world, user_id, "k", 1).await).0, "sold_out", "{about}");
    }
    assert_eq!(world.levels("s", "a").await, (0, held + available, 0), "{about}");
}
