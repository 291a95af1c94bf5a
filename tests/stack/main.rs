//! Engines on real Redis and real PostgreSQL, with faults between them.
//!
//! Everything is the built executable, real servers on temporary directories, and a proxy in front of every one of
//! them; nothing here may `use rushgate::`, and no test needs code in the product to break it. A missing server fails
//! the tests with the line that installs it. Most tests wait most of the time: `-- --test-threads 6` is faster.
//!
//! `RUSHGATE_TEST_KEEP=1` keeps the data directories; `RUSHGATE_SEED=n` repeats the choices of a run.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and these are all tests"
)]

#[allow(dead_code, reason = "shared with the tests of one server, which use more of it")]
#[path = "../http/client.rs"]
mod client;
#[allow(dead_code, reason = "shared with the tests of one server, which use more of it")]
#[path = "../http/contract.rs"]
mod contract;
#[allow(dead_code, reason = "shared with the tests of one server, which use more of it")]
#[path = "../http/provider.rs"]
mod provider;
#[allow(dead_code, reason = "shared with the tests of one server, which use more of it")]
#[path = "../http/random.rs"]
mod random;
#[allow(dead_code, reason = "shared with the tests of one server, which use more of it")]
#[path = "../http/server.rs"]
mod server;
#[allow(dead_code, reason = "shared with the tests of one server, which use more of it")]
#[path = "../http/shop.rs"]
mod shop;
#[allow(dead_code, reason = "shared with the tests of one server, which use more of it")]
#[path = "../http/time.rs"]
mod time;

mod book;
mod cluster;
mod courier;
mod crowd;
mod later;
mod life;
mod postgres;
mod process;
mod proxy;
mod redis;
mod verdict;
mod verdict_of_lives;
mod wire;
mod world;

mod changes;
mod cluster_faults;
mod gate_faults;
mod kills;
mod ledger_faults;
mod plain;
mod preflight;
mod proxy_itself;
mod several;
mod verdict_itself;
