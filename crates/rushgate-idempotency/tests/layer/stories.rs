//! What clients see.

use std::sync::Arc;

use bytes::Bytes;
use http::header::HeaderName;
use http::{Method, Request, Response};
use rushgate_idempotency::layer::Policy;
use rushgate_idempotency::limits::ANSWER_BYTES_MAX;
use tokio::sync::Barrier;
use tower_layer::Layer;

use crate::world::databases::Database;
use crate::world::{KEEP_MS, World, created, full, post, send, send_until_settled};

pub(crate) async fn of_fifty_equal_requests_one_is_done_and_all_get_its_answer<D: Database>(world: World<D>) {
    const CLIENTS: usize = 50;
    // Two processes of the service, and a handler that each client can overtake.
    let handle = |call: crate::world::Call| async move {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        created(format!("answer {}", call.number))
    };
    let processes = [world.service(handle).await, world.service(handle).await];
    let barrier = Arc::new(Barrier::new(CLIENTS));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (service, barrier) = (processes[client % 2].clone(), Arc::clone(&barrier));
            tokio::spawn(async move {
                barrier.wait().await;
                send_until_settled(&service, || post("k", "5")).await
            })
        })
        .collect();
    let mut first = 0;
    for client in clients {
        let reply = client.await.unwrap();
        assert_eq!((reply.status, &reply.body[..]), (201, &b"answer 1"[..]), "{reply:?}");
        first += usize::from(!reply.is_replayed());
    }
    assert_eq!((first, world.calls()), (1, 1));
}

pub(crate) async fn a_repeat_gets_the_answer_byte_for_byte<D: Database>(world: World<D>) {
    let every_byte: Vec<u8> = (0..=255).collect();
    let body = every_byte.clone();
    let handler = world.handler(move |call| {
        let body = full([&body, &call.body[..]].concat());
        let response = Response::builder().status(202).header("content-type", "application/octet-stream");
        let response = response.header("location", "/top-ups/1").header("etag", "\"7\"").header("etag", "\"8\"");
        let response = response.header("set-cookie", "secret=1").body(body).unwrap();
        async move { Ok(response) }
    });
    let layer = world.layer().await.stored_headers(["location", "etag"].map(HeaderName::from_static));
    let service = layer.layer(handler);
    let first = send(&service, post("k", "5")).await;
    assert!(first.headers.contains_key("set-cookie") && !first.is_replayed(), "{first:?}");
    for _ in 0..2 {
        let again = send(&service, post("k", "5")).await;
        assert!(again.is_replayed());
        assert_eq!((again.status, &again.body), (202, &first.body));
        assert_eq!(again.body, [&every_byte[..], b"5"].concat());
        for name in ["content-type", "location", "etag"] {
            let lines = |reply: &crate::world::Reply| reply.headers.get_all(name).iter().cloned().collect::<Vec<_>>();
            assert_eq!(lines(&again), lines(&first), "{name}");
        }
        assert!(!again.headers.contains_key("set-cookie"), "{again:?}");
    }
    assert_eq!(world.calls(), 1);
}

pub(crate) async fn another_command_under_the_key_is_refused<D: Database>(world: World<D>) {
    let service = world.service(|_| async { created("done") }).await;
    assert_eq!(send(&service, post("k", "5")).await.status, 201);
    let request = || Request::builder().header("user", "42").header("idempotency-key", "k");
    let others = [
        post("k", "6"),
        post("k", ""),
        request().method(Method::PUT).uri("/wallets/42?currency=CNY").body(full("5")).unwrap(),
        request().method(Method::POST).uri("/wallets/43?currency=CNY").body(full("5")).unwrap(),
        request().method(Method::POST).uri("/wallets/42?currency=EUR").body(full("5")).unwrap(),
    ];
    for other in others {
        let about = format!("{other:?}");
        let reply = send(&service, other).await;
        assert_eq!(reply.problem(), (422, "idempotency_key_reused".to_owned(), false), "{about}");
    }
    assert!(send(&service, post("k", "5")).await.is_replayed());
    assert_eq!(world.calls(), 1);
}

