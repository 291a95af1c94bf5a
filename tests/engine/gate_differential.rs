//! The same random programs into the gate in memory and the gate in Redis: every answer and every level must be the
//! same. What one of them gets wrong alone shows here.

use std::collections::HashMap;

use rushgate::gate::{
    Gate, MemoryGate, Nodes, RedisGate, ReserveMode, ReserveOutcome, ReserveRequest, ReturnedUnits, Settlement,
    ShardEpoch,
};
use rushgate::limits::{CLOCKS_APART_MS, LEASE_MS};
use rushgate::order::{Epoch, Fingerprint, OrderNo, Reservation, Rules, Sale, SaleNo, Switch, UserId};

use crate::gate_contract::{new_ledger_id, sale};
use crate::world::{NOON, reservation};
use rushgate_test_support::random::Random;
use rushgate_test_support::redis::RedisServer;

const SHARDS: u16 = 3;

#[tokio::test]
async fn redis_answers_as_memory_does() {
    let mut random = Random::seeded("redis_answers_as_memory_does");
    let server = RedisServer::start(&[]);
    for _ in 0..30 {
        Program::new(&server, random.split()).await.run(120).await;
    }
}

struct Program<'a> {
    server: &'a RedisServer,
    random: Random,
    memory: MemoryGate,
    redis: RedisGate,
    sale: Sale,
    now_ms: i64,
    epochs: [Epoch; SHARDS as usize],
    /// When an order was last reserved in a shard.
    created_at: HashMap<(u16, OrderNo), i64>,
    log: Vec<String>,
}

