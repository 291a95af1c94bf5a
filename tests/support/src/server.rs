//! Starts, kills and restarts the built executable.
//!
//! It waits for readiness *and* for the child's end, so that a server that cannot start fails its test at once, with
//! the command line and the end of the log.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Once};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::client::{Client, get};
use crate::log::Log;
use crate::process::{directory, guard, signal};
use crate::wait::POLL;

/// Longest wait for a start.
const START: Duration = Duration::from_secs(30);
/// Longest wait for an end: more than the server's own deadline for a drain.
const END: Duration = Duration::from_secs(60);

/// How to start a server; the same again after every [`Server::restart`].
#[derive(Clone)]
pub struct Launch {
    home: Arc<TempDir>,
    data_dir: PathBuf,
    listen: String,
    admin_listen: String,
    args: Vec<String>,
    env: Vec<(String, String)>,
    file_blocks_max: Option<u32>,
    open_files_max: Option<u32>,
    ignores_hang_up: bool,
    secrets: Vec<String>,
}

impl Launch {
    /// A fresh data directory, ports chosen by the kernel.
    #[expect(clippy::new_without_default, reason = "it makes a directory, which no default value should")]
    pub fn new() -> Self {
        let home = directory("test");
        let data_dir = home.path().join("data");
        let listen = "127.0.0.1:0".to_owned();
        let admin_listen = listen.clone();
        let (args, env, secrets) = (Vec::new(), Vec::new(), Vec::new());
        let (file_blocks_max, open_files_max) = (None, None);
        let home = Arc::new(home);
        Launch {
            home,
            data_dir,
            listen,
            admin_listen,
            args,
            env,
            file_blocks_max,
            open_files_max,
            ignores_hang_up: false,
            secrets,
        }
    }

    /// Another public address.
    pub fn listen(self, listen: &str) -> Self {
        Launch { listen: listen.into(), ..self }
    }

    /// Another admin address.
    pub fn admin_listen(self, admin_listen: &str) -> Self {
        Launch { admin_listen: admin_listen.into(), ..self }
    }

    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.into());
        self
    }

    /// A variable, which others on the machine do not see.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.retain(|(other, _)| other != name);
        self.env.push((name.into(), value.into()));
        self
    }

    /// Everything that servers of this launch wrote to their log, the last lines once they have ended.
    pub fn whole_log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap()
    }

    fn admin_token(&self) -> Option<&str> {
        let mut args = self.args.iter().skip_while(|arg| *arg != "--admin-token");
        args.nth(1).map(String::as_str)
    }

    fn log_file(&self) -> PathBuf {
        self.home().join("log")
    }

    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    /// A line of the log that holds this is trouble, as a WARN is.
    pub fn secret(mut self, secret: &str) -> Self {
        self.secrets.push(secret.into());
        self
    }

    /// Another data directory than `data` below the temporary one.
    pub fn data_dir(self, data_dir: impl Into<PathBuf>) -> Self {
        Launch { data_dir: data_dir.into(), ..self }
    }

    /// No file may grow beyond this many blocks of 512 bytes, as if the disk were full. It is a soft limit, which
    /// `prlimit` can lift while the server runs.
    pub fn file_blocks_max(self, blocks: u32) -> Self {
        Launch { file_blocks_max: Some(blocks), ..self }
    }

    /// The process may open this many files and no more.
    pub fn open_files_max(self, files: u32) -> Self {
        Launch { open_files_max: Some(files), ..self }
    }

    /// SIGHUP is ignored, as under `nohup`.
    pub fn ignoring_hang_up(self) -> Self {
        Launch { ignores_hang_up: true, ..self }
    }

    /// As much disk as there is.
    pub fn unlimited(self) -> Self {
        Launch { file_blocks_max: None, ..self }
    }

    /// The temporary directory; it goes when the last launch and server of it are gone.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Starts and wants it to be ready.
    pub fn start(&self) -> Server {
        match self.try_start() {
            Ok(server) => server,
            Err(refusal) => panic!("the server did not start: {}\n{}", refusal.status, refusal.log),
        }
    }

    /// Starts; `Err` if it ended before it was ready.
    pub fn try_start(&self) -> Result<Server, Refusal> {
        raise_file_limit();
        let mut command = self.command();
        let line = format!("{command:?}");
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{line}: {error}"));
        guard(child.id(), "KILL");
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
        let limits = [
            self.file_blocks_max.map(|blocks| format!("ulimit -S -f {blocks};")),
            self.open_files_max.map(|files| format!("ulimit -n {files};")),
            self.ignores_hang_up.then(|| "trap '' HUP;".to_owned()),
        ];
        let limits: String = limits.into_iter().flatten().collect();
        // `exec` keeps the process id.
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{limits} exec \"$0\" \"$@\"")]).arg(executable());
        without_settings(&mut command);
        command.args(["serve", "--listen", &self.listen, "--admin-listen", &self.admin_listen, "--data-dir"]);
        command.arg(&self.data_dir).args(&self.args);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.current_dir(self.home());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

