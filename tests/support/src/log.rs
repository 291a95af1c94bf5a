//! The log of a server: JSON lines on its standard error.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use serde_json::Value;

/// Lines of the log that a failing test shows.
const TAIL: usize = 60;

/// What a server has written so far.
pub(crate) struct Log {
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
    /// Reads to the end, into a file too. A line that holds one of `secrets` is trouble.
    pub(crate) fn follow(stderr: impl Read + Send + 'static, file: &Path, secrets: Vec<String>) -> Self {
        let lines = Arc::new(Mutex::new(Lines { secrets, ..Lines::default() }));
        let into = Arc::clone(&lines);
        let mut whole = File::options().create(true).append(true).open(file).unwrap();
        let thread = std::thread::spawn(move || {
            for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                whole.write_all(&[&*line, b"\n"].concat()).unwrap();
                into.lock().unwrap().push(String::from_utf8_lossy(&line).into_owned());
            }
        });
        Log { lines, thread: Some(thread) }
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last lines.
    pub(crate) fn tail(&self) -> String {
        self.lock().tail.iter().map(|line| format!("{line}\n")).collect()
    }

    /// Every line so far that is a WARN, an ERROR, no JSON (as a panic prints), or shows a secret.
    pub(crate) fn trouble(&self) -> Vec<String> {
        self.lock().trouble.clone()
    }

    /// Waits for the last line; only after the process has ended.
    pub(crate) fn join(&mut self) {
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
}
