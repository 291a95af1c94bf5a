//! What every ledger must do. A new ledger adds one line to [`ledgers`].

mod damage;
pub(crate) mod lifecycle;
mod sales;

use std::sync::Arc;

use rushgate::ledger::{AppendDenial, AppendOutcome, Entry, Ledger, PageRequest, PostgresLedger, Transfer};
use rushgate::order::{Epoch, NewSale, Order, Reservation, Rules, Sale, SkuLevel, State, Switch};
use tempfile::TempDir;

use crate::world::{NOON, PATIENCE, made, new_sale, open, reservation, rules, user};
use rushgate_test_support::postgres;

/// The ledgers that everything here is asked of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Sqlite,
    Postgres,
}

fn ledgers() -> [Kind; 2] {
    [Kind::Sqlite, Kind::Postgres]
}

/// Where a ledger lives while it is closed.
enum Home {
    Directory(TempDir),
    Database(String),
}

impl Home {
    fn new(kind: Kind) -> Home {
        match kind {
            Kind::Sqlite => Home::Directory(TempDir::new().unwrap()),
            Kind::Postgres => Home::Database(postgres::shared().new_database()),
        }
    }

    async fn open(&self) -> Arc<dyn Ledger> {
        match self {
            Home::Directory(directory) => open(directory),
            Home::Database(url) => Arc::new(PostgresLedger::open(url).await.unwrap()),
        }
    }
}

/// A ledger with one sale, and short words for asking it.
struct Books {
    name: &'static str,
    home: Home,
    ledger: Arc<dyn Ledger>,
    sale: Arc<Sale>,
}

impl Books {
    async fn new(kind: Kind, new: NewSale) -> Books {
        let name = match kind {
            Kind::Sqlite => "sqlite",
            Kind::Postgres => "postgres",
        };
        let home = Home::new(kind);
        let ledger = home.open().await;
        let sale = made(ledger.as_ref(), new).await;
        Books { name, home, ledger, sale }
    }

    async fn reopen(&mut self) {
        self.ledger.close().await;
        self.ledger = self.home.open().await;
    }

    fn entry(&self, reservation: Reservation) -> Entry {
        Entry {
            sale: self.sale.clone(),
            shard: reservation.user.shard(self.sale.rules.shards),
            epoch: Some(Epoch::FIRST),
            reservation,
        }
    }

    /// An order for `quantity` units of the first sku.
    fn wish(&self, user_id: u64, key: &str, quantity: u32) -> Entry {
        self.entry(reservation(&self.sale, user_id, key, 0, quantity))
    }

    async fn append(&self, batch: &[Entry]) -> Vec<AppendOutcome> {
        let answers = self.ledger.append(batch.to_vec()).await.unwrap();
        assert_eq!(answers.len(), batch.len(), "{}: one answer per entry", self.name);
        answers
    }

    async fn append_one(&self, entry: &Entry) -> AppendOutcome {
        self.append(std::slice::from_ref(entry)).await[0]
    }

    async fn row(&self, entry: &Entry) -> Order {
        let found = self.ledger.find(Some(entry.reservation.user), entry.reservation.order_no).await.unwrap();
        found.unwrap_or_else(|| panic!("{}: no row for {:?}", self.name, entry.reservation))
    }

    async fn level(&self, sku: usize, shard: usize) -> SkuLevel {
        self.ledger.stock(self.sale.no).await.unwrap()[sku][shard]
    }

    async fn orders(&self, user_id: u64, before: Option<i64>, limit: u32) -> Vec<Order> {
        let page = PageRequest { user: user(user_id), sale: self.sale.no, before, limit };
        self.ledger.list(page).await.unwrap()
    }

    async fn assert_balanced(&self) {
        for sale in [None, Some(self.sale.no)] {
            let checks = self.ledger.audit(sale).await.unwrap();
            assert!(checks.len() >= 5, "{}: {checks:?}", self.name);
            assert!(checks.iter().all(|check| check.ok), "{}: {checks:?}", self.name);
        }
    }
}

/// Recorded, in a shard that no gate was ever loaded with.
const CREATED: AppendOutcome = AppendOutcome::Created { epoch: None };

fn limited(units: u32) -> Rules {
    Rules { user_limit: Some(units), ..rules(1) }
}

