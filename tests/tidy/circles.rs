//! No circle between source files. One file uses another if its code names an item of it by `crate::`, `super::`, `self::`
//! or the name of a submodule; a re-export (`pub use`) stands for the file that defines the item, not for the file that
//! passes it on. The file of a module and the files below it are a room and its parts: ties between those do not count,
//! for a part uses the types of its room and the room is made of its parts. What remains are ties between neighbours and
//! between rooms, and these have a direction.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Source, can_find, hold_all};

/// Circles of today, to be untied; an entry that is no longer a circle fails the test.
const TODAY: [&str; 0] = [];

/// The path of a module or of an item in it, from the root of the crate.
type Names = Vec<String>;

/// The modules of the library, with the paths that each one's code names and the names that it passes on.
#[derive(Default)]
struct House {
    named: BTreeMap<Names, BTreeSet<Names>>,
    passed_on: BTreeMap<Names, Names>,
}

impl House {
    fn read(sources: &[Source]) -> House {
        let modules: BTreeMap<Names, String> = sources.iter().filter_map(|s| Some((names(s)?, text(s)))).collect();
        let mut house = House::default();
        for (module, text) in &modules {
            let absolute = |path: &[String]| absolute(&modules, module, path);
            let named = house.named.entry(module.clone()).or_default();
            let (uses, rest) = split_uses(text);
            for (is_public, tree) in uses {
                for path in paths(&tree).iter().filter_map(|path| absolute(path)) {
                    let Some(name) = path.last() else { continue };
                    house.passed_on.insert([&module[..], std::slice::from_ref(name)].concat(), path.clone());
                    if !is_public {
                        named.insert(path);
                    }
                }
            }
            named.extend(inline_paths(&rest).iter().filter_map(|path| absolute(path)));
        }
        house
    }

    /// The file that defines what a path names, through re-exports.
    fn file(&self, path: &[String], depth: usize) -> Option<Names> {
        let at = (1..=path.len()).rev().find(|at| self.named.contains_key(&path[..*at]))?;
        let passed_on = path.get(..=at).and_then(|item| self.passed_on.get(item));
        match passed_on.filter(|to| depth < 8 && to[..] != path[..=at]) {
            Some(to) => self.file(&[to, &path[at + 1..]].concat(), depth + 1),
            None => Some(path[..at].to_vec()),
        }
    }

    fn ties(&self) -> BTreeMap<Names, BTreeSet<Names>> {
        let is_room_and_part = |a: &Names, b: &Names| a.starts_with(b) || b.starts_with(a);
        let used = |(user, paths): (&Names, &BTreeSet<Names>)| {
            let files = paths.iter().filter_map(|path| self.file(path, 0));
            (user.clone(), files.filter(|file| !is_room_and_part(user, file)).collect())
        };
        self.named.iter().map(used).collect()
    }
}

/// `src/gate/redis/mod.rs` is `gate::redis`. The roots pass everything on and define nothing.
fn names(source: &Source) -> Option<Names> {
    let inside = source.path.strip_prefix("src/")?.strip_suffix(".rs")?;
    let inside = inside.strip_suffix("/mod").unwrap_or(inside);
    let is_product = !source.is_test_module() && !["lib", "main"].contains(&inside);
    is_product.then(|| inside.split('/').map(str::to_owned).collect())
}

fn text(source: &Source) -> String {
    source.code().map(|(_, line)| format!("{line}\n")).collect()
}

/// The `use` declarations, with whether they are public in any way, and the code without them.
fn split_uses(text: &str) -> (Vec<(bool, String)>, String) {
    let (mut uses, mut rest) = (Vec::new(), String::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let start = line.trim_start();
        let (is_public, tree) = match start.strip_prefix("pub").map(|rest| rest.split_once("use ")) {
            Some(Some((scope, tree))) if scope.trim().is_empty() || scope.trim().ends_with(')') => (true, Some(tree)),
            _ => (false, start.strip_prefix("use ")),
        };
        let Some(tree) = tree else {
            rest.push_str(line);
            rest.push('\n');
            continue;
        };
        let mut tree = tree.to_owned();
        while !tree.contains(';') {
            let Some(line) = lines.next() else { break };
            tree.push_str(line.trim());
        }
        uses.push((is_public, tree.trim_end().trim_end_matches(';').to_owned()));
    }
    (uses, rest)
}