pub(crate) async fn methods_that_change_something_need_a_key<D: Database>(world: World<D>) {
    let request = |method: &Method, path: &str| {
        Request::builder().method(method).uri(path).header("user", "42").body(full("5")).unwrap()
    };
    let service = world.service(|call| async move { created(call.body) }).await;
    let made_up = Method::from_bytes(b"TRANSFER").unwrap();
    for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE, made_up] {
        let reply = send(&service, request(&method, "/new-route")).await;
        assert_eq!(reply.problem(), (400, "idempotency_key_missing".to_owned(), false), "{method}");
    }
    assert_eq!(world.calls(), 0);
    for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE] {
        let reply = send(&service, request(&method, "/new-route")).await;
        assert_eq!((reply.status, &reply.body[..]), (201, &b"5"[..]), "{method}");
    }
    assert_eq!(world.calls(), 4);

    let policy = |head: &http::request::Parts| match head.uri.path() {
        "/login" => Policy::Exempt,
        "/search" => Policy::Optional,
        _ => Policy::of_method(&head.method),
    };
    let service = world.layer().await.policy(policy).layer(world.handler(|call| async move { created(call.body) }));
    let keyed = |path: &str| {
        let mut request = request(&Method::POST, path);
        request.headers_mut().insert("idempotency-key", "k".parse().unwrap());
        request
    };
    for (path, has_key, want) in [
        ("/login", false, [false, false]),
        ("/login", true, [false, false]),
        ("/search", false, [false, false]),
        ("/search", true, [false, true]),
    ] {
        for is_replayed in want {
            let request = if has_key { keyed(path) } else { request(&Method::POST, path) };
            let reply = send(&service, request).await;
            assert_eq!((reply.status, reply.is_replayed()), (201, is_replayed), "{path} {has_key}");
        }
    }
}

pub(crate) async fn a_key_is_read_from_both_headers_in_both_forms<D: Database>(world: World<D>) {
    let service = world.service(|_| async { created("done") }).await;
    let request = |lines: &[(&str, &str)]| {
        let mut request = Request::post("/wallets/42?currency=CNY").header("user", "42");
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        request.body(full("5")).unwrap()
    };
    assert_eq!(send(&service, post("k", "5")).await.status, 201);
    for same in [
        &[("idempotency-key", "\"k\"")][..],
        &[("x-idempotency-key", "k")],
        &[("x-idempotency-key", "\"k\"")],
        &[("idempotency-key", "k"), ("x-idempotency-key", "\"k\"")],
    ] {
        assert!(send(&service, request(same)).await.is_replayed(), "{same:?}");
    }
    let long = "k".repeat(256);
    for bad in [
        &[("idempotency-key", "")][..],
        &[("idempotency-key", "a b")],
        &[("idempotency-key", "\"a")],
        &[("idempotency-key", &long)],
        &[("idempotency-key", "k"), ("idempotency-key", "k")],
        &[("idempotency-key", "k"), ("x-idempotency-key", "K")],
    ] {
        let reply = send(&service, request(bad)).await;
        assert_eq!(reply.problem(), (400, "idempotency_key_invalid".to_owned(), false), "{bad:?}");
        assert!(reply.body.windows(8).any(|text| text == b"\"detail\""), "{reply:?}");
    }
    assert_eq!(world.calls(), 1);
}

pub(crate) async fn a_key_is_unique_within_its_scope<D: Database>(world: World<D>) {
    let service = world.service(|call| async move { created(format!("{}", call.number)) }).await;
    let of = |user: &str| {
        let mut request = post("k", "5");
        request.headers_mut().insert("user", user.parse().unwrap());
        request
    };
    for (user, body, is_replayed) in [("42", "1", false), ("43", "2", false), ("42", "1", true), ("43", "2", true)] {
        let reply = send(&service, of(user)).await;
        assert_eq!((&reply.body[..], reply.is_replayed()), (body.as_bytes(), is_replayed), "{user}");
    }
    let mut nobody = post("k", "5");
    nobody.headers_mut().remove("user");
    send(&service, nobody).await.assert_problem(401, "unauthenticated", false);
}

