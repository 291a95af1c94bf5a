//! Rules that no compiler checks: the floors of the house, and where SQL, status codes, tasks and the clock may be.
//! Each rule is also held against a small bad sample, so that it is known to be able to fail.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, and these are all tests")]

#[path = "tidy/lua.rs"]
mod lua;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Longest file, in lines.
const LINES_MAX: usize = 450;
/// Longest line, in characters.
const COLUMNS_MAX: usize = 140;

/// Which floor each module of the library is on. A module uses lower floors; on its own floor only itself.
const FLOORS: [&[&str]; 5] = [
    &["order", "limits", "clock", "metrics", "spki", "bug"],
    &["admission", "auth", "command", "gate", "http", "ledger", "payment", "reply", "token", "trace"],
    &["engine"],
    &["intake", "admin"],
    &["config", "telemetry", "app", "cli", "main"],
];

/// Who may use whom on the same floor. Orders are made of times and bounds, and metrics count by the orders' codes; what
/// reads or writes HTTP uses `http`, which itself and `payment` read JSON as `command` does; operators come in as buyers do;
/// the top floor reads from right to left.
const BESIDE: [(&str, &[&str]); 12] = [
    ("order", &["clock", "limits"]),
    ("metrics", &["order"]),
    ("http", &["command"]),
    ("auth", &["http"]),
    ("payment", &["command", "http"]),
    ("reply", &["http"]),
    ("admin", &["intake"]),
    ("config", &[]),
    ("telemetry", &["config"]),
    ("app", &["config", "telemetry"]),
    ("cli", &["app", "config", "telemetry"]),
    ("main", &["cli"]),
];

/// A source file.
struct Source {
    /// From the root of the repository, with `/`.
    path: String,
    text: String,
}

impl Source {
    fn sample(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned() }
    }

    fn is_product(&self) -> bool {
        self.path.starts_with("src/")
    }

    /// A file that is compiled for tests only.
    fn is_test_module(&self) -> bool {
        self.path.ends_with("/tests.rs")
    }

    /// The module of the library that the file belongs to: `src/gate/memory.rs` is part of `gate`.
    fn module(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?.strip_suffix(".rs")?;
        Some(inside.split('/').next().unwrap_or(inside))
    }

    /// The lines that are compiled into the product, with their numbers and without comments: everything before a
    /// `#[cfg(test)]` module at the end of the file.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = (1..).zip(self.text.lines());
        let lines = lines.take_while(|(_, line)| line.trim() != "#[cfg(test)]" && !self.is_test_module());
        lines.map(|(number, line)| (number, without_comment(line))).filter(|(_, line)| !line.trim().is_empty())
    }

    fn found(&self, number: usize, rule: &str) -> String {
        format!("{}:{number}: {rule}", self.path)
    }

    /// Findings in the code for every line that `is_bad`.
    fn each_line(&self, rule: &str, is_bad: impl Fn(&str) -> bool) -> Vec<String> {
        self.code().filter(|(_, line)| is_bad(line)).map(|(number, _)| self.found(number, rule)).collect()
    }
}

