//! Sales, holds and engines for the tests.

use std::sync::Arc;
use std::time::Duration;

use rushgate::clock::Clock;
use rushgate::command::{PlaceOrder, Principal, RequestContext, RequestId};
use rushgate::engine::{Engine, Options};
use rushgate::gate::{Gate, MemoryGate, ShardId};
use rushgate::ledger::{Check, CreateOutcome, Ledger, SqliteLedger};
use rushgate::metrics::Metrics;
use rushgate::order::{
    Currency, Identity, Key, Name, NameRef, NewSale, NewSku, OrderNo, Outcome, Refusal, Reservation, Rules, Sale, Salt,
    UserId, place_fingerprint,
};
use tempfile::TempDir;

use crate::faults::FaultyLedger;
use crate::no_bug::NoBug;

/// 2026-11-20T12:00:00Z.
pub(crate) const NOON: i64 = 1_795_176_000_000;

pub(crate) const SALT: [u8; 32] = [9; 32];

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

pub(crate) fn name_ref(text: &str) -> NameRef<'_> {
    NameRef::parse(text).unwrap()
}

pub(crate) fn user(n: u64) -> UserId {
    UserId::new(n).unwrap()
}

pub(crate) fn key(text: &str) -> Key {
    Key::parse(text.as_bytes()).unwrap()
}

pub(crate) fn rules(shards: u16) -> Rules {
    Rules { shards, ..Rules::default() }
}

/// A sale with these skus and stocks.
pub(crate) fn new_sale(id: &str, rules: Rules, skus: &[(&str, i64)]) -> NewSale {
    let sku = |(id, stock): &(&str, i64)| NewSku {
        id: name(id),
        stock: *stock,
        unit_price: 1999,
        currency: Currency::parse("CNY").unwrap(),
    };
    NewSale { id: name(id), rules, shards_named: true, skus: skus.iter().map(sku).collect() }
}

pub(crate) async fn made(ledger: &dyn Ledger, new: NewSale) -> Arc<Sale> {
    match ledger.create_sale(new, Salt::new(SALT), NOON).await.unwrap() {
        CreateOutcome::New(sale) => Arc::new(sale),
        other => panic!("{other:?}"),
    }
}

/// A hold of `quantity` units of the sku at position `sku`, under `key_text`.
pub(crate) fn reservation(sale: &Sale, user_id: u64, key_text: &str, sku: u16, quantity: u32) -> Reservation {
    let (user, key) = (user(user_id), key(key_text));
    let (id, sku_id) = (sale.id.as_str(), sale.skus[usize::from(sku)].id.as_str());
    Reservation {
        order_no: OrderNo::derive(&sale.salt, id, user, Identity::Key(&key)),
        fingerprint: place_fingerprint(&sale.salt, id, user, sku_id, quantity),
        user,
        sku,
        quantity,
        created_at: NOON,
    }
}

/// An engine on a directory of its own, with a ledger that fails as told.
pub(crate) struct World {
    pub(crate) directory: TempDir,
    pub(crate) clock: Clock,
    pub(crate) gate: Arc<MemoryGate>,
    pub(crate) ledger: Arc<FaultyLedger>,
    pub(crate) engine: Arc<Engine>,
    _no_bug: NoBug,
}

impl World {
    pub(crate) async fn new() -> World {
        let directory = TempDir::new().unwrap();
        let clock = Clock::manual(NOON);
        let gate = Arc::new(MemoryGate::default());
        let ledger = FaultyLedger::new(open(&directory));
        let engine = start(ledger.clone(), gate.clone(), clock.clone()).await;
        World { directory, clock, gate, ledger, engine, _no_bug: NoBug }
    }

    /// Stops the engine as SIGTERM does and starts another on the same directory, with an empty gate.
    pub(crate) async fn restart(&mut self) {
        assert!(self.engine.drain(tokio::time::Instant::now() + PATIENCE).await, "the engine did not drain");
        self.gate = Arc::new(MemoryGate::default());
        self.ledger = FaultyLedger::new(open(&self.directory));
        self.engine = start(self.ledger.clone(), self.gate.clone(), self.clock.clone()).await;
    }

