//! No type name stands for two things in the product.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Source, can_find, hold_all};

/// Names that many modules may use, with the reason.
const SHARED: [(&str, &str); 1] =
    [("Error", "each module's own, always named with its module: gate::Error, ledger::Error")];

/// Names of today that stand for several things, to be parted; an entry that is no longer one fails the test.
const TODAY: [&str; 0] = [];

/// The name of the type that a line declares.
fn declared(line: &str) -> Option<&str> {
    let is_outermost = !line.starts_with(' ');
    let line = line.trim_start();
    // `pub(in crate::x) struct`: what stands before the keyword does not matter, as long as it is a visibility.
    let line = match line.strip_prefix("pub").map(|rest| (rest.starts_with('('), rest)) {
        Some((true, rest)) => rest.split_once(") ").map_or(rest, |(_, rest)| rest),
        Some((false, rest)) => rest.trim_start(),
        None => line,
    };
    let (keyword, rest) = line.split_once(' ')?;
    // A `type` that is not outermost belongs to a trait.
    let is_type = ["struct", "enum", "trait"].contains(&keyword) || (keyword == "type" && is_outermost);
    let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
    (is_type && end > 0).then(|| &rest[..end])
}

fn twice(sources: &[Source]) -> Vec<String> {
    let mut files: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for source in sources.iter().filter(|source| source.is_product()) {
        for name in source.code().filter_map(|(_, line)| declared(line)) {
            files.entry(name).or_default().insert(&source.path);
        }
    }
    let is_shared = |name: &str| SHARED.iter().any(|(shared, _)| *shared == name);
    let several = files.into_iter().filter(|(name, files)| files.len() > 1 && !is_shared(name));
    several.map(|(name, files)| format!("{name} in {}", files.into_iter().collect::<Vec<_>>().join(", "))).collect()
}

#[test]
fn no_type_name_twice() {
    can_find(
        twice,
        &[
            &[("src/a.rs", "pub struct Key(u8);"), ("src/b.rs", "enum Key { A }")],
            &[("src/a.rs", "pub(crate) trait Work<'a> {}"), ("src/b.rs", "type Work = u8;")],
            &[("src/a.rs", "pub(in crate::a) struct Key;"), ("src/b.rs", "fn f() {\n    struct Key;\n}")],
        ],
        &[
            &[("src/a.rs", "pub enum Error {}"), ("src/b.rs", "pub enum Error {}")],
            &[("src/a.rs", "struct Key;"), ("src/b.rs", "// struct Key;\nimpl T for U {\n    type Key = u8;\n}")],
            &[("src/a.rs", "struct Key;"), ("tests/b.rs", "struct Key;"), ("src/b/tests.rs", "struct Key;")],
            &[("src/a.rs", "struct Key;"), ("src/b.rs", "#[cfg(test)]\nmod tests {\n    struct Key;\n}")],
        ],
    );
    hold_all(twice, &TODAY);
}
