//! What a durable order costs in PostgreSQL: the ledger's `append`, beside the plainest thing that would do instead –
//! each order in a transaction of its own, over eight connections. Every run has a database of its own, in a server of
//! its own that syncs to the disk of the temporary directory (`TMPDIR`).
//!
//! ```text
//! cargo bench --bench postgres                 # appends by batch and connections, in a table that is empty
//! cargo bench --bench postgres -- schema       # what indexes and partitions cost, in a table with three million orders
//! ```
//!
//! A line tells orders per second, and the processor time of all of the server's processes per order.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench that cannot be set up had better stop")]

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rushgate::ledger::{AppendOutcome, CreateOutcome, Entry, Ledger, OrderLedger, PostgresLedger, SaleLedger};
use rushgate::order::{Currency, Epoch, Name, NewSale, NewSku, Reservation, Rules, Sale, Salt, UserId};
use rushgate_test_support::postgres::PostgresServer;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tokio::runtime::Builder;
use uuid::Uuid;

use common::{NOW, Orders, is_measured, size};

const SHARDS: u16 = 64;

fn main() {
    let server = PostgresServer::start(&["shared_buffers=1GB", "max_wal_size=8GB", "checkpoint_timeout=30min"]);
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if std::env::args().any(|flag| flag == "schema") {
        runtime.block_on(schemas(&server));
    } else {
        runtime.block_on(batches(&server));
    }
}

/// Appends of every size, over one to four connections.
async fn batches(server: &PostgresServer) {
    let plain = transactions(server, 8, size(16_000, 16)).await;
    plain.tell("a transaction per order, 8 connections", None);
    for batch in [64, 256, 1024] {
        for writers in [1, 2, 4] {
            let cost = appends(server, &[], writers, batch, size(200_000, batch)).await;
            cost.tell(&format!("append of {batch}, {writers} connections"), Some(&plain));
        }
    }
}

const BTREE: &str = "CREATE INDEX orders_no ON orders (order_no)";
const HASH: &str = "CREATE INDEX orders_no ON orders USING hash (order_no)";
const BLOOM: &str = "CREATE INDEX orders_no ON orders USING brin (order_no \
     uuid_bloom_ops (n_distinct_per_range = 2048, false_positive_rate = 0.001)) \
     WITH (pages_per_range = 32, autosummarize = on)";
const PARTITIONS: &str = "ALTER TABLE orders RENAME TO orders_plain; \
     ALTER TABLE orders_plain RENAME CONSTRAINT orders_user_order_unique TO orders_plain_unique; \
     CREATE TABLE orders (LIKE orders_plain INCLUDING DEFAULTS INCLUDING CONSTRAINTS, \
         CONSTRAINT orders_user_order_unique PRIMARY KEY (user_id, order_no)) PARTITION BY HASH (user_id); \
     DO $$ BEGIN FOR n IN 0..7 LOOP EXECUTE format('CREATE TABLE orders_%s PARTITION OF orders \
         FOR VALUES WITH (MODULUS 8, REMAINDER %s)', n, n); END LOOP; END $$";
const UNPAID: &str = "CREATE INDEX orders_to_pay ON orders (sale_no, created_at) WHERE state = 0";
const HASH_AND_UNPAID: &str = "CREATE INDEX orders_no ON orders USING hash (order_no); \
     CREATE INDEX orders_to_pay ON orders (sale_no, created_at) WHERE state = 0";
const NO_INDEX: &str = "DROP INDEX IF EXISTS orders_number; DROP INDEX IF EXISTS orders_unpaid";

/// The same appends in other tables. Each run comes twice, in turn, for the machine is not alone.
async fn schemas(server: &PostgresServer) {
    for rows in [size(10_000, 10), size(3_000_000, 10)] {
        for _ in 0..size(2, 1) {
            for (name, change) in [
                ("no index but the key", NO_INDEX),
                ("btree on order_no", BTREE),
                ("hash on order_no", HASH),
                ("brin bloom on order_no", BLOOM),
                ("unpaid orders", UNPAID),
                ("hash on order_no, unpaid orders", HASH_AND_UNPAID),
                ("8 partitions", PARTITIONS),
            ] {
                let fill = FILL.replace("$1", &rows.to_string());
                let changes = [NO_INDEX, change, &fill, "VACUUM ANALYZE", "CHECKPOINT"];
                let cost = appends(server, &changes, 2, 256, size(150_000, 256)).await;
                cost.tell(&format!("{name}, {rows} orders before"), None);
            }
        }
    }
}

