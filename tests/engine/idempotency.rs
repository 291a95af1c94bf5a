//! Operations once, for any service: what `rushgate::idempotency` promises, held against SQLite and PostgreSQL.

mod service;
mod session;

use std::sync::Barrier;

use rushgate::idempotency::{Acquired, Answer, Fingerprint, Key, Lost, Operation, Scope, limits};
use tempfile::TempDir;

use self::session::{Database, KEPT_MS, LATE, LEASE_MS, NOW, Session};

/// Worth `amount`, under `key`.
fn top_up(key: &str, amount: i64) -> Operation {
    Operation {
        scope: Scope::new(&["top-up", "42"]).unwrap(),
        key: Key::parse(key.as_bytes()).unwrap(),
        fingerprint: Fingerprint::of_fields("top-up", &[&amount.to_le_bytes()]),
    }
}

fn done(body: &[u8]) -> Acquired {
    Acquired::Done(Answer { is_success: true, body: body.to_vec() })
}

#[tokio::test]
async fn an_operation_is_done_once_and_answered_the_same_ever_after() {
    for database in Database::all().await {
        let name = database.name();
        let (mut one, mut other) = (database.connect().await, database.connect().await);
        let claim = one.claim(&top_up("k", 5), NOW).await;
        assert_eq!(claim.operation(), &top_up("k", 5), "{name}");
        for now_ms in [NOW, LATE - 1] {
            let answer = other.acquire(&top_up("k", 5), now_ms).await;
            assert_eq!(answer, Acquired::InProgress(LATE), "{name}: it is under way");
        }
        assert!(one.is_mine(&claim, NOW).await, "{name}");
        one.begin().await;
        one.effect().await;
        assert_eq!(one.complete(&claim, b"5 units").await, Ok(()), "{name}");
        one.commit().await;
        for now_ms in [NOW, LATE, NOW + KEPT_MS, i64::MAX - KEPT_MS] {
            assert_eq!(other.acquire(&top_up("k", 5), now_ms).await, done(b"5 units"), "{name} at {now_ms}");
        }
        assert_eq!(one.complete(&claim, b"again").await, Err(Lost), "{name}: a claim is completed once");
        assert!(!one.is_mine(&claim, NOW).await, "{name}");
        assert_eq!(other.acquire(&top_up("k", 5), NOW).await, done(b"5 units"), "{name}");
        assert_eq!(other.effects().await, 1, "{name}");
    }
}

#[tokio::test]
async fn claim_effect_and_answer_may_share_a_transaction() {
    for database in Database::all().await {
        let name = database.name();
        let mut sql = database.connect().await;
        for is_committed in [false, true] {
            sql.begin().await;
            let claim = sql.claim(&top_up("k", 5), NOW).await;
            sql.effect().await;
            assert_eq!(sql.complete(&claim, b"").await, Ok(()), "{name}");
            assert_eq!(sql.acquire(&top_up("k", 5), NOW).await, done(b""), "{name}: an empty answer is one");
            if is_committed {
                sql.commit().await
            } else {
                sql.roll_back().await
            }
            assert_eq!(sql.effects().await, i64::from(is_committed), "{name}");
        }
        assert_eq!(sql.acquire(&top_up("k", 5), NOW).await, done(b""), "{name}");
    }
}

#[tokio::test]
async fn keys_are_unique_within_their_scope_only() {
    for database in Database::all().await {
        let mut sql = database.connect().await;
        let first = top_up("k", 5);
        let other_scope = Operation { scope: Scope::new(&["top-up", "43"]).unwrap(), ..first.clone() };
        for operation in [&first, &top_up("K", 5), &top_up("kk", 5), &other_scope] {
            sql.claim(operation, NOW).await;
        }
        assert_eq!(sql.acquire(&first, NOW).await, Acquired::InProgress(LATE), "{}", database.name());
    }
}

#[tokio::test]
async fn another_content_is_refused_in_every_state() {
    for database in Database::all().await {
        let name = database.name();
        let mut sql = database.connect().await;
        let refused = async |sql: &mut Session, key: &str| {
            for now_ms in [NOW, LATE, NOW + KEPT_MS] {
                assert_eq!(sql.acquire(&top_up(key, 6), now_ms).await, Acquired::OtherContent, "{name}: {key}");
            }
        };
        let claims = [sql.claim(&top_up("done", 5), NOW).await, sql.claim(&top_up("failed", 5), NOW).await];
        refused(&mut sql, "done").await;
        assert!(sql.is_mine(&claims[0], NOW).await, "{name}: the claim is not touched");
        assert_eq!(sql.complete(&claims[0], b"done").await, Ok(()), "{name}");
        assert_eq!(sql.fail(&claims[1], b"failed").await, Ok(()), "{name}");
        refused(&mut sql, "done").await;
        refused(&mut sql, "failed").await;
        assert_eq!(sql.acquire(&top_up("done", 5), NOW).await, done(b"done"), "{name}");
    }
}

