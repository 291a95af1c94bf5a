//! What the gate in Redis does when Redis does not do as it should: each trouble is made on a real server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use rushgate::gate::{
    ConnectError, Error, Gate, Nodes, RedisGate, ReserveMode, ReserveOutcome, ReserveRequest, ReturnedUnits,
    Settlement, ShardEpoch, ShardId,
};
use rushgate::limits::{GATE_BATCH_MAX, GATE_QUEUE_MAX, GATE_REPLY_MS, GATE_TIMEOUTS_MAX, LEASE_MS};
use rushgate::order::{Epoch, Reservation, Rules, SaleNo};
use tokio::time::Instant;

use crate::gate_contract::{asked, sale};
use crate::world::{NOON, PATIENCE, reservation, rules, user};
use rushgate_test_support::redis::cluster::RedisCluster;
use rushgate_test_support::redis::resp::Reply;
use rushgate_test_support::redis::{RedisServer, shared};

const AT: ShardEpoch = ShardEpoch { sale: SaleNo(1), shard: 0, epoch: Epoch::FIRST };

fn in_second_epoch() -> ShardEpoch {
    ShardEpoch { epoch: Epoch::new(2).unwrap(), ..AT }
}

/// A server with one loaded shard.
struct Redis {
    server: RedisServer,
    gate: Arc<RedisGate>,
}

impl Redis {
    async fn new() -> Redis {
        let server = RedisServer::start(&[]);
        let gate = RedisGate::connect(&[server.address()], Nodes::Fixed, 1).await.unwrap();
        gate.load(AT, &sale(rules(1)), &[100_000, 0], true).await.unwrap();
        Redis { server, gate: Arc::new(gate) }
    }

    async fn ask(&self, ask: ReserveRequest) -> Result<ReserveOutcome, Error> {
        self.gate.reserve(AT, NOON, &[ask]).await.map(|outcomes| outcomes[0])
    }

    /// Waits until as many nodes are down as said.
    async fn until_down(&self, nodes: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.gate.nodes_down() != nodes {
            assert!(Instant::now() < deadline, "{} nodes are down", self.gate.nodes_down());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Asks about all shards at once, and no answer comes.
    async fn all_unanswered(&self) {
        let levels = (0..SHARDS).map(|shard| self.gate.level(ShardId { shard, ..AT.id() }));
        assert!(join_all(levels).await.iter().all(|level| matches!(level, Err(Error::Unknown(_)))));
    }

    /// What stands in the hashes that every settlement is about.
    fn keys_of_the_shard(&self) -> Vec<BTreeMap<Vec<u8>, Vec<u8>>> {
        let parts = ["state", "holds", "records"];
        parts.map(|part| self.server.run(&format!("HGETALL {{rg:0}}:0000000000000001:1:{part}"))).into()
    }

    async fn available(&self) -> i64 {
        self.gate.level(AT.id()).await.unwrap().available[0]
    }
}

const RESERVED: ReserveOutcome = ReserveOutcome::Reserved { created_at: NOON, resumed: false };

fn new_hold(key: &str) -> Reservation {
    reservation(&sale(rules(1)), 1, key, 0, 1)
}

fn new(key: &str) -> ReserveRequest {
    asked(new_hold(key), ReserveMode::Create)
}

fn recorded(ask: &ReserveRequest) -> Settlement {
    Settlement::Commit { order_no: ask.reservation.order_no, created_at: NOON }
}

#[tokio::test]
async fn scripts_that_were_flushed_are_loaded_again_on_the_spot() {
    let redis = Redis::new().await;
    redis.server.run::<()>("SCRIPT FLUSH");
    let mine = new("a");
    assert_eq!(redis.ask(mine).await, Ok(RESERVED));
    redis.server.run::<()>("SCRIPT FLUSH");
    redis.gate.settle(AT, &[recorded(&mine)]).await.unwrap();
    assert_eq!(redis.ask(mine).await, Ok(ReserveOutcome::Recorded { created_at: NOON }));
    assert_eq!(redis.gate.metrics().connections.get(), 1);
}

#[tokio::test]
async fn full_memory_refuses_before_any_write_and_lets_reservations_settle() {
    let redis = Redis::new().await;
    let mine = new("a");
    assert_eq!(redis.ask(mine).await, Ok(RESERVED));
    redis.server.run::<()>("CONFIG SET maxmemory 1");
    let before = redis.gate.level(AT.id()).await.unwrap();
    for ask in [new("b"), mine] {
        let error = redis.ask(ask).await.unwrap_err();
        assert!(matches!(&error, Error::Unavailable(text) if text.contains("OOM")), "{error}");
    }
    assert_eq!(redis.gate.level(AT.id()).await.unwrap(), before);
    assert_eq!(redis.gate.adjust(AT, 0, -10).await, Ok(10));
    assert_eq!(redis.gate.overdue(AT, NOON + LEASE_MS, 9).await.unwrap(), [mine.reservation]);
    redis.gate.settle(AT, &[recorded(&mine)]).await.unwrap();
    assert_eq!(redis.gate.level(AT.id()).await.unwrap().reservations, 0);
    redis.gate.load(in_second_epoch(), &sale(rules(1)), &[5, 5], false).await.unwrap();
    redis.server.run::<()>("CONFIG SET maxmemory 1gb");
    assert_eq!(redis.available().await, 5);
}

#[tokio::test]
async fn a_master_that_becomes_a_replica_is_left_until_it_is_a_master_again() {
    let redis = Redis::new().await;
    redis.server.run::<()>("REPLICAOF 127.0.0.1 1");
    let error = redis.ask(new("a")).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable(_)), "{error}");
    redis.until_down(1).await;
    let started = Instant::now();
    assert!(matches!(redis.ask(new("a")).await, Err(Error::Unavailable(_))));
    assert!(matches!(redis.gate.level(AT.id()).await, Err(Error::Unavailable(_))));
    assert!(started.elapsed() < Duration::from_millis(100), "nothing waits for a node that is lost");
    redis.server.run::<()>("REPLICAOF NO ONE");
    redis.until_down(0).await;
    assert_eq!(redis.ask(new("a")).await, Ok(RESERVED));
    assert_eq!(redis.available().await, 99_999);
}

