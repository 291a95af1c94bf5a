//! The built executable, driven over real sockets.
//!
//! Nothing here may `use rushgate::`: what these tests know of the server is what API.md and openapi.yaml tell a
//! client. Every test starts its own server on free ports and a fresh data directory, and ends with
//! [`server::Server::finish`], which wants a clean exit and a quiet log.
//!
//! `RUSHGATE_TEST_KEEP=1` keeps the data directories; `RUSHGATE_SEED=n` repeats a random run.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and these are all tests"
)]

mod cli;
mod client;
mod contract;
mod provider;
mod random;
mod schema;
mod server;
mod shop;
mod time;

mod auth;
mod crash;
mod dashboard;
mod disk;
mod hostile;
mod keys;
mod life;
mod openapi;
mod orders;
mod payments;
mod principal;
mod reading;
mod rush;
mod sales;
mod tokens;
