//! The engine and its parts, driven through the library: one contract for every gate, one for every ledger, stories,
//! and a model that random programs are held against.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::print_stdout,
    reason = "a test fails by panicking, and these are all tests"
)]

mod engines;
mod epochs;
mod faults;
mod faulty_gate;
mod gate_contract;
mod gate_differential;
mod gate_redis;
mod idempotency;
mod ledger_contract;
mod ledger_postgres;
mod lifecycle;
mod model;
mod no_bug;
mod rush;
mod stories;
mod tokens;
mod waits;
mod world;