#[tokio::test]
async fn an_order_is_recorded_as_it_was_held() {
    for kind in ledgers() {
        let books = Books::new(kind, new_sale("s", rules(2), &[("a", 10), ("b", 10)])).await;
        let wish = books.entry(reservation(&books.sale, 3, "k", 1, 4));
        assert_eq!(books.append_one(&wish).await, CREATED, "{}", books.name);
        let row = books.row(&wish).await;
        let expected = Order {
            seq: row.seq,
            sale: books.sale.no,
            sku: books.sale.skus[1].no,
            order_no: wish.reservation.order_no,
            fingerprint: wish.reservation.fingerprint,
            user: wish.reservation.user,
            quantity: 4,
            state: State::PendingPayment,
            state_version: 1,
            epoch: Some(Epoch::FIRST),
            created_at: NOON,
            updated_at: NOON,
            returned: false,
        };
        assert_eq!(row, expected, "{}", books.name);
        books.assert_balanced().await;
    }
}

#[tokio::test]
async fn a_repeat_gets_the_first_row_whatever_it_says() {
    for kind in ledgers() {
        let mut books = Books::new(kind, new_sale("s", rules(1), &[("a", 10), ("b", 10)])).await;
        let name = books.name;
        let first = books.wish(1, "k", 2);
        assert_eq!(books.append_one(&first).await, CREATED, "{name}");
        let exists = AppendOutcome::Exists(books.row(&first).await);

        let later = Entry {
            epoch: Epoch::new(7),
            reservation: Reservation { created_at: NOON + 99, ..first.reservation },
            ..first.clone()
        };
        let other = books.entry(reservation(&books.sale, 1, "k", 1, 5));
        assert_ne!(other.reservation.fingerprint, first.reservation.fingerprint);
        for repeat in [&first, &later, &other] {
            assert_eq!(books.append_one(repeat).await, exists, "{name}");
        }
        let mixed = [books.wish(2, "k", 1), later.clone(), books.wish(1, "l", 1)];
        assert_eq!(books.append(&mixed).await, [CREATED, exists, CREATED], "{name}: mixed");
        books.reopen().await;
        for repeat in [&first, &later, &other] {
            assert_eq!(books.append_one(repeat).await, exists, "{name}: reopened");
        }
        assert_eq!(
            books.level(0, 0).await,
            SkuLevel { total: 10, held: 4, sold: 0, returned: 0 },
            "{name}: counted once"
        );
        assert_eq!(books.level(1, 0).await, SkuLevel { total: 10, held: 0, sold: 0, returned: 0 }, "{name}");
        books.assert_balanced().await;
    }
}

/// The engine never does this, and the trait does not ask for it: a belt beside the braces of the embedded ledger.
#[tokio::test]
async fn sqlite_recognises_a_repeat_within_a_batch() {
    let books = Books::new(Kind::Sqlite, new_sale("s", limited(2), &[("a", 2)])).await;
    let (first, other) = (books.wish(1, "k", 2), books.wish(1, "k", 1));
    let answers = books.append(&[first.clone(), first.clone(), other]).await;
    let exists = AppendOutcome::Exists(books.row(&first).await);
    assert_eq!(answers, [CREATED, exists, exists]);
    books.assert_balanced().await;
}

#[tokio::test]
async fn stock_is_sold_to_the_last_unit_and_not_beyond() {
    for kind in ledgers() {
        let books = Books::new(kind, new_sale("s", rules(2), &[("a", 7)])).await;
        let name = books.name;
        // Shard 0 has four units, shard 1 three.
        let batch = [
            books.wish(2, "a", 3),
            books.wish(2, "b", 2),
            books.wish(4, "c", 1),
            books.wish(6, "d", 1),
            books.wish(1, "e", 3),
            books.wish(3, "f", 1),
        ];
        const SOLD_OUT: AppendOutcome = AppendOutcome::Denied(AppendDenial::SoldOut);
        let expected = [CREATED, SOLD_OUT, CREATED, SOLD_OUT, CREATED, SOLD_OUT];
        assert_eq!(books.append(&batch).await, expected, "{name}");
        assert_eq!(books.append_one(&books.wish(8, "g", 1)).await, SOLD_OUT, "{name}: another batch");
        assert_eq!(books.level(0, 0).await, SkuLevel { total: 4, held: 4, sold: 0, returned: 0 }, "{name}");
        assert_eq!(books.level(0, 1).await, SkuLevel { total: 3, held: 3, sold: 0, returned: 0 }, "{name}");
        for (wish, answer) in batch.iter().zip(expected) {
            let found = books.ledger.find(None, wish.reservation.order_no).await.unwrap();
            assert_eq!(found.is_some(), answer == CREATED, "{name}: sold out leaves nothing");
        }
        books.assert_balanced().await;
    }
}

