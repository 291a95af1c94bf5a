//! The proxy against real servers: a fault that does not happen would make every test that needs it worthless.

use std::io::BufReader;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::postgres::{self, PostgresServer};
use crate::process::run;
use crate::proxy::{At, Mode, Proxy, Then, sql};
use crate::redis::RedisServer;
use crate::redis::cluster::RedisCluster;
use crate::redis::resp::{Reply, ask, connect, read, request};
use crate::wait::within;
use crate::wire::Protocol;

const SHORT: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(10);

fn node() -> (RedisServer, Proxy) {
    let node = RedisServer::start(&[]);
    let proxy = Proxy::start(Protocol::Redis, &node.socket());
    (node, proxy)
}

fn is(word: &'static str) -> impl Fn(&[String]) -> bool + Send + 'static {
    move |words| words[0] == word
}

#[test]
fn the_proxy_passes_delays_stalls_and_swallows() {
    let (node, proxy) = node();
    let stream = connect(proxy.address, LONG);
    assert_eq!(ask(&stream, &["SET", "a", "1"]).unwrap(), Reply::Text("OK".to_owned()));

    let started = Instant::now();
    proxy.set(Mode::Delay(SHORT), Mode::Pass);
    ask(&stream, &["GET", "a"]).unwrap();
    assert!(started.elapsed() >= SHORT);

    proxy.set(Mode::Pass, Mode::Stall);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| ask(&stream, &["INCR", "a"]).unwrap());
        within(LONG, || (node.ask(&["GET", "a"]).text() == "2").then_some(()));
        std::thread::sleep(SHORT);
        assert!(!waiting.is_finished(), "the reply is stalled");
        proxy.set(Mode::Pass, Mode::Pass);
        assert_eq!(waiting.join().unwrap(), Reply::Number(2), "and comes in the end");
    });

    proxy.set(Mode::Blackhole, Mode::Pass);
    let hungry = connect(proxy.address, SHORT);
    assert!(ask(&hungry, &["INCR", "a"]).is_err(), "nobody answers");
    proxy.set(Mode::Pass, Mode::Pass);
    assert!(ask(&hungry, &["INCR", "a"]).is_err(), "a connection that lost bytes stays dead");
    assert_eq!(node.ask(&["GET", "a"]).text(), "2", "nothing came through");
    assert_eq!(ask(&stream, &["GET", "a"]).unwrap().text(), "2", "one that lost none goes on");

    proxy.reset_all();
    let reset = ask(&stream, &["GET", "a"]).unwrap_err();
    assert!(matches!(reset.kind(), std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe), "{reset:?}");
    proxy.refuse(true);
    assert!(ask(connect(proxy.address, LONG), &["PING"]).is_err(), "refused");
    proxy.refuse(false);
    assert_eq!(ask(connect(proxy.address, LONG), &["PING"]).unwrap().text(), "PONG");
}

