//! A service that tops up wallets from cards, each top-up once, with SQLite.
//!
//! ```text
//! cargo run --package rushgate-idempotency --features sqlite --example wallet
//! ```
//!
//! [`Wallets::top_up`] is the pattern: acquire, work, complete in the transaction of the effect. The rest is a day in the
//! life of the service. `docs/LIBRARY.md` has the whole story.

use std::cell::Cell;
use std::collections::HashMap;
use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::rc::Rc;

use rushgate_idempotency::{Acquired, Claim, Fingerprint, Key, Lost, Operation, Scope, UnixMs, sqlite as keys};
use rusqlite::{Connection, TransactionBehavior};

/// Far longer than a card takes to be charged, and the longest that a client waits after a worker has died.
const LEASE_MS: i64 = 30_000;
/// How long clients may ask again under a key: a day.
const KEPT_MS: i64 = 24 * 3_600_000;

/// What a client asks for.
#[derive(Clone, Copy)]
struct TopUp<'a> {
    user: u32,
    key: &'a str,
    cents: i64,
}

/// What it is answered with: an HTTP status and a text.
#[derive(Debug, PartialEq, Eq)]
struct Reply(u16, String);

/// A worker of the service, with a connection of its own.
struct Wallets {
    sql: Connection,
    /// The time of the day that the example plays, in ms; a service reads its clock.
    clock: Rc<Cell<UnixMs>>,
}

impl Wallets {
    fn open(path: &Path, clock: Rc<Cell<UnixMs>>) -> Result<Self, Box<dyn Error>> {
        let sql = Connection::open(path)?;
        sql.pragma_update(None, "journal_mode", "WAL")?;
        sql.pragma_update(None, "synchronous", "FULL")?;
        if sql.pragma_query_value::<i64, _>(None, "user_version", |row| row.get(0))? == 0 {
            sql.execute_batch(&format!(
                "BEGIN; CREATE TABLE wallets (user INTEGER PRIMARY KEY, cents INTEGER NOT NULL) STRICT; {}; \
                 PRAGMA user_version = 1; COMMIT",
                keys::SCHEMA
            ))?;
        }
        Ok(Wallets { sql, clock })
    }

    /// Tops a wallet up, once per key.
    fn top_up(&mut self, ask: TopUp<'_>, bank: &mut Bank) -> Result<Reply, Box<dyn Error>> {
        let claim = match self.begin(ask)? {
            Ok(claim) => claim,
            Err(reply) => return Ok(reply),
        };
        self.finish(ask, &claim, bank)
    }

    /// Claims the operation, or tells what to answer instead. The claim is committed at once, because the card is charged
    /// outside of every transaction.
    fn begin(&self, ask: TopUp<'_>) -> Result<Result<Claim, Reply>, Box<dyn Error>> {
        let operation = Operation {
            scope: Scope::new(&["top-up", &ask.user.to_string()])?,
            key: Key::parse(ask.key.as_bytes())?,
            fingerprint: Fingerprint::of_fields("top-up", &[&ask.cents.to_le_bytes()]),
        };
        let now_ms = self.clock.get();
        Ok(match keys::acquire(&self.sql, &operation, now_ms, LEASE_MS, now_ms + KEPT_MS)? {
            Acquired::Claimed(claim) => Ok(claim),
            Acquired::Done(answer) => {
                let status = if answer.is_success { 201 } else { 402 };
                Err(Reply(status, format!("{} (replayed)", String::from_utf8(answer.body)?)))
            }
            Acquired::InProgress(_) => Err(Reply(409, "it is being done, ask again".to_owned())),
            Acquired::OtherContent => Err(Reply(422, "this key was used for another top-up".to_owned())),
        })
    }