#[tokio::test]
async fn no_answer_is_an_unknown_outcome_that_asking_again_settles() {
    let redis = Redis::new().await;
    let mine = new("a");
    redis.server.run::<()>(&format!("CLIENT PAUSE {} ALL", GATE_REPLY_MS + 300));
    let error = redis.ask(mine).await.unwrap_err();
    assert!(matches!(error, Error::Unknown(_)), "{error}");
    tokio::time::sleep(Duration::from_millis(400)).await;
    // It ran after all, and who asked is recognised; somebody else is not.
    assert_eq!(redis.ask(mine).await, Ok(RESERVED));
    assert_eq!(redis.ask(new("a")).await, Ok(ReserveOutcome::InFlight));
    assert_eq!(redis.available().await, 99_999);
    assert_eq!(redis.gate.metrics().connections.get(), 1);
}

/// As many calls in flight on one connection as there are shards.
const SHARDS: u16 = 64;

#[tokio::test]
async fn one_stall_keeps_the_connection_however_many_calls_meet_it() {
    let redis = Redis::new().await;
    redis.server.run::<()>(&format!("CLIENT PAUSE {} ALL", GATE_REPLY_MS + 300));
    redis.all_unanswered().await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!((redis.gate.nodes_down(), redis.gate.metrics().connections.get()), (0, 1));
    assert_eq!(redis.ask(new("a")).await, Ok(RESERVED));
    assert_eq!(redis.gate.metrics().connections.get(), 1);
}

#[tokio::test]
async fn a_connection_that_stays_silent_is_replaced() {
    let redis = Redis::new().await;
    redis.server.signal("STOP");
    for _ in 0..GATE_TIMEOUTS_MAX {
        assert_eq!(redis.gate.nodes_down(), 0);
        redis.all_unanswered().await;
    }
    redis.until_down(1).await;
    assert!(matches!(redis.ask(new("a")).await, Err(Error::Unavailable(_))));
    redis.server.signal("CONT");
    redis.until_down(0).await;
    assert_eq!(redis.gate.metrics().connections.get(), 2);
    assert_eq!(redis.ask(new("a")).await, Ok(RESERVED));
}

#[tokio::test]
async fn a_node_that_comes_back_with_old_data_is_as_good_as_empty() {
    let mut redis = Redis::new().await;
    assert_eq!(redis.ask(new("a")).await, Ok(RESERVED));
    redis.server.run::<()>("SAVE");
    assert_eq!(redis.ask(new("b")).await, Ok(RESERVED));
    redis.server.restart();
    redis.until_down(1).await;
    redis.until_down(0).await;
    assert_eq!(redis.server.info("keyspace", "db0:keys="), 3, "the old data is there");
    assert_eq!(redis.ask(new("b")).await, Ok(ReserveOutcome::StaleEpoch));
    assert_eq!(redis.gate.level(AT.id()).await.unwrap().epoch, None);
    assert_eq!(redis.gate.adjust(AT, 0, 5).await, Ok(0));
    assert_eq!(redis.gate.overdue(AT, NOON + LEASE_MS, 9).await.unwrap(), []);
    // Loaded in the very epoch that the old data claims.
    redis.gate.load(AT, &sale(rules(1)), &[7, 0], false).await.unwrap();
    assert_eq!(redis.available().await, 7);
    assert_eq!(redis.ask(new("b")).await, Ok(RESERVED));
}

