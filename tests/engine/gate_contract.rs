//! What every gate must do. A new gate adds one line to [`gates`].

mod units;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rushgate::gate::{
    Denial, Gate, Level, MemoryGate, Nodes, RedisGate, ReserveMode, ReserveOutcome, ReserveRequest, Settlement,
    ShardEpoch,
};
use rushgate::limits::LEASE_MS;
use rushgate::order::{Epoch, Reservation, Rules, Sale, SaleNo, SaleState, Salt, Sku, SkuNo, Switch};

use crate::world::{NOON, SALT, new_sale, reservation, rules};
use rushgate_test_support::redis::{RedisServer, shared};

async fn gates() -> Vec<(&'static str, Arc<dyn Gate>)> {
    let apart: Vec<String> = shared().apart.iter().map(RedisServer::address).collect();
    let redis = async |addresses: &[String], nodes| {
        Arc::new(RedisGate::connect(addresses, nodes, new_ledger_id()).await.unwrap()) as Arc<dyn Gate>
    };
    vec![
        ("memory", Arc::new(MemoryGate::default())),
        ("redis", redis(&apart[..1], Nodes::Fixed).await),
        ("redis, three nodes", redis(&apart, Nodes::Fixed).await),
        ("redis cluster", redis(&[shared().cluster.seeds()], Nodes::Cluster).await),
    ]
}

/// Tests share servers; a ledger of its own gives each of them keys of its own.
pub(crate) fn new_ledger_id() -> u64 {
    static ID: AtomicU64 = AtomicU64::new(1);
    ID.fetch_add(1, Ordering::Relaxed)
}

pub(crate) fn sale(rules: Rules) -> Sale {
    let new = new_sale("s", rules, &[("a", 0), ("b", 0)]);
    let skus = (1..).zip(new.skus).map(|(no, sku)| Sku {
        no: SkuNo(no),
        id: sku.id,
        unit_price: sku.unit_price,
        currency: sku.currency,
    });
    Sale {
        no: SaleNo(1),
        id: new.id,
        rules: new.rules,
        salt: Salt::new(SALT),
        derivation: 1,
        switch: Switch::Running,
        skus: skus.collect(),
        revision: 1,
        bypassed: false,
    }
}

fn at(epoch: i64) -> ShardEpoch {
    ShardEpoch { sale: SaleNo(1), shard: 0, epoch: Epoch::new(epoch).unwrap() }
}

/// A request with an attempt id of its own.
pub(crate) fn asked(reservation: Reservation, mode: ReserveMode) -> ReserveRequest {
    static ATTEMPT: AtomicU64 = AtomicU64::new(1);
    ReserveRequest { reservation, mode, attempt_id: ATTEMPT.fetch_add(1, Ordering::Relaxed) }
}

/// A gate with one loaded shard, and short words for its calls.
struct Loaded {
    gate: Arc<dyn Gate>,
    sale: Sale,
}

impl Loaded {
    async fn new(gate: &Arc<dyn Gate>, rules: Rules, available: [i64; 2]) -> Loaded {
        let sale = sale(rules);
        gate.load(at(1), &sale, &available, true).await.unwrap();
        Loaded { gate: gate.clone(), sale }
    }

    fn reservation(&self, user: u64, key: &str, quantity: u32) -> Reservation {
        reservation(&self.sale, user, key, 0, quantity)
    }

    async fn ask(&self, now_ms: i64, reservation: Reservation, mode: ReserveMode) -> ReserveOutcome {
        self.gate.reserve(at(1), now_ms, &[asked(reservation, mode)]).await.unwrap()[0]
    }

    async fn reserve(&self, reservation: Reservation) -> ReserveOutcome {
        self.ask(NOON, reservation, ReserveMode::Create).await
    }

    async fn settle(&self, settlement: Settlement) {
        self.gate.settle(at(1), &[settlement]).await.unwrap();
    }