    pub(crate) async fn create(&self, new: NewSale) {
        assert!(self.engine.create_sale(new).await.unwrap().0, "the sale is new");
    }

    /// Waits until every reservation is settled and new orders are taken: what the sweeper sees to.
    pub(crate) async fn quiet(&self) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let mut reservations = 0;
            for view in self.engine.sales().await.unwrap() {
                for shard in 0..view.sale.rules.shards {
                    reservations += self.gate.level(ShardId { sale: view.sale.no, shard }).await.unwrap().reservations;
                }
            }
            if reservations == 0 && self.engine.depths() == (0, 0) && self.engine.is_well() {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{reservations} reservations are not settled");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// All shards of a sku together: what is available, held and sold.
    pub(crate) async fn levels(&self, sale_id: &str, sku_id: &str) -> (i64, i64, i64) {
        let view = self.engine.sale(sale_id).await.unwrap();
        let sum = view.skus.iter().find(|view| view.sku.id.as_str() == sku_id).unwrap().sum();
        (sum.available(), sum.held, sum.sold)
    }

    /// The checks of the audit that found something.
    pub(crate) async fn findings(&self, sale_id: Option<&str>) -> Vec<Check> {
        let checks = self.engine.verify(sale_id).await.unwrap();
        assert!(checks.len() > 5, "{checks:?}");
        checks.into_iter().filter(|check| !check.ok).collect()
    }
}

/// How long anything may take that has to come by itself.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn open(directory: &TempDir) -> Arc<dyn Ledger> {
    Arc::new(SqliteLedger::open(&directory.path().join("rushgate.db")).unwrap())
}

pub(crate) async fn start(ledger: Arc<dyn Ledger>, gate: Arc<dyn Gate>, clock: Clock) -> Arc<Engine> {
    Engine::start(gate, ledger, clock, Arc::new(Metrics::default()), Options::default()).await.unwrap()
}

/// Places an order for `quantity` units of `sku_id`.
pub(crate) async fn place(
    engine: &Arc<Engine>,
    sale_id: &str,
    user_id: u64,
    key_text: &str,
    sku_id: &str,
    quantity: u32,
) -> Result<Outcome, Refusal> {
    place_and_wait(engine, sale_id, user_id, key_text, sku_id, quantity, Duration::ZERO).await
}

/// The same, waiting up to `wait` for an order in flight.
pub(crate) async fn place_and_wait(
    engine: &Arc<Engine>,
    sale_id: &str,
    user_id: u64,
    key_text: &str,
    sku_id: &str,
    quantity: u32,
    wait: Duration,
) -> Result<Outcome, Refusal> {
    let order = PlaceOrder {
        context: context(user(user_id), wait),
        sale_id: name_ref(sale_id),
        sku_id: name_ref(sku_id),
        quantity,
        key: Ok(Some(key(key_text))),
        token: None,
    };
    engine.place(&order).await
}

/// A request of `principal`, whose client waits up to `wait` for an order in flight.
pub(crate) fn context<P>(principal: P, wait: Duration) -> RequestContext<P> {
    RequestContext::new(RequestId::next(), principal, wait)
}

/// A request of this buyer; without one, of an operator.
pub(crate) fn asked_by(buyer: Option<UserId>) -> RequestContext<Principal> {
    context(buyer.map_or(Principal::Operator, Principal::Buyer), Duration::ZERO)
}

/// What an answer is in one word, and its order.
pub(crate) fn word(answer: &Result<Outcome, Refusal>) -> (&'static str, Option<OrderNo>) {
    match answer {
        Ok(Outcome::Created(receipt)) => ("created", Some(receipt.order_no)),
        Ok(Outcome::Replayed(receipt)) => ("replayed", Some(receipt.order_no)),
        Err(refusal) => (refusal.code.as_str(), refusal.order_no),
    }
}
