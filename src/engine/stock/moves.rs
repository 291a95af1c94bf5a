//! Units on the move: between the shards of a sku, into a sale, out of it. Each move has an id, so that the ledger
//! records it once however often it is sent, and its gate side is done when its outcome is known, not before.

use super::Stock;
use crate::engine::catalog::{ActiveSale, Move, MoveGuard, MoveState};
use crate::engine::trouble::ledger_trouble;
use crate::gate::ShardEpoch;
use crate::ledger::{self, Restock, RestockOutcome};
use crate::order::{Code, Refusal};

/// Attempts to learn whether a move was recorded, before it is left to the sweeper.
const ATTEMPTS: usize = 3;

impl Stock {
    /// The right to move units of a sku; waiting for it is cancel-safe.
    pub(super) async fn lock_moves(&self, active: &ActiveSale, sku: u16) -> Result<MoveGuard, Refusal> {
        let runtime = active.runtime.sku(sku).ok_or(Code::SkuNotFound)?;
        Ok(runtime.move_lock.clone().lock_owned().await)
    }

    /// Records a move and does its gate side. Begin no other move before [`Stock::settle_move`] said that the last
    /// one is settled. An error that is not [`Code::UnknownOutcome`] means that nothing was moved.
    pub(super) async fn commit_move(
        &self,
        active: &ActiveSale,
        sku: u16,
        moves: &mut MoveState,
        change: Move,
    ) -> Result<RestockOutcome, Refusal> {
        match self.record_move(&change).await {
            Err(ledger::Error::Unknown(_)) => {
                self.core.metrics.unsettled_moves.add(1);
                moves.unsettled = Some(change);
                self.settle_move(active, sku, moves).await?.ok_or(Code::UnknownOutcome.into())
            }
            Ok(outcome) => {
                self.apply(active, sku, &change, outcome).await;
                Ok(outcome)
            }
            Err(error) => {
                self.undo(active, sku, &change).await;
                Err(ledger_trouble(&error).into())
            }
        }
    }

    /// Settles the move whose outcome is unknown, if there is one, by sending it again: the same id is recorded once.
    /// Until the ledger has answered, nothing is put anywhere: that it cannot be asked *now* says nothing about then.
    pub(super) async fn settle_move(
        &self,
        active: &ActiveSale,
        sku: u16,
        moves: &mut MoveState,
    ) -> Result<Option<RestockOutcome>, Refusal> {
        let Some(change) = moves.unsettled.clone() else { return Ok(None) };
        for _ in 0..ATTEMPTS {
            let outcome = match self.record_move(&change).await {
                // Found recorded, it was recorded by the attempt before.
                Ok(RestockOutcome::Before) => RestockOutcome::Applied,
                Ok(outcome) => outcome,
                Err(error) => {
                    let sale = &active.sale.id;
                    tracing::warn!(%error, %sale, "could not learn whether the ledger moved units of sale {sale}");
                    continue;
                }
            };
            self.apply(active, sku, &change, outcome).await;
            moves.unsettled = None;
            return Ok(Some(outcome));
        }
        Err(Code::UnknownOutcome.into())
    }

    /// Settles what is unsettled in a sale, for the sweeper: a sku whose units are being moved is left alone.
    pub(in crate::engine) async fn settle_moves(&self, active: &ActiveSale) {
        for (sku, runtime) in (0..).zip(&active.runtime.skus) {
            if let Ok(mut moves) = runtime.move_lock.clone().try_lock_owned() {
                // What stays unsettled is tried again at the next sweep.
                self.settle_move(active, sku, &mut moves).await.unwrap_or_default();
            }
        }
    }

    async fn record_move(&self, change: &Move) -> Result<RestockOutcome, ledger::Error> {
        match change {
            Move::Restock(restock) => self.core.ledger.restock(restock.clone()).await,
            Move::Transfer { transfer, .. } => {
                let is_moved = self.core.ledger.transfer(*transfer).await?;
                Ok(if is_moved { RestockOutcome::Applied } else { RestockOutcome::NotPossible })
            }
        }
    }

    /// Does the gate side of a move whose outcome is known.
    async fn apply(&self, active: &ActiveSale, sku: u16, change: &Move, outcome: RestockOutcome) {
        let is_applied = match outcome {
            RestockOutcome::Applied => true,
            RestockOutcome::Before | RestockOutcome::Different | RestockOutcome::NotPossible => false,
        };
        match change {
            Move::Transfer { transfer, to, .. } if is_applied => {
                self.core.metrics.transfers.add(1);
                self.put(active, sku, &[(*to, transfer.units)]).await;
            }
            // The donor's gate had units that its ledger segment does not have: they are not put anywhere.
            Move::Transfer { .. } => {}
            Move::Restock(restock) if is_applied && restock.units > 0 => {
                self.put(active, sku, &at_shards(active, restock, 1)).await;
            }
            // Applied, the units are gone for good.
            Move::Restock(_) if is_applied => {}
            // Applied by another engine, they were in its gate.
            Move::Restock(_) => self.undo(active, sku, change).await,
        }
    }

    /// Puts the units of a move that surely did not happen back where they came from.
    async fn undo(&self, active: &ActiveSale, sku: u16, change: &Move) {
        match change {
            Move::Transfer { transfer, from, .. } => self.put(active, sku, &[(*from, transfer.units)]).await,
            Move::Restock(restock) if restock.units < 0 => self.put(active, sku, &at_shards(active, restock, -1)).await,
            Move::Restock(_) => {}
        }
    }

    /// Puts units on sale. A shard that was never loaded will be loaded with them.
    pub(super) async fn put(&self, active: &ActiveSale, sku: u16, units: &[(Option<ShardEpoch>, i64)]) {
        for (at, units) in units {
            let Some(at) = at else { continue };
            if let Err(error) = self.core.gate.adjust(*at, sku, *units).await {
                // The ledger has them; the gate is counted from it before it is used again.
                let (sale, shard) = (&active.sale.id, at.shard);
                tracing::warn!(%error, %sale, shard, "could not put {units} units on sale in shard {shard} of sale {sale}");
                active.runtime.shards.bypass(shard);
            }
        }
        active.mark_dirty();
        active.clear_sold_out(sku);
    }
}

/// The units of a restock, times `sign`, by shard.
fn at_shards(active: &ActiveSale, restock: &Restock, sign: i64) -> Vec<(Option<ShardEpoch>, i64)> {
    restock.by_shard.iter().map(|(shard, units)| (active.at(*shard), sign * units)).collect()
}