#[test]
fn a_tripwire_springs_at_the_request_or_at_its_reply() {
    let (node, proxy) = node();
    let saw = Arc::new(AtomicBool::new(false));
    let (seen, socket) = (saw.clone(), node.socket());
    let look = move || {
        let now = ask(std::os::unix::net::UnixStream::connect(&socket).unwrap(), &["GET", "n"]).unwrap();
        seen.store(now == Reply::Nil, Ordering::SeqCst);
    };
    let trip = proxy.trip(is("INCR"), (1, At::Request, Then::Reset), look);
    assert!(ask(connect(proxy.address, LONG), &["INCR", "n"]).is_err());
    trip.wait(1);
    assert!(saw.load(Ordering::SeqCst), "held before the server saw it");
    assert_eq!(node.ask(&["GET", "n"]), Reply::Nil, "and dropped");

    // In the middle of a pipeline: the replies before it arrive, its own does not, and it has had its effect.
    let trip = proxy.trip(is("INCR"), (1, At::Reply, Then::Reset), || {});
    let mut stream = connect(proxy.address, LONG);
    let all = [request(&["ECHO", "first"]), request(&["INCR", "n"]), request(&["ECHO", "last"])].concat();
    std::io::Write::write_all(&mut stream, &all).unwrap();
    let mut replies = BufReader::new(stream);
    assert_eq!(read(&mut replies).unwrap().text(), "first");
    assert!(read(&mut replies).is_err());
    trip.wait(1);
    assert_eq!(node.ask(&["GET", "n"]).text(), "1");

    let trip = proxy.trip(is("INCR"), (1, At::Reply, Then::Silence), || {});
    assert!(ask(connect(proxy.address, SHORT), &["INCR", "n"]).is_err());
    assert_eq!((trip.count(), node.ask(&["GET", "n"]).text().as_str()), (1, "2"));
    assert_eq!(ask(connect(proxy.address, LONG), &["INCR", "n"]).unwrap(), Reply::Number(3), "it springs once");

    // Behind a reset, in the same pipeline: a reply that is lost anyway does not use the tripwire up.
    let reset = proxy.trip(is("INCR"), (1, At::Reply, Then::Reset), || {});
    let silence = proxy.trip(is("GET"), (1, At::Reply, Then::Silence), || {});
    let mut stream = connect(proxy.address, LONG);
    std::io::Write::write_all(&mut stream, &[request(&["INCR", "n"]), request(&["GET", "n"])].concat()).unwrap();
    assert!(read(&mut BufReader::new(stream)).is_err());
    assert_eq!((reset.count(), silence.count()), (1, 0));
    assert!(ask(connect(proxy.address, SHORT), &["GET", "n"]).is_err(), "it is armed still");
    assert_eq!(silence.count(), 1);
}

#[test]
fn a_commit_can_lose_its_answer_and_nothing_else() {
    let database = postgres::shared().database("a_commit_can_lose_its_answer");
    database.psql("CREATE TABLE t (n integer)");
    let proxy = Proxy::start(Protocol::Postgres, &database.server.socket());
    let psql = |sql: &str| {
        let mut command = std::process::Command::new("psql");
        command.args(["-X", "-A", "-t", "-h", "127.0.0.1", "-p", &proxy.address.port().to_string()]);
        command.args(["-U", "postgres", "-d", &database.name, "-v", "ON_ERROR_STOP=1"]);
        for statement in sql.split(';') {
            command.args(["-c", statement]);
        }
        command
    };
    assert_eq!(run(&mut psql("SELECT 1"), ""), "1");
    let insert = "BEGIN;INSERT INTO t VALUES (1);COMMIT";

    let trip = proxy.trip(sql("commit"), (1, At::Reply, Then::Reset), || {});
    assert!(!psql(insert).output().unwrap().status.success(), "the answer is lost");
    trip.wait(1);
    assert_eq!(database.psql("SELECT count(*) FROM t"), "1", "the commit is not");

    let trip = proxy.trip(sql("insert into t"), (1, At::Reply, Then::Reset), || {});
    assert!(!psql(insert).output().unwrap().status.success());
    trip.wait(1);
    assert_eq!(database.psql("SELECT count(*) FROM t"), "1", "without its commit nothing happened");
    run(&mut psql(insert), "");
    assert_eq!(database.psql("SELECT count(*) FROM t"), "2");
}

#[test]
fn postgres_keeps_what_it_committed_through_an_immediate_stop() {
    let server = PostgresServer::start(&[]);
    let database = server.database("kept");
    database.psql("CREATE TABLE t AS SELECT 7 AS n");
    server.crash();
    server.run(&[]);
    assert_eq!(database.psql("SELECT n FROM t"), "7");
    assert_eq!(database.psql("SHOW fsync"), "on");
}

#[test]
fn a_node_comes_back_empty_and_a_cluster_spreads() {
    let mut node = RedisServer::start(&[]);
    node.ask(&["SET", "a", "1"]);
    node.kill();
    assert!(node.try_ask(&["PING"]).is_err());
    node.restart();
    assert_eq!(node.ask(&["GET", "a"]), Reply::Nil);

    let cluster = RedisCluster::start(3, 0);
    let answers: Vec<Reply> = cluster.nodes.iter().map(|node| node.try_ask(&["SET", "{rg:1}", "x"]).unwrap()).collect();
    let moved = answers.iter().filter(|answer| matches!(answer, Reply::Error(text) if text.starts_with("MOVED")));
    assert_eq!(moved.count(), 2, "one of three has the slot: {answers:?}");
}
