//! Starts, kills and restarts the built executable.
//!
//! It waits for readiness *and* for the child's end, so that a server that cannot start fails its test at once, with
//! the command line and the end of the log.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, Once};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::client::{Client, get};

/// Longest wait for a start.
const START: Duration = Duration::from_secs(30);
/// Longest wait for an end: more than the server's own deadline for a drain.
const END: Duration = Duration::from_secs(60);
/// Pause between two looks at something that has no bell.
pub(crate) const POLL: Duration = Duration::from_millis(5);
/// Lines of the log that a failing test shows.
const TAIL: usize = 60;

/// How to start a server; the same again after every [`Server::restart`].
#[derive(Clone)]
pub(crate) struct Launch {
    home: Arc<tempfile::TempDir>,
    data_dir: PathBuf,
    listen: String,
    admin_listen: String,
    args: Vec<String>,
    env: Vec<(String, String)>,
    file_blocks_max: Option<u32>,
    secrets: Vec<String>,
}

impl Launch {
    /// A fresh data directory, ports chosen by the kernel.
    pub(crate) fn new() -> Self {
        let keep = std::env::var_os("RUSHGATE_TEST_KEEP").is_some_and(|value| value == "1");
        let home = tempfile::Builder::new().prefix("rushgate-test-").disable_cleanup(keep).tempdir().unwrap();
        if keep {
            eprintln!("kept: {}", home.path().display());
        }
        let data_dir = home.path().join("data");
        let listen = "127.0.0.1:0".to_owned();
        let admin_listen = listen.clone();
        let (args, env, secrets) = (Vec::new(), Vec::new(), Vec::new());
        Launch { home: Arc::new(home), data_dir, listen, admin_listen, args, env, file_blocks_max: None, secrets }
    }

    /// Another public address.
    pub(crate) fn listen(self, listen: &str) -> Self {
        Launch { listen: listen.into(), ..self }
    }

    /// Another admin address.
    pub(crate) fn admin_listen(self, admin_listen: &str) -> Self {
        Launch { admin_listen: admin_listen.into(), ..self }
    }