#[tokio::test]
async fn an_interrupted_operation_is_taken_over_and_its_first_owner_undoes_its_effect() {
    for database in Database::all().await {
        let name = database.name();
        let (mut first, mut second) = (database.connect().await, database.connect().await);
        let slow = first.claim(&top_up("k", 5), NOW).await;
        let quick = second.claim(&top_up("k", 5), LATE).await;
        assert_ne!(slow, quick, "{name}: each claim has a token of its own");
        assert!(!first.is_mine(&slow, LATE).await, "{name}");
        assert!(second.is_mine(&quick, LATE).await, "{name}");
        let answer = first.acquire(&top_up("k", 5), LATE).await;
        assert_eq!(answer, Acquired::InProgress(LATE + LEASE_MS), "{name}: the lease begins anew");

        // Whatever the first owner does now changes nothing.
        first.begin().await;
        first.effect().await;
        assert_eq!(first.complete(&slow, b"slow").await, Err(Lost), "{name}");
        first.roll_back().await;
        assert_eq!(first.fail(&slow, b"slow").await, Err(Lost), "{name}");
        first.release(&slow).await;
        assert!(second.is_mine(&quick, LATE).await, "{name}");

        second.begin().await;
        second.effect().await;
        assert_eq!(second.complete(&quick, b"quick").await, Ok(()), "{name}");
        second.commit().await;
        first.release(&slow).await;
        assert_eq!(first.complete(&slow, b"slow").await, Err(Lost), "{name}");
        assert_eq!(first.acquire(&top_up("k", 5), LATE).await, done(b"quick"), "{name}");
        assert_eq!(first.effects().await, 1, "{name}");
    }
}

#[tokio::test]
async fn a_late_owner_completes_what_nobody_has_taken_over() {
    for database in Database::all().await {
        let name = database.name();
        let mut sql = database.connect().await;
        let claim = sql.claim(&top_up("k", 5), NOW).await;
        assert!(sql.is_mine(&claim, LATE - 1).await, "{name}");
        assert!(!sql.is_mine(&claim, LATE).await, "{name}: anybody may take it over from now on");
        assert_eq!(sql.complete(&claim, b"late").await, Ok(()), "{name}");
        assert_eq!(sql.acquire(&top_up("k", 5), LATE).await, done(b"late"), "{name}");
    }
}

#[tokio::test]
async fn a_released_key_is_free_and_a_failure_is_kept() {
    for database in Database::all().await {
        let name = database.name();
        let mut sql = database.connect().await;
        let claim = sql.claim(&top_up("k", 5), NOW).await;
        sql.release(&claim).await;
        assert_eq!(sql.complete(&claim, b"").await, Err(Lost), "{name}");
        // As if it had never been asked for: even for another content.
        let claim = sql.claim(&top_up("k", 6), NOW).await;
        assert_eq!(sql.fail(&claim, b"card refused").await, Ok(()), "{name}");
        sql.release(&claim).await;
        let failed = Acquired::Done(Answer { is_success: false, body: b"card refused".to_vec() });
        for now_ms in [NOW, LATE] {
            assert_eq!(sql.acquire(&top_up("k", 6), now_ms).await, failed, "{name}");
        }
    }
}

#[tokio::test]
async fn an_answer_has_a_largest_size() {
    for database in Database::all().await {
        let name = database.name();
        let mut sql = database.connect().await;
        let claim = sql.claim(&top_up("k", 5), NOW).await;
        let mut body = vec![0xff; limits::ANSWER_BYTES_MAX + 1];
        let refused = sql.try_complete(&claim, &body).await.unwrap_err();
        assert!(refused.contains("at most 65536"), "{name}: {refused}");
        assert!(sql.is_mine(&claim, NOW).await, "{name}");
        body.pop();
        assert_eq!(sql.complete(&claim, &body).await, Ok(()), "{name}");
        assert_eq!(sql.acquire(&top_up("k", 5), NOW).await, done(&body), "{name}");
    }
}

