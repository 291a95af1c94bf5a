//! The scripts and the Rust that calls them say the same: each header is compared with the body below it, and both with
//! the tables in `src/gate/redis/`: keys, codes, and the bytes of a reservation. The values in ARGV are compared where they
//! are packed, in `src/gate/redis/tests.rs`.

use std::fs::read_to_string;

use crate::root;

/// The parts of a header, in order.
const PARTS: [&str; 5] = ["KEYS", "ARGV", "RETURNS", "KEEPS", "COST"];

/// What is wrong with a script, given the Rust that lists the keys of scripts, and the Rust that packs and reads their values.
fn findings(name: &str, text: &str, scripts: &str, wire: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let mut find = |is_bad: bool, rule: &str| {
        if is_bad {
            findings.push(format!("lua/{name}.lua: {rule}"));
        }
    };
    let first = text.lines().next().unwrap_or("");
    find(
        first != "#!lua" && !first.starts_with("#!lua flags="),
        "the first line is #!lua, so that a full memory refuses it whole",
    );
    let header: Vec<&str> = text.lines().skip(1).take_while(|line| line.starts_with("--")).collect();
    let says = header.first().is_some_and(|line| line.starts_with(&format!("-- {name}: ")));
    find(!says, "the header begins with the script's name");
    let starts = PARTS.map(|part| header.iter().position(|line| line.starts_with(&format!("-- {part} "))));
    find(!starts.iter().all(Option::is_some) || !starts.is_sorted(), "the header tells KEYS ARGV RETURNS KEEPS COST");

    let body: String = text.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
    let keys = numbered(part(&header, "KEYS").as_str());
    find(used(&body, "KEYS[") != (1..=keys.len()).collect::<Vec<_>>(), "every key of the header is used, and no other");
    let in_rust = listed(scripts, &format!("Script::{} => &[", capital(name)));
    find(keys != in_rust, &format!("KEYS are {keys:?}, but Script::keys says {in_rust:?}"));
    let args = numbered(part(&header, "ARGV").split(" then ").next().unwrap_or(""));
    let args: Vec<usize> = (1..=args.len()).collect();
    find(used(&body, "ARGV[") != args, "every numbered ARGV of the header is used, and no other by its number");

    if name == "reserve" {
        let returns = part(&header, "RETURNS");
        let told = numbered(returns.split_once("codes:").map_or("", |(_, codes)| codes));
        let known = enumerated(wire);
        find(told != known, &format!("the codes are {told:?}, but wire.rs has {known:?}"));
        let named = |(number, code): (usize, &String)| constant(text, &code.to_uppercase()) == Some(number);
        find(!known.iter().enumerate().all(named), "each code is a local with its number");
    }

    // `BUYER_…` counts from the field in front of it: a buyer is the bytes from the user to the sku.
    let user = field(wire, "USER").map_or(0, |(begin, _)| begin - 1);
    for (local, number) in constants(text) {
        let (local, before) = local.strip_prefix("BUYER_").map_or((local, 0), |local| (local, user));
        let wanted = match local.strip_suffix("_END") {
            Some(name) => field(wire, name).map(|(_, end)| end - before),
            None => field(wire, local).map(|(begin, _)| begin - before),
        };
        let is_byte = wanted.is_some() || local.ends_with("_END");
        find(is_byte && wanted != Some(number), &format!("{local} is {number}, but wire.rs says {wanted:?}"));
    }
    find(has_bare_offset(&body), "the bytes of a reservation are named, not counted");
    findings
}

/// The lines of one part of a header, as one.
fn part(header: &[&str], name: &str) -> String {
    let mut inside = false;
    let mut text = String::new();
    for line in header {
        let line = line.trim_start_matches("--");
        if PARTS.iter().any(|part| line.trim_start().starts_with(&format!("{part} "))) || line.trim().is_empty() {
            inside = line.trim_start().starts_with(&format!("{name} "));
        }
        if inside {
            text.push_str(line.trim_start().trim_start_matches(name));
            text.push(' ');
        }
    }
    text
}

/// `1 state  2 holds` or `0 reserved · 1 resumed`: the names, if the numbers go up by one.
fn numbered(text: &str) -> Vec<String> {
    let words: Vec<&str> = text.split_whitespace().filter(|word| *word != "·").collect();
    let mut names: Vec<String> = Vec::new();
    let mut next = words.first().and_then(|word| word.parse::<usize>().ok()).unwrap_or(0);
    for (number, name) in words.iter().zip(words.iter().skip(1)) {
        if *number == next.to_string() {
            names.push((*name).to_owned());
            next += 1;
        }
    }
    names
}

/// The numbers that stand behind `open` in a script, each once.
fn used(body: &str, open: &str) -> Vec<usize> {
    let number = |at: usize| body[at + open.len()..].split(']').next().and_then(|index| index.parse().ok());
    let mut used: Vec<usize> = body.match_indices(open).filter_map(|(at, _)| number(at)).collect();
    used.sort_unstable();
    used.dedup();
    used
}

