//! Stories: one operation a line, the expected answer behind `->` (without one: `ok`), `#` begins a comment. They run
//! on the memory gate and SQLite and know no internals.
//!
//! `O1` stands for an order number: bound where it is first met, the same number with the same body wherever it comes
//! again, and never the number of another name. `created|replayed` takes either word. Every story ends with the
//! reservations settled and the books balanced.

mod teller;

use self::teller::Teller;

macro_rules! stories {
    ($($name:ident)*) => {
        $(#[tokio::test]
        async fn $name() {
            let file = concat!("tests/engine/stories/", stringify!($name), ".txt");
            tell(file, include_str!(concat!("stories/", stringify!($name), ".txt"))).await;
        })*

        const TOLD: &[&str] = &[$(stringify!($name),)*];
    };
}

stories! {
    boundaries
    buy_and_retry
    cancel
    clock_set_back
    changes_in_trouble
    conflict_on_duplicate
    days_of_a_time_zone
    expiry
    few_units_on_many_shards
    gather_from_several_shards
    ledger_trouble
    ledger_trouble_and_restart
    moves_in_trouble
    moves_unknown_then_refused
    other_content
    paid_shipped_refunded
    pause_resume_end
    restart
    several_sales
    sold_out_then_restock
    token_required
    tokens
    user_limit
    window
}

#[test]
fn every_story_is_told() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/engine/stories");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            let name = path.file_stem().unwrap().to_str().unwrap();
            assert!(TOLD.contains(&name), "{name}.txt is not in the list of stories.rs");
        }
    }
}

#[tokio::test]
#[should_panic(expected = "bad:2: place K1 user=1 S1 A×1\n  expected  sold_out\n  got       created (a new order)")]
async fn a_story_that_does_not_hold_fails() {
    tell("bad", "sale S1 A=1\nplace K1 user=1 S1 A×1 -> sold_out").await;
}

#[tokio::test]
#[should_panic(expected = "got       created (a new order)")]
async fn two_names_never_stand_for_one_order() {
    tell("bad", "sale S1 A=2\nplace K1 user=1 S1 A×1 -> created O1\nplace K2 user=1 S1 A×1 -> created O1").await;
}

#[tokio::test]
#[should_panic(expected = "bad:1: sell S1")]
async fn a_line_that_cannot_be_read_fails() {
    tell("bad", "sell S1").await;
}

/// Runs a story and fails at the first line whose answer is another.
async fn tell(file: &str, text: &str) {
    let mut teller = Teller::new().await;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or("").trim();
        if line.is_empty() {
            continue;
        }
        let (operation, expected) = line.split_once("->").unwrap_or((line, "ok"));
        let (operation, expected) = (operation.trim(), expected.trim());
        if let Err(got) = teller.check(operation, expected).await {
            panic!("{file}:{number}: {operation}\n  expected  {expected}\n  got       {got}");
        }
    }
    teller.end(file).await;
}