/// What the log line of every `bug!` of the product says.
const BUG: &str = "please report it";

/// Fails unless a server's metrics say that it has seen no state that cannot be.
pub fn assert_no_bug_counted(operator: &mut Client, admin_token: Option<&str>) {
    let request = get("/metrics");
    let request = match admin_token {
        Some(token) => request.header("Authorization", format!("Bearer {token}")),
        None => request,
    };
    let answer = operator.send(request);
    let page = String::from_utf8_lossy(&answer.body);
    let count = page.lines().find_map(|line| line.strip_prefix("rushgate_bugs_total "));
    assert_eq!(count, Some("0"), "rushgate_bugs_total of {answer}");
}

/// The built executable, which Cargo names to the tests that it runs.
pub fn executable() -> PathBuf {
    std::env::var_os("CARGO_BIN_EXE_rushgate").expect("Cargo runs these tests: cargo test").into()
}

/// The built executable without the settings of the shell that runs the tests.
pub fn rushgate() -> Command {
    let mut command = Command::new(executable());
    without_settings(&mut command);
    command
}

fn without_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("RUSHGATE_")) {
        command.env_remove(name);
    }
}

/// A server that ended before it was ready.
pub struct Refusal {
    pub status: ExitStatus,
    pub log: String,
}

/// A server that is, or was, running.
pub struct Server {
    pub launch: Launch,
    pub public: SocketAddr,
    pub admin: SocketAddr,
    line: String,
    child: Child,
    log: Log,
    stdout: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start() -> Self {
        Launch::new().start()
    }

    /// A buyer with a connection of their own.
    pub fn buyer(&self, user: u64) -> Client {
        Client::new(self.public, Some(user))
    }

    /// Somebody on the public listener who does not say who they are.
    pub fn stranger(&self) -> Client {
        Client::new(self.public, None)
    }

    pub fn operator(&self) -> Client {
        Client::new(self.admin, None)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn kill9(&mut self) {
        // An error means that it is gone already, which is what was wanted.
        self.child.kill().ok();
        self.child.wait().unwrap();
        self.log.join();
    }

    pub fn sigterm(&self) {
        signal(self.pid(), "TERM");
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for the end of the process.
    pub fn wait(&mut self) -> ExitStatus {
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
    pub fn restart(mut self) -> Server {
        assert!(!self.is_running(), "kill it first");
        self.launch.start()
    }

    /// SIGTERM, a clean exit, and a log without WARN or ERROR.
    pub fn finish(mut self) {
        self.end();
        self.assert_quiet();
    }

    /// The same for a test that gave the server something to complain about: a clean exit and no panic.
    pub fn finish_after_trouble(mut self) {
        self.end();
        self.assert_no_bug();
    }

    /// The log so far.
    pub fn log(&self) -> String {
        self.log.tail()
    }

    /// Fails if the log holds a WARN, an ERROR, or a line that is no JSON (as a panic prints).
    pub fn assert_quiet(&self) {
        let trouble = self.log.trouble();
        assert!(trouble.is_empty(), "unexpected lines in the log: {trouble:#?}");
    }

    /// Fails if the log tells of a panic or of a state that cannot be.
    pub fn assert_no_bug(&self) {
        let trouble = self.log.trouble();
        let is_bug = |line: &String| line.contains("panicked") || line.contains(BUG);
        assert!(!trouble.iter().any(is_bug), "{trouble:#?}");
    }

    fn end(&mut self) {
        if self.is_running() {
            assert_no_bug_counted(&mut self.operator(), self.launch.admin_token());
        }
        self.sigterm();
        let status = self.wait();
        assert_eq!(status.code(), Some(0), "{status} after SIGTERM");
    }

    fn starting(&mut self, deadline: Instant) -> Result<(), Refusal> {
        if let Some(status) = self.child.try_wait().unwrap() {
            self.log.join();
            return Err(Refusal { status, log: self.log.tail() });
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
            eprintln!("---- {}\n{}\n----", self.line, self.log.tail());
        }
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