/// Orders of other sales, of random users.
const FILL: &str = "INSERT INTO orders (seq, user_id, sale_no, sku_no, epoch, created_at, updated_at, order_no, \
     fingerprint, quantity, state_version, state) SELECT -n, ('x' || left(md5(n::text), 15))::bit(60)::bigint + 1, 99, 99, \
     1, 0, 0, gen_random_uuid(), gen_random_uuid(), 1, 1, 0 FROM generate_series(1, $1) AS g(n)";

/// What some orders took.
struct Cost {
    orders: usize,
    wall: Duration,
    cpu: Duration,
}

impl Cost {
    fn tell(&self, what: &str, reference: Option<&Cost>) {
        let beside = reference.map_or(String::new(), |reference| {
            let (speed, cpu) = (self.per_second() / reference.per_second(), reference.cpu_us() / self.cpu_us());
            format!("  {speed:5.1} times as fast, {cpu:4.1} times less CPU")
        });
        if is_measured() {
            println!("{what:<46} {:>8.0} orders/s  {:>6.1} us CPU{beside}", self.per_second(), self.cpu_us());
        }
    }

    fn per_second(&self) -> f64 {
        self.orders as f64 / self.wall.as_secs_f64()
    }

    fn cpu_us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.orders as f64
    }
}

/// A database with the ledger's tables, changed, and one sale.
async fn sale(server: &PostgresServer, changes: &[&str]) -> (String, PostgresLedger, Arc<Sale>) {
    let url = server.new_database();
    PostgresLedger::migrate(&url).await.unwrap();
    let mut sql = PgConnection::connect(&url).await.unwrap();
    for change in changes {
        sqlx::raw_sql(AssertSqlSafe((*change).to_owned())).execute(&mut sql).await.unwrap();
    }
    let ledger = PostgresLedger::open(&url).await.unwrap();
    let sku = NewSku {
        id: Name::parse("sku-1").unwrap(),
        stock: 1_000_000_000,
        unit_price: 1999,
        currency: Currency::parse("CNY").unwrap(),
    };
    let rules = Rules { shards: SHARDS, ..Rules::default() };
    let new = NewSale { id: Name::parse("bench").unwrap(), rules, shards_named: true, skus: vec![sku] };
    match ledger.create_sale(new, Salt::new([9; 32]), NOW).await.unwrap() {
        CreateOutcome::New(sale) => (url, ledger, Arc::new(sale)),
        other => panic!("{other:?}"),
    }
}

/// Appends `orders` in batches, `writers` at once, each with shards of its own as the engine does it.
async fn appends(server: &PostgresServer, changes: &[&str], writers: usize, batch: usize, orders: usize) -> Cost {
    let (_, ledger, sale) = sale(server, changes).await;
    let ledger = Arc::new(ledger);
    let turns = orders.div_ceil(batch * writers);
    let mut work = Vec::new();
    for writer in 0..writers {
        let mut fresh = Orders::new(writer as u64 + 1);
        let batches: Vec<Vec<Entry>> =
            (0..turns).map(|_| (0..batch).map(|_| entry(&sale, fresh.next(0), writer, writers)).collect()).collect();
        work.push(batches);
    }
    let before = Watch::start(server);
    let mut tasks = tokio::task::JoinSet::new();
    for batches in work {
        let ledger = ledger.clone();
        tasks.spawn(async move {
            for batch in batches {
                let appended = ledger.append(batch).await.unwrap();
                assert!(appended.iter().all(|answer| matches!(answer, AppendOutcome::Created { .. })));
            }
        });
    }
    tasks.join_all().await;
    let cost = before.stop(turns * batch * writers);
    ledger.close().await;
    cost
}

