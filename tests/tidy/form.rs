//! What no line may hold, and the form of a file.

use crate::{Source, can_fail, hold, without_comment};

/// Longest file, in lines.
const LINES_MAX: usize = 450;
/// Longest line, in characters.
const COLUMNS_MAX: usize = 140;

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
