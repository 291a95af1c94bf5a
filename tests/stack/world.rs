//! Nodes, a database, and engines between them, each with proxies of its own: what happens to one engine's links need
//! not happen to another's.

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::postgres::{self, Database, PostgresServer};
use crate::process::signal;
use crate::proxy::Proxy;
use crate::redis::RedisServer;
use crate::redis::cluster::RedisCluster;
use crate::server::{Launch, Server, rushgate};
use crate::shop::{sale, with};
use crate::wire::Protocol;

/// The sale of a world.
pub(crate) const SALE: &str = "s";

/// What to start.
pub(crate) struct Setup {
    name: &'static str,
    n_nodes: usize,
    cluster: Option<(usize, usize)>,
    n_engines: usize,
    postgres: Option<Arc<PostgresServer>>,
    args: Vec<&'static str>,
}

impl Setup {
    /// Three Redis nodes and one engine on the shared PostgreSQL; `name` is that of the test.
    pub(crate) fn new(name: &'static str) -> Self {
        Setup { name, n_nodes: 3, cluster: None, n_engines: 1, postgres: None, args: Vec::new() }
    }

    /// A Redis Cluster instead of nodes of their own: masters and replicas. Without proxies: it tells its addresses.
    pub(crate) fn cluster(self, masters: usize, replicas: usize) -> Self {
        Setup { cluster: Some((masters, replicas)), ..self }
    }

    pub(crate) fn engines(self, n_engines: usize) -> Self {
        Setup { n_engines, ..self }
    }

    /// A PostgreSQL that this test may stop.
    pub(crate) fn own_postgres(self) -> Self {
        Setup { postgres: Some(PostgresServer::start(&[])), ..self }
    }

    pub(crate) fn arg(mut self, arg: &'static str) -> Self {
        self.args.push(arg);
        self
    }

    pub(crate) fn start(self) -> World {
        let postgres = self.postgres.unwrap_or_else(postgres::shared);
        let database = postgres.database(&self.name.to_ascii_lowercase());
        let cluster = self.cluster.map(|(masters, replicas)| RedisCluster::start(masters, replicas));
        let n_nodes = if cluster.is_some() { 0 } else { self.n_nodes };
        let nodes: Vec<RedisServer> = (0..n_nodes).map(|_| RedisServer::start(&[])).collect();
        let mut world = World { engines: Vec::new(), nodes, cluster, database };
        for _ in 0..self.n_engines {
            let engine = world.engine(&self.args);
            world.engines.push(engine);
        }
        world
    }
}

/// The parts go in this order: engines before what they use.
pub(crate) struct World {
    pub(crate) engines: Vec<Engine>,
    pub(crate) nodes: Vec<RedisServer>,
    pub(crate) cluster: Option<RedisCluster>,
    pub(crate) database: Database,
}

/// Where an engine listens: to buyers and payment providers, and to operators.
#[derive(Clone, Copy)]
pub(crate) struct Door {
    pub(crate) public: SocketAddr,
    pub(crate) admin: SocketAddr,
}

/// An engine and its links.
pub(crate) struct Engine {
    server: Option<Server>,
    launch: Launch,
    /// One per node.
    pub(crate) redis: Vec<Proxy>,
    pub(crate) postgres: Proxy,
    gate: String,
    ledger: String,
}

impl World {
    fn engine(&self, args: &[&str]) -> Engine {
        let redis: Vec<Proxy> = self.nodes.iter().map(|node| Proxy::start(Protocol::Redis, &node.socket())).collect();
        let postgres = Proxy::start(Protocol::Postgres, &self.database.server.socket());
        let nodes: Vec<String> = redis.iter().map(|proxy| format!("redis://{}", proxy.address)).collect();
        let gate = self.cluster.as_ref().map_or_else(|| nodes.join(","), RedisCluster::address);
        let ledger = format!("postgres://postgres@{}/{}", postgres.address, self.database.name);
        let launch = Launch::new().arg("--gate").arg(&gate).arg("--ledger").arg(&ledger);
        let launch = launch.env("RUSHGATE_PAYMENTS_STANDARD_SECRETS", crate::provider::SECRET);
        let launch = args.iter().fold(launch, |launch, arg| launch.arg(arg));
        let mut engine = Engine { server: None, launch, redis, postgres, gate, ledger };
        engine.start();
        engine
    }

    /// Opens the sale; other engines know of it soon.
    pub(crate) fn open(&self, stock: u64, rules: Value) {
        let rules = with(json!({"payment_timeout_s": null}), rules);
        self.engines[0].server().open(&with(sale(SALE, stock), rules));
        for engine in &self.engines {
            crate::wait::eventually(|| {
                let found = engine.server().operator().send(crate::client::get(format!("/admin/v1/sales/{SALE}")));
                (found.status == 200).then_some(())
            });
        }
    }

    /// The doors of the engines that run.
    pub(crate) fn doors(&self) -> Vec<Door> {
        self.engines.iter().filter(|engine| engine.is_running()).map(Engine::door).collect()
    }
}

impl Engine {
    /// Starts it, or again.
    pub(crate) fn start(&mut self) {
        assert!(self.server.is_none(), "kill it first");
        self.server = Some(self.launch.start());
    }

    pub(crate) fn server(&self) -> &Server {
        self.server.as_ref().expect("the engine runs")
    }

    pub(crate) fn door(&self) -> Door {
        let Server { public, admin, .. } = *self.server();
        Door { public, admin }
    }

    pub(crate) fn is_running(&self) -> bool {
        self.server.is_some()
    }

    /// `STOP`, `CONT`.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.server().pid(), name);
    }

    /// SIGKILL, or the burial of one that got it.
    pub(crate) fn kill(&mut self) {
        let mut server = self.server.take().expect("it runs");
        server.kill9();
        server.assert_no_bug();
    }

    /// A gentle end.
    pub(crate) fn finish(&mut self) {
        self.server.take().expect("it runs").finish_after_trouble();
    }

    /// Runs a command of the product on the same stores; its output, and whether it succeeded.
    pub(crate) fn command(&self, name: &str, with_gate: bool) -> (bool, String) {
        let mut command = rushgate();
        command.args([name, "--ledger", &self.ledger]);
        if with_gate {
            command.args(["--gate", &self.gate]);
        }
        let out = command.current_dir(self.launch.home()).output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
        (out.status.success(), text)
    }
}
