//! The servers of the tests: PostgreSQL, Redis (one server or a cluster) and rushgate itself, each on a directory of its
//! own; and the clients that speak to them.
//!
//! Every start waits for readiness and for the child's exit, so that a server that cannot start fails its test at once,
//! with its command line and the end of its log. A missing program fails the test with the line that installs it. Every
//! child ends with the test binary, however that ends ([`process`]).
//!
//! This crate does not depend on rushgate: what it knows of the product is what the contract tells a client.
//!
//! `RUSHGATE_TEST_KEEP=1` keeps the directories; `RUSHGATE_TEST_SEED=n` repeats the choices of a run.

pub mod client;
pub mod contract;
mod log;
pub mod postgres;
pub mod process;
pub mod provider;
pub mod random;
pub mod redis;
pub mod server;
pub mod shop;
pub mod time;
pub mod wait;
