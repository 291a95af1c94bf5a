//! What every gate must do. A new gate adds one line to [`gates`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rushgate::gate::{Ask, At, Gate, Held, Level, May, MemoryGate, No, Nodes, RedisGate, Return, Settlement};
use rushgate::limits::{GATE_BATCH_MAX, LEASE_MS};
use rushgate::order::{Hold, Rules, Sale, SaleNo, SaleState, Salt, Sku, SkuNo, Switch, UserId};

use crate::redis_server::servers;
use crate::world::{NOON, SALT, hold, new_sale, rules};

async fn gates() -> Vec<(&'static str, Arc<dyn Gate>)> {
    let servers = servers();
    let redis = async |addresses: &[String], nodes| {
        Arc::new(RedisGate::connect(addresses, nodes, new_ledger_id()).await.unwrap()) as Arc<dyn Gate>
    };
    vec![
        ("memory", Arc::new(MemoryGate::default())),
        ("redis", redis(&servers.apart[..1], Nodes::Fixed).await),
        ("redis, three nodes", redis(&servers.apart, Nodes::Fixed).await),
        ("redis cluster", redis(std::slice::from_ref(&servers.cluster), Nodes::Cluster).await),
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
        ungated: false,
    }
}

fn at(epoch: i64) -> At {
    At { sale: SaleNo(1), shard: 0, epoch }
}

/// An ask by somebody who has not asked before.
pub(crate) fn asked(hold: Hold, may: May) -> Ask {
    static BY: AtomicU64 = AtomicU64::new(1);
    Ask { hold, may, by: BY.fetch_add(1, Ordering::Relaxed) }
}

/// A gate with one loaded shard, and short words for asking it.
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

    fn hold(&self, user: u64, key: &str, quantity: u32) -> Hold {
        hold(&self.sale, user, key, 0, quantity)
    }

    async fn ask(&self, now_ms: i64, hold: Hold, may: May) -> Held {
        self.gate.reserve(at(1), now_ms, &[asked(hold, may)]).await.unwrap()[0]
    }

    async fn reserve(&self, hold: Hold) -> Held {
        self.ask(NOON, hold, May::Create).await
    }

    async fn settle(&self, settlement: Settlement) {
        self.gate.settle(at(1), &[settlement]).await.unwrap();
    }

    async fn left(&self) -> i64 {
        self.gate.level(at(1)).await.unwrap().available[0]
    }
}

const RESERVED: Held = Held::Reserved { created_at: NOON, resumed: false };

fn refused(why: No) -> Held {
    Held::Refused { why, remembers_all: true }
}

#[tokio::test]
async fn an_order_is_reserved_once_and_recognised_in_every_phase() {
    for (name, gate) in gates().await {
        let shard = Loaded::new(&gate, rules(1), [10, 0]).await;
        let (mine, other) = (shard.hold(1, "k", 3), shard.hold(1, "k", 4));
        assert_eq!(shard.reserve(mine).await, RESERVED, "{name}");
        assert_eq!(shard.left().await, 7, "{name}");
        assert_eq!(shard.reserve(mine).await, Held::InFlight, "{name}");
        assert_eq!(shard.reserve(other).await, Held::OtherContent, "{name}: in flight");
        shard.settle(Settlement::Recorded { order_no: mine.order_no, created_at: NOON }).await;
        let later = Hold { created_at: NOON + 77, ..mine };
        assert_eq!(shard.reserve(later).await, Held::Recorded { created_at: NOON }, "{name}");
        assert_eq!(shard.reserve(other).await, Held::OtherContent, "{name}: recorded");
        assert_eq!(shard.left().await, 7, "{name}");
    }
}

#[tokio::test]
async fn a_repeat_is_recognised_before_window_limit_and_stock() {
    for (name, gate) in gates().await {
        let limited = Rules { user_limit: Some(1), ends_at: Some(NOON + 10), ..rules(1) };
        let shard = Loaded::new(&gate, limited, [1, 0]).await;
        let mine = shard.hold(1, "k", 1);
        assert_eq!(shard.reserve(mine).await, RESERVED, "{name}");
        shard.settle(Settlement::Recorded { order_no: mine.order_no, created_at: NOON }).await;
        shard.gate.switch(at(1), Switch::Paused).await.unwrap();
        assert_eq!(shard.ask(NOON + 11, mine, May::Create).await, Held::Recorded { created_at: NOON }, "{name}");
    }
}