#[tokio::test]
async fn a_key_that_met_sold_out_is_free_for_another_try() {
    for kind in ledgers() {
        let books = Books::new(kind, new_sale("s", rules(2), &[("a", 2)])).await;
        let wish = books.wish(2, "k", 2);
        assert_eq!(books.append_one(&wish).await, AppendOutcome::Denied(AppendDenial::SoldOut), "{}", books.name);
        let sku = books.sale.skus[0].no;
        let moved = Transfer { id: 1, sku, from: 1, to: 0, units: 1, now_ms: NOON };
        assert!(books.ledger.transfer(moved).await.unwrap(), "{}", books.name);
        assert_eq!(books.append_one(&wish).await, CREATED, "{}", books.name);
        books.assert_balanced().await;
    }
}

#[tokio::test]
async fn a_user_limit_counts_units_per_sku() {
    for kind in ledgers() {
        let mut books = Books::new(kind, new_sale("s", limited(3), &[("a", 99), ("b", 99)])).await;
        let name = books.name;
        const LIMIT_REACHED: AppendOutcome = AppendOutcome::Denied(AppendDenial::LimitReached);
        let other_sku = books.entry(reservation(&books.sale, 1, "e", 1, 3));
        let batch = [
            books.wish(1, "a", 4),
            books.wish(1, "b", 2),
            books.wish(1, "c", 2),
            books.wish(1, "d", 1),
            other_sku,
            books.wish(2, "a", 3),
        ];
        let expected = [LIMIT_REACHED, CREATED, LIMIT_REACHED, CREATED, CREATED, CREATED];
        assert_eq!(books.append(&batch).await, expected, "{name}");
        books.reopen().await;
        assert_eq!(books.append_one(&books.wish(1, "f", 1)).await, LIMIT_REACHED, "{name}: reopened");
        let exists = AppendOutcome::Exists(books.row(&batch[1]).await);
        assert_eq!(books.append_one(&batch[1]).await, exists, "{name}: a repeat at the limit");
        assert_eq!(books.level(0, 0).await.held, 6, "{name}");
        books.assert_balanced().await;
    }
}

#[tokio::test]
async fn an_ended_sale_takes_no_order_and_knows_its_orders() {
    for kind in ledgers() {
        let mut books = Books::new(kind, new_sale("s", rules(1), &[("a", 1)])).await;
        let name = books.name;
        let first = books.wish(1, "k", 1);
        assert_eq!(books.append_one(&first).await, CREATED, "{name}");
        books.ledger.switch(books.sale.no, Switch::Ended).await.unwrap();
        let exists = AppendOutcome::Exists(books.row(&first).await);
        for _ in 0..2 {
            let answers = books.append(&[books.wish(2, "k", 1), first.clone()]).await;
            assert_eq!(answers, [AppendOutcome::Denied(AppendDenial::Closed), exists], "{name}");
            books.reopen().await;
        }
        books.assert_balanced().await;
    }
}

#[tokio::test]
async fn a_pause_is_the_gates_business() {
    for kind in ledgers() {
        let books = Books::new(kind, new_sale("s", rules(1), &[("a", 1)])).await;
        books.ledger.switch(books.sale.no, Switch::Paused).await.unwrap();
        // What was reserved before the pause is recorded after it.
        assert_eq!(books.append_one(&books.wish(1, "k", 1)).await, CREATED, "{}", books.name);
    }
}

#[tokio::test]
async fn the_first_state_says_where_the_units_count() {
    for kind in ledgers() {
        let free = Rules { payment_timeout_s: None, ..rules(1) };
        for (rules, state, held, sold) in [(rules(1), State::PendingPayment, 2, 0), (free, State::Confirmed, 0, 2)] {
            let books = Books::new(kind, new_sale("s", rules, &[("a", 5)])).await;
            let wish = books.wish(1, "k", 2);
            assert_eq!(books.append_one(&wish).await, CREATED, "{}", books.name);
            assert_eq!(books.row(&wish).await.state, state, "{}", books.name);
            assert_eq!(books.level(0, 0).await, SkuLevel { total: 5, held, sold, returned: 0 }, "{}", books.name);
            books.assert_balanced().await;
        }
    }
}