#[tokio::test]
async fn a_node_that_is_not_there_is_waited_for() {
    let mut server = RedisServer::start(&[]);
    server.kill();
    let gate = RedisGate::connect(&[server.address()], Nodes::Fixed, 1).await.unwrap();
    assert_eq!((gate.nodes(), gate.nodes_down()), (1, 1));
    let error = gate.reserve(AT, NOON, &[new("a")]).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable(_)), "{error}");
    server.restart();
    let redis = Redis { server, gate: Arc::new(gate) };
    redis.until_down(0).await;
    assert_eq!(redis.ask(new("a")).await, Ok(ReserveOutcome::StaleEpoch));
}

#[tokio::test]
async fn a_node_that_is_not_fit_is_refused_with_the_promise_it_would_break() {
    let refused = async |args: &[&str], command: &str, nodes| {
        let server = RedisServer::start(args);
        server.run::<Reply>(command);
        match RedisGate::connect(&[server.address()], nodes, 1).await.err() {
            Some(ConnectError::Unfit { why, .. }) => why,
            other => panic!("{command}: {other:?}"),
        }
    };
    let policy = refused(&[], "CONFIG SET maxmemory-policy allkeys-lru", Nodes::Fixed).await;
    assert!(policy.contains("noeviction") && policy.contains("promise"), "{policy}");
    let replica = refused(&[], "REPLICAOF 127.0.0.1 1", Nodes::Fixed).await;
    assert!(replica.contains("replica") && replica.contains("promise"), "{replica}");
    let cluster = ["--cluster-enabled", "yes", "--cluster-port", "0"];
    let mode = refused(&cluster[..2], "PING", Nodes::Fixed).await;
    assert!(mode.contains("redis-cluster://"), "{mode}");
    let mode = refused(&[], "PING", Nodes::Cluster).await;
    assert!(mode.contains("part of a redis cluster"), "{mode}");
}

#[tokio::test]
async fn a_wrong_password_refuses_the_start_and_is_not_repeated() {
    let server = RedisServer::start(&[]);
    server.run::<()>("ACL SETUSER shop on >right ~{rg:* +evalsha +script|load +info +hmget +hset +unlink +hlen");
    let with = |password: &str| format!("{}?user=shop&pass={password}", server.address());
    let error = RedisGate::connect(&[with("hunter2")], Nodes::Fixed, 1).await.err().unwrap();
    assert!(matches!(error, ConnectError::Unfit { .. }) && !error.to_string().contains("hunter2"), "{error}");
    // A user who may not even read the settings is enough.
    let gate = RedisGate::connect(&[with("right")], Nodes::Fixed, 1).await.unwrap();
    gate.load(AT, &sale(rules(1)), &[1, 0], true).await.unwrap();
    assert_eq!(gate.reserve(AT, NOON, &[new("a")]).await, Ok(vec![RESERVED]));
}

#[tokio::test]
async fn more_than_the_queue_takes_is_refused() {
    let redis = Redis::new().await;
    redis.server.signal("STOP");
    let calls = 2 + GATE_QUEUE_MAX / GATE_BATCH_MAX;
    let calls = (0..calls).map(|call| {
        let asks: Vec<ReserveRequest> = (0..GATE_BATCH_MAX).map(|n| new(&format!("{call}-{n}"))).collect();
        let gate = redis.gate.clone();
        async move { gate.reserve(AT, NOON, &asks).await }
    });
    let answers = join_all(calls).await;
    assert_eq!(answers.last().unwrap(), &Err(Error::Busy));
    let busy = answers.iter().filter(|answer| **answer == Err(Error::Busy)).count();
    assert!((1..=2).contains(&busy), "{busy}");
    redis.server.signal("CONT");
}

