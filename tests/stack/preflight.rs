//! Stores that would break a promise are refused before anybody can connect, with the reason.

use std::process::Command;

use crate::postgres::{self, PostgresServer};
use crate::process::directory;
use crate::proxy::Proxy;
use crate::redis::RedisServer;
use crate::server::executable;
use crate::wire::Protocol;

/// Starts an engine that must refuse; wants every one of `reasons` in what it says.
#[track_caller]
fn assert_refused(gate: &str, ledger: &str, reasons: &[&str]) {
    let home = directory("refused");
    let mut command = Command::new("timeout");
    command.arg("20").arg(executable()).args(["serve", "--listen", "127.0.0.1:0"]);
    command.args(["--admin-listen", "127.0.0.1:0", "--gate", gate, "--ledger", ledger, "--data-dir"]);
    let out = command.arg(home.path()).current_dir(home.path()).output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    let code = out.status.code();
    assert!(code.is_some_and(|code| code != 0), "{}: {stdout}{stderr}", out.status);
    assert_ne!(code, Some(124), "it did not refuse: {stdout}{stderr}");
    assert!(!stdout.contains("http://"), "it listened: {stdout}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    for reason in reasons {
        assert!(stderr.contains(reason), "no word of {reason:?}: {stderr}");
    }
}

/// A proxy in front of a node, and its address.
fn reach(node: &RedisServer) -> (Proxy, String) {
    let proxy = Proxy::start(Protocol::Redis, &node.socket());
    let address = format!("redis://{}", proxy.address);
    (proxy, address)
}

#[test]
fn unfit_redis_is_refused() {
    let database = postgres::shared().database("unfit_redis");
    let link = Proxy::start(Protocol::Postgres, &database.server.socket());
    let ledger = format!("postgres://postgres@{}/{}", link.address, database.name);
    let (good, lru) = (RedisServer::start(&[]), RedisServer::start(&["--maxmemory-policy", "allkeys-lru"]));
    let ((_good, good), (_lru, lru)) = (reach(&good), reach(&lru));
    assert_refused(&lru, &ledger, &["noeviction", "allkeys-lru"]);
    // One among good ones too.
    assert_refused(&format!("{good},{lru}"), &ledger, &["noeviction"]);

    let master = RedisServer::start_member();
    let (_member, member) = reach(&master);
    assert_refused(&member, &ledger, &["redis-cluster://"]);
    assert_refused(&good.replace("redis:", "redis-cluster:"), &ledger, &["cluster"]);
}

#[test]
fn a_replica_is_refused() {
    let database = postgres::shared().database("a_replica");
    let link = Proxy::start(Protocol::Postgres, &database.server.socket());
    let ledger = format!("postgres://postgres@{}/{}", link.address, database.name);
    let master = RedisServer::start(&[]);
    let (to_master, _) = reach(&master);
    let port = to_master.address.port().to_string();
    let replica = RedisServer::start(&["--replicaof", &format!("127.0.0.1 {port}")]);
    let (_replica, address) = reach(&replica);
    assert_refused(&address, &ledger, &["replica", "master"]);
}

#[test]
fn postgres_without_fsync_is_refused() {
    let node = RedisServer::start(&[]);
    let (_link, gate) = reach(&node);
    let server = PostgresServer::start(&["fsync=off"]);
    let database = server.database("unsafe");
    let link = Proxy::start(Protocol::Postgres, &server.socket());
    let ledger = format!("postgres://postgres@{}/{}", link.address, database.name);
    assert_refused(&gate, &ledger, &["fsync"]);
}
