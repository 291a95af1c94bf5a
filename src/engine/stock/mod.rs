//! Units: from the ledger into the gate, between shards, and the comparison of the two.

pub(super) mod load;
pub(super) mod moves;
pub(super) mod reconcile;
pub(super) mod refill;
