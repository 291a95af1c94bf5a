//! The disk: unusable, taken, or full.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::Value;

use crate::client::{Answer, get};
use crate::contract::{assert_current, code, created, placed};
use crate::server::{Launch, Refusal, Server};
use crate::shop::{one, persist, sale};

/// The server ended by itself, with a message for a person that names the directory.
fn assert_clear(refusal: &Refusal, data_dir: &str) {
    let log = &refusal.log;
    assert!(refusal.status.code().is_some_and(|code| code != 0), "{}: {log}", refusal.status);
    assert!(log.contains(data_dir) && !log.contains("panicked"), "{log}");
}

#[test]
fn a_data_directory_that_cannot_be_is_refused() {
    let launch = Launch::new();
    let file = launch.home().join("file");
    std::fs::write(&file, "not a directory").unwrap();
    for data_dir in [file.join("data"), file.clone()] {
        let refusal = launch.clone().data_dir(&data_dir).try_start().err().expect("refused to start");
        assert_clear(&refusal, file.to_str().unwrap());
    }
    assert_eq!(std::fs::read_to_string(file).unwrap(), "not a directory");
}

#[test]
fn a_read_only_data_directory_is_refused() {
    let launch = Launch::new();
    let data_dir = launch.home().join("read-only");
    std::fs::create_dir(&data_dir).unwrap();
    let set_mode = |mode| std::fs::set_permissions(&data_dir, std::fs::Permissions::from_mode(mode)).unwrap();
    set_mode(0o555);
    // Permission bits do not bind root, for whom the immutable flag or another file system would be needed; what root
    // can check is the test above.
    if std::fs::write(data_dir.join("probe"), "").is_err() {
        let refusal = launch.data_dir(&data_dir).try_start().err().expect("refused to start");
        assert_clear(&refusal, data_dir.to_str().unwrap());
    }
    set_mode(0o755);
}

#[test]
fn a_second_server_on_the_same_data_is_refused() {
    let mut server = Server::start();
    server.open(&sale("s", 10));
    let first = server.buyer(1).send(one("s", "k"));
    created(&first);
    for _ in 0..3 {
        let refusal = server.launch.try_start().err().expect("refused to start");
        assert_clear(&refusal, server.launch.home().to_str().unwrap());
    }
    // The first has not noticed, and leaves no lock behind even if it is killed.
    server.assert_sells("s", 2);
    server.kill9();
    server.assert_quiet();
    let server = server.restart();
    assert_eq!(server.level("s", "sku-1").held, 2);
    server.finish_after_trouble();
}

#[test]
fn a_full_disk_confirms_nothing_and_forgets_nothing() {
    // 1 MiB: room to start and for some hundred orders.
    let server = Launch::new().file_blocks_max(2048).start();
    server.open(&sale("s", 1_000_000));
    let mut buyer = server.buyer(1);
    let mut confirmed: Vec<(String, Answer)> = Vec::new();
    let refused = loop {
        let key = format!("k{}", confirmed.len());
        let answer = buyer.send(one("s", &key));
        if answer.status != 201 {
            break answer;
        }
        confirmed.push((key, answer));
        assert!(confirmed.len() < 50_000, "the disk does not fill up");
    };
    assert!(!confirmed.is_empty(), "{refused}");
    assert_no_promise(&refused);
    let waiting: Vec<String> = (0..20).map(|n| format!("k{}", confirmed.len() + n)).collect();
    for key in &waiting {
        assert_no_promise(&buyer.send(one("s", key)));
    }

    // What needs no writing goes on.
    let (_, last) = confirmed.last().unwrap();
    let order: Value = last.json();
    for target in [format!("/v1/orders/{}", order["order_no"].as_str().unwrap()), "/v1/sales/s".into()] {
        let answer = buyer.send(get(target));
        assert_eq!(answer.status, 200, "{answer}");
    }
    let listed = buyer.send(get("/v1/orders?sale_id=s&limit=1"));
    assert_eq!(listed.status, 200, "{listed}");

    // There is room again: the same server goes on by itself, and the same keys settle it.
    let lifted = Command::new("prlimit").args(["--pid", &server.pid().to_string(), "--fsize=unlimited:"]).status();
    assert!(lifted.expect("prlimit of util-linux").success());
    for key in &waiting {
        let answer = persist(&mut buyer, &one("s", key));
        placed(&answer);
        confirmed.push((key.clone(), answer));
    }
    assert_all_there(&server, &confirmed);

    // And so it stays.
    let mut server = server;
    server.kill9();
    server.assert_no_bug();
    server.launch = server.launch.clone().unlimited();
    let server = server.restart();
    assert_all_there(&server, &confirmed);
    server.finish_after_trouble();
}

/// Neither a yes nor a final no.
fn assert_no_promise(answer: &Answer) {
    let code = code(answer);
    assert!(matches!(code.as_deref(), Some("ledger_unavailable" | "unknown_outcome")), "{answer}");
    assert!(answer.header("Retry-After").is_some(), "{answer}");
}

/// Every 201 is found, is repeated, and is the only order of its key.
fn assert_all_there(server: &Server, confirmed: &[(String, Answer)]) {
    let mut buyer = server.buyer(1);
    for (key, first) in confirmed {
        let order = first.json();
        let found = buyer.send(get(format!("/v1/orders/{}", order["order_no"].as_str().unwrap())));
        assert_eq!(found.status, 200, "{found}");
        assert_current(&found.json(), &order);
        let again = buyer.send(one("s", key));
        placed(&again);
        assert_eq!(again.body, first.body, "an answer never changes");
    }
    assert_eq!(server.level("s", "sku-1").held, confirmed.len() as u64);
    server.assert_balanced();
}