    async fn left(&self) -> i64 {
        self.gate.level(at(1).id()).await.unwrap().available[0]
    }
}

const RESERVED: ReserveOutcome = ReserveOutcome::Reserved { created_at: NOON, resumed: false };

fn refused(why: Denial) -> ReserveOutcome {
    ReserveOutcome::Denied { why, remembers_all: true }
}

#[tokio::test]
async fn an_order_is_reserved_once_and_recognised_in_every_phase() {
    for (name, gate) in gates().await {
        let shard = Loaded::new(&gate, rules(1), [10, 0]).await;
        let (mine, other) = (shard.reservation(1, "k", 3), shard.reservation(1, "k", 4));
        assert_eq!(shard.reserve(mine).await, RESERVED, "{name}");
        assert_eq!(shard.left().await, 7, "{name}");
        assert_eq!(shard.reserve(mine).await, ReserveOutcome::InFlight, "{name}");
        assert_eq!(shard.reserve(other).await, ReserveOutcome::OtherContent, "{name}: in flight");
        shard.settle(Settlement::Commit { order_no: mine.order_no, created_at: NOON }).await;
        let later = Reservation { created_at: NOON + 77, ..mine };
        assert_eq!(shard.reserve(later).await, ReserveOutcome::Recorded { created_at: NOON }, "{name}");
        assert_eq!(shard.reserve(other).await, ReserveOutcome::OtherContent, "{name}: recorded");
        assert_eq!(shard.left().await, 7, "{name}");
    }
}

#[tokio::test]
async fn a_repeat_is_recognised_before_window_limit_and_stock() {
    for (name, gate) in gates().await {
        let limited = Rules { user_limit: Some(1), ends_at: Some(NOON + 10), ..rules(1) };
        let shard = Loaded::new(&gate, limited, [1, 0]).await;
        let mine = shard.reservation(1, "k", 1);
        assert_eq!(shard.reserve(mine).await, RESERVED, "{name}");
        shard.settle(Settlement::Commit { order_no: mine.order_no, created_at: NOON }).await;
        shard.gate.switch(at(1).id(), Switch::Paused).await.unwrap();
        assert_eq!(
            shard.ask(NOON + 11, mine, ReserveMode::Create).await,
            ReserveOutcome::Recorded { created_at: NOON },
            "{name}"
        );
    }
}

#[tokio::test]
async fn nothing_is_sold_that_is_not_there() {
    for (name, gate) in gates().await {
        let shard = Loaded::new(&gate, rules(1), [2, 5]).await;
        assert_eq!(shard.reserve(shard.reservation(1, "a", 3)).await, refused(Denial::SegmentEmpty), "{name}");
        assert_eq!(shard.reserve(shard.reservation(1, "b", 2)).await, RESERVED, "{name}");
        assert_eq!(shard.reserve(shard.reservation(2, "c", 1)).await, refused(Denial::SegmentEmpty), "{name}");
        let other_sku = reservation(&shard.sale, 2, "d", 1, 5);
        assert_eq!(shard.reserve(other_sku).await, RESERVED, "{name}: skus are apart");
    }
}

#[tokio::test]
async fn a_batch_is_decided_in_order() {
    for (name, gate) in gates().await {
        let shard = Loaded::new(&gate, rules(1), [2, 0]).await;
        let (a, b) = (shard.reservation(1, "a", 1), shard.reservation(2, "b", 2));
        let asks = [a, b, shard.reservation(3, "c", 1)].map(|reservation| asked(reservation, ReserveMode::Create));
        let outcomes = gate.reserve(at(1), NOON, &asks).await.unwrap();
        assert_eq!(outcomes, [RESERVED, refused(Denial::SegmentEmpty), RESERVED], "{name}");
    }
}

