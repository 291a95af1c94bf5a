//! Units on the move: between the shards of a sku, into a sale, out of it. Each move has an id, so that the ledger
//! records it once however often it is sent, and its gate side is done when its outcome is known, not before.

use std::sync::Arc;

use tokio::sync::OwnedMutexGuard;

use crate::engine::catalog::ActiveSale;
use crate::engine::{Engine, ledger_trouble};
use crate::gate::ShardEpoch;
use crate::ledger::{self, Restock, RestockOutcome, Transfer};
use crate::order::{Code, Refusal};

/// Whoever holds this moves the units of one sku. At most one move is unsettled, for nobody begins another before.
#[derive(Default)]
pub(in crate::engine) struct MoveState {
    unsettled: Option<Move>,
}

impl MoveState {
    pub(in crate::engine) fn is_unsettled(&self) -> bool {
        self.unsettled.is_some()
    }
}

/// A change of where units are.
#[derive(Clone, Debug)]
pub(in crate::engine) enum Move {
    /// Between shards; the units have left the donor's gate.
    Transfer { transfer: Transfer, from: ShardEpoch, to: ShardEpoch },
    /// Into the sale, or out of it; units that are taken away have left the gates.
    Restock(Restock),
}

/// Attempts to learn whether a move was recorded, before it is left to the sweeper.
const ATTEMPTS: usize = 3;

impl Engine {
    /// The right to move units of a sku; taking it is cancel-safe.
    pub(in crate::engine) async fn lock_moves(
        &self,
        active: &ActiveSale,
        sku: u16,
    ) -> Result<OwnedMutexGuard<MoveState>, Refusal> {
        let runtime = active.runtime.sku(sku).ok_or(Code::SkuNotFound)?;
        Ok(runtime.moving.clone().lock_owned().await)
    }

    /// Records a move and does its gate side. Begin no other move before [`Engine::settle_move`] said that the last
    /// one is settled. An error that is not [`Code::UnknownOutcome`] means that nothing was moved.
    pub(in crate::engine) async fn commit_move(
        &self,
        active: &ActiveSale,
        sku: u16,
        moving: &mut MoveState,
        change: Move,
    ) -> Result<RestockOutcome, Refusal> {
        match self.record_move(&change).await {
            Err(ledger::Error::Unknown(_)) => {
                self.metrics.unsettled_moves.add(1);
                moving.unsettled = Some(change);
                self.settle_move(active, sku, moving).await?.ok_or(Code::UnknownOutcome.into())
            }
            Ok(outcome) => {
                self.apply(active, sku, &change, outcome).await?;
                Ok(outcome)
            }
            Err(error) => {
                self.undo(active, sku, &change).await?;
                Err(ledger_trouble(&error).into())
            }
        }
    }

    /// Settles the move whose outcome is unknown, if there is one, by sending it again: the same id is recorded once.
    /// Until the ledger has answered, nothing is put anywhere: that it cannot be asked *now* says nothing about then.
    pub(in crate::engine) async fn settle_move(
        &self,
        active: &ActiveSale,
        sku: u16,
        moving: &mut MoveState,
    ) -> Result<Option<RestockOutcome>, Refusal> {
        let Some(change) = moving.unsettled.clone() else { return Ok(None) };
        for _ in 0..ATTEMPTS {
            let outcome = match self.record_move(&change).await {
                // Found recorded, it was recorded by the attempt before.
                Ok(RestockOutcome::Before) => RestockOutcome::Applied,
                Ok(outcome) => outcome,
                Err(error) => {
                    tracing::warn!(%error, sale = %active.sale.id, "a move of units is still unsettled");
                    continue;
                }
            };
            self.apply(active, sku, &change, outcome).await?;
            moving.unsettled = None;
            return Ok(Some(outcome));
        }
        Err(Code::UnknownOutcome.into())
    }

    /// Settles what is unsettled in a sale, for the sweeper: a sku whose units are being moved is left alone.
    pub(in crate::engine) async fn settle_moves(&self, active: &ActiveSale) {
        for (sku, runtime) in (0..).zip(active.runtime.skus()) {
            if let Ok(mut moving) = runtime.moving.clone().try_lock_owned() {
                // It stays unsettled, and the next sweep tries again.
                self.settle_move(active, sku, &mut moving).await.unwrap_or_default();
            }
        }
    }

    async fn record_move(&self, change: &Move) -> Result<RestockOutcome, ledger::Error> {
        match change {
            Move::Restock(restock) => self.ledger.restock(restock.clone()).await,
            Move::Transfer { transfer, .. } => {
                let moved = self.ledger.transfer(*transfer).await?;
                Ok(if moved { RestockOutcome::Applied } else { RestockOutcome::NotPossible })
            }
        }
    }

    /// The gate side of a move whose outcome is known.
    async fn apply(
        &self,
        active: &ActiveSale,
        sku: u16,
        change: &Move,
        outcome: RestockOutcome,
    ) -> Result<(), Refusal> {
        match (change, outcome) {
            (Move::Transfer { transfer, to, .. }, RestockOutcome::Applied) => {
                self.metrics.transfers.add(1);
                self.put(active, sku, &[(*to, transfer.units)]).await
            }
            // The donor's gate had units that its ledger segment does not have: they are not put anywhere.
            (Move::Transfer { .. }, _) => Ok(()),
            (Move::Restock(restock), RestockOutcome::Applied) if restock.units > 0 => {
                self.put(active, sku, &at_shards(active, restock, 1)).await
            }
            // Applied, the units are gone for good; applied by another engine, they were in its gate.
            (Move::Restock(restock), RestockOutcome::Applied) if restock.units <= 0 => Ok(()),
            (Move::Restock(_), _) => self.undo(active, sku, change).await,
        }
    }

    /// Puts the units of a move that surely did not happen back where they came from.
    async fn undo(&self, active: &ActiveSale, sku: u16, change: &Move) -> Result<(), Refusal> {
        match change {
            Move::Transfer { transfer, from, .. } => self.put(active, sku, &[(*from, transfer.units)]).await,
            Move::Restock(restock) if restock.units < 0 => self.put(active, sku, &at_shards(active, restock, -1)).await,
            Move::Restock(_) => Ok(()),
        }
    }

    /// Puts units on sale.
    pub(in crate::engine) async fn put(
        &self,
        active: &ActiveSale,
        sku: u16,
        units: &[(ShardEpoch, i64)],
    ) -> Result<(), Refusal> {
        for (at, units) in units {
            if let Err(error) = self.gate.adjust(*at, sku, *units).await {
                // The ledger has them; the gate is counted from it before it is used again.
                tracing::warn!(%error, sale = %active.sale.id, shard = at.shard, "put units on sale");
                active.runtime.bypass(at.shard);
            }
        }
        active.runtime.mark_dirty();
        active.clear_sold_out(sku);
        Ok(())
    }
}

/// The units of a restock, times `sign`, by shard.
fn at_shards(active: &ActiveSale, restock: &Restock, sign: i64) -> Vec<(ShardEpoch, i64)> {
    restock.by_shard.iter().map(|(shard, units)| (active.at(*shard), sign * units)).collect()
}

/// A right to move, shared by whoever waits for it.
pub(in crate::engine) type MoveLock = Arc<tokio::sync::Mutex<MoveState>>;
