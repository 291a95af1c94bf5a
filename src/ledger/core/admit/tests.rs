//! Which orders of a batch get its units.

use super::*;
use crate::ledger::core::effect::tests::order;
use crate::order::{Currency, Epoch, Fingerprint, Name, Reservation, Rules, Sale, Salt, Sku, State, Switch};
use std::sync::Arc;

const SKU: SkuNo = SkuNo(7);

fn sale(user_limit: Option<u32>) -> Arc<Sale> {
    let sku =
        Sku { no: SKU, id: Name::parse("a").unwrap(), unit_price: 100, currency: Currency::parse("CNY").unwrap() };
    Arc::new(Sale {
        no: SaleNo(1),
        id: Name::parse("s").unwrap(),
        rules: Rules { user_limit, ..Rules::default() },
        salt: Salt::new([0; 32]),
        derivation: 1,
        switch: Switch::Running,
        skus: vec![sku],
        revision: 1,
        bypassed: false,
    })
}

/// An order of `quantity` units by user `n`, under number `n`.
fn entry(sale: &Arc<Sale>, n: u8, quantity: u32) -> Entry {
    let reservation = Reservation {
        order_no: OrderNo::from_bytes([n; 16]),
        fingerprint: Fingerprint::from_bytes([0; 16]),
        user: UserId::new(n.into()).unwrap(),
        sku: 0,
        quantity,
        created_at: 0,
    };
    Entry { sale: sale.clone(), shard: 0, epoch: Some(Epoch::FIRST), reservation }
}

fn state(is_ended: bool, available: i64) -> BatchState {
    let mut state = BatchState::default();
    state.is_ended.insert(SaleNo(1), is_ended);
    state.available.insert((SKU, 0), available);
    state
}

fn denied(why: AppendDenial) -> EntryDecision {
    EntryDecision::Denied(why)
}

#[test]
fn the_end_comes_before_the_limit_and_the_limit_before_the_stock() {
    let limited = sale(Some(2));
    let wish = entry(&limited, 1, 3);
    assert_eq!(state(true, 0).admit(&wish), Ok(denied(AppendDenial::Closed)));
    assert_eq!(state(false, 0).admit(&wish), Ok(denied(AppendDenial::LimitReached)));
    assert_eq!(state(false, 0).admit(&entry(&limited, 1, 2)), Ok(denied(AppendDenial::SoldOut)));
    assert_eq!(state(false, 2).admit(&entry(&limited, 1, 2)), Ok(EntryDecision::Admitted));
    assert_eq!(state(false, 3).admit(&entry(&sale(None), 1, 3)), Ok(EntryDecision::Admitted));
}

#[test]
fn an_order_that_exists_is_recognised_before_everything() {
    let (sale, known) = (sale(Some(1)), order(State::Paid, false));
    let existing: Map<OrderNo, Order> = [(OrderNo::from_bytes([1; 16]), known)].into_iter().collect();
    let batch = [entry(&sale, 1, 9), entry(&sale, 2, 1)];
    let expected = vec![EntryDecision::Exists(known), denied(AppendDenial::Closed)];
    assert_eq!(state(true, 0).decide(&batch, &existing), Ok(expected));
}

#[test]
fn a_batch_takes_units_in_its_order_and_gives_them_back() {
    let sale = sale(Some(2));
    let mut state = state(false, 3);
    let [first, second, third] = [entry(&sale, 1, 2), entry(&sale, 1, 1), entry(&sale, 2, 2)];
    assert_eq!(state.admit(&first), Ok(EntryDecision::Admitted));
    assert_eq!(state.admit(&second), Ok(denied(AppendDenial::LimitReached)), "of the same user");
    assert_eq!(state.admit(&third), Ok(denied(AppendDenial::SoldOut)));
    state.give_back(&first).unwrap();
    assert_eq!(state.admit(&third), Ok(EntryDecision::Admitted));
    assert_eq!(state.admit(&second), Ok(EntryDecision::Admitted));
    assert_eq!(state.available[&(SKU, 0)], 0);
}

#[test]
fn what_is_denied_takes_nothing() {
    let sale = sale(Some(5));
    let mut state = state(false, 3);
    assert_eq!(state.admit(&entry(&sale, 1, 4)), Ok(denied(AppendDenial::SoldOut)));
    assert_eq!(state.user_units[&(SKU, UserId::new(1).unwrap())], 0);
    assert_eq!(state.admit(&entry(&sale, 1, 3)), Ok(EntryDecision::Admitted));
}

#[test]
fn a_missing_row_is_damage() {
    let sale = sale(None);
    let wish = entry(&sale, 1, 1);
    let elsewhere = Entry { shard: 1, ..wish.clone() };
    let mut unknown = wish.clone();
    unknown.reservation.sku = 3;
    for (mut state, wish) in [(BatchState::default(), wish), (state(false, 9), elsewhere), (state(false, 9), unknown)] {
        assert!(matches!(state.admit(&wish), Err(Error::Corrupt(_))), "{wish:?}");
    }
}

#[test]
fn recorded_units_add_up_by_segment_and_user() {
    let (limited, free) = (sale(Some(9)), sale(None));
    let mut recorded = RecordedUnits::default();
    for entry in [entry(&limited, 1, 2), entry(&limited, 1, 3), entry(&free, 2, 4)] {
        recorded.add(&entry).unwrap();
    }
    let held = SegmentDelta { held: 9, ..SegmentDelta::default() };
    assert_eq!(recorded.segments, BTreeMap::from([((SKU, 0), held)]));
    assert_eq!(recorded.users, BTreeMap::from([((SKU, UserId::new(1).unwrap()), 5)]));
}

#[test]
fn a_state_that_cannot_be_is_an_unknown_outcome_and_counts_as_a_bug() {
    let entry = entry(&sale(None), 1, 1);
    let epoch = Epoch::new(4);
    let read = ShardEpochs::from_iter([((entry.sale.no, entry.shard), epoch)]);
    assert_eq!(EntryDecision::Created.outcome(&entry, &read), Ok(AppendOutcome::Created { epoch }));
    for (decision, epochs) in [(EntryDecision::Admitted, read), (EntryDecision::Created, ShardEpochs::default())] {
        let before = crate::bug::seen();
        assert!(matches!(decision.outcome(&entry, &epochs), Err(Error::Unknown(_))), "{decision:?}");
        assert!(crate::bug::seen() > before, "{decision:?}");
    }
}