#[tokio::test]
async fn a_repeated_attempt_gets_the_same_answer_and_no_other_does() {
    for (name, gate) in gates().await {
        let shard = Loaded::new(&gate, rules(1), [5, 0]).await;
        let mine = [asked(shard.reservation(1, "k", 2), ReserveMode::Create)];
        for _ in 0..3 {
            assert_eq!(gate.reserve(at(1), NOON + 9, &mine).await.unwrap(), [RESERVED], "{name}");
        }
        assert_eq!(shard.left().await, 3, "{name}: reserved once");
        assert_eq!(shard.reserve(mine[0].reservation).await, ReserveOutcome::InFlight, "{name}");
        let look = [ReserveRequest { mode: ReserveMode::Look, ..mine[0] }];
        assert_eq!(gate.reserve(at(1), NOON, &look).await.unwrap(), [ReserveOutcome::InFlight], "{name}");
    }
}

#[tokio::test]
async fn a_level_tells_epoch_stock_and_reservations() {
    for (name, gate) in gates().await {
        let shard = Loaded::new(&gate, rules(1), [5, 7]).await;
        let (mine, other) = (shard.reservation(1, "k", 2), reservation(&shard.sale, 2, "l", 1, 3));
        assert_eq!(shard.reserve(mine).await, RESERVED, "{name}");
        assert_eq!(shard.reserve(other).await, RESERVED, "{name}");
        let level = async || gate.level(at(1).id()).await.unwrap();
        let switch = Some(Switch::Running);
        let both =
            Level { epoch: Some(Epoch::FIRST), available: vec![3, 4], reserved: vec![2, 3], reservations: 2, switch };
        assert_eq!(level().await, both, "{name}");
        shard.settle(Settlement::Commit { order_no: mine.order_no, created_at: NOON }).await;
        shard.settle(Settlement::Release { order_no: other.order_no }).await;
        let settled =
            Level { epoch: Some(Epoch::FIRST), available: vec![3, 7], reserved: vec![0, 0], reservations: 0, switch };
        assert_eq!(level().await, settled, "{name}");
        for switch in [Switch::Paused, Switch::Ended, Switch::Running] {
            gate.switch(at(1).id(), switch).await.unwrap();
            assert_eq!(level().await, Level { switch: Some(switch), ..settled.clone() }, "{name}");
        }
        let paused = Sale { switch: Switch::Paused, ..shard.sale.clone() };
        gate.load(at(2), &paused, &[0, 0], true).await.unwrap();
        assert_eq!(level().await.switch, Some(Switch::Paused), "{name}: as it was loaded");
        let elsewhere = ShardEpoch { sale: SaleNo(77), ..at(1) };
        assert_eq!(gate.level(elsewhere.id()).await.unwrap(), Level::default(), "{name}: never loaded");
    }
}

#[tokio::test]
async fn an_older_load_or_the_same_again_changes_nothing() {
    for (name, gate) in gates().await {
        let shard = Loaded::new(&gate, rules(1), [5, 0]).await;
        gate.load(at(3), &shard.sale, &[4, 0], false).await.unwrap();
        for late in [2, 3] {
            gate.load(at(late), &shard.sale, &[9, 9], false).await.unwrap();
            let level = gate.level(at(3).id()).await.unwrap();
            assert_eq!((level.epoch, level.available), (Epoch::new(3), vec![4, 0]), "{name}: {late}");
        }
    }
}

#[tokio::test]
async fn a_reservation_past_its_lease_is_taken_over_once() {
    for (name, gate) in gates().await {
        let shard = Loaded::new(&gate, rules(1), [10, 0]).await;
        let mine = shard.reservation(1, "k", 1);
        let retry = Reservation { created_at: NOON + LEASE_MS, ..mine };
        let resumed = ReserveOutcome::Reserved { created_at: NOON, resumed: true };
        assert_eq!(shard.reserve(mine).await, RESERVED, "{name}");
        assert_eq!(
            shard.ask(NOON + LEASE_MS - 1, retry, ReserveMode::Create).await,
            ReserveOutcome::InFlight,
            "{name}"
        );
        assert_eq!(
            shard.ask(NOON + LEASE_MS, retry, ReserveMode::Look).await,
            ReserveOutcome::InFlight,
            "{name}: only looked"
        );
        assert_eq!(shard.ask(NOON + LEASE_MS, retry, ReserveMode::Resume).await, resumed, "{name}");
        assert_eq!(
            shard.ask(NOON + LEASE_MS, retry, ReserveMode::Resume).await,
            ReserveOutcome::InFlight,
            "{name}: leased again"
        );
        assert_eq!(shard.left().await, 9, "{name}: its unit is taken once");
    }
}

