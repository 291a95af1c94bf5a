//! rushgate: a flash-sale order engine.
//!
//! The path of an order is `intake → admission → gate → ledger → reply`; [`engine`] walks it in `engine/orders/place.rs`.
//! `docs/ARCHITECTURE.md` is the map.

// Ground: no I/O.
pub mod bug;
pub mod clock;
pub mod limits;
pub mod metrics;
pub mod order;
pub mod spki;

// Stages: leaves.
pub mod admission;
pub mod auth;
pub mod command;
pub mod gate;
pub mod http;
pub mod ledger;
pub mod payment;
pub mod reply;
pub mod token;
pub mod trace;

// The engine: the flow.
pub mod engine;

// Edges: wire formats in and out.
pub mod admin;
pub mod intake;

// Composition: the only floor that knows the whole configuration.
pub mod app;
pub mod cli;
pub mod config;
pub mod telemetry;

pub use ledger::idempotency;
