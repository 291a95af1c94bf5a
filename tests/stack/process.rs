//! Children of the tests: started, signalled, and gone when their test is, even if the whole binary is killed.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use crate::server::POLL;

/// Longest wait for the end of a process that was told to end.
const END: Duration = Duration::from_secs(30);

/// Outlives the tests: reads process ids from a pipe, and when the pipe is closed, because the test binary ended in
/// whatever way, kills those that are still the processes they were.
const WARDEN: &str = r"trap '' INT TERM HUP
began() { cut -d' ' -f22 /proc/$1/stat 2>/dev/null; }
all=
while read -r pid; do all=${all}$pid:$(began $pid)' '; done
for one in $all; do
    pid=${one%:*}
    [ -n ${one#*:} ] && [ x$(began $pid) = x${one#*:} ] && kill -KILL $pid
done";

static WARDENS_EAR: LazyLock<Mutex<ChildStdin>> = LazyLock::new(|| {
    let mut command = Command::new("sh");
    command.args(["-c", WARDEN]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    Mutex::new(command.spawn().unwrap().stdin.unwrap())
});

/// Puts a child in the care of the warden.
pub(crate) fn guard(pid: u32) {
    writeln!(WARDENS_EAR.lock().unwrap(), "{pid}").unwrap();
}

/// A directory that goes with the last holder, unless it is to be kept.
pub(crate) fn directory(prefix: &str) -> tempfile::TempDir {
    let keep = std::env::var_os("RUSHGATE_TEST_KEEP").is_some_and(|value| value == "1");
    let made = tempfile::Builder::new().prefix(&format!("rushgate-{prefix}-")).disable_cleanup(keep).tempdir().unwrap();
    if keep {
        eprintln!("kept: {}", made.path().display());
    }
    made
}

/// Runs a tool to its end; its standard output. Fails the test if it fails, or with `install` if it is not there.
pub(crate) fn run(command: &mut Command, install: &str) -> String {
    let out = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; install it with: {install}"));
    let (stdout, stderr) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{command:?}: {}\n{stdout}{stderr}", out.status);
    stdout.trim_end().to_owned()
}

/// A running child that writes into a log file.
pub(crate) struct Process {
    child: Child,
    line: String,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; `install` is the line that installs what is missing.
    pub(crate) fn start(command: &mut Command, log: &Path, install: &str) -> Self {
        let line = format!("{command:?}");
        let file = File::options().create(true).append(true).open(log).unwrap();
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        let child = command.spawn().unwrap_or_else(|error| panic!("{line}: {error}; install it with: {install}"));
        guard(child.id());
        Process { child, line, log: log.into() }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    pub(crate) fn kill9(&mut self) {
        self.child.kill().ok();
        self.child.wait().unwrap();
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + END;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end: {}", self.line);
            std::thread::sleep(POLL);
        }
    }

    /// The command line and the end of what it wrote.
    pub(crate) fn story(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let tail = log.len().saturating_sub(4_000);
        format!("---- {}\n{}\n----", self.line, String::from_utf8_lossy(&log[tail..]))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Sends a signal, named without SIG.
pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("/bin/kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap();
    assert!(status.success(), "/bin/kill -{name} {pid}");
}

/// Kills a process that somebody else will wait for, and sees that it does nothing any more.
pub(crate) fn kill9(pid: u32) {
    signal(pid, "KILL");
    let deadline = Instant::now() + END;
    loop {
        // Behind the name in brackets stands the state.
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X'])) {
            return;
        }
        assert!(Instant::now() < deadline, "{pid} lives on");
        std::thread::sleep(POLL);
    }
}
