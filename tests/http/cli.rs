//! The command line against a running server and against the store: what it prints, and its exit codes.

use std::process::Output;

use crate::client::{Client, get, post, raw};
use crate::contract::{assert_refused, created};
use crate::server::{self, Launch, Server};
use crate::shop::{persist, place, sale, wish};
use crate::wait::eventually;

fn rushgate(args: &[&str]) -> Output {
    server::rushgate().args(args).output().unwrap()
}

/// Runs a command that must end with this code, and answers what it printed.
fn run(args: &[&str], code: i32) -> String {
    let output = rushgate(args);
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{args:?}\n{text}");
    text
}

#[test]
fn an_operator_runs_a_sale_from_the_command_line() {
    let server = Server::start();
    let admin = format!("http://{}", server.admin);
    let call = |args: &[&str], code| run(&[args, &["--server", &admin]].concat(), code);

    let create = ["sale", "create", "s", "--sku", "sku-1:5:1999:CNY", "--shards", "2"];
    assert!(call(&create, 0).contains("created"));
    assert!(call(&create, 0).contains("there already"), "twice is once");
    assert!(call(&["sale", "create", "s", "--sku", "sku-1:6:1999:CNY"], 1).contains("sale_exists"));
    assert!(call(&["sale", "list"], 0).contains("open"));
    call(&["sale", "restock", "s", "--sku", "sku-1", "--quantity", "3", "--change-id", "c1"], 0);
    assert!(call(&["sale", "show", "s"], 0).lines().any(|line| line.contains("sku-1") && line.contains('8')));

    let order = persist(&mut server.buyer(42), &place("k", &wish("s", 1))).json();
    let order_no = order["order_no"].as_str().unwrap();
    assert!(call(&["order", "find", "--sale", "s", "--user", "42", "--key", "k"], 0).contains(order_no));
    assert!(call(&["order", "show", order_no], 0).contains("pending_payment"));
    assert!(call(&["order", "find", "--sale", "s", "--user", "43", "--key", "k"], 1).contains("order_not_found"));

    for (step, state) in [("pause", "paused"), ("resume", "open"), ("end", "ended")] {
        assert!(call(&["sale", step, "s"], 0).contains(state), "{step}");
    }
    assert!(call(&["sale", "resume", "s"], 1).contains("invalid_transition"));
    assert!(call(&["verify"], 0).contains("books balance"));
    assert!(call(&["verify", "--sale", "s"], 0).contains("books balance"));
    server.finish();
}

#[test]
fn tokens_and_users_for_load_tools() {
    let server = Server::start();
    let (admin, public) = (format!("http://{}", server.admin), format!("http://{}", server.public));
    let create = ["sale", "create", "s", "--sku", "sku-1:5:1:CNY", "--require-token", "--server", &admin];
    assert!(run(&create, 0).contains("created"));
    let draw = ["token", "purchase", "--sale", "s", "--users", "3", "--first-user", "7", "--server", &public];
    let lines = run(&draw, 0);
    let users: Vec<u64> = (7..10).collect();
    assert_eq!(lines.lines().map(|line| line.split(',').next().unwrap().parse().unwrap()).collect::<Vec<u64>>(), users);
    for (user, line) in users.iter().zip(lines.lines()) {
        let token = line.split_once(',').unwrap().1;
        created(&server.buyer(*user).send(post("/v1/orders").header("Purchase-Token", token).json(&wish("s", 1))));
    }
    assert!(run(&["token", "purchase", "--sale", "none", "--server", &public], 1).contains("sale_not_found"));
    run(&["token", "purchase", "--sale", "s", "--server", "http://127.0.0.1:1"], 3);
    run(&["token", "purchase", "--sale", "s", "--users", "0"], 2);

    let secret = server.launch.home().join("jwt.secret");
    std::fs::write(&secret, "0123456789abcdef0123456789abcdef\n").unwrap();
    let secret = secret.to_str().unwrap();
    let one = run(&["token", "user", "--user", "42", "--secret-file", secret], 0);
    assert_eq!((one.lines().count(), one.split('.').count()), (1, 3), "{one}");
    let three = run(&["token", "user", "--user", "42", "--users", "3", "--secret-file", secret], 0);
    assert!(three.lines().zip(42..).all(|(line, user)| line.starts_with(&format!("{user},"))), "{three}");
    assert!(run(&["token", "user", "--user", "42", "--secret-file", "/nowhere"], 2).contains("/nowhere"));
    let short = server.launch.home().join("short.secret");
    std::fs::write(&short, "0123456789abcdef0123456789abcde\n").unwrap();
    let text = run(&["token", "user", "--user", "42", "--secret-file", short.to_str().unwrap()], 2);
    assert!(text.contains("32 characters") && !text.contains("0123456789"), "{text}");
    server.finish();
}

#[test]
fn the_store_is_audited_where_it_is_and_never_made_up() {
    let launch = Launch::new();
    let mut server = launch.start();
    server.operator().send(post("/admin/v1/sales").json(&serde_json::json!({
        "sale_id": "s", "skus": [{"sku_id": "sku-1", "stock": 5, "unit_price": 1, "currency": "CNY"}]
    })));
    persist(&mut server.buyer(1), &place("k", &wish("s", 1)));
    let data_dir = launch.home().join("data");
    let data_dir = data_dir.to_str().unwrap();
    assert!(run(&["verify", "--data-dir", data_dir], 1).contains("another rushgate process"), "a ledger has one owner");
    server.sigterm();
    assert!(server.wait().success());
    assert!(run(&["verify", "--data-dir", data_dir], 0).contains("books balance"));
    for flags in [&["--gate", "memory"][..], &["--gate", "memory", "--data-dir", data_dir]] {
        let refusal = run(&[&["verify"], flags].concat(), 2);
        assert!(refusal.contains("--server"), "a gate is compared by its server: {refusal}");
    }
    assert!(run(&["migrate", "--data-dir", data_dir], 0).contains("newest"));

    let nowhere = launch.home().join("typo");
    assert!(run(&["verify", "--data-dir", nowhere.to_str().unwrap()], 1).contains("no ledger"));
    assert!(!nowhere.exists(), "an audit makes nothing");
}