#[tokio::test]
async fn nothing_is_sold_that_is_not_there() {
    for (name, gate) in gates().await {
        let shard = Loaded::new(&gate, rules(1), [2, 5]).await;
        assert_eq!(shard.reserve(shard.hold(1, "a", 3)).await, refused(No::SegmentEmpty), "{name}");
        assert_eq!(shard.reserve(shard.hold(1, "b", 2)).await, RESERVED, "{name}");
        assert_eq!(shard.reserve(shard.hold(2, "c", 1)).await, refused(No::SegmentEmpty), "{name}");
        let other_sku = hold(&shard.sale, 2, "d", 1, 5);
        assert_eq!(shard.reserve(other_sku).await, RESERVED, "{name}: skus are apart");
    }
}

#[tokio::test]
async fn a_batch_is_decided_in_order() {
    for (name, gate) in gates().await {
        let shard = Loaded::new(&gate, rules(1), [2, 0]).await;
        let (a, b) = (shard.hold(1, "a", 1), shard.hold(2, "b", 2));
        let asks = [a, b, shard.hold(3, "c", 1)].map(|hold| asked(hold, May::Create));
        let held = gate.reserve(at(1), NOON, &asks).await.unwrap();
        assert_eq!(held, [RESERVED, refused(No::SegmentEmpty), RESERVED], "{name}");
    }
}

#[tokio::test]
async fn who_asks_again_gets_the_same_answer_and_nobody_else_does() {
    for (name, gate) in gates().await {
        let shard = Loaded::new(&gate, rules(1), [5, 0]).await;
        let mine = [asked(shard.hold(1, "k", 2), May::Create)];
        for _ in 0..3 {
            assert_eq!(gate.reserve(at(1), NOON + 9, &mine).await.unwrap(), [RESERVED], "{name}");
        }
        assert_eq!(shard.left().await, 3, "{name}: reserved once");
        assert_eq!(shard.reserve(mine[0].hold).await, Held::InFlight, "{name}");
        let look = [Ask { may: May::Look, ..mine[0] }];
        assert_eq!(gate.reserve(at(1), NOON, &look).await.unwrap(), [Held::InFlight], "{name}");
    }
}

#[tokio::test]
async fn a_level_tells_epoch_stock_and_what_is_held() {
    for (name, gate) in gates().await {
        let shard = Loaded::new(&gate, rules(1), [5, 7]).await;
        let (mine, other) = (shard.hold(1, "k", 2), hold(&shard.sale, 2, "l", 1, 3));
        assert_eq!(shard.reserve(mine).await, RESERVED, "{name}");
        assert_eq!(shard.reserve(other).await, RESERVED, "{name}");
        let level = async || gate.level(at(1)).await.unwrap();
        let switch = Some(Switch::Running);
        let both = Level { epoch: 1, available: vec![3, 4], held: vec![2, 3], holds: 2, switch };
        assert_eq!(level().await, both, "{name}");
        shard.settle(Settlement::Recorded { order_no: mine.order_no, created_at: NOON }).await;
        shard.settle(Settlement::Refused { order_no: other.order_no }).await;
        let settled = Level { epoch: 1, available: vec![3, 7], held: vec![0, 0], holds: 0, switch };
        assert_eq!(level().await, settled, "{name}");
        for switch in [Switch::Paused, Switch::Ended, Switch::Running] {
            gate.switch(at(1), switch).await.unwrap();
            assert_eq!(level().await, Level { switch: Some(switch), ..settled.clone() }, "{name}");
        }
        let paused = Sale { switch: Switch::Paused, ..shard.sale.clone() };
        gate.load(at(2), &paused, &[0, 0], true).await.unwrap();
        assert_eq!(level().await.switch, Some(Switch::Paused), "{name}: as it was loaded");
        let elsewhere = At { sale: SaleNo(77), ..at(1) };
        assert_eq!(gate.level(elsewhere).await.unwrap(), Level::default(), "{name}: never loaded");
    }
}

#[tokio::test]
async fn an_older_load_or_the_same_again_changes_nothing() {
    for (name, gate) in gates().await {
        let shard = Loaded::new(&gate, rules(1), [5, 0]).await;
        gate.load(at(3), &shard.sale, &[4, 0], false).await.unwrap();
        for late in [2, 3] {
            gate.load(at(late), &shard.sale, &[9, 9], false).await.unwrap();
            let level = gate.level(at(3)).await.unwrap();
            assert_eq!((level.epoch, level.available), (3, vec![4, 0]), "{name}: {late}");
        }
    }
}

