//! Every bound of the engine, with its unit and its reason, in one place: a file for each owner.
//!
//! A queue, map, body, batch or wait that is not bounded here is a bug: what has a limit cannot surprise anyone at
//! the minute the sale opens.

mod admission;
mod app;
mod auth;
mod cli;
mod command;
mod engine;
mod gate;
mod http;
mod keys;
mod ledger;
mod order;
mod payment;
mod postgres;
mod sqlite;
mod token;

pub use self::admission::*;
pub use self::app::*;
pub use self::auth::*;
pub use self::cli::*;
pub use self::command::*;
pub use self::engine::*;
pub use self::gate::*;
pub use self::http::*;
pub use self::keys::*;
pub use self::ledger::*;
pub use self::order::*;
pub use self::payment::*;
pub use self::postgres::*;
pub use self::sqlite::*;
pub use self::token::*;