#[tokio::test]
async fn a_sweep_removes_what_is_kept_no_longer_and_nothing_else() {
    for database in Database::all().await {
        let name = database.name();
        let mut sql = database.connect().await;
        let end = NOW + KEPT_MS;
        let abandoned = sql.claim(&top_up("abandoned", 5), NOW).await;
        for key in ["done", "failed"] {
            let claim = sql.claim(&top_up(key, 5), NOW).await;
            let settled = if key == "done" { sql.complete(&claim, b"").await } else { sql.fail(&claim, b"").await };
            assert_eq!(settled, Ok(()), "{name}");
        }
        // Its time to be kept ends with the others', but somebody has just taken it over.
        let taken_over = sql.acquire_until(&top_up("live", 5), end - 1, end).await;
        let Acquired::Claimed(live) = taken_over else { panic!("{taken_over:?}") };

        assert_eq!(sql.sweep(end - 1, 99).await, 0, "{name}: all are to be kept");
        assert_eq!(sql.sweep(end, 2).await, 2, "{name}: at most two");
        assert_eq!(sql.sweep(end, 99).await, 1, "{name}: the last of the three");
        assert_eq!(sql.sweep(end, 99).await, 0, "{name}");
        assert!(sql.is_mine(&live, end).await, "{name}");
        assert_eq!(sql.complete(&abandoned, b"").await, Err(Lost), "{name}: swept is lost");
        for key in ["abandoned", "done", "failed"] {
            sql.claim(&top_up(key, 6), end).await;
        }
        assert_eq!(sql.sweep(end - 1 + LEASE_MS, 99).await, 1, "{name}: its lease has run out");
        assert_eq!(sql.complete(&live, b"").await, Err(Lost), "{name}");
    }
}

/// Many workers that do the same at the same moment, each on a connection of its own.
fn race<T: Send>(database: &Database, act: impl AsyncFn(&mut Session) -> T + Sync) -> Vec<T> {
    const WORKERS: usize = 50;
    let barrier = Barrier::new(WORKERS);
    let work = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut session = database.connect().await;
            barrier.wait();
            act(&mut session).await
        })
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    })
}

#[tokio::test]
async fn of_many_who_ask_at_once_one_gets_the_claim() {
    for database in Database::all().await {
        let name = database.name();
        // A new key, and then one whose first owner was interrupted.
        for now_ms in [NOW, LATE] {
            let answers = race(&database, async |sql| sql.acquire(&top_up("k", 5), now_ms).await);
            let claimed = answers.iter().filter(|answer| matches!(answer, Acquired::Claimed(_))).count();
            let waiting = answers.iter().filter(|answer| **answer == Acquired::InProgress(now_ms + LEASE_MS)).count();
            assert_eq!((claimed, waiting), (1, answers.len() - 1), "{name} at {now_ms}: {answers:?}");
        }
    }
}

#[tokio::test]
async fn of_many_who_do_it_at_once_one_has_the_effect_and_all_get_its_answer() {
    for database in Database::all().await {
        let answers = race(&database, async |sql| {
            sql.begin().await;
            let answer = sql.acquire(&top_up("k", 5), NOW).await;
            if let Acquired::Claimed(claim) = &answer {
                sql.effect().await;
                assert_eq!(sql.complete(claim, b"5 units").await, Ok(()));
            }
            sql.commit().await;
            answer
        });
        let name = database.name();
        let repeats = answers.iter().filter(|answer| **answer == done(b"5 units")).count();
        assert_eq!(repeats, answers.len() - 1, "{name}: {answers:?}");
        assert_eq!(database.connect().await.effects().await, 1, "{name}");
    }
}

#[path = "../../crates/rushgate-idempotency/examples/wallet.rs"]
#[allow(dead_code, unreachable_pub, reason = "an example has a main function of its own")]
mod wallet;

#[test]
fn the_example_does_what_it_tells() {
    let directory = TempDir::new().unwrap();
    let mut screen = Vec::new();
    wallet::run(directory.path(), &mut screen).unwrap();
    let shown = String::from_utf8(screen).unwrap();
    let told = "asked once: 201 500 cents in the wallet
asked twice: 201 500 cents in the wallet (replayed)
asked three times: 201 500 cents in the wallet (replayed)
the same key for more: 422 this key was used for another top-up
while a worker hangs: 409 it is being done, ask again
after its lease: 201 1000 cents in the wallet
the worker that hung: 409 another worker does it, ask again
a card that is refused: 402 the card was refused
and again: 402 the card was refused (replayed)
a bank that is away: 503 the bank does not answer, ask again
and back: 201 1500 cents in the wallet
keys kept no longer: 4
charged: 1500 cents
";
    assert_eq!(shown, told);
}
