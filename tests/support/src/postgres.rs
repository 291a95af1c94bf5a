//! PostgreSQL of the installed version, on a Unix socket and a port, with `fsync` on: one server for all tests of a binary
//! that leave it alone, a database for each, and a server of its own for a test that stops it.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use tempfile::TempDir;

use crate::process::{Process, directory, free_port, run};

/// Longest wait for a start; after a crash the server replays its log first.
const START: Duration = Duration::from_secs(30);
const INSTALL: &str = "apt-get install postgresql postgresql-client";
/// Ports that are tried before the test fails.
const PORTS_TRIED: usize = 20;
/// The user and group that run the server if the tests run as root, which PostgreSQL refuses: nobody and nogroup.
const NOBODY: u32 = 65_534;
/// The server never asks for it, and no text of the ledger may show it.
pub const PASSWORD: &str = "s3cr3t-of-the-test";
/// Enough connections for every engine of every test that runs at once; durable, or no ledger opens on it.
const SETTINGS: [&str; 7] = [
    "listen_addresses=127.0.0.1",
    "max_connections=400",
    "shared_buffers=64MB",
    "fsync=on",
    "full_page_writes=on",
    "log_min_messages=warning",
    "max_wal_size=256MB",
];

/// A server, running or stopped. It and its data are gone when its holder is, or else the test binary.
pub struct PostgresServer {
    home: TempDir,
    binaries: PathBuf,
    port: u16,
    process: Mutex<Option<Process>>,
    databases: AtomicU64,
}

/// The server that all tests of this binary share which do not harm it.
pub fn shared() -> Arc<PostgresServer> {
    static SHARED: LazyLock<Arc<PostgresServer>> = LazyLock::new(|| PostgresServer::start(&[]));
    SHARED.clone()
}

impl PostgresServer {
    /// Starts a server with some settings, each `name=value`; later ones win.
    pub fn start(settings: &[&str]) -> Arc<Self> {
        let home = directory("postgres");
        let binaries = binaries();
        if is_root() {
            chown(home.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let (process, databases) = (Mutex::new(None), AtomicU64::new(0));
        let mut server = PostgresServer { home, binaries, port: 0, process, databases };
        let mut initdb = server.command("initdb");
        initdb.args(["--no-sync", "--no-locale", "-E", "UTF8", "-A", "trust", "-U", "postgres", "-D"]);
        run(initdb.arg(server.data()), INSTALL);
        // Another process may take the port between the look and the start.
        let mut story = String::new();
        for _ in 0..PORTS_TRIED {
            server.port = free_port();
            match server.try_run(settings) {
                Ok(()) => return Arc::new(server),
                Err(refused) if refused.contains("Address already in use") => story = refused,
                Err(refused) => panic!("PostgreSQL does not start: {refused}"),
            }
        }
        panic!("PostgreSQL finds no free port: {story}");
    }

    /// Runs the stopped server on its data, with some settings.
    pub fn run(&self, settings: &[&str]) {
        self.try_run(settings).unwrap_or_else(|story| panic!("PostgreSQL does not start again: {story}"));
    }

    fn try_run(&self, settings: &[&str]) -> Result<(), String> {
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).arg("-k").arg(self.home.path()).args(["-p", &self.port.to_string()]);
        for setting in SETTINGS.iter().chain(settings) {
            command.args(["-c", setting]);
        }
        // QUIT ends its children too, which KILL would leave to themselves for a moment.
        let process = Process::start(&mut command, &self.home.path().join("log"), "QUIT", INSTALL);
        let is_ready = || {
            let mut probe = Command::new(self.binaries.join("pg_isready"));
            probe.args(["-q", "-U", "postgres", "-p", &self.port.to_string(), "-h"]).arg(self.home.path());
            probe.status().unwrap().success()
        };
        *self.process.lock().unwrap() = Some(process.ready(START, is_ready)?);
        Ok(())
    }

    /// Stops the server at once, without a checkpoint, as a crash does; the next start recovers.
    pub fn crash(&self) {
        let mut process = self.process.lock().unwrap().take().expect("it is running");
        process.signal("QUIT");
        process.wait();
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// The port of 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.home.path().join(format!(".s.PGSQL.{}", self.port))
    }

    /// A tool of the server, run by a user who is not root.
    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.binaries.join(name));
        command.current_dir(self.home.path());
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    /// A new database of this name.
    pub fn database(self: &Arc<Self>, name: &str) -> Database {
        self.psql("postgres", &format!("CREATE DATABASE {name}"));
        Database { server: self.clone(), name: name.to_owned() }
    }

    /// The address of a new, empty database.
    pub fn new_database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.psql("postgres", &format!("CREATE DATABASE {name}"));
        format!("postgres://postgres:{PASSWORD}@127.0.0.1:{}/{name}", self.port)
    }

    fn psql(&self, database: &str, sql: &str) -> String {
        let mut command = Command::new("psql");
        command.args(["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database]);
        command.args(["-p", &self.port.to_string(), "-h"]).arg(self.home.path()).args(["-c", sql]);
        run(&mut command, INSTALL)
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        let process = self.process.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut process) = process.take().filter(|_| !std::thread::panicking())
            && !process.has_ended()
        {
            process.signal("QUIT");
            process.wait();
        }
    }
}

/// A database of one test.
pub struct Database {
    pub server: Arc<PostgresServer>,
    pub name: String,
}

impl Database {
    /// The answer of one statement, its columns separated by `|`.
    pub fn psql(&self, sql: &str) -> String {
        self.server.psql(&self.name, sql)
    }

    /// Ends every other connection to this database; how many there were.
    pub fn terminate_all(&self) -> usize {
        let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid()";
        self.psql(sql).parse().unwrap()
    }
}

/// The folder of the server's own tools, which Debian keeps off the PATH: the newest version of the package, or else what
/// `pg_config` names.
fn binaries() -> PathBuf {
    let has_initdb = |folder: &Path| folder.join("initdb").is_file();
    let packaged = (13..30).rev().map(|major| PathBuf::from(format!("/usr/lib/postgresql/{major}/bin")));
    let configured = Command::new("pg_config").arg("--bindir").output().ok();
    let configured = configured.map(|out| PathBuf::from(String::from_utf8_lossy(&out.stdout).trim()));
    let found = packaged.chain(configured).find(|folder| has_initdb(folder));
    found.unwrap_or_else(|| panic!("the PostgreSQL server is not installed; install it with: {INSTALL}"))
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|process| std::os::unix::fs::MetadataExt::uid(&process) == 0)
}