    pub(crate) fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.into());
        self
    }

    /// A variable, which others on the machine do not see.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.retain(|(other, _)| other != name);
        self.env.push((name.into(), value.into()));
        self
    }

    /// Everything that servers of this launch wrote to their log, the last lines once they have ended.
    pub(crate) fn whole_log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap()
    }

    fn log_file(&self) -> PathBuf {
        self.home().join("log")
    }

    pub(crate) fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    /// A line of the log that holds this is trouble, as a WARN is.
    pub(crate) fn secret(mut self, secret: &str) -> Self {
        self.secrets.push(secret.into());
        self
    }

    /// Another data directory than `data` below the temporary one.
    pub(crate) fn data_dir(self, data_dir: impl Into<PathBuf>) -> Self {
        Launch { data_dir: data_dir.into(), ..self }
    }

    /// No file may grow beyond this many blocks of 512 bytes, as if the disk were full. It is a soft limit, which
    /// `prlimit` can lift while the server runs.
    pub(crate) fn file_blocks_max(self, blocks: u32) -> Self {
        Launch { file_blocks_max: Some(blocks), ..self }
    }

    /// As much disk as there is.
    pub(crate) fn unlimited(self) -> Self {
        Launch { file_blocks_max: None, ..self }
    }

    /// The temporary directory; it goes when the last launch and server of it are gone.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// Starts and wants it to be ready.
    pub(crate) fn start(&self) -> Server {
        match self.try_start() {
            Ok(server) => server,
            Err(refusal) => panic!("the server did not start: {}\n{}", refusal.status, refusal.log),
        }
    }

    /// Starts; `Err` if it ended before it was ready.
    pub(crate) fn try_start(&self) -> Result<Server, Refusal> {
        raise_file_limit();
        let mut command = self.command();
        let line = format!("{command:?}");
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{line}: {error}"));
        let log = Log::follow(child.stderr.take().unwrap(), &self.log_file(), self.secrets.clone());
        let (lines, stdout) = follow_stdout(child.stdout.take().unwrap());
        let unknown = SocketAddr::from(([127, 0, 0, 1], 0));
        let (public, admin) = (unknown, unknown);
        let mut server = Server { launch: self.clone(), line, child, log, stdout: Some(stdout), public, admin };
        let deadline = Instant::now() + START;
        while server.public == unknown || server.admin == unknown {
            match lines.recv_timeout(POLL) {
                Ok(line) => server.read_address(&line),
                Err(RecvTimeoutError::Timeout) => server.starting(deadline)?,
                Err(RecvTimeoutError::Disconnected) => {
                    server.starting(deadline)?;
                    std::thread::sleep(POLL);
                }
            }
        }
        let mut probe = Client::new(server.admin, None);
        while !probe.try_send(get("/readyz")).is_ok_and(|answer| answer.status == 200) {
            server.starting(deadline)?;
            std::thread::sleep(POLL);
        }
        Ok(server)
    }

    fn command(&self) -> Command {
        let executable = env!("CARGO_BIN_EXE_rushgate");
        let mut command = match self.file_blocks_max {
            None => Command::new(executable),
            Some(blocks) => {
                // `exec` keeps the process id; XFSZ would kill where a full disk only fails the write.
                let mut shell = Command::new("sh");
                let script = format!("trap '' XFSZ; ulimit -S -f {blocks}; exec \"$0\" \"$@\"");
                shell.args(["-c", &script, executable]);
                shell
            }
        };
        command.args(["serve", "--listen", &self.listen, "--admin-listen", &self.admin_listen, "--data-dir"]);
        command.arg(&self.data_dir).args(&self.args);
        // The settings of whoever runs the tests are not ours.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("RUSHGATE_")) {
            command.env_remove(name);
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.current_dir(self.home());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

/// A server that ended before it was ready.
pub(crate) struct Refusal {
    pub(crate) status: ExitStatus,
    pub(crate) log: String,
}

/// A server that is, or was, running.
pub(crate) struct Server {
    pub(crate) launch: Launch,
    pub(crate) public: SocketAddr,
    pub(crate) admin: SocketAddr,
    line: String,
    child: Child,
    log: Log,
    stdout: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start() -> Self {
        Launch::new().start()
    }

    /// A buyer with a connection of their own.
    pub(crate) fn buyer(&self, user: u64) -> Client {
        Client::new(self.public, Some(user))
    }

    /// Somebody on the public listener who does not say who they are.
    pub(crate) fn stranger(&self) -> Client {
        Client::new(self.public, None)
    }

    pub(crate) fn operator(&self) -> Client {
        Client::new(self.admin, None)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn kill9(&mut self) {
        // An error means that it is gone already, which is what was wanted.
        self.child.kill().ok();
        self.child.wait().unwrap();
        self.log.join();
    }

    pub(crate) fn sigterm(&self) {
        let status = Command::new("/bin/kill").args(["-TERM", &self.pid().to_string()]).status();
        assert!(status.unwrap().success(), "/bin/kill -TERM {}", self.pid());
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for the end of the process.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + END;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                self.log.join();
                return status;
            }
            assert!(Instant::now() < deadline, "the server does not end");
            std::thread::sleep(POLL);
        }
    }

    /// Starts again on the same data directory, once this one has ended.
    pub(crate) fn restart(mut self) -> Server {
        assert!(!self.is_running(), "kill it first");
        self.launch.start()
    }

    /// SIGTERM, a clean exit, and a log without WARN or ERROR.
    pub(crate) fn finish(mut self) {
        self.end();
        self.assert_quiet();
    }

    /// The same for a test that gave the server something to complain about: a clean exit and no panic.
    pub(crate) fn finish_after_trouble(mut self) {
        self.end();
        self.assert_no_panic();
    }

    /// The log so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().all()
    }

    /// Fails if the log holds a WARN, an ERROR, or a line that is no JSON (as a panic prints).
    pub(crate) fn assert_quiet(&self) {
        let log = self.log.lock();
        assert!(log.trouble.is_empty(), "unexpected lines in the log: {:#?}", log.trouble);
    }

    pub(crate) fn assert_no_panic(&self) {
        let log = self.log.lock();
        assert!(!log.trouble.iter().any(|line| line.contains("panicked")), "{:#?}", log.trouble);
    }

    fn end(&mut self) {
        self.sigterm();
        let status = self.wait();
        assert_eq!(status.code(), Some(0), "{status} after SIGTERM");
    }

    fn starting(&mut self, deadline: Instant) -> Result<(), Refusal> {
        if let Some(status) = self.child.try_wait().unwrap() {
            self.log.join();
            return Err(Refusal { status, log: self.log.lock().all() });
        }
        assert!(Instant::now() < deadline, "the server is neither ready nor gone");
        Ok(())
    }

    fn read_address(&mut self, line: &str) {
        if let Some(address) = line.strip_prefix("public http://") {
            self.public = address.parse().unwrap();
        } else if let Some(address) = line.strip_prefix("admin http://") {
            self.admin = address.parse().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        self.log.join();
        if let Some(stdout) = self.stdout.take() {
            stdout.join().ok();
        }
        if std::thread::panicking() {
            eprintln!("---- {}\n{}\n----", self.line, self.log.lock().all());
        }
    }
}