#[tokio::test]
async fn those_who_ask_together_are_decided_together() {
    let redis = Redis::new().await;
    let asks: Vec<ReserveRequest> = (0..2_000).map(|n| new(&format!("k{n}"))).collect();
    let each = asks.iter().map(async |ask| {
        let outcome = redis.ask(*ask).await;
        redis.gate.settle(AT, &[recorded(ask)]).await.unwrap();
        outcome
    });
    assert!(join_all(each).await.into_iter().all(|outcome| outcome == Ok(RESERVED)));
    let calls = redis.server.info("commandstats", "cmdstat_evalsha:calls=");
    assert!(calls <= 20, "{calls} calls for 2000 orders");
    assert_eq!(redis.gate.metrics().calls.get(), calls);
    let level = redis.gate.level(AT.id()).await.unwrap();
    assert_eq!((level.available[0], level.reserved[0], level.reservations), (98_000, 0, 0));
}

#[tokio::test]
async fn many_asks_for_one_order_are_answered_one_after_the_other() {
    let redis = Redis::new().await;
    let (mine, other) = (new_hold("same"), new_hold("other"));
    let asks: Vec<ReserveRequest> = (0..50).map(|_| asked(mine, ReserveMode::Create)).collect();
    let (reserved, others) =
        tokio::join!(redis.gate.reserve(AT, NOON, &asks), redis.ask(asked(other, ReserveMode::Create)));
    let outcomes = reserved.unwrap();
    assert_eq!(others, Ok(RESERVED));
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == RESERVED).count(), 1);
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == ReserveOutcome::InFlight).count(), 49);
    assert_eq!(redis.available().await, 99_998);
}

#[tokio::test]
async fn who_hangs_up_loses_only_the_answer() {
    let redis = Redis::new().await;
    let mine = new("a");
    {
        let asks = [mine];
        let mut asking = redis.gate.reserve(AT, NOON, &asks);
        assert!(futures_util::poll!(&mut asking).is_pending());
    }
    let deadline = Instant::now() + PATIENCE;
    while redis.available().await != 99_999 {
        assert!(Instant::now() < deadline, "the order was not reserved");
        tokio::task::yield_now().await;
    }
    assert_eq!(redis.ask(mine).await, Ok(RESERVED));
}

#[tokio::test]
async fn keys_that_somebody_deleted_are_a_stale_epoch() {
    for part in ["state", "holds", "records"] {
        let redis = Redis::new().await;
        let mine = new("a");
        assert_eq!(redis.ask(mine).await, Ok(RESERVED));
        redis.gate.settle(AT, &[recorded(&mine)]).await.unwrap();
        redis.server.run::<()>(&format!("DEL {{rg:0}}:0000000000000001:1:{part}"));
        assert_eq!(redis.ask(mine).await, Ok(ReserveOutcome::StaleEpoch), "{part}");
    }
}

#[tokio::test]
async fn overdue_reservations_of_a_large_shard_come_in_bounded_pages() {
    let redis = Redis::new().await;
    let asks: Vec<ReserveRequest> = (0..3_000).map(|n| new(&format!("k{n}"))).collect();
    redis.gate.reserve(AT, NOON, &asks).await.unwrap();
    let mut found = Vec::new();
    loop {
        let reservations = redis.gate.overdue(AT, NOON + LEASE_MS, 700).await.unwrap();
        assert!(reservations.len() <= 700);
        if reservations.is_empty() {
            break;
        }
        found.extend(reservations.into_iter().map(|reservation| *reservation.order_no.as_bytes()));
    }
    found.sort_unstable();
    found.dedup();
    assert_eq!(found.len(), 3_000, "each once");
}

#[tokio::test]
async fn orders_of_a_limited_sale_count_when_asked_for_together() {
    let redis = Redis::new().await;
    let limited = Rules { user_limit: Some(3), ..rules(1) };
    redis.gate.load(in_second_epoch(), &sale(limited), &[10, 0], true).await.unwrap();
    let asks: Vec<ReserveRequest> = (0..5).map(|n| new(&format!("k{n}"))).collect();
    let outcomes = redis.gate.reserve(in_second_epoch(), NOON, &asks).await.unwrap();
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == RESERVED).count(), 3);
}

#[tokio::test]
async fn settlements_that_cannot_all_be_done_are_not_begun() {
    for damage in ["HSET {rg:0}:0000000000000001:1:state held1 much", "SET {rg:0}:0000000000000001:1:units 5"] {
        let redis = Redis::new().await;
        let limited = Rules { user_limit: Some(9), ..rules(1) };
        let at = in_second_epoch();
        redis.gate.load(at, &sale(limited.clone()), &[10, 10], true).await.unwrap();
        let reservations = [(1, "a", 0), (2, "b", 0), (2, "c", 1)];
        let reservations = reservations.map(|(user, key, sku)| reservation(&sale(limited.clone()), user, key, sku, 2));
        let asks = reservations.map(|reservation| asked(reservation, ReserveMode::Create));
        assert_eq!(redis.gate.reserve(at, NOON, &asks).await.unwrap(), [RESERVED; 3]);
        redis.server.run::<()>(damage);
        let known = Settlement::CommitEarlier {
            order_no: reservations[0].order_no,
            fingerprint: reservations[0].fingerprint,
            created_at: NOON,
        };
        let others = reservations[1..].iter().map(|reservation| Settlement::Release { order_no: reservation.order_no });
        let settlements: Vec<Settlement> = std::iter::once(known).chain(others).collect();
        let before = redis.keys_of_the_shard();
        let error = redis.gate.settle(at, &settlements).await.unwrap_err();
        assert!(matches!(error, Error::Unknown(_)), "{damage}: {error}");
        assert_eq!(redis.keys_of_the_shard(), before, "{damage}");
    }
}

