//! Input that no honest client sends. It must be refused, or cut, and nothing else may happen.

use std::io::{Read, Write};
use std::time::Duration;

use crate::client::{Answer, Request, connect, get, post, raw, request};
use crate::contract::{assert_refused, created};
use crate::server::{Launch, Server};
use crate::shop::{one, sale, wish};

/// The one answer to these bytes.
fn ask(server: &Server, bytes: &[u8]) -> Answer {
    raw(server.public, bytes, 1).pop().expect("an answer before the connection closes")
}

/// An order of user 1 under the key `k` with some header lines more.
fn order_with(lines: &str) -> Vec<u8> {
    let body = wish("s", 1).to_string();
    let length = body.len();
    format!(
        "POST /v1/orders HTTP/1.1\r\nHost: x\r\nX-User-Id: 1\r\nIdempotency-Key: k\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n{lines}\r\n{body}"
    )
    .into_bytes()
}

#[test]
fn a_body_beyond_64_kib_is_too_large_and_one_of_64_kib_is_not() {
    let server = Server::start();
    server.open(&sale("s", 10));
    let padded = |length: usize| {
        let mut body = wish("s", 1).to_string().into_bytes();
        body.resize(length, b' ');
        body
    };
    let order = |length: usize| post("/v1/orders").key("k").header("X-User-Id", "1").text(padded(length));
    assert_refused(&ask(&server, &order(64 * 1024 + 1).bytes()), "body_too_large");
    assert_refused(&ask(&server, &order(1024 * 1024).bytes()), "body_too_large");

    // Declared, but not sent: the head is enough to refuse.
    let head = "POST /v1/orders HTTP/1.1\r\nHost: x\r\nX-User-Id: 1\r\nIdempotency-Key: k\r\nContent-Type: application/json\r\n";
    let declared = format!("{head}Content-Length: 99999999999\r\n\r\n");
    assert_refused(&ask(&server, declared.as_bytes()), "body_too_large");

    // Not declared: it is counted as it comes.
    let mut chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    for chunk in padded(70_000).chunks(1000) {
        chunked.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        chunked.extend_from_slice(chunk);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    assert_refused(&ask(&server, &chunked), "body_too_large");

    // The admin listener has the same bound.
    let sale = post("/admin/v1/sales").text(padded(64 * 1024 + 1));
    assert_refused(&raw(server.admin, &sale.bytes(), 1)[0], "body_too_large");

    // The key was not used up, and exactly 64 KiB are taken.
    created(&ask(&server, &order(64 * 1024).bytes()));
    server.finish();
}

#[test]
fn who_sends_a_large_body_before_reading_is_told_why_it_is_refused() {
    let server = Server::start();
    server.open(&sale("s", 10));
    let text = |target: &str| post(target).key("k").header("X-User-Id", "1").text(vec![b' '; 3 * 1024 * 1024]).bytes();
    let untyped =
        |target: &str| post(target).key("k").header("X-User-Id", "1").body(vec![b' '; 3 * 1024 * 1024]).bytes();
    let chunked = |target: &str| {
        let head = "Host: 127.0.0.1\r\nX-User-Id: 1\r\nIdempotency-Key: k\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked";
        let chunk = format!("3e8\r\n{}\r\n", " ".repeat(1000));
        format!("POST {target} HTTP/1.1\r\n{head}\r\n\r\n{}0\r\n\r\n", chunk.repeat(500)).into_bytes()
    };
    let table = [
        (server.public, text("/v1/orders"), "body_too_large"),
        (server.public, chunked("/v1/orders"), "body_too_large"),
        (server.public, untyped("/v1/orders"), "unsupported_media_type"),
        (server.public, text("/v1/nothing"), "not_found"),
        (server.public, chunked("/v1/sales/s"), "method_not_allowed"),
        (server.admin, text("/admin/v1/sales"), "body_too_large"),
        (server.admin, chunked("/admin/v1/sales"), "body_too_large"),
        (server.admin, untyped("/admin/v1/sales"), "unsupported_media_type"),
        (server.admin, text("/admin/v1/nothing"), "not_found"),
    ];
    for (to, bytes, code) in &table {
        let answer = raw(*to, bytes, 1).pop().unwrap_or_else(|| panic!("{code}: broken off"));
        assert_refused(&answer, code);
    }
    server.finish();
}

#[test]
fn who_goes_on_sending_a_refused_body_is_cut_off() {
    let server = Server::start();
    let mut slow = connect(server.public).unwrap();
    slow.write_all(b"POST /v1/nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n").unwrap();
    let started = std::time::Instant::now();
    while slow.write_all(b"x").is_ok() {
        assert!(started.elapsed() < Duration::from_secs(9), "the connection is held for longer than a head may take");
        std::thread::sleep(Duration::from_millis(50));
    }
    server.finish();
}

#[test]
fn a_chunked_body_is_a_body() {
    let server = Server::start();
    server.open(&sale("s", 10));
    let body = wish("s", 1).to_string();
    let (start, end) = body.split_at(7);
    let chunked = format!(
        "POST /v1/orders HTTP/1.1\r\nHost: x\r\nX-User-Id: 1\r\nIdempotency-Key: k\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{start}\r\n{:x}\r\n{end}\r\n0\r\n\r\n",
        start.len(),
        end.len()
    );
    created(&ask(&server, chunked.as_bytes()));
    server.finish();
}

#[test]
fn other_media_types_are_refused_and_use_up_no_key() {
    let server = Server::start();
    server.open(&sale("s", 10));
    let mut buyer = server.buyer(1);
    let order = || post("/v1/orders").key("k").body(wish("s", 1).to_string());
    assert_refused(&buyer.send(order()), "unsupported_media_type");
    for media_type in [
        "",
        "text/plain",
        "text/json",
        "application/x-www-form-urlencoded",
        "application/jsonp",
        "json",
        "application/",
        "é",
    ] {
        let answer = buyer.send(order().header("Content-Type", media_type));
        assert_refused(&answer, "unsupported_media_type");
    }
    let twice = order().header("Content-Type", "application/json").header("Content-Type", "application/json");
    assert_refused(&buyer.send(twice), "unsupported_media_type");
    created(&buyer.send(one("s", "k")));
    server.finish();
}

#[test]
fn a_head_has_at_most_64_lines_and_32_kib() {
    let server = Server::start();
    server.open(&sale("s", 10));
    // `order_with` sends five lines of its own.
    let lines = |n: usize| (0..n).map(|i| format!("X-Line-{i}: x\r\n")).collect::<String>();
    let wide = |n: usize| format!("Cookie: {}\r\n", "c".repeat(n));
    // The parser refuses it, so it need not be a problem document; but it is an answer.
    for too_much in [lines(60), lines(200), wide(33 * 1024), wide(40 * 1024), wide(100 * 1024)] {
        let answer = ask(&server, &order_with(&too_much));
        assert_eq!(answer.status, 431, "{answer}");
    }
    // Of a flood the answer may be lost: the server closes while we still write.
    for answer in raw(server.public, &order_with(&wide(4 * 1024 * 1024)), 1) {
        assert_eq!(answer.status, 431, "{answer}");
    }
    let long_target = format!("GET /v1/orders?sale_id={} HTTP/1.1\r\nHost: x\r\n\r\n", "s".repeat(40 * 1024));
    for answer in raw(server.public, long_target.as_bytes(), 1) {
        assert!(matches!(answer.status, 414 | 431), "{answer}");
    }
    // The key was not used up; what is within the bounds passes.
    created(&ask(&server, &order_with(&lines(59))));
    assert!(ask(&server, &order_with(&wide(24 * 1024))).is_replayed());
    server.finish();
}

#[test]
fn what_is_not_http_is_refused_or_cut() {
    let server = Server::start();
    server.open(&sale("s", 10));
    let body = wish("s", 1).to_string();
    let order = |lines: &str| {
        format!("POST /v1/orders HTTP/1.1\r\nHost: x\r\nX-User-Id: 9\r\nIdempotency-Key: k\r\n{lines}\r\n{body}")
            .into_bytes()
    };
    let mut broken: Vec<Vec<u8>> = vec![
        b"\r\n\r\n\r\n\r\nx".to_vec(),
        b"GARBAGE\r\n\r\n".to_vec(),
        b"GET /\r\n\r\n".to_vec(),
        b"GET  /v1/capabilities HTTP/1.1\r\n\r\n".to_vec(),
        b"GET /v1/capabilities HTTP/9.9\r\n\r\n".to_vec(),
        b"GET /v1/capabilities HTTP/1.1\r\nno colon here\r\n\r\n".to_vec(),
        b"GET /v1/capabilities HTTP/1.1\r\nX: a\0b\r\n\r\n".to_vec(),
        b"GET /v1/capabilities HTTP/1.1\r\nbad name: x\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(20),
        vec![0; 1000],
        vec![0xff; 1000],
        order("Content-Type: application/json\r\nContent-Length: -1\r\n"),
        order("Content-Type: application/json\r\nContent-Length: 1e3\r\n"),
        order("Content-Type: application/json\r\nContent-Length: 5\r\nContent-Length: 6\r\n"),
        order("Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n"),
        order("Content-Type: application/json\r\nTransfer-Encoding: gzip\r\n"),
    ];
    broken.push(order("Content-Type: application/json\r\nContent-Length: 18446744073709551616\r\n"));
    for bytes in broken {
        let shown = String::from_utf8_lossy(&bytes).into_owned();
        let mut stream = connect(server.public).unwrap();
        // The server may cut while we write, and then reading says so too.
        stream.write_all(&bytes).ok();
        stream.shutdown(std::net::Shutdown::Write).ok();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok();
        let status = answer.get(9..10);
        assert!(answer.is_empty() || status == Some(b"4") || status == Some(b"5"), "{shown:?} got {answer:?}");
    }
    assert_eq!(server.level("s", "sku-1").held, 0);
    server.assert_sells("s", 1);
    server.finish();
}

#[test]
fn bodies_that_only_a_parser_could_love() {
    let server = Server::start();
    server.open(&sale("s", 10));
    let mut buyer = server.buyer(1);
    let wrapped = |open: &str, n: usize| {
        let mut body = format!(r#"{{"sale_id":"s","sku_id":"sku-1","quantity":1,"x":{}"#, open.repeat(n)).into_bytes();
        body.truncate(60_000);
        body
    };
    let nested = format!(r#"{{"sale_id":{}{}}}"#, "[".repeat(20_000), "]".repeat(20_000));
    let long_number = format!(r#"{{"sale_id":"s","sku_id":"sku-1","quantity":{}}}"#, "9".repeat(60_000));
    let members: String = (0..4000).map(|n| format!(r#""m{n}":0,"#)).collect();
    let bodies: Vec<Vec<u8>> = vec![
        wrapped("[", 60_000),
        wrapped("{\"a\":", 12_000),
        nested.into(),
        long_number.into(),
        format!(r#"{{{members}"sale_id":"s","sku_id":"sku-1","quantity":1}}"#).into(),
        b"{\"sale_id\":\"s\xff\",\"sku_id\":\"sku-1\",\"quantity\":1}".to_vec(),
        b"{\"sale_id\":\"\xed\xa0\x80\",\"sku_id\":\"sku-1\",\"quantity\":1}".to_vec(),
        "{\"sale_id\":\"s\n\",\"sku_id\":\"sku-1\",\"quantity\":1}".into(),
        vec![0; 60_000],
        b"{".repeat(60_000),
    ];
    for body in bodies {
        assert_refused(&buyer.send(post("/v1/orders").key("k").text(body)), "malformed_request");
    }
    created(&buyer.send(one("s", "k")));
    server.finish();
}

#[test]
fn odd_targets_are_only_odd() {
    let server = Server::start();
    server.open(&sale("s", 10));
    let mut buyer = server.buyer(1);
    for target in [
        "/v1/orders/%2e%2e/%2e%2e/etc/passwd",
        "/v1/sales/%00",
        "/v1/sales/%ff%fe",
        "/v1/sales/s%20",
        "/v1/sales/'%20OR%20'1'='1",
        "/problems/..%2f..%2fCargo.toml",
        "/openapi.yaml/",
        "/v1/orders/",
    ] {
        let answer = buyer.send(get(target));
        assert_eq!(answer.status, 404, "{target}: {answer}");
        assert!(crate::contract::code(&answer).is_some_and(|code| code.ends_with("not_found")));
    }
    for query in ["sale_id=s&&&=&", "sale_id=%zz", "sale_id=s&limit=%00", "sale_id=s&cursor=%f0%28"] {
        let answer = buyer.send(get(format!("/v1/orders?{query}")));
        assert!(matches!(answer.status, 200 | 400), "{query}: {answer}");
    }
    for method in ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"] {
        let answer = buyer.send(request(method, "/v1/orders"));
        assert_refused(&answer, "method_not_allowed");
        assert!(answer.header("Allow").is_some(), "{answer}");
    }
    assert_eq!(server.level("s", "sku-1").held, 0);
    server.finish();
}

#[test]
fn requests_may_follow_each_other_closely() {
    let server = Server::start();
    server.open(&sale("s", 10));
    let order = |key: &str| one("s", key).header("X-User-Id", "1").bytes();
    let mut pipelined = order("a");
    pipelined.extend(order("a"));
    pipelined.extend(get("/v1/sales/s").bytes());
    pipelined.extend(order("b"));
    let answers = raw(server.public, &pipelined, 4);
    assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [201, 201, 200, 201]);
    assert!(!answers[0].is_replayed() && answers[1].is_replayed() && !answers[3].is_replayed());
    assert_eq!(answers[0].body, answers[1].body);

    // A client that asks first is told to go on.
    let body = wish("s", 1).to_string();
    let mut stream = connect(server.public).unwrap();
    let head = format!(
        "POST /v1/orders HTTP/1.1\r\nHost: x\r\nX-User-Id: 1\r\nIdempotency-Key: c\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(body.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    server.finish();
}

#[test]
fn what_does_not_arrive_is_cut_and_costs_nothing() {
    let server = Server::start();
    server.open(&sale("s", 10));
    let whole = |request: Request| request.header("X-User-Id", "1").bytes();
    let order = whole(one("s", "k"));
    let starts = [0, 1, 30, order.len() - wish("s", 1).to_string().len() - 2, order.len() - 20, order.len() - 1];
    // All at once, as each takes the server's ten seconds.
    let waiting: Vec<_> = starts
        .iter()
        .map(|&n| {
            let mut stream = connect(server.public).unwrap();
            stream.write_all(&order[..n]).unwrap();
            (n, stream)
        })
        .collect();
    // Meanwhile the server serves.
    server.assert_sells("s", 2);
    for (n, mut stream) in waiting {
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("{n} bytes are still waited for"),
            Ok(_) | Err(_) => {}
        }
        let answer = String::from_utf8_lossy(&answer);
        let cut = answer.is_empty() || answer.starts_with("HTTP/1.1 400 ") || answer.starts_with("HTTP/1.1 408 ");
        assert!(cut, "{n} bytes got {answer}");
    }
    let find = server.buyer(1).send(get("/v1/orders?sale_id=s&idempotency_key=k"));
    assert_refused(&find, "order_not_found");
    created(&server.buyer(1).send(one("s", "k")));
    server.finish();
}

#[test]
fn two_users_in_one_request_are_nobody() {
    let server = Server::start();
    server.open(&sale("s", 10));
    let both = one("s", "k").header("X-User-Id", "1").header("X-User-Id", "2");
    let answer = server.stranger().send(both);
    assert!(matches!(answer.status, 400 | 401 | 403), "{answer}");
    assert!(crate::contract::code(&answer).is_some());
    assert_eq!(server.level("s", "sku-1").held, 0);
    server.finish();
}

#[test]
fn silent_connections_leave_places_for_the_ledger_and_for_probes() {
    let server = Launch::new().open_files_max(300).start();
    server.open(&sale("s", 10));
    let mut buyer = server.buyer(1);
    created(&buyer.send(one("s", "k")));
    let silent: Vec<_> = (0..300).map(|_| connect(server.public).unwrap()).collect();
    assert_eq!(server.operator().send(get("/readyz")).status, 200);
    created(&buyer.send(one("s", "l")));
    drop(silent);
    created(&server.buyer(2).send(one("s", "k")));
    assert!(server.log().contains("LimitNOFILE"), "it says that a rush would not fit");
    server.finish_after_trouble();
}

#[test]
fn too_few_files_are_refused_at_the_start() {
    let refusal = Launch::new().open_files_max(100).try_start().err().expect("refused to start");
    assert!(refusal.log.contains("100 files") && refusal.log.contains("LimitNOFILE"), "{}", refusal.log);
}