/// The standard error of a server: JSON lines.
struct Log {
    lines: Arc<Mutex<Lines>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Lines {
    tail: VecDeque<String>,
    trouble: Vec<String>,
    secrets: Vec<String>,
}

impl Log {
    fn follow(stderr: impl Read + Send + 'static, file: &Path, secrets: Vec<String>) -> Self {
        let lines = Arc::new(Mutex::new(Lines { secrets, ..Lines::default() }));
        let into = Arc::clone(&lines);
        let mut whole = std::fs::OpenOptions::new().create(true).append(true).open(file).unwrap();
        let thread = std::thread::spawn(move || {
            for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                whole.write_all(&[&*line, b"\n"].concat()).unwrap();
                into.lock().unwrap().push(String::from_utf8_lossy(&line).into_owned());
            }
        });
        Log { lines, thread: Some(thread) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Waits for the last line; only after the process has ended.
    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

impl Lines {
    fn push(&mut self, line: String) {
        let parsed: Option<Value> = serde_json::from_str(&line).ok();
        let level = parsed.as_ref().and_then(|line| line["level"].as_str());
        let tells = self.secrets.iter().any(|secret| line.contains(secret.as_str()));
        if tells || !matches!(level, Some("TRACE" | "DEBUG" | "INFO")) {
            self.trouble.push(line.clone());
        }
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(line);
    }

    fn all(&self) -> String {
        self.tail.iter().map(|line| format!("{line}\n")).collect()
    }
}

/// Passes on the first lines and reads the rest, so that the server never blocks on a full pipe.
fn follow_stdout(stdout: impl Read + Send + 'static) -> (mpsc::Receiver<String>, JoinHandle<()>) {
    let (lines, receiver) = mpsc::sync_channel(16);
    let thread = std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            // Full or hung up: the addresses have been read long ago.
            lines.try_send(line).ok();
        }
    });
    (receiver, thread)
}

/// A thousand clients and their server need more files than many shells allow; children inherit the limit.
fn raise_file_limit() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let pid = std::process::id().to_string();
        let hard = Command::new("prlimit")
            .args(["--pid", &pid, "--nofile", "--output", "HARD", "--noheadings", "--raw"])
            .output();
        let hard = hard.ok().and_then(|out| String::from_utf8(out.stdout).ok()?.trim().parse::<u64>().ok());
        let soft = format!("--nofile={}:", hard.unwrap_or(16_384).min(16_384));
        // Without prlimit the limit stays as it is, and a test that needs more says so itself.
        Command::new("prlimit").args(["--pid", &pid, &soft]).status().ok();
    });
}
