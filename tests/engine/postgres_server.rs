//! A PostgreSQL server of the test's own. It dies with the test binary, and each test has databases of its own.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sqlx::{Connection, Executor, PgConnection};
use tempfile::TempDir;

/// Whom the server runs as if the test runs as root, which it refuses: nobody.
const NOBODY: u32 = 65_534;

/// The server of this test binary. It keeps what it is told to keep, or no ledger would open on it.
static SERVER: LazyLock<Server> = LazyLock::new(|| Server::start(&[]));

/// A server and its data, which are gone when it is dropped or the test binary has ended, however that ended.
pub(crate) struct Server {
    data: PathBuf,
    port: u16,
    guard: Option<Child>,
    databases: AtomicU64,
}

/// The server of this test binary.
pub(crate) fn server() -> &'static Server {
    &SERVER
}

impl Server {
    /// Starts a server with some settings, each `name=value`, on a port of its own.
    pub(crate) fn start(settings: &[&str]) -> Server {
        let directory = TempDir::with_prefix("rushgate-postgres-").unwrap().keep();
        // The data directory below it belongs to whom the server runs as.
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o755)).unwrap();
        let data = directory.join("data");
        std::fs::create_dir(&data).unwrap();
        if is_root() {
            std::os::unix::fs::chown(&data, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let mut init = as_nobody("initdb");
        init.args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "--pgdata"]);
        let output = init.arg(&data).output().unwrap();
        assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
        let mut server = Server { data, port: free_port(), guard: None, databases: AtomicU64::new(0) };
        server.run(settings);
        server
    }

    /// Runs the stopped server on its data, with other settings.
    pub(crate) fn run(&mut self, settings: &[&str]) {
        self.guard = Some(guard(&self.data, self.port, settings));
        let deadline = Instant::now() + Duration::from_secs(30);
        let port = self.port.to_string();
        let is_ready = || {
            let mut ask = Command::new(binary("pg_isready"));
            ask.args(["-q", "-h", "127.0.0.1", "-U", "postgres", "-p", &port]).status().unwrap().success()
        };
        while !is_ready() {
            assert!(Instant::now() < deadline, "PostgreSQL does not start: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Stops the server at once, without a checkpoint, as a crash does.
    pub(crate) fn crash(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            guard.stdin.take().unwrap().write_all(b"keep\n").unwrap();
            guard.wait().unwrap();
        }
    }

    /// What it had to say since it was last started.
    fn log(&self) -> String {
        std::fs::read_to_string(log(&self.data)).unwrap_or_default()
    }

    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The address of a new, empty database.
    pub(crate) async fn database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let mut sql = PgConnection::connect(&self.url("postgres")).await.unwrap();
        let create = format!("CREATE DATABASE {name}");
        sql.execute(sqlx::AssertSqlSafe(create)).await.unwrap();
        sql.close().await.unwrap();
        self.url(&name)
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://postgres:{PASSWORD}@127.0.0.1:{}/{database}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            drop(guard.stdin.take());
            guard.wait().unwrap();
        }
    }
}

/// Never asked for by the server, and never to be seen in any text of the ledger.
pub(crate) const PASSWORD: &str = "s3cr3t-of-the-test";

/// Runs the server until its input ends, as it does when this process is gone, and then takes the data away.
const GUARD: &str = "data=$1; shift; \"$@\" & server=$!; read -r word; kill -QUIT $server; wait $server; \
     if [ \"$word\" != keep ]; then rm -rf \"$(dirname \"$data\")\"; fi";

fn guard(data: &Path, port: u16, settings: &[&str]) -> Child {
    let mut command = Command::new("sh");
    command.args(["-c", GUARD, "guard"]).arg(data);
    if is_root() {
        let nobody = NOBODY.to_string();
        command.args(["setpriv", "--reuid", &nobody, "--regid", &nobody, "--clear-groups", "--"]);
    }
    command.arg(binary("postgres")).arg("-D").arg(data).args(["-p", &port.to_string()]);
    command.args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]);
    command.args(["-c", "max_connections=300"]);
    for setting in settings {
        command.args(["-c", setting]);
    }
    command.stderr(File::create(log(data)).unwrap());
    // A group of its own: what interrupts the test from the keyboard must not interrupt the cleaning up.
    command.process_group(0).stdin(Stdio::piped()).spawn().unwrap()
}

/// Beside the data.
fn log(data: &Path) -> PathBuf {
    data.with_file_name("log")
}

fn as_nobody(program: &str) -> Command {
    let mut command = Command::new(binary(program));
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.current_dir("/").stdin(Stdio::null());
    command
}

/// Where the packages put what is not on the search path.
pub(crate) fn binary(name: &str) -> PathBuf {
    let asked = Command::new("pg_config").arg("--bindir").output();
    let told = asked.ok().map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    let packaged = (13..30).rev().map(|major| PathBuf::from(format!("/usr/lib/postgresql/{major}/bin")));
    let found = told.into_iter().chain(packaged).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{name} is not installed: apt-get install postgresql"))
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|process| std::os::unix::fs::MetadataExt::uid(&process) == 0)
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
