//! What every ledger decides alike, without I/O: an adapter loads rows, asks the core, and writes rows.

pub(super) mod admit;
pub(super) mod audit;
pub(super) mod change_set;
pub(super) mod columns;
pub(super) mod effect;
pub(super) mod quarantine;
pub(super) mod restock;