/// Cuts `// …` off. A `//` behind a colon is part of an address in a text.
fn without_comment(line: &str) -> &str {
    let starts = line.match_indices("//").map(|(at, _)| at);
    let cut = starts.into_iter().find(|at| !line[..*at].ends_with(':'));
    cut.map_or(line, |at| &line[..at])
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file of the project.
fn sources() -> Vec<Source> {
    let mut files = Vec::new();
    for folder in ["src", "crates", "tests", "benches", "examples"] {
        walk(&root().join(folder), &mut files);
    }
    files.sort();
    assert!(files.len() > 60, "only {} files found", files.len());
    let read = |file: PathBuf| {
        let path = file.strip_prefix(root()).unwrap().to_str().unwrap().replace('\\', "/");
        Source { path, text: std::fs::read_to_string(&file).unwrap() }
    };
    files.into_iter().map(read).collect()
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Holds every source file of the project against a rule.
fn hold(check: impl Fn(&Source) -> Vec<String>) {
    let findings: Vec<String> = sources().iter().flat_map(check).collect();
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

/// Fails unless a rule finds something in every bad sample and nothing in any good one.
fn can_fail(check: impl Fn(&Source) -> Vec<String>, bad: &[(&str, &str)], good: &[(&str, &str)]) {
    for (path, text) in bad {
        let findings = check(&Source::sample(path, text));
        assert!(!findings.is_empty(), "nothing found in {path}: {text:?}");
        assert!(findings.iter().all(|finding| finding.starts_with(&format!("{path}:"))), "{findings:?}");
    }
    for (path, text) in good {
        assert_eq!(check(&Source::sample(path, text)), [] as [&str; 0], "{path}: {text:?}");
    }
}

// ---- floors ----

fn floor_of(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

/// The modules that `crate::…` names in the code, with the line each stands on. Knows `use crate::{a, b::{c}}` over
/// several lines.
fn used(source: &Source) -> Vec<(usize, String)> {
    let mut text = String::new();
    let mut starts = Vec::new();
    for (number, line) in source.code() {
        starts.push((text.len(), number));
        text.push_str(line);
        text.push('\n');
    }
    // The program's own name is what main.rs calls the library.
    let roots = if source.path == "src/main.rs" { ["crate::", "rushgate::"] } else { ["crate::", "crate::"] };
    let mut found = BTreeSet::new();
    for root in roots {
        for (at, _) in text.match_indices(root) {
            let is_word = !text[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_');
            let line = starts.iter().rev().find(|(start, _)| *start <= at).map_or(0, |(_, number)| *number);
            if is_word {
                found.extend(heads(&text[at + root.len()..]).into_iter().map(|module| (line, module)));
            }
        }
    }
    found.into_iter().collect()
}

/// The first names of what follows `crate::`: one path, or each path of a list in braces.
fn heads(rest: &str) -> Vec<String> {
    let name = |text: &str| {
        let text = text.trim_start();
        text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>()
    };
    let Some(list) = rest.strip_prefix('{') else { return vec![name(rest)] };
    let mut heads = vec![name(list)];
    let mut depth = 1;
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => heads.push(name(&list[at + 1..])),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    heads.retain(|head| !head.is_empty());
    heads
}

fn floors(source: &Source) -> Vec<String> {
    let Some(module) = source.module() else { return Vec::new() };
    if module == "lib" {
        return Vec::new();
    }
    let Some(floor) = floor_of(module) else {
        return vec![source.found(1, &format!("{module} has no floor: give it one in tests/tidy.rs"))];
    };
    let allowed_beside = BESIDE.iter().find(|(user, _)| *user == module).map_or(&[][..], |(_, used)| used);
    let may_use = |used: &str| {
        used == module || floor_of(used).is_some_and(|other| other < floor) || allowed_beside.contains(&used)
    };
    let bad = used(source).into_iter().filter(|(_, used)| !may_use(used));
    bad.map(|(number, used)| source.found(number, &format!("{module} may not use {used}"))).collect()
}

#[test]
fn modules_use_lower_floors_only() {
    can_fail(
        floors,
        &[
            ("src/order/lifecycle.rs", "//! A.\nuse crate::gate::Gate;"),
            ("src/order/lifecycle.rs", "use crate::metrics::Counter;"),
            ("src/limits.rs", "use crate::order::Key;"),
            ("src/gate/memory.rs", "use crate::ledger;"),
            ("src/gate/mod.rs", "fn f() -> Result<(), crate::engine::Engine> {}"),
            ("src/engine/mod.rs", "use crate::{\n    limits,\n    intake::Intake,\n};"),
            ("src/engine/mod.rs", "use crate::{order::{Code, Name}, app};"),
            ("src/config/mod.rs", "use crate::telemetry;"),
            ("src/telemetry.rs", "pub(in crate::app) fn f() {}"),
            ("src/main.rs", "fn main() { rushgate::app::run() }"),
            ("src/novelty.rs", ""),
        ],
        &[
            ("src/order/lifecycle.rs", "// use crate::gate::Gate;\n/// [`crate::engine`]\nuse crate::clock::UnixMs;"),
            ("src/engine/mod.rs", "use crate::{limits, order::{self, app}, gate};\nuse super::app;"),
            ("src/gate/mod.rs", "use crate::gate::memory;\n#[cfg(test)]\nmod tests {\n use crate::engine; }"),
            ("src/gate/tests.rs", "use crate::engine;"),
            ("src/cli/verify.rs", "use crate::ledger::Check; use crate::{app, config, telemetry};"),
            ("src/main.rs", "fn main() { rushgate::cli::run() }"),
            ("src/lib.rs", "pub use crate::engine::Engine;"),
        ],
    );
    hold(floors);
}

// ---- homes ----

/// SQL as this project writes it: a keyword in capitals that begins a statement, with what must follow it.
fn is_sql(line: &str) -> bool {
    const STATEMENTS: [&str; 10] = [
        "SELECT ",
        "INSERT INTO ",
        "UPDATE ",
        "DELETE FROM ",
        "CREATE TABLE ",
        "CREATE INDEX ",
        "DROP ",
        "PRAGMA ",
        "BEGIN ",
        "ALTER TABLE ",
    ];
    STATEMENTS.iter().any(|statement| {
        line.match_indices(statement).any(|(at, _)| line[..at].ends_with(|c: char| "\"'( ;".contains(c)) || at == 0)
    })
}

fn homes(source: &Source) -> Vec<String> {
    if !source.is_product() {
        return Vec::new();
    }
    let outside = |homes: &[&str]| !homes.iter().any(|home| source.path.starts_with(home));
    let mut findings = Vec::new();
    if outside(&["src/ledger/"]) {
        findings.extend(source.each_line("SQL is written in ledger/ only", is_sql));
    }
    // The command line reads the answers of a server; it makes none.
    if outside(&["src/reply", "src/cli/"]) {
        let rule = "status codes are made in reply only";
        findings.extend(source.each_line(rule, |line| line.contains("StatusCode::")));
    }
    if outside(&["src/http/", "src/app.rs"]) {
        let rule = "a bare tokio::spawn belongs to http/ and app.rs; the engine tracks its tasks";
        findings.extend(source.each_line(rule, |line| line.contains("tokio::spawn") || line.contains("task::spawn(")));
    }
    if source.module().and_then(floor_of) == Some(0) {
        let rule = "the ground does no I/O and waits for nothing";
        let words = ["tokio", "std::fs", "std::net", "std::io", "async fn"];
        findings.extend(source.each_line(rule, |line| words.iter().any(|word| line.contains(word))));
    }
    if outside(&["src/clock.rs"]) {
        findings.extend(source.each_line("time is read in clock.rs only", |line| line.contains("SystemTime::now")));
    }
    findings
}

#[test]
fn everything_is_in_its_home() {
    can_fail(
        homes,
        &[
            ("src/engine/place.rs", "const Q: &str = \"SELECT 1\";"),
            ("src/gate/memory.rs", "let q = (\"UPDATE orders SET x\");"),
            ("src/http/router.rs", "let s = StatusCode::OK;"),
            ("src/intake/place.rs", "http::StatusCode::CREATED"),
            ("src/engine/place.rs", "tokio::spawn(async {});"),
            ("src/engine/place.rs", "tokio::task::spawn(async {});"),
            ("src/order/lifecycle.rs", "use tokio::sync::Mutex;"),
            ("src/clock.rs", "std::fs::read(path)"),
            ("src/app.rs", "let t = SystemTime::now();"),
            ("src/app.rs", "let t = std::time::SystemTime::now();"),
        ],
        &[
            ("src/ledger/sqlite/read.rs", "const Q: &str = \"SELECT 1\";"),
            ("src/engine/place.rs", "// SELECT 1, tokio::spawn, StatusCode::OK\n"),
            ("src/engine/place.rs", "self.tasks.spawn(work); let update = UPDATED;"),
            ("src/reply/mod.rs", "StatusCode::OK"),
            ("src/http/mod.rs", "tokio::spawn(f());"),
            ("src/clock.rs", "SystemTime::now()"),
            ("tests/http/disk.rs", "\"SELECT 1\"; StatusCode::OK; tokio::spawn(f());"),
        ],
    );
    hold(homes);
}

// ---- forbidden, and form ----

/// The words are written in two parts, so that this file does not hold what it forbids.
fn forbidden(source: &Source) -> Vec<String> {
    let words = [
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("#[", "ignore"),
        concat!("un", "safe {"),
        concat!("un", "safe fn"),
        concat!("un", "safe impl"),
    ];
    // Tests are held to this as well, wherever they stand.
    let lines = (1..).zip(source.text.lines()).map(|(number, line)| (number, without_comment(line)));
    let hit = |line: &str| words.iter().find(|word| line.contains(*word)).copied();
    lines.filter_map(|(number, line)| Some(source.found(number, &format!("no {}…", hit(line)?)))).collect()
}

fn form(source: &Source) -> Vec<String> {
    let mut findings = Vec::new();
    let count = source.text.lines().count();
    if count > LINES_MAX {
        findings.push(source.found(count, &format!("a file has at most {LINES_MAX} lines")));
    }
    if source.is_product() && !source.text.starts_with("//! ") {
        findings.push(source.found(1, "a source file begins by saying what it is for (//! …)"));
    }
    if !source.text.ends_with('\n') {
        findings.push(source.found(count, "a file ends with a line break"));
    }
    for (number, line) in (1..).zip(source.text.lines()) {
        if line.contains('\t') {
            findings.push(source.found(number, "no tabs"));
        }
        if line.ends_with(|c: char| c.is_whitespace()) {
            findings.push(source.found(number, "no blanks at the end of a line"));
        }
        if line.chars().count() > COLUMNS_MAX {
            findings.push(source.found(number, &format!("a line has at most {COLUMNS_MAX} characters")));
        }
    }
    findings
}

#[test]
fn nothing_forbidden_is_written() {
    can_fail(
        forbidden,
        &[
            ("src/a.rs", concat!("fn f() { todo", "!() }")),
            ("src/a.rs", concat!("#[cfg(test)]\nmod tests { unimplemented", "!(\"later\") }")),
            ("tests/a.rs", concat!("#[test]\n#[", "ignore = \"slow\"]")),
            ("tests/a.rs", concat!("let x = un", "safe { *p };")),
        ],
        &[("src/a.rs", concat!("// un", "safe { todo", "!()\nfn safe() {}\nlet un", "safe_listener = 1;"))],
    );
    hold(forbidden);
}

#[test]
fn files_are_in_form() {
    let long_file = "//! A.\n".repeat(LINES_MAX + 1);
    let long_line = format!("//! {}\n", "é".repeat(COLUMNS_MAX));
    can_fail(
        form,
        &[
            ("src/a.rs", "use a;\n"),
            ("src/a.rs", &long_file),
            ("tests/a.rs", &long_file),
            ("src/a.rs", &long_line),
            ("src/a.rs", "//! A.\n\tlet a;\n"),
            ("src/a.rs", "//! A.\nlet a; \n"),
            ("src/a.rs", "//! A."),
        ],
        &[("src/a.rs", "//! A.\n"), ("tests/a.rs", "use a;\n"), ("benches/a.rs", &long_file[7..])],
    );
    hold(form);
}