#[tokio::test]
async fn an_order_is_found_by_its_number_and_its_user_only() {
    for kind in ledgers() {
        let mut books = Books::new(kind, new_sale("s", rules(1), &[("a", 5)])).await;
        let name = books.name;
        let wish = books.wish(1, "k", 1);
        let number = wish.reservation.order_no;
        assert_eq!(books.ledger.find(None, number).await.unwrap(), None, "{name}");
        books.append_one(&wish).await;
        for _ in 0..2 {
            let row = books.row(&wish).await;
            assert_eq!(books.ledger.find(None, number).await.unwrap(), Some(row), "{name}");
            assert_eq!(books.ledger.find(Some(user(2)), number).await.unwrap(), None, "{name}: another's");
            books.reopen().await;
        }
    }
}

#[tokio::test]
async fn a_listing_is_newest_first_without_gap_or_repeat() {
    for kind in ledgers() {
        let books = Books::new(kind, new_sale("s", rules(2), &[("a", 99)])).await;
        let name = books.name;
        let mut wishes = Vec::new();
        for n in 0..9 {
            wishes.push(books.wish(1, &format!("k{n}"), 1));
            books.append(&[books.wish(2, &format!("k{n}"), 1), wishes[n].clone(), books.wish(3, "k", 1)]).await;
        }
        let mut pages = Vec::new();
        let mut before = None;
        loop {
            let page = books.orders(1, before, 4).await;
            let Some(last) = page.last() else { break };
            before = Some(last.seq);
            pages.push(page.len());
            // New orders come in while the user turns the page.
            books.append_one(&books.wish(1, &format!("new{}", last.seq), 1)).await;
            let numbers = page.iter().map(|order| order.order_no);
            let expected = wishes.drain(wishes.len() - page.len()..).rev().map(|wish| wish.reservation.order_no);
            assert!(numbers.eq(expected), "{name}");
            assert!(page.iter().all(|order| order.user == user(1)), "{name}");
        }
        assert_eq!(pages, [4, 4, 1], "{name}");
        assert_eq!(books.orders(1, None, 100).await.len(), 12, "{name}");
        assert_eq!(books.orders(3, None, 100).await.len(), 1, "{name}: repeats are not listed");
        assert_eq!(books.orders(9, None, 100).await, [], "{name}: a stranger");
        let other = made(books.ledger.as_ref(), new_sale("t", rules(1), &[("a", 1)])).await;
        let page = PageRequest { user: user(1), sale: other.no, before: None, limit: 100 };
        assert_eq!(books.ledger.list(page).await.unwrap(), [], "{name}: another sale");
    }
}

#[tokio::test]
async fn one_batch_may_serve_several_sales() {
    for kind in ledgers() {
        let mut books = Books::new(kind, new_sale("s", limited(1), &[("a", 1)])).await;
        let here = books.wish(1, "k", 1);
        let first =
            std::mem::replace(&mut books.sale, made(books.ledger.as_ref(), new_sale("t", rules(2), &[("a", 2)])).await);
        let there = books.wish(1, "k", 1);
        assert_ne!(here.reservation.order_no, there.reservation.order_no, "{}: sales share no number", books.name);
        books.ledger.switch(first.no, Switch::Ended).await.unwrap();
        let answers = books.append(&[here, there]).await;
        assert_eq!(answers, [AppendOutcome::Denied(AppendDenial::Closed), CREATED], "{}", books.name);
        books.assert_balanced().await;
    }
}

#[tokio::test]
async fn a_dropped_append_is_still_recorded() {
    for kind in ledgers() {
        let books = Books::new(kind, new_sale("s", rules(1), &[("a", 9)])).await;
        let wish = books.wish(1, "k", 1);
        let mut append = books.ledger.append(vec![wish.clone()]);
        let polled = futures_util::poll!(&mut append);
        drop((append, polled));
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while books.ledger.find(Some(wish.reservation.user), wish.reservation.order_no).await.unwrap().is_none() {
            assert!(tokio::time::Instant::now() < deadline, "{}: it is not recorded", books.name);
        }
        let answer = books.append_one(&wish).await;
        assert_eq!(answer, AppendOutcome::Exists(books.row(&wish).await), "{}", books.name);
    }
}