#[tokio::test]
async fn returns_that_cannot_all_be_done_are_not_begun() {
    for damage in ["HSET {rg:0}:0000000000000001:1:state available1 much", "SET {rg:0}:0000000000000001:1:units 5"] {
        let redis = Redis::new().await;
        let limited = Rules { user_limit: Some(9), ..rules(1) };
        redis.gate.load(in_second_epoch(), &sale(limited), &[10, 10], true).await.unwrap();
        redis.server.run::<()>(damage);
        let before = redis.keys_of_the_shard();
        let returns = [0, 1].map(|sku| ReturnedUnits { user: user(1), sku, units: 2 });
        let error = redis.gate.return_units(in_second_epoch(), &returns).await.unwrap_err();
        assert!(matches!(error, Error::Unknown(_)), "{damage}: {error}");
        assert_eq!(redis.keys_of_the_shard(), before, "{damage}");
    }
}

#[tokio::test]
async fn settlements_of_a_sale_without_a_limit_leave_the_units_of_users_alone() {
    let redis = Redis::new().await;
    let mine = new("a");
    assert_eq!(redis.ask(mine).await, Ok(RESERVED));
    // Whoever touched this as a hash would fail.
    redis.server.run::<()>("SET {rg:0}:0000000000000001:1:units 5");
    redis.gate.settle(AT, &[Settlement::Release { order_no: mine.reservation.order_no }]).await.unwrap();
    assert_eq!(redis.available().await, 100_000);
}

#[tokio::test]
async fn shards_of_a_cluster_are_on_all_of_its_nodes() {
    let gate = RedisGate::connect(&[shared().cluster.seeds()], Nodes::Cluster, u64::MAX).await.unwrap();
    assert_eq!((gate.nodes(), gate.nodes_down()), (3, 0));
    for shard in 0..64 {
        let at = ShardEpoch { shard, ..AT };
        gate.load(at, &sale(rules(64)), &[i64::from(shard), 0], true).await.unwrap();
    }
    for shard in 0..64 {
        let level = gate.level(ShardId { shard, ..AT.id() }).await.unwrap();
        assert_eq!(level.available, [i64::from(shard), 0]);
    }
}

#[tokio::test]
async fn a_cluster_is_followed_when_a_slot_moves_and_done_without_the_node_that_is_lost() {
    let mut cluster = RedisCluster::start(3, 0);
    let gate = RedisGate::connect(&[cluster.seeds()], Nodes::Cluster, 1).await.unwrap();
    let nodes = &mut cluster.nodes;
    let slot: u64 = nodes[0].run("CLUSTER KEYSLOT {rg:0}");
    let owner = usize::try_from(slot * 3 / 16_384).unwrap();
    let heir = (owner + 1) % 3;
    gate.load(AT, &sale(rules(1)), &[5, 0], true).await.unwrap();
    nodes[owner].run::<()>("FLUSHALL");
    let id: String = nodes[heir].run("CLUSTER MYID");
    for node in [heir, owner] {
        nodes[node].run::<()>(&format!("CLUSTER SETSLOT {slot} NODE {id}"));
    }
    let error = gate.reserve(AT, NOON, &[new("a")]).await.unwrap_err();
    assert!(matches!(&error, Error::Unavailable(text) if text.contains("Moved")), "{error}");
    let deadline = Instant::now() + PATIENCE;
    while gate.load(AT, &sale(rules(1)), &[5, 0], false).await.is_err() {
        assert!(Instant::now() < deadline, "the slot was not found again");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(gate.reserve(AT, NOON, &[new("a")]).await, Ok(vec![RESERVED]));

    nodes[owner].kill();
    while gate.nodes_down() != 1 {
        assert!(Instant::now() < deadline, "{} nodes are down", gate.nodes_down());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(gate.level(AT.id()).await.unwrap().available, [4, 0], "the others go on");
}