fn entry(sale: &Arc<Sale>, reservation: Reservation, writer: usize, writers: usize) -> Entry {
    // Of every user, the nearest one whose shard is this writer's.
    let shard = u64::from(reservation.user.shard(SHARDS));
    let user = u64::try_from(reservation.user.get()).unwrap() - shard
        + shard / writers as u64 * writers as u64
        + writer as u64;
    let user = UserId::new(user.max(1)).unwrap();
    Entry {
        sale: sale.clone(),
        shard: user.shard(SHARDS),
        epoch: Some(Epoch::FIRST),
        reservation: Reservation { user, ..reservation },
    }
}

const TAKE_UNIT: &str = "UPDATE segments SET held = held + 1 WHERE sku_no = 1 AND shard = $1 AND held + sold < total";
const INSERT_ORDER: &str = "INSERT INTO orders (seq, user_id, sale_no, sku_no, epoch, created_at, updated_at, order_no, \
     fingerprint, quantity, state_version, state) VALUES (nextval('order_blocks'), $1, 1, 1, 1, $2, $2, $3, $4, 1, 1, 0) \
     ON CONFLICT (user_id, order_no) DO NOTHING";

/// The reference: an order and its unit, alone in a transaction.
async fn transactions(server: &PostgresServer, connections: usize, orders: usize) -> Cost {
    let (url, ledger, _) = sale(server, &[]).await;
    let each = orders.div_ceil(connections);
    let mut open = Vec::new();
    for _ in 0..connections {
        open.push(PgConnection::connect(&url).await.unwrap());
    }
    let before = Watch::start(server);
    let mut tasks = tokio::task::JoinSet::new();
    for (seed, mut sql) in (1..).zip(open) {
        tasks.spawn(async move {
            let mut fresh = Orders::new(seed);
            for _ in 0..each {
                let reservation = fresh.next(0);
                sql.execute("BEGIN").await.unwrap();
                let shard = i32::from(reservation.user.shard(SHARDS));
                let taken = sqlx::query(TAKE_UNIT).bind(shard).execute(&mut sql).await.unwrap();
                let insert = sqlx::query(INSERT_ORDER)
                    .bind(reservation.user.get())
                    .bind(reservation.created_at)
                    .bind(Uuid::from_bytes(*reservation.order_no.as_bytes()))
                    .bind(Uuid::from_bytes(*reservation.fingerprint.as_bytes()));
                let inserted = insert.execute(&mut sql).await.unwrap();
                assert_eq!((taken.rows_affected(), inserted.rows_affected()), (1, 1));
                sql.execute("COMMIT").await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    let cost = before.stop(each * connections);
    ledger.close().await;
    cost
}

/// A clock on the wall and one on the server's processes.
struct Watch {
    data: PathBuf,
    since: Instant,
    cpu: Duration,
}

impl Watch {
    fn start(server: &PostgresServer) -> Self {
        Watch { data: server.data(), since: Instant::now(), cpu: cpu(&server.data()) }
    }

    fn stop(self, orders: usize) -> Cost {
        let wall = self.since.elapsed();
        Cost { orders, wall, cpu: cpu(&self.data).saturating_sub(self.cpu) }
    }
}

/// Processor time of a server: of its postmaster, of that one's children, and of those that have ended.
fn cpu(data: &Path) -> Duration {
    let postmaster = std::fs::read_to_string(data.join("postmaster.pid")).unwrap();
    let postmaster = postmaster.lines().next().unwrap().to_owned();
    let mut ticks = 0;
    for process in std::fs::read_dir("/proc").unwrap() {
        let Ok(stat) = std::fs::read_to_string(process.unwrap().path().join("stat")) else { continue };
        let Some((pid, rest)) = stat.split_once(" (").zip(stat.rsplit_once(") ")).map(|(a, b)| (a.0, b.1)) else {
            continue;
        };
        // From the state on: 1 is the parent, 11 to 14 are user and system time, its own and of its ended children.
        let fields: Vec<&str> = rest.split(' ').collect();
        if pid == postmaster || fields.get(1) == Some(&postmaster.as_str()) {
            ticks += fields.iter().skip(11).take(4).filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>();
        }
    }
    // A tick is a hundredth of a second on every Linux.
    Duration::from_millis(ticks * 10)
}
