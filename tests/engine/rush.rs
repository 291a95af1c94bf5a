//! Crowds, in one process: what is quicker to show here than through a socket.

use std::collections::BTreeSet;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::join_all;
use rushgate::ledger::{EpochRequest, SaleLedger};
use rushgate::limits::LEASE_MS;
use rushgate::order::{Code, Epoch, Key, OrderNo, Outcome, Refusal, Retry, Switch};

use crate::faults::Fault;
use crate::world::{PATIENCE, World, key, new_sale, place, place_and_wait, rules, user, word};

/// Places an order until the answer is one that a retry would not change.
async fn place_for_good(world: &World, user_id: u64, key_text: &str) -> Result<Outcome, Refusal> {
    let engine = &world.engine;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let answer = place_and_wait(engine, "s", user_id, key_text, "a", 1, PATIENCE).await;
        match &answer {
            Err(refusal) if refusal.code.retry() != Retry::Never && tokio::time::Instant::now() < deadline => {
                tokio::task::yield_now().await;
            }
            _ => return answer,
        }
    }
}

/// Runs each future as a task of its own.
async fn all_at_once<T: Send + 'static>(
    futures: impl Iterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let tasks: Vec<_> = futures.map(tokio::spawn).collect();
    join_all(tasks).await.into_iter().map(Result::unwrap).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_identical_requests_make_one_order() {
    let world = World::new().await;
    world.create(new_sale("s", rules(3), &[("a", 50)])).await;
    let answers = all_at_once((0..1_000).map(|_| {
        let engine = world.engine.clone();
        async move { place(&engine, "s", 7, "k", "a", 1).await }
    }))
    .await;
    let words: Vec<_> = answers.iter().map(word).collect();
    let number = words.iter().find_map(|(_, number)| *number).expect("somebody hears of the order");
    assert_eq!(words.iter().filter(|(word, _)| *word == "created").count(), 1, "{words:?}");
    for (word, found) in words {
        match word {
            "created" | "replayed" => assert_eq!(found, Some(number)),
            other => assert_eq!(other, Code::IdempotencyInProgress.as_str()),
        }
    }
    assert_eq!(word(&place(&world.engine, "s", 7, "k", "a", 1).await), ("replayed", Some(number)));
    assert_eq!(world.engine.orders(user(7), "s", None, 100).await.unwrap().len(), 1);
    assert_eq!(world.levels("s", "a").await, (49, 1, 0));
    assert_eq!(world.findings(None).await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_gets_the_answer_of_the_first() {
    let world = World::new().await;
    world.create(new_sale("s", rules(1), &[("a", 50)])).await;
    let answers = all_at_once((0..1_000).map(|_| {
        let engine = world.engine.clone();
        async move { place_and_wait(&engine, "s", 7, "k", "a", 1, PATIENCE).await }
    }))
    .await;
    let bodies: BTreeSet<(OrderNo, i64)> = answers
        .iter()
        .map(|answer| match answer {
            Ok(Outcome::Created(receipt) | Outcome::Replayed(receipt)) => (receipt.order_no, receipt.created_at),
            Err(refusal) => panic!("{refusal:?}"),
        })
        .collect();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    assert_eq!(answers.iter().filter(|answer| word(answer).0 == "created").count(), 1);
    assert_eq!(world.engine.depths(), (0, 0), "nobody waits any more");
    assert_eq!(world.levels("s", "a").await, (49, 1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_units_make_a_hundred_orders() {
    for shards in [1, 7] {
        let world = std::sync::Arc::new(World::new().await);
        world.create(new_sale("s", rules(shards), &[("a", 100)])).await;
        let answers = all_at_once((0..1_000_u64).map(|n| {
            let world = world.clone();
            async move { (n % 200, word(&place_for_good(&world, 1 + n % 200, "k").await)) }
        }))
        .await;
        let mut orders = BTreeSet::new();
        for (user_id, (word, number)) in &answers {
            assert!(["created", "replayed", "sold_out"].contains(word), "{word}");
            orders.extend(number.map(|number| (user_id, number)));
        }
        assert_eq!(orders.len(), 100, "{shards} shards");
        assert_eq!(answers.iter().filter(|(_, (word, _))| *word == "created").count(), 100, "{shards} shards");
        // Who was told of a sale hears of it again, who was told of none is still not in the books.
        for user_id in 0..200 {
            let number = orders.iter().find(|(buyer, _)| **buyer == user_id).map(|(_, number)| *number);
            let expected = number.map_or(("sold_out", None), |number| ("replayed", Some(number)));
            assert_eq!(word(&place_for_good(&world, 1 + user_id, "k").await), expected);
        }
        assert_eq!(world.levels("s", "a").await, (0, 100, 0), "{shards} shards");
        assert_eq!(world.findings(None).await, []);
    }
}

#[tokio::test]
async fn a_client_that_hangs_up_loses_only_its_answer() {
    let world = World::new().await;
    // One shard, and one where the units have to be gathered first.
    world.create(new_sale("s", rules(1), &[("a", 50)])).await;
    world.create(new_sale("t", rules(5), &[("a", 10)])).await;
    for (sale_id, quantity) in [("s", 1), ("t", 9)] {
        for polls in 1..6_u64 {
            let key_text = format!("k{polls}");
            let user_id = polls * 5;
            {
                let mut order = pin!(place(&world.engine, sale_id, user_id, &key_text, "a", quantity));
                for _ in 0..polls {
                    if futures_util::poll!(order.as_mut()).is_ready() {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            world.quiet().await;
            if sale_id == "s" {
                let found = world.engine.order_by_key(user(user_id), sale_id, &key(&key_text)).await.unwrap();
                let repeat = place(&world.engine, sale_id, user_id, &key_text, "a", quantity).await;
                assert_eq!(word(&repeat), ("replayed", Some(found.order.order_no)), "{polls} polls");
            }
        }
    }
    // The one of the first client to come through; the others found too few units.
    let t = {
        let first = place(&world.engine, "t", 5, "k1", "a", 9).await;
        assert!(["created", "replayed", "sold_out"].contains(&word(&first).0));
        world.levels("t", "a").await
    };
    assert_eq!(t, (1, 9, 0));
    assert_eq!(world.findings(None).await, []);
}

#[tokio::test]
async fn an_order_that_is_taken_over_while_it_is_queued_is_made_once() {
    let world = World::new().await;
    world.create(new_sale("s", rules(1), &[("a", 2)])).await;
    let mut first = pin!(place(&world.engine, "s", 1, "k", "a", 1));
    let mut second = pin!(place(&world.engine, "s", 1, "k", "a", 1));
    // No other task runs between the two polls: the lease is over before the writer has seen the order.
    assert!(futures_util::poll!(first.as_mut()).is_pending());
    world.clock.advance(LEASE_MS);
    assert!(futures_util::poll!(second.as_mut()).is_pending());
    let (first, second) = (word(&first.await), word(&second.await));
    assert_eq!((first.0, second), ("created", ("replayed", first.1)), "one of them made it");
    assert_eq!(world.levels("s", "a").await, (1, 1, 0));
    world.quiet().await;
    assert_eq!(word(&place(&world.engine, "s", 2, "k", "a", 1).await).0, "created", "the other unit is there");
    assert_eq!(world.findings(None).await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_that_hangs_up_is_in_the_books() {
    let world = World::new().await;
    world.create(new_sale("s", rules(4), &[("a", 300)])).await;
    // Each request is polled once and dropped: by then its order belongs to the engine.
    let polled = all_at_once((1..=300).map(|user_id| {
        let engine = world.engine.clone();
        async move {
            let mut order = pin!(place(&engine, "s", user_id, "k", "a", 1));
            drop(futures_util::poll!(order.as_mut()));
            user_id
        }
    }))
    .await;
    world.quiet().await;
    let key: Key = key("k");
    let mut sold = 0;
    for user_id in polled {
        let found = world.engine.order_by_key(user(user_id), "s", &key).await;
        sold += i64::from(found.is_ok());
        let repeat = word(&place_for_good(&world, user_id, "k").await);
        match found {
            Ok(view) => assert_eq!(repeat, ("replayed", Some(view.order.order_no))),
            Err(_) => assert_eq!(repeat.0, "created"),
        }
    }
    assert!(sold > 200, "only {sold} of those that hung up were finished: most found units in their own shard");
    assert_eq!(world.levels("s", "a").await, (0, 300, 0));
    assert_eq!(world.findings(None).await, []);
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_hangs_is_an_unknown_outcome_and_not_ready() {
    let world = World::new().await;
    world.create(new_sale("s", rules(1), &[("a", 1)])).await;
    assert!(world.engine.is_ready().await);
    world.ledger.plan([Fault::Never]);
    // Time stands still but for waiting: the answer comes when the bound is reached, not when the ledger speaks.
    let answer = place(&world.engine, "s", 1, "k", "a", 1).await;
    assert_eq!(word(&answer).0, "unknown_outcome");
    assert!(!world.engine.is_ready().await, "a transaction has been running for longer than any should");
    assert_eq!(
        word(&place(&world.engine, "s", 1, "k", "a", 1).await).0,
        "idempotency_in_progress",
        "nothing was released"
    );
    assert_eq!(word(&place(&world.engine, "s", 2, "k", "a", 1).await).0, "sold_out");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_in_trouble_is_well_when_it_has_recorded_something_and_not_before() {
    let world = World::new().await;
    world.create(new_sale("s", rules(1), &[("a", 1)])).await;
    world.ledger.break_down(Fault::NotDone);
    assert_eq!(word(&place(&world.engine, "s", 1, "k", "a", 1).await).0, "ledger_unavailable");
    // Nothing is in flight for the time of many sweeps and probes, and the ledger is as it was.
    let until = tokio::time::Instant::now() + std::time::Duration::from_millis(1_000);
    while tokio::time::Instant::now() < until {
        assert!(!world.engine.is_ready().await, "nothing was recorded");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(word(&place(&world.engine, "s", 2, "k", "a", 1).await).0, "ledger_unavailable");
    // It heals with nobody ordering.
    world.ledger.mend();
    world.quiet().await;
    assert!(world.engine.is_ready().await);
    assert!(place(&world.engine, "s", 1, "k", "a", 1).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_before_an_unloaded_sale_loads_it_once() {
    let mut world = World::new().await;
    world.create(new_sale("s", rules(8), &[("a", 9)])).await;
    let made = word(&place(&world.engine, "s", 1, "k", "a", 1).await);
    world.engine.switch_sale("s", Switch::Ended).await.unwrap();
    world.restart().await;
    let answers = all_at_once((1..=200).map(|user_id| {
        let engine = world.engine.clone();
        async move { word(&place(&engine, "s", user_id, "k", "a", 1).await) }
    }))
    .await;
    assert_eq!(answers[0], ("replayed", made.1), "an order of an ended sale is still known");
    assert!(answers[1..].iter().all(|answer| answer.0 == "sale_ended"), "{answers:?}");
    let sale = world.engine.sale("s").await.unwrap().sale.no;
    let begins = (0..8).map(|shard| EpochRequest { shard, after: Epoch::new(2) }).collect();
    let epochs = world.ledger.begin_epochs(sale, begins).await.unwrap();
    // One when it was made, one for the crowd, and this one.
    assert!(epochs.iter().all(|epoch| epoch.epoch.get() == 3 && epoch.begun.is_some()), "{epochs:?}");
}
