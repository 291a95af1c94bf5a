//! Redis servers that a test starts itself and that die with it. They keep nothing on disk.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use redis::{Client, Connection, FromRedisValue};

use crate::world::PATIENCE;

/// A server with a directory of its own.
pub(crate) struct RedisServer {
    child: Child,
    directory: PathBuf,
    args: Vec<String>,
}

impl RedisServer {
    /// Starts a server on a Unix socket.
    pub(crate) fn start(args: &[&str]) -> RedisServer {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("rushgate-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        let mut server = RedisServer { child: run(&directory, &args), directory, args };
        server.wait();
        server
    }

    /// Kills the server and starts it again on the same socket, with whatever its directory holds.
    pub(crate) fn restart(&mut self) {
        self.kill();
        self.child = run(&self.directory, &self.args);
        self.wait();
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends a signal, such as STOP.
    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([&format!("-{signal}"), &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    pub(crate) fn address(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }

    fn socket(&self) -> PathBuf {
        self.directory.join("socket")
    }

    fn connect(&self) -> Option<Connection> {
        Client::open(self.address()).unwrap().get_connection().ok()
    }

    /// Runs a command given as words.
    pub(crate) fn run<T: FromRedisValue>(&self, command: &str) -> T {
        let mut words = redis::Cmd::new();
        command.split(' ').for_each(|word| {
            words.arg(word);
        });
        words.query(&mut self.connect().unwrap()).unwrap()
    }

    /// A number out of `INFO`: `name` begins a line, and the digits after it are the number.
    pub(crate) fn info(&self, section: &str, name: &str) -> u64 {
        let info: String = self.run(&format!("INFO {section}"));
        let rest = info.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
        rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
    }

    fn wait(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        let ready = |server: &RedisServer| {
            let mut connection = server.connect()?;
            redis::cmd("PING").query::<String>(&mut connection).ok()
        };
        while ready(self).is_none() {
            let is_gone = self.child.try_wait().unwrap().is_some();
            assert!(!is_gone && Instant::now() < deadline, "redis-server did not start, see {:?}", self.directory);
            std::thread::sleep(Duration::from_millis(3));
        }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // It may be dead already, which is what is wanted.
        drop(self.child.kill());
        drop(self.child.wait());
        drop(std::fs::remove_dir_all(&self.directory));
    }
}

fn run(directory: &Path, args: &[String]) -> Child {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "redis-server", "--port", "0", "--unixsocket"]);
    command.arg(directory.join("socket")).arg("--dir").arg(directory);
    command.args(["--save", "", "--appendonly", "no", "--maxmemory", "1gb", "--logfile", "log"]).args(args);
    let started = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()).spawn();
    started.expect("these tests run redis-server: apt-get install redis-server")
}

/// Servers for all tests of this process: three on their own, and a cluster of three masters.
pub(crate) struct Servers {
    pub(crate) apart: Vec<String>,
    pub(crate) cluster: String,
}

/// They are started once, by a thread that lives as long as the process: the kernel kills them with it.
pub(crate) fn servers() -> &'static Servers {
    static SERVERS: OnceLock<Servers> = OnceLock::new();
    SERVERS.get_or_init(|| {
        remove_leftovers();
        let (tell, told) = sync_channel(1);
        std::thread::spawn(move || {
            let apart: Vec<RedisServer> = (0..3).map(|_| RedisServer::start(&[])).collect();
            let (cluster, seeds) = start_cluster();
            let apart_at = apart.iter().map(RedisServer::address).collect();
            tell.send(Servers { apart: apart_at, cluster: seeds }).unwrap();
            let _kept = (apart, cluster);
            loop {
                std::thread::park();
            }
        });
        told.recv().expect("the servers started")
    })
}

/// Directories of servers that were killed together with an earlier process.
fn remove_leftovers() {
    for entry in std::fs::read_dir(std::env::temp_dir()).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap_or_default();
        let process = name.strip_prefix("rushgate-").and_then(|rest| rest.split_once('-')).map(|(process, _)| process);
        let is_dead =
            process.is_some_and(|process| process.parse::<u32>().is_ok() && !Path::new("/proc").join(process).exists());
        if is_dead {
            drop(std::fs::remove_dir_all(entry.path()));
        }
    }
}

/// Three masters that share the slots, and the addresses of two of them as seeds.
pub(crate) fn start_cluster() -> (Vec<RedisServer>, String) {
    let mut nodes = Vec::new();
    let mut ports = Vec::new();
    for _ in 0..3 {
        let [port, bus] = free_ports();
        let args = ["--port", &port.to_string(), "--cluster-enabled", "yes", "--cluster-port", &bus.to_string()];
        let args = [&args[..], &["--cluster-node-timeout", "2000", "--bind", "127.0.0.1"]].concat();
        nodes.push(RedisServer::start(&args));
        ports.push((port, bus));
    }
    for (at, node) in nodes.iter().enumerate() {
        let (first, last) = (at * 16_384 / 3, (at + 1) * 16_384 / 3 - 1);
        node.run::<()>(&format!("CLUSTER ADDSLOTSRANGE {first} {last}"));
        node.run::<()>(&format!("CLUSTER SET-CONFIG-EPOCH {}", at + 1));
    }
    for (port, bus) in &ports[1..] {
        nodes[0].run::<()>(&format!("CLUSTER MEET 127.0.0.1 {port} {bus}"));
    }
    let deadline = Instant::now() + PATIENCE;
    let is_whole = |node: &RedisServer| {
        let info: String = node.run("CLUSTER INFO");
        info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3") && info.contains("cluster_size:3")
    };
    while !nodes.iter().all(is_whole) {
        assert!(Instant::now() < deadline, "the cluster did not form");
        std::thread::sleep(Duration::from_millis(20));
    }
    let seeds = format!("redis-cluster://127.0.0.1:{},127.0.0.1:{}", ports[0].0, ports[1].0);
    (nodes, seeds)
}

fn free_ports() -> [u16; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}
