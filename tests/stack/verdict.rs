//! The end of every fault test: everything is sold, once, to those who were told so, and the books balance.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::book::{About, Book, Plan};
use crate::client::{escaped, get};
use crate::contract::{assert_current, code};
use crate::crowd::Crowd;
use crate::lifecycle_checks::{assert_every_deed_settled, assert_promises_kept, assert_units_fit};
use crate::random::Random;
use crate::shop::{Level, persist, with};
use crate::wait::eventually;
use crate::world::{SALE, Setup, World};

/// A sale and its crowd.
pub(crate) struct Rush {
    pub(crate) setup: Setup,
    pub(crate) stock: u64,
    pub(crate) rules: Value,
    pub(crate) plan: Plan,
}

impl Rush {
    /// Opens the sale, lets the crowd in and `fault` happen, sells the rest, and judges.
    pub(crate) fn with(self, random: &mut Random, fault: impl FnOnce(&mut World, &Crowd)) {
        let mut world = self.setup.start();
        let pays_in_s = self.plan.lifecycle.map(|lifecycle| lifecycle.pays_in_s);
        world.open(self.stock, with(self.rules.clone(), json!({"payment_timeout_s": pays_in_s})));
        let crowd = Crowd::start(&world, self.stock, self.plan, random);
        fault(&mut world, &crowd);
        let book = crowd.sell_out(self.stock).unwrap_or_else(|rest| {
            let in_ledger = world.database.psql("SELECT count(*), sum(quantity) FROM orders");
            let seen: Vec<Level> = running(&world).map(|n| world.engines[n].server().level(SALE, "sku-1")).collect();
            panic!("not everything sells: {rest}; ledger {in_ledger}; as the engines see it {seen:#?}")
        });
        // Those that were killed for good help to judge.
        for engine in world.engines.iter_mut().filter(|engine| !engine.is_running()) {
            engine.start();
        }
        judge(&mut world, &book, self.stock, self.rules["user_limit"].as_u64(), self.plan.lifecycle.is_some());
    }
}

fn running(world: &World) -> impl Iterator<Item = usize> {
    world.engines.iter().enumerate().filter(|(_, engine)| engine.is_running()).map(|(n, _)| n)
}

/// All that must hold when the crowd has gone.
fn judge(world: &mut World, book: &Arc<Book>, stock: u64, user_limit: Option<u64>, has_life: bool) {
    book.assert_no_complaints();
    assert_every_operation_settled(world, book);
    assert_every_deed_settled(world, book);
    book.assert_no_complaints();
    let found = assert_orders_found(world, book);
    if has_life {
        assert_promises_kept(world, book, &found);
    }

    let (orders, units) = book.sold();
    let rows = world.database.psql("SELECT count(*), coalesce(sum(quantity), 0), count(DISTINCT order_no) FROM orders");
    assert_eq!(rows, format!("{orders}|{units}|{orders}"), "orders, units, numbers: in the ledger, and told");
    assert_units_fit(world, stock);
    if let Some(limit) = user_limit {
        let sql = "SELECT coalesce(max(units), 0) FROM \
             (SELECT sum(quantity) AS units FROM orders WHERE NOT returned GROUP BY user_id) u";
        assert!(world.database.psql(sql).parse::<u64>().unwrap() <= limit, "user_limit {limit}");
    }
    for engine in &world.engines {
        // What the gate holds for orders that are recorded already is let go within moments.
        let gone = Level { total: stock, available: 0, held: 0, sold: stock };
        let mut seen = Level::default();
        let settled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            eventually(|| {
                seen = engine.server().level(SALE, "sku-1");
                (seen == gone).then_some(())
            });
        }));
        assert!(settled.is_ok(), "the engine shows {seen:?}, all is sold");
        engine.server().assert_balanced();
    }
    let (is_ok, output) = world.engines[0].command("verify", false);
    assert!(is_ok, "rushgate verify: {output}");
    for engine in &mut world.engines {
        engine.finish();
    }
}

/// Sends every operation once more, somewhere: what has a 201 gets it again, the others a no, or the 201 they missed.
fn assert_every_operation_settled(world: &World, book: &Book) {
    for (n, operation) in book.all().into_iter().enumerate() {
        let server = world.engines[n % world.engines.len()].server();
        let answer = persist(&mut server.stranger(), &operation.request(SALE));
        book.note(About::Order(n), &answer);
        match code(&answer).as_deref() {
            None => assert!(operation.body.is_none() || answer.is_replayed(), "{answer}"),
            Some("sold_out" | "limit_reached") if operation.body.is_none() => {}
            Some(_) => panic!("{operation:?}: {answer}"),
        }
    }
}

/// Every order that somebody was told of is found, by number and by key, with the same content, and is there once; the state
/// of each.
fn assert_orders_found(world: &World, book: &Book) -> BTreeMap<String, String> {
    let mut states = BTreeMap::new();
    for (n, operation) in book.all().into_iter().enumerate() {
        let Some(order) = operation.order() else { continue };
        let no = order["order_no"].as_str().unwrap().to_owned();
        let by_key = format!("/v1/orders?sale_id={SALE}&idempotency_key={}", escaped(&operation.key));
        let mut buyer = world.engines[(n + 1) % world.engines.len()].server().buyer(operation.user);
        let mut state = String::new();
        // An order to which much was done has been asked for often enough.
        let targets = if operation.deeds.is_empty() { 2 } else { 1 };
        for target in [format!("/v1/orders/{no}"), by_key].into_iter().take(targets) {
            let found = buyer.send(get(target));
            assert_eq!(found.status, 200, "{operation:?}: {found}");
            let now = found.json();
            assert_current(&now, &order);
            state = now["state"].as_str().unwrap().to_owned();
        }
        assert!(states.insert(no, state).is_none(), "two operations, two orders: {operation:?}");
    }
    states
}
