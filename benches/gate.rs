//! What an order costs Redis: CPU time of a redis-server that this bench starts, never wall time.
//!
//! ```text
//! cargo bench --bench gate                 some ten seconds
//! cargo bench --bench gate -- --full       some minutes, up to 5 million recorded orders
//! ```
//!
//! | line | per order |
//! |---|---|
//! | `set_nx_ex/pipelined` | `SET order_no 1 NX EX 86400`, as many to a pipeline as asks to a batch: the plainest check there is |
//! | `set_nx_ex/alone` | the same, each in a round trip of its own |
//! | `evalsha/alone` | `reserve` of one ask, each in a round trip of its own: a script per order, as shops have it |
//! | `reserve_settle` | `reserve` and then `settle` through `RedisGate`, by callers that place one order at a time |
//!
//! The callers are as many as fill batches; how full they were is in the line. Reference and gate hold the same number
//! of keys while they are measured.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench that cannot be set up had better stop"
)]
#![allow(clippy::cast_precision_loss, reason = "what is printed has two digits")]

mod common;

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use redis::{Client, Connection, FromRedisValue};
use rushgate::gate::{Gate, Nodes, RedisGate, ReserveMode, ReserveOutcome, ReserveRequest, Settlement, ShardEpoch};
use rushgate::order::{Currency, DERIVATION, Epoch, Name, Rules, Sale, SaleNo, Salt, Sku, SkuNo, Switch};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use common::{NOW, Orders, is_measured, size};

/// Orders to a pipeline, and callers of the gate for each shard: a full batch.
const DEPTH: usize = rushgate::limits::GATE_BATCH_MAX;

fn main() {
    let is_full = is_measured() && std::env::args().any(|flag| flag == "--full");
    let known = size(10_000, 100);
    let orders = size(200_000, 600);

    let pipelined = set_nx_ex(known, orders, DEPTH);
    line("set_nx_ex/pipelined", known, 1, pipelined, "");
    let alone = set_nx_ex(known, orders / 10, 1);
    line("set_nx_ex/alone", known, 1, alone, "");
    let script = evalsha_alone(orders / 10);
    line("evalsha/alone", 0, 1, script, "");
    let gate = reserve_settle(known, 1, orders);
    println!(
        "{:<22}{:.2} x set_nx_ex/pipelined (at most 2), {:.2} x evalsha/alone (at most 0.3)",
        "ratio",
        gate / pipelined,
        gate / script
    );
    if is_full {
        for shards in [4, 16, 64] {
            let many = reserve_settle(known, shards, orders);
            println!("{:<22}{:.2} x one shard (at most 1.2)", "ratio", many / gate);
        }
        for known in [100_000, 1_000_000, 5_000_000] {
            let later = reserve_settle(known, 1, orders);
            println!("{:<22}{:.2} x {} known orders (at most 1.2)", "ratio", later / gate, size(10_000, 100));
        }
        let later = set_nx_ex(5_000_000, orders, DEPTH);
        line("set_nx_ex/pipelined", 5_000_000, 1, later, "");
        println!("{:<22}{:.2} x {known} known orders: the reference is no flatter", "ratio", later / pipelined);
    }
}

fn line(name: &str, known: usize, shards: u16, micros: f64, more: &str) {
    println!("{name:<22}{micros:>6.2} µs of Redis per order; {known} known, {shards} shards{more}");
}

/// The references.
fn set_nx_ex(known: usize, orders: usize, depth: usize) -> f64 {
    let server = Server::start();
    let mut connection = server.connection();
    let mut names = Orders::new(1);
    let mut set = |count: usize, depth: usize| {
        for _ in 0..count / depth {
            let mut pipeline = redis::pipe();
            for _ in 0..depth {
                let order_no = names.next(0).order_no.to_string();
                pipeline.cmd("SET").arg(order_no).arg(1).arg("NX").arg("EX").arg(86_400).ignore();
            }
            pipeline.exec(&mut connection).unwrap();
        }
        count / depth * depth
    };
    set(known, 100);
    let before = server.cpu();
    let count = set(orders, depth);
    per_order(server.cpu() - before, count)
}

/// One ask per call and nothing pipelined: what batches save.
fn evalsha_alone(orders: usize) -> f64 {
    let server = Server::start();
    let runtime = runtime();
    let gate = server.gate(&runtime, 1);
    let mut names = Orders::new(1);
    let before = server.cpu();
    runtime.block_on(async {
        for _ in 0..orders {
            let reservation = names.next(0);
            let held = gate
                .reserve(at(0), NOW, &[ReserveRequest { reservation, mode: ReserveMode::Create, attempt_id: 1 }])
                .await
                .unwrap();
            assert!(matches!(held[..], [ReserveOutcome::Reserved { .. }]));
        }
    });
    per_order(server.cpu() - before, orders)
}