#[tokio::test]
async fn a_reservation_past_its_lease_is_taken_over_once() {
    for (name, gate) in gates().await {
        let shard = Loaded::new(&gate, rules(1), [10, 0]).await;
        let mine = shard.hold(1, "k", 1);
        let retry = Hold { created_at: NOON + LEASE_MS, ..mine };
        let resumed = Held::Reserved { created_at: NOON, resumed: true };
        assert_eq!(shard.reserve(mine).await, RESERVED, "{name}");
        assert_eq!(shard.ask(NOON + LEASE_MS - 1, retry, May::Create).await, Held::InFlight, "{name}");
        assert_eq!(shard.ask(NOON + LEASE_MS, retry, May::Look).await, Held::InFlight, "{name}: only looked");
        assert_eq!(shard.ask(NOON + LEASE_MS, retry, May::Resume).await, resumed, "{name}");
        assert_eq!(shard.ask(NOON + LEASE_MS, retry, May::Resume).await, Held::InFlight, "{name}: leased again");
        assert_eq!(shard.left().await, 9, "{name}: its unit is taken once");
    }
}

#[tokio::test]
async fn a_clock_set_back_does_not_prolong_a_lease() {
    for (name, gate) in gates().await {
        let shard = Loaded::new(&gate, rules(1), [10, 0]).await;
        let mine = shard.hold(1, "k", 1);
        assert_eq!(shard.reserve(mine).await, RESERVED, "{name}");
        let day_before = NOON - 24 * 3600 * 1000;
        assert!(
            matches!(shard.ask(day_before, mine, May::Create).await, Held::Reserved { resumed: true, .. }),
            "{name}"
        );
    }
}

#[tokio::test]
async fn overdue_reservations_are_handed_out_with_a_new_lease() {
    for (name, gate) in gates().await {
        let shard = Loaded::new(&gate, rules(1), [10, 0]).await;
        let holds = [shard.hold(1, "a", 1), shard.hold(2, "b", 1), shard.hold(3, "c", 1)];
        for hold in holds {
            assert_eq!(shard.reserve(hold).await, RESERVED, "{name}");
        }
        let overdue = async |now_ms, max| gate.overdue(at(1), now_ms, max).await.unwrap();
        assert_eq!(overdue(NOON + LEASE_MS - 1, 9).await, [], "{name}");
        let first = overdue(NOON + LEASE_MS, 2).await;
        assert_eq!(first.len(), 2, "{name}: bounded");
        let second = overdue(NOON + LEASE_MS, 9).await;
        assert_eq!(second.len(), 1, "{name}: each is handed out once");
        assert!(holds.iter().all(|hold| first.contains(hold) || second.contains(hold)), "{name}");
        shard.settle(Settlement::Abandoned { order_no: holds[0].order_no }).await;
        assert_eq!(overdue(NOON + LEASE_MS, 9).await, [holds[0]], "{name}: abandoned is overdue at once");
    }
}

#[tokio::test]
async fn units_go_back_exactly_when_the_settlement_says_so() {
    for (name, gate) in gates().await {
        let limited = Rules { user_limit: Some(2), ..rules(1) };
        let shard = Loaded::new(&gate, limited, [2, 0]).await;
        let mine = shard.hold(1, "k", 2);
        let order_no = mine.order_no;

        assert_eq!(shard.reserve(mine).await, RESERVED, "{name}");
        shard.settle(Settlement::Refused { order_no }).await;
        assert_eq!((shard.left().await, shard.reserve(mine).await), (2, RESERVED), "{name}: limit and stock are back");

        shard.settle(Settlement::KnownBefore { order_no, fingerprint: mine.fingerprint, created_at: 5 }).await;
        assert_eq!(shard.left().await, 2, "{name}");
        assert_eq!(shard.reserve(mine).await, Held::Recorded { created_at: 5 }, "{name}");

        let second = shard.hold(2, "k", 2);
        assert_eq!(shard.reserve(second).await, RESERVED, "{name}");
        shard.settle(Settlement::Void { order_no: second.order_no }).await;
        assert_eq!(shard.left().await, 0, "{name}");
        assert_eq!(shard.reserve(second).await, refused(No::SegmentEmpty), "{name}: forgotten, and its units gone");
        assert_eq!(gate.level(at(1)).await.unwrap().holds, 0, "{name}");
    }
}

