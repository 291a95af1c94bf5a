//! A redis-server of one's own, on a Unix socket or, for a cluster, on a port; and a word with it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::process::{Process, directory, run};
use crate::server::POLL;

/// Longest wait for a start.
const START: Duration = Duration::from_secs(20);
/// Longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(20);
/// Ports that are tried before the test fails.
const PORTS_TRIED: usize = 20;
const INSTALL: &str = "apt-get install redis-server";

/// How a gate's node is to be run, and how all of them are here unless a test wants to see a refusal.
const FIT: [&str; 8] = ["--save", "", "--appendonly", "no", "--maxmemory", "256mb", "--maxmemory-policy", "noeviction"];

/// A redis-server, or the place of one that is down.
pub(crate) struct Node {
    home: tempfile::TempDir,
    args: Vec<String>,
    /// 0: it has a Unix socket only.
    pub(crate) port: u16,
    process: Option<Process>,
}

impl Node {
    /// On a Unix socket.
    pub(crate) fn start() -> Self {
        Node::with(&[])
    }

    /// On a Unix socket; later settings win over [`FIT`].
    pub(crate) fn with(settings: &[&str]) -> Self {
        let mut node = Node::down(0, settings);
        assert!(node.try_start(), "redis-server does not start");
        node
    }

    /// On a port of the kernel's choice, as part of a cluster. Two ports are found by binding and handed over, which
    /// is a race: whoever loses it tries the next ones.
    pub(crate) fn of_cluster() -> Self {
        for _ in 0..PORTS_TRIED {
            let bound = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
            let [port, bus] = bound.map(|listener| listener.local_addr().unwrap().port());
            let bus = bus.to_string();
            let cluster = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-port", &bus];
            let mut node = Node::down(port, &cluster);
            if node.try_start() {
                return node;
            }
        }
        panic!("no free ports for redis-server");
    }

    fn down(port: u16, settings: &[&str]) -> Self {
        let args = FIT.iter().chain(settings).map(|arg| (*arg).to_owned()).collect();
        Node { home: directory("redis"), args, port, process: None }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.home.path().join("redis.sock")
    }

    fn try_start(&mut self) -> bool {
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &self.port.to_string(), "--unixsocket"]).arg(self.socket());
        command.arg("--dir").arg(self.home.path()).args(&self.args);
        let mut process = Process::start(&mut command, &self.home.path().join("log"), INSTALL);
        let deadline = Instant::now() + START;
        // Its answer comes from the process just started: an old socket file answers nobody.
        while !self.try_ask(&["PING"]).is_ok_and(|answer| answer == Reply::Text("PONG".to_owned())) {
            if process.has_ended() {
                eprintln!("{}", process.story());
                return false;
            }
            assert!(Instant::now() < deadline, "{}", process.story());
            std::thread::sleep(POLL);
        }
        self.process = Some(process);
        true
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process.take().expect("it is running").kill9();
    }

    /// Starts again, empty, at the same place.
    pub(crate) fn restart(&mut self) {
        assert!(self.process.is_none(), "kill it first");
        assert!(self.try_start(), "redis-server does not start again");
    }

    /// `STOP`, `CONT`.
    pub(crate) fn signal(&self, name: &str) {
        self.process.as_ref().expect("it is running").signal(name);
    }

    /// Wants an answer that is no error.
    #[track_caller]
    pub(crate) fn ask(&self, words: &[&str]) -> Reply {
        match self.try_ask(words) {
            Ok(Reply::Error(error)) => panic!("{words:?}: {error}"),
            Ok(reply) => reply,
            Err(error) => panic!("{words:?}: {error}"),
        }
    }

    /// Asks one thing over a connection of its own.
    pub(crate) fn try_ask(&self, words: &[&str]) -> io::Result<Reply> {
        let stream = UnixStream::connect(self.socket())?;
        stream.set_read_timeout(Some(ANSWER))?;
        ask(stream, words)
    }
}

/// What a Redis answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Text(String),
    Error(String),
    Number(i64),
    Nil,
    Rows(Vec<Reply>),
}

impl Reply {
    pub(crate) fn text(self) -> String {
        match self {
            Reply::Text(text) => text,
            other => panic!("a text: {other:?}"),
        }
    }
}

/// A request as it stands on the wire.
pub(crate) fn request(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    bytes
}

/// Asks one thing.
pub(crate) fn ask<S: Read + Write>(mut stream: S, words: &[&str]) -> io::Result<Reply> {
    stream.write_all(&request(words))?;
    read(&mut BufReader::new(stream))
}

/// A connection to a port, patient for `patience`.
pub(crate) fn connect(to: std::net::SocketAddr, patience: Duration) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(patience)).unwrap();
    stream
}

pub(crate) fn read(from: &mut impl BufRead) -> io::Result<Reply> {
    let mut line = Vec::new();
    from.read_until(b'\n', &mut line)?;
    let line = String::from_utf8_lossy(&line).into_owned();
    let Some(line) = line.strip_suffix("\r\n") else {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed within an answer"));
    };
    let (kind, rest) = line.split_at(1);
    let number = || rest.parse::<i64>().map_err(|_| io::Error::new(io::ErrorKind::InvalidData, line.to_owned()));
    Ok(match kind {
        "+" => Reply::Text(rest.to_owned()),
        "-" => Reply::Error(rest.to_owned()),
        ":" => Reply::Number(number()?),
        _ if number()? < 0 => Reply::Nil,
        "$" => {
            let mut bytes = vec![0; usize::try_from(number()?).unwrap() + 2];
            from.read_exact(&mut bytes)?;
            bytes.truncate(bytes.len() - 2);
            Reply::Text(String::from_utf8_lossy(&bytes).into_owned())
        }
        "*" => Reply::Rows((0..number()?).map(|_| read(from)).collect::<io::Result<_>>()?),
        _ => return Err(io::Error::new(io::ErrorKind::InvalidData, line.to_owned())),
    })
}

/// The SHA-1 by which a script of the product is called.
pub(crate) fn sha1_of_script(name: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("lua/{name}.lua"));
    assert!(file.is_file(), "no script {}", file.display());
    let sum = run(Command::new("sha1sum").arg(file), "apt-get install coreutils");
    sum.split(' ').next().unwrap().to_owned()
}
