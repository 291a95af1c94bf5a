//! The engine and its parts, driven through the library: one contract for every gate, one for every ledger, stories,
//! and a model that random programs are held against.

mod faults;
mod gate_contract;
mod ledger_contract;
mod model;
mod rush;
mod seed;
mod stories;
mod world;