#[tokio::test]
async fn a_clock_set_back_does_not_prolong_a_lease() {
    for (name, gate) in gates().await {
        let shard = Loaded::new(&gate, rules(1), [10, 0]).await;
        let mine = shard.reservation(1, "k", 1);
        assert_eq!(shard.reserve(mine).await, RESERVED, "{name}");
        let day_before = NOON - 24 * 3600 * 1000;
        assert!(
            matches!(
                shard.ask(day_before, mine, ReserveMode::Create).await,
                ReserveOutcome::Reserved { resumed: true, .. }
            ),
            "{name}"
        );
    }
}

#[tokio::test]
async fn overdue_reservations_are_handed_out_with_a_new_lease() {
    for (name, gate) in gates().await {
        let shard = Loaded::new(&gate, rules(1), [10, 0]).await;
        let reservations = [shard.reservation(1, "a", 1), shard.reservation(2, "b", 1), shard.reservation(3, "c", 1)];
        for reservation in reservations {
            assert_eq!(shard.reserve(reservation).await, RESERVED, "{name}");
        }
        let overdue = async |now_ms, max| gate.overdue(at(1), now_ms, max).await.unwrap();
        assert_eq!(overdue(NOON + LEASE_MS - 1, 9).await, [], "{name}");
        let first = overdue(NOON + LEASE_MS, 2).await;
        assert_eq!(first.len(), 2, "{name}: bounded");
        let second = overdue(NOON + LEASE_MS, 9).await;
        assert_eq!(second.len(), 1, "{name}: each is handed out once");
        assert!(
            reservations.iter().all(|reservation| first.contains(reservation) || second.contains(reservation)),
            "{name}"
        );
        shard.settle(Settlement::Abandon { order_no: reservations[0].order_no }).await;
        assert_eq!(overdue(NOON + LEASE_MS, 9).await, [reservations[0]], "{name}: abandoned is overdue at once");
    }
}

#[tokio::test]
async fn a_user_limit_counts_units_per_sku() {
    for (name, gate) in gates().await {
        let limited = Rules { user_limit: Some(3), ..rules(1) };
        let shard = Loaded::new(&gate, limited, [9, 9]).await;
        assert_eq!(shard.reserve(shard.reservation(1, "a", 4)).await, refused(Denial::UserLimit), "{name}");
        assert_eq!(shard.reserve(shard.reservation(1, "b", 2)).await, RESERVED, "{name}");
        assert_eq!(shard.reserve(shard.reservation(1, "c", 2)).await, refused(Denial::UserLimit), "{name}");
        assert_eq!(shard.reserve(shard.reservation(1, "d", 1)).await, RESERVED, "{name}");
        assert_eq!(shard.reserve(reservation(&shard.sale, 1, "e", 1, 3)).await, RESERVED, "{name}: another sku");
        assert_eq!(shard.reserve(shard.reservation(2, "f", 3)).await, RESERVED, "{name}: another user");
    }
}