#[test]
fn what_cannot_work_is_said_at_once() {
    assert!(run(&["sale", "list", "--server", "http://127.0.0.1:1"], 3).contains("rushgate serve"));
    assert!(run(&["serve", "--listen", "0.0.0.0:0"], 2).contains("--insecure-no-auth"));
    assert!(run(&["serve", "--admin-listen", "0.0.0.0:0"], 2).contains("RUSHGATE_ADMIN_TOKEN"));
    assert!(run(&["serve", "--gate", "redis:/localhost"], 2).contains("redis-cluster://"));
    assert!(run(&["rebuild"], 1).contains("memory"));
    assert!(run(&["health", "--server", "http://127.0.0.1:1"], 3).contains("rushgate serve"));
    assert!(run(&["serve", "--shard", "3"], 2).contains("--shards"));
    assert!(run(&["config", "print"], 0).contains("admin_listen"));
    run(&["config", "check"], 0);
    for shell in ["bash", "zsh", "fish"] {
        assert!(run(&["completions", shell], 0).contains("rushgate"));
    }
}

#[test]
fn beyond_loopback_the_admin_listener_asks_for_its_token() {
    let token = "0123456789abcdef";
    let server = Launch::new().admin_listen("0.0.0.0:0").arg("--admin-token").arg(token).start();
    let mut operator = Client::new(([127, 0, 0, 1], server.admin.port()).into(), None);
    assert_refused(&operator.send(get("/admin/v1/sales")), "unauthenticated");
    for wrong in ["Bearer 0123456789abcdeg", "Bearer", "Basic 0123456789abcdef", token] {
        let answer = operator.send(get("/metrics").header("Authorization", wrong));
        assert_refused(&answer, "unauthenticated");
        assert!(answer.header("WWW-Authenticate").is_some(), "{answer}");
    }
    for right in [format!("Bearer {token}"), format!("bearer {token}")] {
        assert_eq!(operator.send(get("/admin/v1/sales").header("Authorization", right)).status, 200);
    }
    for open in ["/healthz", "/readyz", "/", "/problems/unauthenticated"] {
        assert_eq!(operator.send(get(open)).status, 200, "{open} tells nothing");
    }
    let log = server.log();
    assert!(!log.contains(token), "the token is a secret: {log}");
    server.finish();
}

#[test]
fn a_token_that_loopback_does_not_ask_for_is_told_of() {
    let server = Launch::new().args(&["--admin-token", "0123456789abcdef"]).start();
    assert_eq!(server.operator().send(get("/admin/v1/sales")).status, 200);
    // The log is written in the background.
    let log = eventually(|| Some(server.log()).filter(|log| log.contains("admin.token is set but not required")));
    assert!(!log.contains("0123456789abcdef"), "{log}");
    server.finish();
}

#[test]
fn pages_of_other_sites_are_kept_out_of_the_admin_listener() {
    let server = Server::start();
    let mut operator = server.operator();
    let end = || post("/admin/v1/sales/none/end");
    for origin in ["https://evil.example", "null", "http://127.0.0.1:1"] {
        assert_refused(&operator.send(end().header("Origin", origin)), "forbidden");
    }
    let own = "http://127.0.0.1";
    assert_refused(&operator.send(end().header("Origin", own)), "sale_not_found");
    server.finish();
}

/// A page whose name was pointed at 127.0.0.1 after it was loaded (DNS rebinding) is of the same origin.
#[test]
fn a_page_under_a_foreign_name_changes_nothing_on_loopback() {
    let server = Server::start();
    server.open(&sale("s", 1));
    let ask = |line: &str, host: &str| {
        let origin = format!("Origin: http://{host}\r\n");
        let request =
            format!("{line} HTTP/1.1\r\nHost: {host}\r\n{origin}Connection: close\r\nContent-Length: 0\r\n\r\n");
        raw(server.admin, request.as_bytes(), 1).remove(0)
    };
    for host in ["evil.example", "evil.example:9090", "localhost.evil.example"] {
        for line in ["POST /admin/v1/sales/s/pause", "GET /admin/v1/sales", "GET /metrics", "GET /"] {
            assert_refused(&ask(line, host), "forbidden");
        }
        // Probes tell one word, and change nothing.
        assert_eq!((ask("GET /healthz", host).status, ask("GET /readyz", host).status), (200, 200));
    }
    assert_eq!(server.operator().send(get("/admin/v1/sales/s")).json()["state"], "open");
    let port = server.admin.port();
    for own in ["localhost", &format!("localhost:{port}"), &format!("127.0.0.1:{port}"), "[::1]"] {
        assert_eq!(ask("GET /admin/v1/sales", own).status, 200, "{own}");
    }
    assert_eq!(raw(server.admin, b"GET /admin/v1/sales HTTP/1.0\r\n\r\n", 1).remove(0).status, 200);
    server.finish();
}
