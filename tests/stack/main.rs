//! Engines on real Redis and real PostgreSQL, with faults between them.
//!
//! Everything is the built executable, real servers on temporary directories, and a proxy in front of every one of
//! them; nothing here may `use rushgate::`, and no test needs code in the product to break it. A missing server fails
//! the tests with the line that installs it. Most tests wait most of the time: `-- --test-threads 6` is faster.
//!
//! `RUSHGATE_TEST_KEEP=1` keeps the data directories; `RUSHGATE_TEST_SEED=n` repeats the choices of a run.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and these are all tests"
)]

/// The harness: servers, and the clients that speak to them.
use rushgate_test_support::{client, contract, postgres, process, provider, random, redis, server, shop, wait};

mod book;
mod crowd;
mod http_worker;
mod lifecycle;
mod lifecycle_checks;
mod lifecycle_crowd;
mod proxy;
mod verdict;
mod wire;
mod world;

mod changes;
mod cluster_faults;
mod gate_faults;
mod harness_proxy;
mod harness_verdict;
mod kills;
mod ledger_faults;
mod multi_engine;
mod no_faults;
mod preflight;