#[tokio::test]
async fn the_window_and_the_switch_are_checked() {
    for (name, gate) in gates().await {
        let window = Rules { starts_at: Some(NOON), ends_at: Some(NOON + 100), ..rules(1) };
        let shard = Loaded::new(&gate, window, [9, 0]).await;
        let ask =
            async |now_ms| shard.ask(now_ms, shard.reservation(1, &format!("k{now_ms}"), 1), ReserveMode::Create).await;
        assert_eq!(ask(NOON - 1).await, refused(Denial::NotOpen(SaleState::Scheduled(NOON))), "{name}");
        assert!(matches!(ask(NOON).await, ReserveOutcome::Reserved { .. }), "{name}");
        assert_eq!(ask(NOON + 100).await, refused(Denial::NotOpen(SaleState::Ended)), "{name}");
        gate.switch(at(1).id(), Switch::Paused).await.unwrap();
        assert_eq!(ask(NOON + 1).await, refused(Denial::NotOpen(SaleState::Paused)), "{name}");
        gate.switch(at(1).id(), Switch::Running).await.unwrap();
        assert!(matches!(ask(NOON + 2).await, ReserveOutcome::Reserved { .. }), "{name}");
        gate.switch(at(1).id(), Switch::Ended).await.unwrap();
        assert_eq!(ask(NOON + 3).await, refused(Denial::NotOpen(SaleState::Ended)), "{name}");
    }
}

#[tokio::test]
async fn a_mode_other_than_create_creates_nothing() {
    for (name, gate) in gates().await {
        let shard = Loaded::new(&gate, rules(1), [5, 0]).await;
        for mode in [ReserveMode::Resume, ReserveMode::Look] {
            assert_eq!(shard.ask(NOON, shard.reservation(1, "k", 1), mode).await, ReserveOutcome::NotFound, "{name}");
        }
        assert_eq!(gate.level(at(1).id()).await.unwrap().reservations, 0, "{name}");
        assert_eq!(shard.left().await, 5, "{name}");
    }
}

#[tokio::test]
async fn a_new_epoch_forgets_and_an_old_one_is_refused() {
    for (name, gate) in gates().await {
        let unloaded = ShardEpoch { sale: SaleNo(77), ..at(1) };
        let shard = Loaded::new(&gate, rules(1), [5, 0]).await;
        let mine = shard.reservation(1, "k", 2);
        let ask = [asked(mine, ReserveMode::Create)];
        assert_eq!(
            gate.reserve(unloaded, NOON, &ask).await.unwrap(),
            [ReserveOutcome::StaleEpoch],
            "{name}: never loaded"
        );
        assert_eq!(shard.reserve(mine).await, RESERVED, "{name}");

        gate.load(at(2), &shard.sale, &[4, 0], false).await.unwrap();
        assert_eq!(shard.reserve(mine).await, ReserveOutcome::StaleEpoch, "{name}");
        shard.settle(Settlement::Release { order_no: mine.order_no }).await;
        assert_eq!(gate.level(at(2).id()).await.unwrap().available, [4, 0], "{name}: a stale settlement moves nothing");
        assert_eq!(gate.reserve(at(2), NOON, &ask).await.unwrap(), [RESERVED], "{name}");
        let more = asked(shard.reservation(2, "k", 9), ReserveMode::Create);
        let outcomes = gate.reserve(at(2), NOON, &[more]).await.unwrap();
        assert_eq!(outcomes, [ReserveOutcome::Denied { why: Denial::SegmentEmpty, remembers_all: false }], "{name}");
    }
}

#[tokio::test]
async fn a_gate_that_forgets_records_says_so() {
    let gate = MemoryGate::with_records_max(4);
    let shard = Loaded::new(&(Arc::new(gate) as Arc<dyn Gate>), rules(1), [6, 0]).await;
    for n in 0..6 {
        let mine = shard.reservation(1, &format!("k{n}"), 1);
        assert_eq!(shard.reserve(mine).await, RESERVED);
        shard.settle(Settlement::Commit { order_no: mine.order_no, created_at: NOON }).await;
    }
    let outcome = shard.reserve(shard.reservation(1, "k0", 1)).await;
    assert_eq!(outcome, ReserveOutcome::Denied { why: Denial::SegmentEmpty, remembers_all: false });
    assert_eq!(shard.reserve(shard.reservation(1, "k5", 1)).await, ReserveOutcome::Recorded { created_at: NOON });
}