impl Program<'_> {
    async fn new(server: &RedisServer, mut random: Random) -> Program<'_> {
        let sometimes = |random: &mut Random, value: i64| random.percent(25).then_some(value);
        let rules = Rules {
            shards: SHARDS,
            user_limit: random.percent(50).then_some(3),
            starts_at: sometimes(&mut random, NOON + 3_000),
            ends_at: sometimes(&mut random, NOON + 60_000),
            ..Rules::default()
        };
        let redis = RedisGate::connect(&[server.address()], Nodes::Fixed, new_ledger_id()).await.unwrap();
        Program {
            server,
            random,
            memory: MemoryGate::default(),
            redis,
            sale: sale(rules),
            now_ms: NOON,
            epochs: [Epoch::FIRST; SHARDS as usize],
            created_at: HashMap::new(),
            log: Vec::new(),
        }
    }

    async fn run(mut self, steps: usize) {
        for shard in 0..SHARDS {
            self.load(shard, Epoch::FIRST).await;
        }
        for _ in 0..steps {
            self.step().await;
            for shard in 0..SHARDS {
                let at = self.at(shard);
                let (memory, redis) = (self.memory.level(at.id()).await, self.redis.level(at.id()).await);
                assert_eq!(memory, redis, "level of {at:?} after {:#?}", self.log);
            }
        }
    }

    async fn step(&mut self) {
        let shard = self.random.below(u64::from(SHARDS)) as u16;
        match self.random.below(100) {
            0..45 => self.reserve(shard).await,
            45..75 => self.settle(shard).await,
            75..78 => self.adjust(shard).await,
            78..80 => self.return_units(shard).await,
            80..84 => self.switch(shard).await,
            84..90 => self.overdue(shard).await,
            90..98 => self.pass_time(),
            98 => self.flush().await,
            _ => {
                let number = self.epochs[usize::from(shard)].get() + self.random.below(3) as i64 - 1;
                self.load(shard, Epoch::new(number).unwrap_or(Epoch::FIRST)).await;
            }
        }
    }

    fn at(&self, shard: u16) -> ShardEpoch {
        ShardEpoch { sale: SaleNo(1), shard, epoch: self.epochs[usize::from(shard)] }
    }

    /// Mostly the shard's epoch, sometimes another.
    fn about(&mut self, shard: u16) -> ShardEpoch {
        let at = self.at(shard);
        if self.random.percent(4) { ShardEpoch { epoch: Epoch::following(Some(at.epoch)), ..at } } else { at }
    }

    fn reservation(&mut self) -> Reservation {
        let user = 1 + self.random.below(4);
        // The largest id there is must not lose its last digits on the way.
        let user = if user == 4 { i64::MAX as u64 } else { user };
        let key = format!("k{}", self.random.below(4));
        let quantity = 1 + self.random.below(2) as u32;
        let sku = self.random.below(2) as u16;
        let reservation = reservation(&self.sale, user, &key, sku, quantity);
        let sku = if self.random.percent(3) { u16::MAX } else { sku };
        Reservation { created_at: self.now_ms, sku, ..reservation }
    }

    fn reservations(&mut self, most: u64) -> Vec<Reservation> {
        let mut reservations: Vec<Reservation> = Vec::new();
        for _ in 0..1 + self.random.below(most) {
            let reservation = self.reservation();
            if reservations.iter().all(|other| other.order_no != reservation.order_no) {
                reservations.push(reservation);
            }
        }
        reservations
    }

    async fn reserve(&mut self, shard: u16) {
        let at = self.about(shard);
        let mut asks = Vec::new();
        for reservation in self.reservations(8) {
            let mode =
                [ReserveMode::Create, ReserveMode::Create, ReserveMode::Create, ReserveMode::Resume, ReserveMode::Look]
                    [self.random.below(5) as usize];
            asks.push(ReserveRequest { reservation, mode, attempt_id: self.random.below(3) });
        }
        if self.random.percent(60) {
            asks.iter_mut().for_each(|ask| ask.mode = ReserveMode::Create);
        }
        self.log.push(format!("at {} {at:?} {asks:?}", self.now_ms));
        let memory = self.memory.reserve(at, self.now_ms, &asks).await.unwrap();
        let redis = self.redis.reserve(at, self.now_ms, &asks).await.unwrap();
        assert_eq!(memory, redis, "after {:#?}", self.log);
        for (ask, outcome) in asks.iter().zip(memory) {
            if let ReserveOutcome::Reserved { created_at, .. } = outcome {
                self.created_at.insert((shard, ask.reservation.order_no), created_at);
            }
        }
    }

    async fn settle(&mut self, shard: u16) {
        let at = self.about(shard);
        let mut settlements = Vec::new();
        for Reservation { order_no, fingerprint, .. } in self.reservations(6) {
            let created_at = self.created_at.get(&(shard, order_no)).copied().unwrap_or(NOON);
            let other = Fingerprint::from_bytes([7; 16]);
            settlements.push(match self.random.below(8) {
                0..3 => Settlement::Commit { order_no, created_at },
                3 => Settlement::CommitEarlier { order_no, fingerprint, created_at: NOON - 5 },
                4 => Settlement::CommitEarlier { order_no, fingerprint: other, created_at: 5 },
                5 => Settlement::Release { order_no },
                6 => Settlement::WriteOff { order_no },
                _ => Settlement::Abandon { order_no },
            });
        }
        self.log.push(format!("{at:?} {settlements:?}"));
        self.memory.settle(at, &settlements).await.unwrap();
        self.redis.settle(at, &settlements).await.unwrap();
    }

    async fn adjust(&mut self, shard: u16) {
        let (at, sku, units) = (self.about(shard), self.random.below(3) as u16, self.random.below(21) as i64 - 10);
        self.log.push(format!("{at:?} adjust {sku} by {units}"));
        let memory = self.memory.adjust(at, sku, units).await;
        assert_eq!(memory, self.redis.adjust(at, sku, units).await, "after {:#?}", self.log);
    }

    async fn return_units(&mut self, shard: u16) {
        let at = self.about(shard);
        // One user more than ever reserves, and one sku more than there is.
        let returns: Vec<ReturnedUnits> = (0..self.random.below(5))
            .map(|_| ReturnedUnits {
                user: UserId::new([1, 2, 3, 5, i64::MAX as u64][self.random.below(5) as usize]).unwrap(),
                sku: self.random.below(3) as u16,
                units: 1 + self.random.below(2) as u32,
            })
            .collect();
        self.log.push(format!("{at:?} {returns:?}"));
        self.memory.return_units(at, &returns).await.unwrap();
        self.redis.return_units(at, &returns).await.unwrap();
    }

    async fn switch(&mut self, shard: u16) {
        let (at, switch) = (self.about(shard), Switch::ALL[self.random.below(3) as usize]);
        let switch = if self.random.percent(60) { Switch::Running } else { switch };
        self.log.push(format!("{at:?} {switch:?}"));
        self.memory.switch(at.id(), switch).await.unwrap();
        self.redis.switch(at.id(), switch).await.unwrap();
    }

    /// All of them: which come first is not for either gate to say.
    async fn overdue(&mut self, shard: u16) {
        // The gate in memory does not look at the epoch here.
        let at = self.at(shard);
        self.log.push(format!("at {} {at:?} overdue", self.now_ms));
        let mut memory = self.memory.overdue(at, self.now_ms, 100).await.unwrap();
        let mut redis = self.redis.overdue(at, self.now_ms, 100).await.unwrap();
        for reservations in [&mut memory, &mut redis] {
            reservations.sort_by_key(|reservation| *reservation.order_no.as_bytes());
        }
        assert_eq!(memory, redis, "after {:#?}", self.log);
    }

    fn pass_time(&mut self) {
        let back = -2 * (LEASE_MS + CLOCKS_APART_MS);
        self.now_ms += [1, 700, LEASE_MS - 1, LEASE_MS, back][self.random.below(5) as usize];
    }

    async fn load(&mut self, shard: u16, epoch: Epoch) {
        let at = ShardEpoch { epoch, ..self.at(shard) };
        let available = [self.random.below(12) as i64, self.random.below(5) as i64];
        let remembers_all = self.random.percent(50);
        self.log.push(format!("load {at:?} {available:?}"));
        self.memory.load(at, &self.sale, &available, remembers_all).await.unwrap();
        self.redis.load(at, &self.sale, &available, remembers_all).await.unwrap();
        let place = &mut self.epochs[usize::from(shard)];
        *place = epoch.max(*place);
    }

    /// Both forget everything.
    async fn flush(&mut self) {
        self.log.push("flush".to_owned());
        self.server.run::<()>("FLUSHALL");
        self.memory = MemoryGate::default();
        for shard in 0..SHARDS {
            let at = self.at(shard);
            let asks = [ReserveRequest { reservation: self.reservation(), mode: ReserveMode::Create, attempt_id: 1 }];
            let outcomes = self.redis.reserve(at, self.now_ms, &asks).await.unwrap();
            assert_eq!(outcomes, [ReserveOutcome::StaleEpoch]);
            self.load(shard, at.epoch).await;
        }
    }
}
