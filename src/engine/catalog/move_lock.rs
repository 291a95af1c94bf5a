//! The right to move the units of one sku, and the move of which it is not known how it ended.

use std::sync::Arc;

use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::gate::ShardEpoch;
use crate::ledger::{Restock, Transfer};

/// The right to move units of one sku, shared by all that wait for it.
pub(in crate::engine) type MoveLock = Arc<Mutex<MoveState>>;

/// The right, while it is held.
pub(in crate::engine) type MoveGuard = OwnedMutexGuard<MoveState>;

/// What the holder of the right must know. At most one move is unsettled: it is settled before the next one begins.
#[derive(Default)]
pub(in crate::engine) struct MoveState {
    pub(in crate::engine) unsettled: Option<Move>,
}

impl MoveState {
    pub(in crate::engine) fn is_unsettled(&self) -> bool {
        self.unsettled.is_some()
    }
}

/// A change of where units are.
#[derive(Clone, Debug)]
pub(in crate::engine) enum Move {
    /// Between shards; the units have left the donor's gate. A shard that was never loaded has no gate to put units into.
    Transfer { transfer: Transfer, from: Option<ShardEpoch>, to: Option<ShardEpoch> },
    /// Into the sale, or out of it; units that are taken away have left the gates.
    Restock(Restock),
}