/// Every path of a tree like `a::{b, c::{self, D as E}}`.
fn paths(tree: &str) -> Vec<Names> {
    let tree = tree.trim();
    let Some((head, list)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or(tree);
        let mut names: Names = path.split("::").map(|name| name.trim().to_owned()).collect();
        if names.len() > 1 && names.last().is_some_and(|name| name == "self") {
            names.pop();
        }
        return vec![names];
    };
    let (mut depth, mut parts) = (0, vec![String::new()]);
    for c in list.trim_end().trim_end_matches('}').chars() {
        match c {
            ',' if depth == 0 => parts.push(String::new()),
            c => {
                depth += i32::from(c == '{') - i32::from(c == '}');
                parts.iter_mut().next_back().into_iter().for_each(|part| part.push(c));
            }
        }
    }
    // The last part has lost its own braces, which nothing needs any more.
    parts
        .iter()
        .filter(|part| !part.trim().is_empty())
        .flat_map(|part| paths(&format!("{head}{}", part.trim())))
        .collect()
}

/// Paths in the code, such as `super::writer::Job`.
fn inline_paths(text: &str) -> Vec<Names> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let words = text.split(|c| !is_part(c)).filter(|word| word.contains("::"));
    words.map(|word| word.split("::").filter(|name| !name.is_empty()).map(str::to_owned).collect()).collect()
}

/// A path from the root of the crate, if it begins there, at the module, or at one of its submodules.
fn absolute(modules: &BTreeMap<Names, String>, module: &[String], path: &[String]) -> Option<Names> {
    let (mut base, mut rest) = (module.to_vec(), path);
    match path.first()?.as_str() {
        "crate" => (base, rest) = (Vec::new(), &path[1..]),
        "self" | "super" => {
            while let Some(first) = rest.first().filter(|name| ["self", "super"].contains(&name.as_str())) {
                if first == "super" {
                    base.pop();
                }
                rest = &rest[1..];
            }
        }
        name if modules.contains_key(&[module, &[name.to_owned()]].concat()) => {}
        _ => return None,
    }
    let whole = [&base[..], rest].concat();
    (!whole.is_empty()).then_some(whole)
}

/// Sets of files of which each uses every other, directly or through others.
fn circles(sources: &[Source]) -> Vec<String> {
    let ties = House::read(sources).ties();
    let reached = |from: &Names| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(file) = next.pop() {
            next.extend(ties.get(file).into_iter().flatten().filter(|used| seen.insert((*used).clone())));
        }
        seen
    };
    let all: BTreeMap<&Names, BTreeSet<Names>> = ties.keys().map(|file| (file, reached(file))).collect();
    let mut found = BTreeSet::new();
    for (file, reached) in all.iter().filter(|(file, reached)| reached.contains(**file)) {
        let back = |other: &&Names| all.get(other).is_some_and(|reached| reached.contains(*file));
        let circle: Vec<String> = reached.iter().filter(back).map(|file| file.join("::")).collect();
        found.insert(format!("circle of {}", circle.join(", ")));
    }
    found.into_iter().collect()
}

#[test]
fn no_circle_of_files() {
    can_find(
        circles,
        &[
            &[("src/a/b.rs", "use super::c::C;"), ("src/a/c.rs", "use crate::a::b::B;"), ("src/a/mod.rs", "mod b;")],
            &[("src/a.rs", "fn f() { crate::b::g() }"), ("src/b.rs", "use crate::{x, a::{self, F}};")],
            &[
                ("src/a.rs", "use crate::b;"),
                ("src/b.rs", "use crate::c::{d::D, C};"),
                ("src/c.rs", "use crate::a::A;"),
            ],
            // Through a re-export.
            &[
                ("src/a/mod.rs", "pub use b::B;\npub(crate) use c::C;"),
                ("src/a/b.rs", "use super::C;"),
                ("src/a/c.rs", "use super::{B};"),
            ],
        ],
        &[
            // A room and its parts.
            &[("src/a/mod.rs", "mod b;\nuse b::B;\nstruct A(B);"), ("src/a/b.rs", "use super::A;")],
            &[("src/a/mod.rs", "pub use b::B;\npub use c::C;"), ("src/a/b.rs", "use super::C;"), ("src/a/c.rs", "")],
            &[
                ("src/a.rs", "// crate::b\nuse crate::b::B;"),
                ("src/b.rs", "#[cfg(test)]\nmod tests { use crate::a::A; }"),
            ],
            &[
                ("src/a.rs", "use crate::b::B;"),
                ("src/b/mod.rs", "use std::a;"),
                ("src/b/tests.rs", "use crate::a::A;"),
            ],
        ],
    );
    hold_all(circles, &TODAY);
}
