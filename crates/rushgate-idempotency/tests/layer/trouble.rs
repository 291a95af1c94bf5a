//! What becomes of an operation when a handler, a client, a process or the store fails.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use http::header::LOCATION;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use rushgate_idempotency::layer::StoredAnswer;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use crate::world::databases::Database;
use crate::world::{Broken, LEASE_MS, PATIENCE, World, created, post, send, send_until_settled, try_send};

/// Waits until a semaphore has a permit, and takes it.
async fn wait_for(event: &Semaphore) {
    tokio::time::timeout(PATIENCE, event.acquire()).await.expect("it does not happen").unwrap().forget();
}

pub(crate) async fn a_crashed_request_is_taken_over_when_its_lease_has_run_out<D: Database>(world: World<D>) {
    let begun = Arc::new(Semaphore::new(0));
    // A process that stops dead between claim and answer.
    let process = Runtime::new().unwrap();
    let begins = Arc::clone(&begun);
    let layer = {
        let _inside = process.enter();
        world.layer().await
    };
    let handler = world.handler(move |_| {
        begins.add_permits(1);
        std::future::pending()
    });
    let crashed = tower_layer::Layer::layer(&layer, handler);
    process.spawn(async move { send(&crashed, post("k", "5")).await });
    wait_for(&begun).await;
    process.shutdown_background();

    let other = world.service(|call| async move { created(format!("{}", call.number)) }).await;
    send(&other, post("k", "5")).await.assert_problem(409, "idempotency_in_progress", true);
    world.advance(LEASE_MS - 1);
    send(&other, post("k", "5")).await.assert_problem(409, "idempotency_in_progress", true);
    world.advance(1);
    send(&other, post("k", "6")).await.assert_problem(422, "idempotency_key_reused", false);
    for is_replayed in [false, true] {
        let reply = send(&other, post("k", "5")).await;
        assert_eq!((reply.status, &reply.body[..], reply.is_replayed()), (201, &b"2"[..], is_replayed));
    }
}

pub(crate) async fn a_handler_that_panics_releases_its_key<D: Database>(world: World<D>) {
    let service = world
        .service(|call| async move {
            assert!(call.number > 1, "the handler has a bug");
            created("done")
        })
        .await;
    send(&service, post("k", "5")).await.assert_problem(500, "internal_error", true);
    let again = send_until_settled(&service, || post("k", "5")).await;
    assert_eq!((again.status, again.is_replayed(), world.calls()), (201, false, 2), "long before the lease runs out");
}

pub(crate) async fn a_handler_that_fails_releases_its_key<D: Database>(world: World<D>) {
    let handle = |call: crate::world::Call| async move { if call.number == 1 { Err(Broken) } else { created("done") } };
    let service = world.service(handle).await;
    assert_eq!(try_send(&service, post("k", "5")).await.unwrap_err(), Broken);
    let again = send(&service, post("k", "5")).await;
    assert_eq!((again.status, again.is_replayed(), world.calls()), (201, false, 2));
}

pub(crate) async fn a_client_that_hangs_up_loses_only_its_reply<D: Database>(world: World<D>) {
    let (begun, may_end) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (begins, ends) = (Arc::clone(&begun), Arc::clone(&may_end));
    let service = world
        .service(move |_| {
            let (begins, ends) = (Arc::clone(&begins), Arc::clone(&ends));
            async move {
                begins.add_permits(1);
                wait_for(&ends).await;
                created("done")
            }
        })
        .await;
    let client = tokio::spawn({
        let service = service.clone();
        async move { send(&service, post("k", "5")).await }
    });
    wait_for(&begun).await;
    client.abort();
    assert!(client.await.unwrap_err().is_cancelled());
    send(&service, post("k", "5")).await.assert_problem(409, "idempotency_in_progress", true);
    may_end.add_permits(1);
    let again = send_until_settled(&service, || post("k", "5")).await;
    assert_eq!((again.status, &again.body[..], again.is_replayed(), world.calls()), (201, &b"done"[..], true, 1));
}

pub(crate) async fn a_slow_handler_answers_with_what_was_stored_meanwhile<D: Database>(world: World<D>) {
    let (begun, may_end) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (begins, ends) = (Arc::clone(&begun), Arc::clone(&may_end));
    let service = world
        .service(move |call| {
            let (begins, ends) = (Arc::clone(&begins), Arc::clone(&ends));
            async move {
                if call.number == 1 {
                    begins.add_permits(1);
                    wait_for(&ends).await;
                }
                created(format!("{}", call.number))
            }
        })
        .await;
    let slow = tokio::spawn({
        let service = service.clone();
        async move { send(&service, post("k", "5")).await }
    });
    wait_for(&begun).await;
    world.advance(LEASE_MS);
    assert_eq!(send(&service, post("k", "5")).await.body, "2", "it takes the operation over");
    may_end.add_permits(1);
    let slow = slow.await.unwrap();
    assert_eq!(
        (slow.status, &slow.body[..], slow.is_replayed()),
        (201, &b"2"[..], true),
        "every client gets one answer"
    );
}

pub(crate) async fn a_handler_may_complete_its_claim_itself<D: Database>(world: World<D>) {
    let world = Arc::new(world);
    let shared = Arc::clone(&world);
    let service = world
        .service(move |call| {
            let answer = created("5 units").unwrap();
            let stored = StoredAnswer::new(&answer, &[LOCATION], Bytes::from_static(b"5 units"));
            let world = Arc::clone(&shared);
            async move {
                world.database.effect_and_complete(call.claim.unwrap(), stored.encode()).await;
                Ok(answer)
            }
        })
        .await;
    for is_replayed in [false, true, true] {
        let reply = send(&service, post("k", "5")).await;
        assert_eq!((reply.status, &reply.body[..], reply.is_replayed()), (201, &b"5 units"[..], is_replayed));
    }
    assert_eq!((world.database.effects().await, world.calls()), (1, 1));
}

pub(crate) async fn nothing_is_done_without_the_store<D: Database>(world: World<D>) {
    let world = Arc::new(world);
    let shared = Arc::clone(&world);
    let service = world
        .service(move |call| {
            let world = Arc::clone(&shared);
            async move {
                if call.number == 1 {
                    world.database.execute("ALTER TABLE idempotency_keys RENAME TO away").await;
                }
                created("done")
            }
        })
        .await;
    // The handler has had its effect, and its client is told so; the claim stays until its lease has run out.
    let reply = send(&service, post("k", "5")).await;
    assert_eq!((reply.status, &reply.body[..]), (201, &b"done"[..]));
    send(&service, post("k", "5")).await.assert_problem(503, "idempotency_unavailable", true);
    send(&service, post("other", "5")).await.assert_problem(503, "idempotency_unavailable", true);
    assert_eq!(world.calls(), 1);
    world.database.execute("ALTER TABLE away RENAME TO idempotency_keys").await;
    send(&service, post("k", "5")).await.assert_problem(409, "idempotency_in_progress", true);
    assert_eq!(send(&service, post("other", "5")).await.status, 201);
}

pub(crate) async fn an_answer_that_breaks_off_is_not_done_again<D: Database>(world: World<D>) {
    let service = world
        .service(|_| async {
            let frames = [Ok(Frame::data(Bytes::from_static(b"half"))), Err(Broken)];
            Ok(Response::new(StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync()))
        })
        .await;
    assert_eq!(try_send(&service, post("k", "5")).await.unwrap_err(), Broken);
    send(&service, post("k", "5")).await.assert_problem(409, "idempotency_answer_not_stored", false);
    assert_eq!(world.calls(), 1);
}