#[tokio::test]
async fn settling_what_is_not_held_changes_nothing() {
    for (name, gate) in gates().await {
        let shard = Loaded::new(&gate, rules(1), [5, 0]).await;
        let order_no = shard.hold(1, "k", 1).order_no;
        for settlement in [
            Settlement::Recorded { order_no, created_at: NOON },
            Settlement::Refused { order_no },
            Settlement::Void { order_no },
            Settlement::Abandoned { order_no },
        ] {
            shard.settle(settlement).await;
        }
        assert_eq!(shard.left().await, 5, "{name}");
        assert_eq!(shard.reserve(shard.hold(1, "k", 1)).await, RESERVED, "{name}");
    }
}

#[tokio::test]
async fn a_user_limit_counts_units_per_sku() {
    for (name, gate) in gates().await {
        let limited = Rules { user_limit: Some(3), ..rules(1) };
        let shard = Loaded::new(&gate, limited, [9, 9]).await;
        assert_eq!(shard.reserve(shard.hold(1, "a", 4)).await, refused(No::UserLimit), "{name}");
        assert_eq!(shard.reserve(shard.hold(1, "b", 2)).await, RESERVED, "{name}");
        assert_eq!(shard.reserve(shard.hold(1, "c", 2)).await, refused(No::UserLimit), "{name}");
        assert_eq!(shard.reserve(shard.hold(1, "d", 1)).await, RESERVED, "{name}");
        assert_eq!(shard.reserve(hold(&shard.sale, 1, "e", 1, 3)).await, RESERVED, "{name}: another sku");
        assert_eq!(shard.reserve(shard.hold(2, "f", 3)).await, RESERVED, "{name}: another user");
    }
}

#[tokio::test]
async fn the_window_and_the_switch_are_looked_at() {
    for (name, gate) in gates().await {
        let window = Rules { starts_at: Some(NOON), ends_at: Some(NOON + 100), ..rules(1) };
        let shard = Loaded::new(&gate, window, [9, 0]).await;
        let ask = async |now_ms| shard.ask(now_ms, shard.hold(1, &format!("k{now_ms}"), 1), May::Create).await;
        assert_eq!(ask(NOON - 1).await, refused(No::NotOpen(SaleState::Scheduled(NOON))), "{name}");
        assert!(matches!(ask(NOON).await, Held::Reserved { .. }), "{name}");
        assert_eq!(ask(NOON + 100).await, refused(No::NotOpen(SaleState::Ended)), "{name}");
        gate.switch(at(1), Switch::Paused).await.unwrap();
        assert_eq!(ask(NOON + 1).await, refused(No::NotOpen(SaleState::Paused)), "{name}");
        gate.switch(at(1), Switch::Running).await.unwrap();
        assert!(matches!(ask(NOON + 2).await, Held::Reserved { .. }), "{name}");
        gate.switch(at(1), Switch::Ended).await.unwrap();
        assert_eq!(ask(NOON + 3).await, refused(No::NotOpen(SaleState::Ended)), "{name}");
    }
}

#[tokio::test]
async fn what_may_not_create_creates_nothing() {
    for (name, gate) in gates().await {
        let shard = Loaded::new(&gate, rules(1), [5, 0]).await;
        for may in [May::Resume, May::Look] {
            assert_eq!(shard.ask(NOON, shard.hold(1, "k", 1), may).await, Held::Unfamiliar, "{name}");
        }
        assert_eq!(gate.level(at(1)).await.unwrap().holds, 0, "{name}");
        assert_eq!(shard.left().await, 5, "{name}");
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
        assert_eq!(gate.level(at(1)).await.unwrap().available, [0, 7], "{name}");
        assert_eq!(adjust(9, 1).await, 0, "{name}: no such sku");
        assert_eq!(gate.adjust(at(2), 1, 1).await.unwrap(), 0, "{name}: another epoch");
        assert_eq!(shard.reserve(shard.hold(1, "k", 1)).await, refused(No::SegmentEmpty), "{name}");
    }
}

