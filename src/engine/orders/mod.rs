//! An order on its way: from the request to the commit, the gate and the answer. `place.rs` is the walk.

pub(super) mod batches;
pub(super) mod bypass;
pub(super) mod place;
pub(super) mod probe;
pub(super) mod stall;
pub(super) mod tokens;
pub(super) mod waiters;
pub(super) mod writer;
