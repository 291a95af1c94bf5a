//! The built executable, driven over real sockets.
//!
//! Nothing here may `use rushgate::`: what these tests know of the server is what openapi.yaml tells a client. Every test starts its own
//! server on free ports and a fresh data directory, and ends with [`server::Server::finish`], which wants a clean exit and a quiet log.
//!
//! `RUSHGATE_TEST_KEEP=1` keeps the data directories; `RUSHGATE_TEST_SEED=n` repeats a random run.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and these are all tests"
)]

/// The harness: servers, and the clients that speak to them.
use rushgate_test_support::{client, contract, provider, random, server, shop, time, wait};

mod schema;

mod auth;
mod cli;
mod crash;
mod dashboard;
mod disk;
mod harness;
mod hostile;
mod keys;
mod lifecycle;
mod openapi;
mod orders;
mod payments;
mod principal;
mod reading;
mod rush;
mod sales;
mod spans;
mod tokens;