#[tokio::test]
async fn what_came_back_is_on_sale_again_and_no_longer_the_users() {
    for (name, gate) in gates().await {
        let limited = Rules { user_limit: Some(3), ..rules(1) };
        let shard = Loaded::new(&gate, limited, [3, 4]).await;
        let back = |user, sku, units| Return { user: UserId::new(user).unwrap(), sku, units };
        let give_back = async |epoch, returns: &[Return]| gate.give_back(at(epoch), returns).await.unwrap();
        let available = async || gate.level(at(1)).await.unwrap().available;
        let mine = shard.hold(1, "a", 3);
        assert_eq!(shard.reserve(mine).await, RESERVED, "{name}");
        shard.settle(Settlement::Recorded { order_no: mine.order_no, created_at: NOON }).await;
        for epoch in [0, 2] {
            give_back(epoch, &[back(1, 0, 3)]).await;
        }
        give_back(1, &[]).await;
        assert_eq!(available().await, [0, 4], "{name}: another epoch, or nothing");
        assert_eq!(shard.reserve(shard.hold(1, "b", 1)).await, refused(No::UserLimit), "{name}");
        // User 9 has nothing in this epoch: what comes back was bought before it.
        give_back(1, &[back(1, 0, 1), back(1, 0, 1), back(9, 1, 2), back(1, u16::MAX, 5)]).await;
        assert_eq!(available().await, [2, 6], "{name}: each sku its own, none for what is not there");
        assert_eq!(shard.reserve(shard.hold(1, "c", 3)).await, refused(No::UserLimit), "{name}: one is left of three");
        assert_eq!(shard.reserve(shard.hold(1, "d", 2)).await, RESERVED, "{name}");
        assert_eq!(shard.reserve(shard.hold(9, "e", 4)).await, refused(No::UserLimit), "{name}: never below nothing");
        assert_eq!(shard.reserve(mine).await, Held::Recorded { created_at: NOON }, "{name}: still known");
        let level = gate.level(at(1)).await.unwrap();
        assert_eq!((level.available, level.held, level.holds), (vec![0, 6], vec![2, 0], 1), "{name}");
    }
}

#[tokio::test]
async fn more_returns_than_a_batch_holds_come_back_all() {
    for (name, gate) in gates().await {
        let shard = Loaded::new(&gate, rules(1), [0, 0]).await;
        let count = 2 * GATE_BATCH_MAX + 1;
        let returns: Vec<Return> =
            (1..=count as u64).map(|user| Return { user: UserId::new(user).unwrap(), sku: 0, units: 2 }).collect();
        gate.give_back(at(1), &returns).await.unwrap();
        assert_eq!(shard.left().await, 2 * count as i64, "{name}");
    }
}

#[tokio::test]
async fn a_new_epoch_forgets_and_an_old_one_is_refused() {
    for (name, gate) in gates().await {
        let unloaded = At { shard: 0, sale: SaleNo(77), epoch: 1 };
        let shard = Loaded::new(&gate, rules(1), [5, 0]).await;
        let mine = shard.hold(1, "k", 2);
        let ask = [asked(mine, May::Create)];
        assert_eq!(gate.reserve(unloaded, NOON, &ask).await.unwrap(), [Held::StaleEpoch], "{name}: never loaded");
        assert_eq!(shard.reserve(mine).await, RESERVED, "{name}");

        gate.load(at(2), &shard.sale, &[4, 0], false).await.unwrap();
        assert_eq!(shard.reserve(mine).await, Held::StaleEpoch, "{name}");
        shard.settle(Settlement::Refused { order_no: mine.order_no }).await;
        assert_eq!(gate.level(at(2)).await.unwrap().available, [4, 0], "{name}: a stale settlement moves nothing");
        assert_eq!(gate.reserve(at(2), NOON, &ask).await.unwrap(), [RESERVED], "{name}");
        let more = asked(shard.hold(2, "k", 9), May::Create);
        let held = gate.reserve(at(2), NOON, &[more]).await.unwrap();
        assert_eq!(held, [Held::Refused { why: No::SegmentEmpty, remembers_all: false }], "{name}");
    }
}

#[tokio::test]
async fn a_gate_that_forgets_records_says_so() {
    let gate = MemoryGate::with_records_max(4);
    let shard = Loaded::new(&(Arc::new(gate) as Arc<dyn Gate>), rules(1), [6, 0]).await;
    for n in 0..6 {
        let mine = shard.hold(1, &format!("k{n}"), 1);
        assert_eq!(shard.reserve(mine).await, RESERVED);
        shard.settle(Settlement::Recorded { order_no: mine.order_no, created_at: NOON }).await;
    }
    let held = shard.reserve(shard.hold(1, "k0", 1)).await;
    assert_eq!(held, Held::Refused { why: No::SegmentEmpty, remembers_all: false });
    assert_eq!(shard.reserve(shard.hold(1, "k5", 1)).await, Held::Recorded { created_at: NOON });
}
