//! redis-server on a Unix socket or, for a cluster, on a port too. It keeps nothing on disk unless a test asks it to.

pub mod cluster;
pub mod resp;

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use tempfile::TempDir;

use crate::process::{Process, directory, free_port, run};
use cluster::RedisCluster;
use resp::Reply;

/// Longest wait for a start.
const START: Duration = Duration::from_secs(20);
/// Longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(20);
/// Ports that are tried before the test fails.
const PORTS_TRIED: usize = 20;
const INSTALL: &str = "apt-get install redis-server";

/// The settings that a gate's node must have; a test that wants a refusal overrides them.
const FIT: [&str; 8] = ["--save", "", "--appendonly", "no", "--maxmemory", "1gb", "--maxmemory-policy", "noeviction"];

/// A server, running or stopped, with a directory of its own.
pub struct RedisServer {
    home: TempDir,
    args: Vec<String>,
    /// 0: it has a Unix socket only.
    pub port: u16,
    process: Option<Process>,
}

impl RedisServer {
    /// Starts a server on a Unix socket with some settings; later ones win.
    pub fn start(settings: &[&str]) -> Self {
        let mut server = RedisServer::stopped(0, settings);
        server.try_start().unwrap_or_else(|story| panic!("redis-server does not start: {story}"));
        server
    }

    /// Starts a member of a cluster, on ports that it keeps.
    pub fn start_member() -> Self {
        let mut story = String::new();
        for _ in 0..PORTS_TRIED {
            let (port, bus) = (free_port(), free_port().to_string());
            let cluster = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-port", &bus];
            let mut server = RedisServer::stopped(port, &cluster);
            match server.try_start() {
                Ok(()) => return server,
                Err(refused) => story = refused,
            }
        }
        panic!("redis-server finds no free ports: {story}");
    }

    fn stopped(port: u16, settings: &[&str]) -> Self {
        let args = FIT.iter().chain(settings).map(|arg| (*arg).to_owned()).collect();
        RedisServer { home: directory("redis"), args, port, process: None }
    }

    fn try_start(&mut self) -> Result<(), String> {
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &self.port.to_string(), "--unixsocket"]).arg(self.socket());
        command.arg("--dir").arg(self.home.path()).args(&self.args);
        let process = Process::start(&mut command, &self.home.path().join("log"), "KILL", INSTALL);
        // The answer comes from the process just started: the socket file of an earlier one does not answer.
        let is_ready = || self.try_ask(&["PING"]).is_ok_and(|answer| answer == Reply::Text("PONG".to_owned()));
        self.process = Some(process.ready(START, is_ready)?);
        Ok(())
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.take().expect("it is running").kill9();
    }

    /// Starts again on the same directory and port, with what the directory holds; kills the server first if it runs.
    pub fn restart(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill9();
        }
        self.try_start().unwrap_or_else(|story| panic!("redis-server does not start again: {story}"));
    }

    /// `STOP`, `CONT`.
    pub fn signal(&self, name: &str) {
        self.process.as_ref().expect("it is running").signal(name);
    }

    /// The Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.home.path().join("redis.sock")
    }

    /// The socket as rushgate's settings name it.
    pub fn address(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }

    /// Runs a command that is written as words with single blanks.
    #[track_caller]
    pub fn run<T: From<Reply>>(&self, command: &str) -> T {
        self.ask(&command.split(' ').collect::<Vec<_>>()).into()
    }

    /// Wants an answer that is no error.
    #[track_caller]
    pub fn ask(&self, words: &[&str]) -> Reply {
        match self.try_ask(words) {
            Ok(Reply::Error(error)) => panic!("{words:?}: {error}"),
            Ok(reply) => reply,
            Err(error) => panic!("{words:?}: {error}"),
        }
    }

    /// Asks one thing over a connection of its own.
    pub fn try_ask(&self, words: &[&str]) -> io::Result<Reply> {
        let stream = UnixStream::connect(self.socket())?;
        stream.set_read_timeout(Some(ANSWER))?;
        resp::ask(stream, words)
    }

    /// A number out of `INFO`: `name` begins a line, and the digits after it are the number.
    pub fn info(&self, section: &str, name: &str) -> u64 {
        let info = self.ask(&["INFO", section]).text();
        let rest = info.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
        rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
    }
}

/// Servers that all tests of this binary share which do not harm them.
pub struct Shared {
    pub apart: Vec<RedisServer>,
    pub cluster: RedisCluster,
}

/// Three servers on their own, and a cluster of three masters.
pub fn shared() -> &'static Shared {
    static SHARED: LazyLock<Shared> = LazyLock::new(|| {
        let apart = (0..3).map(|_| RedisServer::start(&[])).collect();
        Shared { apart, cluster: RedisCluster::start(3, 0) }
    });
    &SHARED
}

/// The SHA-1 by which a script of the product is called.
pub fn sha1_of_script(name: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../lua/{name}.lua"));
    assert!(file.is_file(), "no script {}", file.display());
    let sum = run(Command::new("sha1sum").arg(file), "apt-get install coreutils");
    sum.split(' ').next().unwrap().to_owned()
}