/// `Script::Level => &[KeyPart::State, KeyPart::Reservations],`: the parts, in small letters.
fn listed(text: &str, begin: &str) -> Vec<String> {
    let Some((_, rest)) = text.split_once(begin) else { return Vec::new() };
    let list = rest.split(']').next().unwrap_or("");
    let parts = list.split(',').map(|part| part.trim().trim_start_matches("KeyPart::").to_lowercase());
    parts.filter(|part| !part.is_empty()).collect()
}

/// `InFlight = 4,`: the names as Lua spells them, in the order of their numbers.
fn enumerated(text: &str) -> Vec<String> {
    let Some((_, rest)) = text.split_once("enum ReserveCode {") else { return Vec::new() };
    let lines = rest.split('}').next().unwrap_or("").lines().filter_map(|line| line.trim().strip_suffix(','));
    let all: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once(" = ")).collect();
    let in_order = all.iter().enumerate().all(|(at, (_, number))| *number == at.to_string());
    if in_order { all.iter().map(|(name, _)| snake(name)).collect() } else { Vec::new() }
}

/// `local FIRST, SECOND = 1, 8`: the names of numbers in capitals.
fn constants(text: &str) -> Vec<(&str, usize)> {
    let locals = text.lines().filter_map(|line| line.strip_prefix("local ")?.split_once(" = "));
    let pairs = locals.flat_map(|(names, values)| names.split(", ").zip(values.split(", ")));
    let is_capital = |name: &str| name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    let numbers = pairs.filter_map(|(name, value)| Some((name, value.parse().ok()?)));
    numbers.filter(|(name, _)| is_capital(name)).collect()
}

fn constant(text: &str, name: &str) -> Option<usize> {
    constants(text).into_iter().find(|(local, _)| *local == name).map(|(_, number)| number)
}

/// `const CREATED_AT: Range<usize> = 8..14;`: its first and last byte as Lua counts them, from 1.
fn field(wire: &str, name: &str) -> Option<(usize, usize)> {
    let (_, rest) = wire.split_once(&format!("const {name}: Range<usize> = "))?;
    let (begin, end) = rest.split(';').next()?.split_once("..")?;
    Some((begin.parse::<usize>().ok()? + 1, end.parse().ok()?))
}

/// Whether `sub` or `unpack` gets a number above 1 for a position.
fn has_bare_offset(body: &str) -> bool {
    let calls = ["sub(", "number('>", "struct.unpack('>"].map(|call| body.match_indices(call));
    calls.into_iter().flatten().any(|(at, _)| {
        let args = body[at..].split(')').next().unwrap_or("").split(", ").skip(1);
        args.filter_map(|arg| arg.trim().parse::<usize>().ok()).any(|number| number > 1)
    })
}

fn snake(name: &str) -> String {
    let mut text = String::new();
    for (at, letter) in name.char_indices() {
        if letter.is_uppercase() && at > 0 {
            text.push('_');
        }
        text.extend(letter.to_lowercase());
    }
    text
}

fn capital(name: &str) -> String {
    name.split('_').map(|word| word[..1].to_uppercase() + &word[1..]).collect()
}

#[test]
fn scripts_say_what_they_take_and_give() {
    let rust = |file: &str| read_to_string(root().join("src/gate/redis").join(file)).unwrap();
    let (scripts, wire) = (rust("script.rs"), rust("wire.rs"));
    let mut names: Vec<String> = std::fs::read_dir(root().join("lua"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["adjust", "level", "load", "overdue", "reserve", "return_units", "settle", "switch"]);
    let text = |name: &str| read_to_string(root().join("lua").join(name).with_extension("lua")).unwrap();
    let all: Vec<String> = names.iter().flat_map(|name| findings(name, &text(name), &scripts, &wire)).collect();
    assert!(all.is_empty(), "\n{}\n", all.join("\n"));

    // Each rule finds what it is for.
    let good = text("reserve");
    let bad = [
        ("#!lua\n", "--\n"),
        ("-- reserve: ", "-- take: "),
        ("-- KEEPS ", "-- HOLDS "),
        ("3 records  4 units", "3 units  4 records"),
        ("  4 units", ""),
        ("KEYS[4]", "KEYS[5]"),
        ("KEYS[3]", "KEYS[2]"),
        ("  7 skus", "  8 skus"),
        ("3 recorded · 4 in_flight", "3 in_flight · 4 recorded"),
        (" · 9 not_open", ""),
        ("9 not_open", "9 not_open · 10 closed"),
        ("USER_LIMIT, NOT_OPEN = 7, 8, 9", "NOT_OPEN, USER_LIMIT = 7, 8, 9"),
        ("CREATED_AT, CREATED_AT_END = 9, 14", "CREATED_AT, CREATED_AT_END = 9, 15"),
        ("USER, SKU, SKU_END, QUANTITY_END = 23", "USER, SKU, SKU_END, QUANTITY_END = 22"),
        ("local USER, SKU, SKU_END", "local USER, SKU, NOVELTY_END"),
        ("sub(known, CREATED_AT, ", "sub(known, 9, "),
        ("number('>I6', known, UNTIL)", "number('>I6', known, 45)"),
    ];
    for (from, to) in bad {
        let findings = findings("reserve", &good.replace(from, to), &scripts, &wire);
        assert!(good.contains(from) && !findings.is_empty(), "{from:?} → {to:?} is not found");
    }
}
