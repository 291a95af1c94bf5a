//! Where units go: settlements, adjustments, and units that the ledger took back.

use rushgate::gate::{Denial, ReserveOutcome, ReturnedUnits, Settlement};
use rushgate::limits::GATE_BATCH_MAX;
use rushgate::order::{Rules, UserId};

use super::{Loaded, RESERVED, at, gates, refused};
use crate::world::{NOON, rules};

#[tokio::test]
async fn units_go_back_exactly_when_the_settlement_says_so() {
    for (name, gate) in gates().await {
        let limited = Rules { user_limit: Some(2), ..rules(1) };
        let shard = Loaded::new(&gate, limited, [2, 0]).await;
        let mine = shard.reservation(1, "k", 2);
        let order_no = mine.order_no;

        assert_eq!(shard.reserve(mine).await, RESERVED, "{name}");
        shard.settle(Settlement::Release { order_no }).await;
        assert_eq!((shard.left().await, shard.reserve(mine).await), (2, RESERVED), "{name}: limit and stock are back");

        shard.settle(Settlement::CommitEarlier { order_no, fingerprint: mine.fingerprint, created_at: 5 }).await;
        assert_eq!(shard.left().await, 2, "{name}");
        assert_eq!(shard.reserve(mine).await, ReserveOutcome::Recorded { created_at: 5 }, "{name}");

        let second = shard.reservation(2, "k", 2);
        assert_eq!(shard.reserve(second).await, RESERVED, "{name}");
        shard.settle(Settlement::WriteOff { order_no: second.order_no }).await;
        assert_eq!(shard.left().await, 0, "{name}");
        assert_eq!(shard.reserve(second).await, refused(Denial::SegmentEmpty), "{name}: forgotten, and its units gone");
        assert_eq!(gate.level(at(1).id()).await.unwrap().reservations, 0, "{name}");
    }
}

#[tokio::test]
async fn settling_an_unknown_reservation_changes_nothing() {
    for (name, gate) in gates().await {
        let shard = Loaded::new(&gate, rules(1), [5, 0]).await;
        let order_no = shard.reservation(1, "k", 1).order_no;
        for settlement in [
            Settlement::Commit { order_no, created_at: NOON },
            Settlement::Release { order_no },
            Settlement::WriteOff { order_no },
            Settlement::Abandon { order_no },
        ] {
            shard.settle(settlement).await;
        }
        assert_eq!(shard.left().await, 5, "{name}");
        assert_eq!(shard.reserve(shard.reservation(1, "k", 1)).await, RESERVED, "{name}");
    }
}

#[tokio::test]
async fn stock_is_adjusted_down_to_nothing_and_no_further() {
    for (name, gate) in gates().await {
        let shard = Loaded::new(&gate, rules(1), [5, 7]).await;
        let adjust = async |sku, units| gate.adjust(at(1), sku, units).await.unwrap();
        assert_eq!(adjust(0, 3).await, 3, "{name}");
        assert_eq!(adjust(0, -10).await, 8, "{name}");
        assert_eq!(adjust(0, -1).await, 0, "{name}");
        assert_eq!(gate.level(at(1).id()).await.unwrap().available, [0, 7], "{name}");
        assert_eq!(adjust(9, 1).await, 0, "{name}: no such sku");
        assert_eq!(gate.adjust(at(2), 1, 1).await.unwrap(), 0, "{name}: another epoch");
        assert_eq!(shard.reserve(shard.reservation(1, "k", 1)).await, refused(Denial::SegmentEmpty), "{name}");
    }
}

#[tokio::test]
async fn what_came_back_is_on_sale_again_and_no_longer_the_users() {
    for (name, gate) in gates().await {
        let limited = Rules { user_limit: Some(3), ..rules(1) };
        let shard = Loaded::new(&gate, limited, [3, 4]).await;
        let back = |user, sku, units| ReturnedUnits { user: UserId::new(user).unwrap(), sku, units };
        let return_units =
            async |epoch, returns: &[ReturnedUnits]| gate.return_units(at(epoch), returns).await.unwrap();
        let available = async || gate.level(at(1).id()).await.unwrap().available;
        let mine = shard.reservation(1, "a", 3);
        assert_eq!(shard.reserve(mine).await, RESERVED, "{name}");
        shard.settle(Settlement::Commit { order_no: mine.order_no, created_at: NOON }).await;
        for epoch in [2, 3] {
            return_units(epoch, &[back(1, 0, 3)]).await;
        }
        return_units(1, &[]).await;
        assert_eq!(available().await, [0, 4], "{name}: another epoch, or nothing");
        assert_eq!(shard.reserve(shard.reservation(1, "b", 1)).await, refused(Denial::UserLimit), "{name}");
        // User 9 has nothing in this epoch: what comes back was bought before it.
        return_units(1, &[back(1, 0, 1), back(1, 0, 1), back(9, 1, 2), back(1, u16::MAX, 5)]).await;
        assert_eq!(available().await, [2, 6], "{name}: each sku its own, none for what is not there");
        assert_eq!(
            shard.reserve(shard.reservation(1, "c", 3)).await,
            refused(Denial::UserLimit),
            "{name}: one is left of three"
        );
        assert_eq!(shard.reserve(shard.reservation(1, "d", 2)).await, RESERVED, "{name}");
        assert_eq!(
            shard.reserve(shard.reservation(9, "e", 4)).await,
            refused(Denial::UserLimit),
            "{name}: never below nothing"
        );
        assert_eq!(shard.reserve(mine).await, ReserveOutcome::Recorded { created_at: NOON }, "{name}: still known");
        let level = gate.level(at(1).id()).await.unwrap();
        assert_eq!((level.available, level.reserved, level.reservations), (vec![0, 6], vec![2, 0], 1), "{name}");
    }
}

#[tokio::test]
async fn more_returns_than_a_batch_holds_come_back_all() {
    for (name, gate) in gates().await {
        let shard = Loaded::new(&gate, rules(1), [0, 0]).await;
        let count = 2 * GATE_BATCH_MAX + 1;
        let returns: Vec<ReturnedUnits> = (1..=count as u64)
            .map(|user| ReturnedUnits { user: UserId::new(user).unwrap(), sku: 0, units: 2 })
            .collect();
        gate.return_units(at(1), &returns).await.unwrap();
        assert_eq!(shard.left().await, 2 * count as i64, "{name}");
    }
}