pub(crate) async fn a_request_that_is_too_large_is_not_begun<D: Database>(world: World<D>) {
    let handler = world.handler(|call| async move { created(format!("{}", call.body.len())) });
    let service = world.layer().await.body_bytes_max(1000).layer(handler);
    let body = |bytes: usize| Bytes::from(vec![b'5'; bytes]);
    send(&service, post("k", body(1001))).await.assert_problem(413, "body_too_large", false);
    // A length that the client declares is believed, so that the layer need not read the body.
    let mut declared = post("k", body(1));
    declared.headers_mut().insert("content-length", "1001".parse().unwrap());
    send(&service, declared).await.assert_problem(413, "body_too_large", false);
    assert_eq!(world.calls(), 0);
    assert_eq!(send(&service, post("k", body(1000))).await.body, "1000");
}

pub(crate) async fn an_answer_that_is_too_large_is_passed_on_and_not_done_again<D: Database>(world: World<D>) {
    let service = world
        .service(|call| async move {
            let bytes: usize = std::str::from_utf8(&call.body).unwrap().parse().unwrap();
            created(vec![b'x'; bytes])
        })
        .await;
    // With its status, one header and their lengths, this one just fits.
    let fits = ANSWER_BYTES_MAX - 4 - (1 + "content-type".len()) - (2 + "text/plain".len());
    for (key, bytes, is_stored) in [("a", fits, true), ("b", fits + 1, false), ("c", 10 * ANSWER_BYTES_MAX, false)] {
        let first = send(&service, post(key, bytes.to_string())).await;
        assert_eq!((first.status, first.body.len()), (201, bytes));
        let again = send(&service, post(key, bytes.to_string())).await;
        assert!(again.is_replayed(), "{key}");
        if is_stored {
            assert_eq!((again.status, &again.body), (201, &first.body), "{key}");
        } else {
            again.assert_problem(409, "idempotency_answer_not_stored", false);
        }
    }
    assert_eq!(world.calls(), 3);
}

pub(crate) async fn a_refusal_is_kept_and_a_passing_one_is_not<D: Database>(world: World<D>) {
    let service = world
        .service(|call| async move {
            let status: u16 = std::str::from_utf8(&call.body).unwrap().parse().unwrap();
            Ok(Response::builder().status(status).body(full(format!("{}", call.number))).unwrap())
        })
        .await;
    for (status, is_kept) in [
        (200, true),
        (303, true),
        (400, true),
        (402, true),
        (404, true),
        (409, true),
        (422, true),
        (401, false),
        (408, false),
        (425, false),
        (429, false),
        (500, false),
        (503, false),
    ] {
        let key = format!("k{status}");
        let first = send(&service, post(&key, status.to_string())).await;
        let again = send(&service, post(&key, status.to_string())).await;
        assert_eq!((first.status, again.status, again.is_replayed()), (status, status, is_kept));
        assert_eq!(first.body == again.body, is_kept, "{status}");
    }
}

pub(crate) async fn an_expired_answer_is_swept<D: Database>(world: World<D>) {
    let service = world.service(|call| async move { created(format!("{}", call.number)) }).await;
    let layer = world.layer().await;
    for key in ["a", "b"] {
        send(&service, post(key, "5")).await;
    }
    world.advance(KEEP_MS - 1);
    assert_eq!(layer.sweep(9).await.unwrap(), 0);
    assert_eq!(send(&service, post("a", "5")).await.body, "1");
    world.advance(1);
    assert_eq!((layer.sweep(1).await.unwrap(), layer.sweep(9).await.unwrap()), (1, 1));
    assert_eq!(send(&service, post("a", "5")).await.body, "3", "a key that was swept is a new one");
}
