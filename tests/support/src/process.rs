//! Children of the tests: started, signalled, and gone when their test is, even if the whole test binary is killed.

use std::fs::File;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::wait::{POLL, within};

/// Longest wait for the end of a process that got its signal.
const END: Duration = Duration::from_secs(30);

/// Bytes of a log that a failing test shows.
const TAIL_BYTES: usize = 4_000;

/// Outlives the tests. It reads `<signal> <process id>` and `directory <path>` from a pipe. When the pipe is closed, because
/// the test binary ended in whatever way, it sends each signal if the process is still the one that was named, waits for
/// the ends (a process that nothing has reaped has ended), and removes the directories.
const WARDEN: &str = r#"trap '' INT TERM HUP
began() { cut -d' ' -f22 "/proc/$1/stat" 2>/dev/null; }
lives() {
    case "$(cut -d' ' -f3,22 "/proc/$1/stat" 2>/dev/null)" in [ZX]*) false ;; ?*" $2") true ;; *) false ;; esac
}
children=
while read -r word rest; do
    case $word in
        directory) set -- "$@" "$rest" ;;
        *) children="$children $word:$rest:$(began "$rest")" ;;
    esac
done
each() { for child in $children; do "$1" $(echo "$child" | tr : ' '); done; }
end() { if lives "$2" "$3"; then kill -"$1" "$2"; fi; }
await() { n=0; while lives "$2" "$3" && [ $n -lt 100 ]; do sleep 0.05; n=$((n + 1)); done; end KILL "$2" "$3"; }
each end
each await
for directory in "$@"; do rm -rf "$directory" || { sleep 0.2; rm -rf "$directory"; }; done"#;

static WARDEN_INPUT: LazyLock<Mutex<ChildStdin>> = LazyLock::new(|| {
    let mut command = Command::new("sh");
    command.args(["-c", WARDEN]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    Mutex::new(command.spawn().unwrap().stdin.unwrap())
});

fn tell_warden(line: &str) {
    writeln!(WARDEN_INPUT.lock().unwrap_or_else(PoisonError::into_inner), "{line}").unwrap();
}

/// Ends a child with the test binary, by a signal named without SIG.
pub(crate) fn guard(pid: u32, signal: &str) {
    tell_warden(&format!("{signal} {pid}"));
}

/// Whether the directories of the tests stay.
fn keeps() -> bool {
    std::env::var_os("RUSHGATE_TEST_KEEP").is_some_and(|value| value == "1")
}

/// A temporary directory. It is removed with its holder, or else with the test binary, unless it is kept.
pub fn directory(prefix: &str) -> tempfile::TempDir {
    let keep = keeps();
    let made = tempfile::Builder::new().prefix(&format!("rushgate-{prefix}-")).disable_cleanup(keep).tempdir().unwrap();
    if keep {
        eprintln!("kept: {}", made.path().display());
    } else {
        tell_warden(&format!("directory {}", made.path().display()));
    }
    made
}

/// A port of 127.0.0.1 that no other server listens on. It is below the range from which Linux takes the ports of outgoing
/// connections, so that a server that is stopped finds its port free when it starts again.
pub fn free_port() -> u16 {
    /// Ports that are offered: 10,000 up to 32,000.
    const RANGE: (u16, u16) = (10_000, 22_000);
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| {
        // Test binaries that run at the same time begin apart.
        AtomicU16::new(u16::try_from(std::process::id() * 37 % u32::from(RANGE.1)).unwrap())
    });
    for _ in 0..RANGE.1 {
        let port = RANGE.0 + NEXT.fetch_add(1, Ordering::Relaxed) % RANGE.1;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free");
}

/// Runs a tool to its end; its standard output. Fails the test if the tool fails, or with `install` if it is missing.
#[track_caller]
pub fn run(command: &mut Command, install: &str) -> String {
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
    /// Starts `command`, which ends with the test binary by `signal`; `install` is the line that installs what is missing.
    pub(crate) fn start(command: &mut Command, log: &Path, signal: &str, install: &str) -> Self {
        let line = format!("{command:?}");
        let file = File::options().create(true).append(true).open(log).unwrap();
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        let child = command.spawn().unwrap_or_else(|error| panic!("{line}: {error}; install it with: {install}"));
        guard(child.id(), signal);
        Process { child, line, log: log.into() }
    }

    /// Waits until `is_ready`; the command line and the end of the log if the process ends before, or takes too long.
    pub(crate) fn ready(mut self, patience: Duration, is_ready: impl Fn() -> bool) -> Result<Self, String> {
        let deadline = Instant::now() + patience;
        while !is_ready() {
            if self.has_ended() || Instant::now() > deadline {
                return Err(self.story());
            }
            std::thread::sleep(POLL);
        }
        Ok(self)
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    pub(crate) fn kill9(&mut self) {
        // An error means that it has ended already.
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
            assert!(Instant::now() < deadline, "it does not end: {}", self.story());
            std::thread::sleep(POLL);
        }
    }

    /// The command line and the end of what the process wrote.
    fn story(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let tail = log.len().saturating_sub(TAIL_BYTES);
        format!("---- {}\n{}\n----", self.line, String::from_utf8_lossy(&log[tail..]))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            eprintln!("{}", self.story());
        }
    }
}

/// Sends a signal, named without SIG.
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("/bin/kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap();
    assert!(status.success(), "/bin/kill -{name} {pid}");
}

/// Kills a process that another thread will wait for, and sees that it does nothing any more.
pub fn kill9(pid: u32) {
    signal(pid, "KILL");
    within(END, || {
        // Behind the name in brackets stands the state.
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X'])).then_some(())
    });
}