    fn finish(&mut self, ask: TopUp<'_>, claim: &Claim, bank: &mut Bank) -> Result<Reply, Box<dyn Error>> {
        // A worker that has lost the claim need not ask the bank.
        if !keys::validate(&self.sql, claim, self.clock.get())? {
            return Ok(lost());
        }
        // The bank gets a key that is derived from ours: it charges once too, whichever worker asks.
        let keep_until = self.clock.get() + KEPT_MS;
        match bank.charge(&format!("{}/{}", claim.operation().scope.as_str(), ask.key), ask.cents) {
            Charged::Yes => {}
            Charged::Refused => {
                let answer = "the card was refused";
                let failed = keys::fail(&self.sql, claim, answer.as_bytes(), keep_until)?;
                return Ok(failed.map_or_else(|Lost| lost(), |()| Reply(402, answer.to_owned())));
            }
            Charged::Unreachable => {
                // The bank has surely not charged, and may do so next time.
                keys::release(&self.sql, claim)?;
                return Ok(Reply(503, "the bank does not answer, ask again".to_owned()));
            }
        }
        let effect = self.sql.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let cents: i64 = effect.query_row(
            "INSERT INTO wallets (user, cents) VALUES (?1, ?2) \
             ON CONFLICT (user) DO UPDATE SET cents = cents + excluded.cents RETURNING cents",
            (ask.user, ask.cents),
            |row| row.get(0),
        )?;
        let answer = format!("{cents} cents in the wallet");
        match keys::complete(&effect, claim, answer.as_bytes(), keep_until)? {
            Ok(()) => {
                effect.commit()?;
                Ok(Reply(201, answer))
            }
            Err(Lost) => {
                effect.rollback()?;
                Ok(lost())
            }
        }
    }
}

/// Another worker does it, or did: the client gets the answer when it asks again.
fn lost() -> Reply {
    Reply(409, "another worker does it, ask again".to_owned())
}

/// A bank in a box: it charges once per reference.
#[derive(Default)]
struct Bank {
    charged: HashMap<String, i64>,
    is_away: bool,
}

#[derive(Clone, Copy)]
enum Charged {
    Yes,
    Refused,
    Unreachable,
}

impl Bank {
    fn charge(&mut self, reference: &str, cents: i64) -> Charged {
        if self.is_away {
            return Charged::Unreachable;
        }
        if cents > 100_000 {
            return Charged::Refused;
        }
        self.charged.entry(reference.to_owned()).or_insert(cents);
        Charged::Yes
    }
}

/// A day of the service, with its database in `directory`.
pub fn run(directory: &Path, screen: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let clock = Rc::new(Cell::new(1_795_176_000_000));
    let path = directory.join("wallets.db");
    let (mut one, mut two) = (Wallets::open(&path, clock.clone())?, Wallets::open(&path, clock.clone())?);
    let mut bank = Bank::default();
    let mut show = |what: &str, Reply(status, text): Reply| writeln!(screen, "{what}: {status} {text}");

    let five = TopUp { user: 42, key: "monday", cents: 500 };
    show("asked once", one.top_up(five, &mut bank)?)?;
    show("asked twice", two.top_up(five, &mut bank)?)?;
    show("asked three times", one.top_up(five, &mut bank)?)?;
    show("the same key for more", one.top_up(TopUp { cents: 600, ..five }, &mut bank)?)?;

    // The first worker claims the next one and stops dead. Nothing is done before its lease has run out.
    let more = TopUp { key: "tuesday", ..five };
    let Ok(claim) = one.begin(more)? else { return Err("the key is new".into()) };
    show("while a worker hangs", two.top_up(more, &mut bank)?)?;
    clock.set(clock.get() + LEASE_MS);
    show("after its lease", two.top_up(more, &mut bank)?)?;
    show("the worker that hung", one.finish(more, &claim, &mut bank)?)?;

    let too_much = TopUp { key: "wednesday", cents: 1_000_000, ..five };
    show("a card that is refused", one.top_up(too_much, &mut bank)?)?;
    show("and again", two.top_up(too_much, &mut bank)?)?;

    let last = TopUp { key: "thursday", ..five };
    bank.is_away = true;
    show("a bank that is away", one.top_up(last, &mut bank)?)?;
    bank.is_away = false;
    show("and back", one.top_up(last, &mut bank)?)?;

    clock.set(clock.get() + KEPT_MS);
    let swept = keys::sweep(&one.sql, clock.get(), 500)?;
    writeln!(screen, "keys kept no longer: {swept}")?;
    writeln!(screen, "charged: {} cents", bank.charged.values().sum::<i64>())?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::TempDir::new()?;
    run(directory.path(), &mut std::io::stdout())
}
