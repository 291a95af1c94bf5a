//! Documents: lines that fit a screen, and the glossary's retired words, which stay out of the code.

use std::collections::BTreeSet;

use crate::{Source, can_find, hold_all};

/// Longest line of a document, in characters; rows of tables too, so that no cell holds a paragraph.
const COLUMNS_MAX: usize = 160;

/// The document with the glossary.
const GLOSSARY: &str = "docs/ARCHITECTURE.md";
/// The glossary's columns.
const HEAD: &str = "| word | meaning | in the code | not |";

/// Documents of today with longer lines; an entry that is no longer needed fails the test.
const LONG_TODAY: [&str; 0] = [];
/// What the glossary does not hold today.
const GLOSSARY_TODAY: [&str; 0] = [];

fn long_lines(sources: &[Source]) -> Vec<String> {
    let documents: Vec<&Source> = sources.iter().filter(|source| source.path.ends_with(".md")).collect();
    let lines =
        documents.iter().flat_map(|document| (1..).zip(document.text.lines()).map(move |line| (document, line)));
    let long = lines.filter(|(_, (_, line))| line.chars().count() > COLUMNS_MAX);
    long.map(|(document, (number, _))| document.found(number, &format!("more than {COLUMNS_MAX} characters"))).collect()
}

#[test]
fn lines_of_documents_fit() {
    let (fits, long) = ("é".repeat(COLUMNS_MAX), format!("A.\n| {} |\n", "é".repeat(COLUMNS_MAX)));
    can_find(
        long_lines,
        &[&[("README.md", ""), ("docs/A.md", &long)]],
        &[&[("docs/A.md", &fits), ("src/a.rs", &long)]],
    );
    hold_all(long_lines, &LONG_TODAY);
}

/// The glossary's words and the words that it retires. A word that it defines is not retired, if it stands beside another
/// one to tell the two apart.
fn glossary(text: &str) -> Option<(BTreeSet<String>, BTreeSet<String>)> {
    let rows = text.lines().skip_while(|line| line.trim() != HEAD).skip(2).take_while(|line| line.starts_with('|'));
    let words_of = |cell: &str| -> Vec<String> {
        let words =
            cell.split([',', '·']).map(|word| word.replace('`', "").trim().to_lowercase().replace([' ', '-'], "_"));
        words.filter(|word| !word.is_empty()).collect()
    };
    let (mut defined, mut retired) = (BTreeSet::new(), BTreeSet::new());
    for row in rows {
        let cells: Vec<&str> = row.trim().trim_matches('|').split('|').collect();
        let [word, _, _, not] = cells[..] else { panic!("four cells: {row}") };
        defined.extend(words_of(word));
        retired.extend(words_of(not));
    }
    retired.retain(|word| !defined.contains(word));
    (!defined.is_empty()).then_some((defined, retired))
}

/// Whether an identifier, in any spelling, holds a word: `AppendingOrders` and `is_appending` hold `appending`.
fn holds(identifier: &str, word: &str) -> bool {
    let mut parts = String::from("_");
    for c in identifier.chars() {
        if c.is_uppercase() && !parts.ends_with('_') {
            parts.push('_');
        }
        parts.extend(c.to_lowercase());
    }
    let upper = identifier.chars().any(char::is_lowercase);
    let parts = if upper { parts } else { format!("_{}", identifier.to_lowercase()) };
    format!("{parts}_").contains(&format!("_{word}_"))
}

/// The code without what stands in quotes.
fn unquoted(code: &str) -> String {
    let (mut out, mut chars) = (String::new(), code.chars().peekable());
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                while let Some(c) = chars.next().filter(|c| *c != '"') {
                    if c == '\\' {
                        chars.next();
                    }
                }
                out.push(' ');
            }
            // A quoted quote; any other apostrophe begins a lifetime or a character.
            '\'' if chars.peek() == Some(&'"') => {
                chars.next();
                out.push(' ');
            }
            c => out.push(c),
        }
    }
    out
}

fn identifiers(source: &Source) -> BTreeSet<String> {
    let text: String = if source.path.ends_with(".lua") {
        source.text.lines().map(|line| line.split("--").next().unwrap_or("").to_owned() + "\n").collect()
    } else {
        source.code().map(|(_, line)| format!("{line}\n")).collect()
    };
    let text = unquoted(&text);
    let words = text.split(|c: char| !(c.is_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with(|c: char| c.is_alphabetic() || c == '_')).map(str::to_owned).collect()
}

/// Retired words in the identifiers of the sources; one of them is the glossary.
fn retired(sources: &[Source]) -> Vec<String> {
    let glossary = sources.iter().find(|source| source.path == GLOSSARY).and_then(|source| glossary(&source.text));
    let Some((_, retired)) = glossary else { return vec![format!("{GLOSSARY}: no glossary")] };
    let is_code = |source: &&Source| source.is_product() || source.path.starts_with("lua/");
    let mut found = Vec::new();
    for source in sources.iter().filter(is_code) {
        for identifier in identifiers(source) {
            let words = retired.iter().filter(|word| holds(&identifier, word));
            found.extend(words.map(|word| format!("{}: {identifier}, the glossary says: not {word}", source.path)));
        }
    }
    found
}

#[test]
fn retired_words_are_gone_from_the_code() {
    let rows =
        "|---|---|---|---|\n| reserved | of the gate | `R` | held, set aside |\n| held | of the ledger | | latch |\n";
    let table = format!("# Words\n\n{HEAD}\n{rows}\n| another | table |\n");
    let with = |path, text| [(GLOSSARY, table.as_str()), (path, text)];
    let bad = [
        with("src/a.rs", "fn set_aside() {}"),
        with("src/a.rs", "struct SetAside;"),
        with("src/a.rs", "const LATCH_MS: u8 = 1;"),
        with("src/a.rs", "let a = \"\\\"\"; let latch = '\"'; let b = '\"';"),
        with("lua/a.lua", "local latch = 1 -- a"),
    ];
    let good = [
        with("src/a.rs", "// latch\nlet held = \"latch\"; let latches = 'a'; let aside_set = 1; fn f<'a>() {}"),
        with("src/a/tests.rs", "let latch = 1;"),
        with("tests/a.rs", "let latch = 1;"),
        with("lua/a.lua", "local held = 'a' -- latch"),
    ];
    can_find(retired, &bad.each_ref().map(|sources| &sources[..]), &good.each_ref().map(|sources| &sources[..]));
    can_find(retired, &[&[("src/a.rs", "")]], &[]);
    hold_all(retired, &GLOSSARY_TODAY);
}