/// The gate at saturation.
fn reserve_settle(known: usize, shards: u16, orders: usize) -> f64 {
    let server = Server::start();
    let runtime = runtime();
    let gate = Arc::new(server.gate(&runtime, shards));
    let empty = server.memory();
    runtime.block_on(place(&gate, 1, shards, known));
    let bytes = (server.memory() - empty) as f64 / known as f64;
    let (before, calls, requests) = (server.cpu(), gate.metrics().calls.get(), gate.metrics().batch_requests.sum());
    runtime.block_on(place(&gate, 2, shards, orders));
    let micros = per_order(server.cpu() - before, orders);
    // Half of the calls are settlements.
    let batch = 2.0 * (gate.metrics().batch_requests.sum() - requests) / (gate.metrics().calls.get() - calls) as f64;
    line("reserve_settle", known, shards, micros, &format!(", {batch:.0} orders a call, {bytes:.0} bytes an order"));
    micros
}

/// Places `orders`, by as many callers as fill the batches of all shards.
async fn place(gate: &Arc<RedisGate>, seed: u64, shards: u16, orders: usize) {
    let left = Arc::new(AtomicUsize::new(orders));
    let callers = DEPTH * usize::from(shards);
    let callers: Vec<_> = (0..callers)
        .map(|caller| {
            let (gate, left) = (gate.clone(), left.clone());
            tokio::spawn(async move {
                let mut names = Orders::new(seed * 1_000_000 + caller as u64);
                let at = at(u16::try_from(caller % usize::from(shards)).unwrap());
                while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                    let reservation = names.next(0);
                    let held = gate
                        .reserve(at, NOW, &[ReserveRequest { reservation, mode: ReserveMode::Create, attempt_id: 1 }])
                        .await
                        .unwrap();
                    assert!(matches!(held[..], [ReserveOutcome::Reserved { .. }]), "{held:?}");
                    let recorded = Settlement::Commit { order_no: reservation.order_no, created_at: NOW };
                    gate.settle(at, &[recorded]).await.unwrap();
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
}

fn at(shard: u16) -> ShardEpoch {
    ShardEpoch { sale: SaleNo(1), shard, epoch: Epoch::FIRST }
}

fn per_order(cpu: Duration, orders: usize) -> f64 {
    cpu.as_secs_f64() * 1e6 / orders as f64
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

struct Server {
    child: Child,
    directory: TempDir,
}

impl Server {
    fn start() -> Server {
        let directory = TempDir::with_prefix("rushgate-bench-").unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "redis-server", "--port", "0", "--save", "", "--appendonly", "no"]);
        command.arg("--unixsocket").arg(directory.path().join("socket")).arg("--dir").arg(directory.path());
        let child = command.stdout(Stdio::null()).spawn();
        let child = child.expect("this bench runs redis-server: apt-get install redis-server");
        let server = Server { child, directory };
        let is_ready = |server: &Server| Client::open(server.address()).unwrap().get_connection().is_ok();
        while !is_ready(&server) {
            std::thread::sleep(Duration::from_millis(5));
        }
        server
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    fn address(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }

    fn connection(&self) -> Connection {
        Client::open(self.address()).unwrap().get_connection().unwrap()
    }

    fn run<T: FromRedisValue>(&self, command: &[&str]) -> T {
        let mut words = redis::Cmd::new();
        command.iter().for_each(|word| {
            words.arg(*word);
        });
        words.query(&mut self.connection()).unwrap()
    }

    /// Memory in use, in bytes.
    fn memory(&self) -> u64 {
        let info: String = self.run(&["INFO", "memory"]);
        let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
        used.trim().parse().unwrap()
    }

    /// CPU time that the server has used, in steps of 10 ms: user and system, fields 14 and 15 of its `stat`.
    fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let ticks: u64 = fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 10)
    }

    /// A gate with one loaded sale that has stock for everybody.
    fn gate(&self, runtime: &Runtime, shards: u16) -> RedisGate {
        runtime.block_on(async {
            let gate = RedisGate::connect(&[self.address()], Nodes::Fixed, 1).await.unwrap();
            for shard in 0..shards {
                gate.load(at(shard), &sale(shards), &[1_000_000_000], true).await.unwrap();
            }
            gate
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It dies with this process at the latest.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn sale(shards: u16) -> Sale {
    let sku = Sku {
        no: SkuNo(1),
        id: Name::parse("sku-1").unwrap(),
        unit_price: 1999,
        currency: Currency::parse("CNY").unwrap(),
    };
    Sale {
        no: SaleNo(1),
        id: Name::parse("bench").unwrap(),
        rules: Rules { shards, ..Rules::default() },
        salt: Salt::new([9; 32]),
        derivation: DERIVATION,
        switch: Switch::Running,
        skus: vec![sku],
        revision: 1,
        bypassed: false,
    }
}
