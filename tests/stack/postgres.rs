//! PostgreSQL of the installed version, on a Unix socket, with `fsync` on: one server for all tests that leave it
//! alone, a database for each, and a server of its own for whoever kills it.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use crate::process::{Process, directory, run};
use crate::server::POLL;

/// Longest wait for a start; after a kill it replays its log first.
const START: Duration = Duration::from_secs(30);
const INSTALL: &str = "apt-get install postgresql postgresql-client";
/// Enough for every engine of every test that runs at once.
const SETTINGS: [&str; 7] = [
    "listen_addresses=",
    "max_connections=400",
    "shared_buffers=64MB",
    "fsync=on",
    "full_page_writes=on",
    "log_min_messages=warning",
    "max_wal_size=256MB",
];

/// A server, or the place of one that is down.
pub(crate) struct Postgres {
    home: tempfile::TempDir,
    binaries: PathBuf,
    settings: Vec<String>,
    process: Mutex<Option<Process>>,
}

impl Postgres {
    /// The one that all tests share which do not harm it.
    pub(crate) fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(running) = shared.upgrade() {
            return running;
        }
        let started = Postgres::own(&[]);
        *shared = Arc::downgrade(&started);
        started
    }

    /// One for this test; later settings win.
    pub(crate) fn own(settings: &[&str]) -> Arc<Self> {
        let settings = SETTINGS.iter().chain(settings).map(|setting| (*setting).to_owned()).collect();
        let postgres = Postgres { home: directory("postgres"), binaries: binaries(), settings, process: None.into() };
        if let Some((uid, gid)) = nobody() {
            chown(postgres.home.path(), Some(uid), Some(gid)).unwrap();
        }
        let mut initdb = postgres.command("initdb");
        initdb.args(["--no-sync", "--no-locale", "-E", "UTF8", "-A", "trust", "-U", "postgres", "-D"]);
        run(initdb.arg(postgres.data()), INSTALL);
        postgres.start();
        Arc::new(postgres)
    }

    fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// Where a proxy reaches it.
    pub(crate) fn socket(&self) -> PathBuf {
        self.home.path().join(".s.PGSQL.5432")
    }

    /// A tool of the server, run by somebody who is not root.
    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.binaries.join(name));
        command.current_dir(self.home.path());
        if let Some((uid, gid)) = nobody() {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Starts it, again too.
    pub(crate) fn start(&self) {
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).arg("-k").arg(self.home.path());
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        let mut process = Process::start(&mut command, &self.home.path().join("log"), INSTALL);
        let deadline = Instant::now() + START;
        while !self.psql_command("postgres", "SELECT 1").output().unwrap().status.success() {
            assert!(!process.has_ended() && Instant::now() < deadline, "{}", process.story());
            std::thread::sleep(POLL * 10);
        }
        *self.process.lock().unwrap() = Some(process);
    }

    /// The immediate end: no checkpoint, no farewell; recovery at the next start.
    pub(crate) fn stop_immediately(&self) {
        let mut process = self.process.lock().unwrap().take().expect("it is running");
        process.signal("QUIT");
        process.wait();
    }

    /// A new database.
    pub(crate) fn database(self: &Arc<Self>, name: &str) -> Database {
        self.psql("postgres", &format!("CREATE DATABASE {name}"));
        Database { server: self.clone(), name: name.to_owned() }
    }

    fn psql_command(&self, database: &str, sql: &str) -> Command {
        let mut command = Command::new("psql");
        command.args(["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database, "-h"]);
        command.arg(self.home.path()).args(["-c", sql]);
        command
    }

    fn psql(&self, database: &str, sql: &str) -> String {
        run(&mut self.psql_command(database, sql), INSTALL)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let Some(mut process) = self.process.lock().ok().and_then(|mut process| process.take()) else { return };
        // Its children go with it, which a SIGKILL alone would leave to themselves for a moment.
        if !process.has_ended() {
            process.signal("QUIT");
            process.wait();
        }
    }
}

/// A database of one test.
pub(crate) struct Database {
    pub(crate) server: Arc<Postgres>,
    pub(crate) name: String,
}

impl Database {
    /// The answer of one statement, its columns separated by `|`.
    pub(crate) fn psql(&self, sql: &str) -> String {
        self.server.psql(&self.name, sql)
    }

    /// Ends every other connection to this database; how many there were.
    pub(crate) fn terminate_all(&self) -> usize {
        let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid()";
        self.psql(sql).parse().unwrap()
    }
}

/// Where the server's own tools are, which Debian keeps off the PATH.
fn binaries() -> PathBuf {
    let newest = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = newest.map(|version| version.path().join("bin")).filter(|bin| bin.join("initdb").is_file()).max();
    newest.unwrap_or_else(|| {
        let told = Command::new("pg_config").arg("--bindir").output().ok();
        let told = told.and_then(|out| String::from_utf8(out.stdout).ok()).map(|text| PathBuf::from(text.trim()));
        told.filter(|bin| bin.join("initdb").is_file())
            .unwrap_or_else(|| panic!("no PostgreSQL server here; install it with: {INSTALL}"))
    })
}

/// Whom PostgreSQL runs as if we are root, which it refuses.
fn nobody() -> Option<(u32, u32)> {
    let id = |args: &[&str]| run(Command::new("id").args(args), "apt-get install coreutils").parse::<u32>().unwrap();
    (id(&["-u"]) == 0).then(|| (id(&["-u", "nobody"]), id(&["-g", "nobody"])))
}
