//! Sales, their stock, and what operators and gates do to it.

use rushgate::ledger::{AppendOutcome, CreateOutcome, EpochRequest, EpochStart, Restock, RestockOutcome, Transfer};
use rushgate::limits::STOCK_UNITS_MAX;
use rushgate::order::{Boundary, Epoch, NewSale, OnDuplicate, Rules, Sale, Salt, SkuLevel, SkuNo, Switch};

use super::{Books, CREATED, ledgers};
use crate::world::{NOON, SALT, name as parse, new_sale, rules};

fn demo() -> NewSale {
    new_sale("s", Rules { user_limit: Some(2), ..rules(3) }, &[("a", 10), ("b", 5)])
}

async fn create(books: &Books, new: NewSale) -> CreateOutcome {
    books.ledger.create_sale(new, Salt::new([1; 32]), NOON + 1).await.unwrap()
}

fn facts(sale: &Sale) -> impl PartialEq + std::fmt::Debug {
    let sale = sale.clone();
    (sale.no, sale.id, sale.rules, *sale.salt.as_bytes(), sale.derivation, sale.switch, sale.skus)
}

#[tokio::test]
async fn the_same_sale_is_made_once() {
    for kind in ledgers() {
        let mut books = Books::new(kind, demo()).await;
        let name = books.name;
        let mut other_order = demo();
        other_order.skus.reverse();
        let shards_not_named = NewSale { shards_named: false, rules: Rules { shards: 64, ..demo().rules }, ..demo() };
        for _ in 0..2 {
            for same in [demo(), other_order.clone(), shards_not_named.clone()] {
                let CreateOutcome::Same(sale) = create(&books, same).await else { panic!("{name}: not the same") };
                assert_eq!(facts(&sale), facts(&books.sale), "{name}: as it was made first");
                assert_eq!(sale.salt.as_bytes(), &SALT, "{name}: the salt never changes");
            }
            assert_eq!(books.ledger.sales(0).await.unwrap().len(), 1, "{name}");
            books.reopen().await;
        }
        books.assert_balanced().await;
    }
}

#[tokio::test]
async fn another_sale_under_the_same_id_is_told_apart() {
    for kind in ledgers() {
        let books = Books::new(kind, demo()).await;
        let with = |change: fn(&mut NewSale)| {
            let mut new = demo();
            change(&mut new);
            new
        };
        let different = [
            with(|new| new.skus[0].stock = 11),
            with(|new| new.skus[0].unit_price = 1),
            with(|new| new.skus[1].currency = rushgate::order::Currency::parse("EUR").unwrap()),
            with(|new| new.skus[1].id = parse("c")),
            with(|new| drop(new.skus.pop())),
            with(|new| new.skus.extend(new_sale("x", rules(1), &[("c", 1)]).skus)),
            with(|new| new.rules.shards = 4),
            with(|new| new.rules.user_limit = None),
            with(|new| new.rules.starts_at = Some(NOON)),
            with(|new| new.rules.ends_at = Some(NOON)),
            with(|new| new.rules.payment_timeout_s = None),
            with(|new| new.rules.boundary = Boundary::UserSku),
            with(|new| new.rules.on_duplicate = OnDuplicate::Conflict),
            with(|new| new.rules.require_token = true),
        ];
        for (n, new) in different.into_iter().enumerate() {
            let created = create(&books, new).await;
            assert!(matches!(created, CreateOutcome::Different), "{}: {n}: {created:?}", books.name);
        }
        let sales = books.ledger.sales(0).await.unwrap();
        assert_eq!(facts(&sales[0]), facts(&books.sale), "{}", books.name);
    }
}

#[tokio::test]
async fn a_restocked_sale_is_still_the_same() {
    for kind in ledgers() {
        let books = Books::new(kind, demo()).await;
        let restocked = books.ledger.restock(restock(&books, "c", 0, 3, &[(0, 3)])).await.unwrap();
        assert_eq!(restocked, RestockOutcome::Applied, "{}", books.name);
        assert!(matches!(create(&books, demo()).await, CreateOutcome::Same(_)), "{}", books.name);
    }
}

#[tokio::test]
async fn stock_is_spread_evenly_by_sku_and_shard() {
    for kind in ledgers() {
        let books = Books::new(kind, demo()).await;
        let fresh = |total| SkuLevel { total, held: 0, sold: 0, returned: 0 };
        let stock = books.ledger.stock(books.sale.no).await.unwrap();
        assert_eq!(stock, [[4, 3, 3].map(fresh), [2, 2, 1].map(fresh)], "{}", books.name);
    }
}

#[tokio::test]
async fn a_switch_is_kept_and_an_end_is_final() {
    for kind in ledgers() {
        let mut books = Books::new(kind, demo()).await;
        use Switch::{Ended, Paused, Running};
        for (ask, expected) in
            [(Paused, Paused), (Running, Running), (Paused, Paused), (Ended, Ended), (Running, Ended), (Paused, Ended)]
        {
            assert_eq!(
                books.ledger.switch(books.sale.no, ask).await.unwrap().switch,
                expected,
                "{}: {ask:?}",
                books.name
            );
            books.reopen().await;
            assert_eq!(books.ledger.sales(0).await.unwrap()[0].switch, expected, "{}: {ask:?}", books.name);
        }
    }
}

fn restock(books: &Books, change_id: &str, sku: usize, units: i64, by_shard: &[(u16, i64)]) -> Restock {
    Restock {
        sale: books.sale.no,
        change_id: parse(change_id),
        sku: books.sale.skus[sku].no,
        units,
        by_shard: by_shard.to_vec(),
        now_ms: NOON,
    }
}

async fn totals(books: &Books, sku: usize) -> Vec<i64> {
    books.ledger.stock(books.sale.no).await.unwrap()[sku].iter().map(|level| level.total).collect()
}

#[tokio::test]
async fn a_restock_is_applied_once_per_change() {
    for kind in ledgers() {
        let mut books = Books::new(kind, demo()).await;
        let name = books.name;
        let more = restock(&books, "more", 0, 6, &[(0, 2), (1, 2), (2, 2)]);
        assert_eq!(books.ledger.restock(more.clone()).await.unwrap(), RestockOutcome::Applied, "{name}");
        assert_eq!(totals(&books, 0).await, [6, 5, 5], "{name}");
        let less = restock(&books, "less", 0, -7, &[(0, -6), (2, -1)]);
        assert_eq!(books.ledger.restock(less.clone()).await.unwrap(), RestockOutcome::Applied, "{name}");
        books.reopen().await;
        let split_otherwise = Restock { by_shard: vec![(2, 6)], ..more.clone() };
        for again in [more.clone(), less, split_otherwise] {
            assert_eq!(books.ledger.restock(again).await.unwrap(), RestockOutcome::Before, "{name}");
        }
        let other_units = Restock { units: 5, ..more.clone() };
        let other_sku = Restock { sku: books.sale.skus[1].no, ..more };
        for different in [other_units, other_sku] {
            assert_eq!(books.ledger.restock(different).await.unwrap(), RestockOutcome::Different, "{name}");
        }
        assert_eq!(totals(&books, 0).await, [0, 5, 4], "{name}");
        assert_eq!(totals(&books, 1).await, [2, 2, 1], "{name}");
        books.assert_balanced().await;
    }
}

#[tokio::test]
async fn a_restock_that_is_not_possible_changes_nothing() {
    for kind in ledgers() {
        let books = Books::new(kind, demo()).await;
        let name = books.name;
        let sold = books.wish(1, "k", 2);
        assert_eq!(books.append_one(&sold).await, CREATED, "{name}");
        // Shard 1 has three units, two of them sold: two cannot be taken, even if another shard could give.
        for change in [
            restock(&books, "c", 0, -2, &[(1, -2)]),
            restock(&books, "c", 0, -3, &[(0, -1), (1, -2)]),
            restock(&books, "c", 0, STOCK_UNITS_MAX - 9, &[(0, STOCK_UNITS_MAX - 9)]),
        ] {
            assert_eq!(books.ledger.restock(change).await.unwrap(), RestockOutcome::NotPossible, "{name}");
        }
        assert_eq!(totals(&books, 0).await, [4, 3, 3], "{name}");
        // The id was not used up.
        let possible = restock(&books, "c", 0, STOCK_UNITS_MAX - 10, &[(0, STOCK_UNITS_MAX - 10)]);
        assert_eq!(books.ledger.restock(possible).await.unwrap(), RestockOutcome::Applied, "{name}");
        books.assert_balanced().await;
    }
}

#[tokio::test]
async fn a_change_is_looked_up_by_its_id() {
    for kind in ledgers() {
        let books = Books::new(kind, demo()).await;
        let look = async |id: &str| books.ledger.restocked(books.sale.no, parse(id)).await.unwrap();
        assert_eq!(look("c").await, None, "{}", books.name);
        books.ledger.restock(restock(&books, "c", 1, -2, &[(0, -2)])).await.unwrap();
        assert_eq!(look("c").await, Some((books.sale.skus[1].no, -2)), "{}", books.name);
        assert_eq!(look("d").await, None, "{}", books.name);
        let CreateOutcome::New(other) = create(&books, new_sale("t", rules(1), &[("a", 1)])).await else { panic!() };
        let there = books.ledger.restocked(other.no, parse("c")).await.unwrap();
        assert_eq!(there, None, "{}: an id belongs to its sale", books.name);
    }
}

#[tokio::test]
async fn a_transfer_moves_unsold_units_once_per_id() {
    for kind in ledgers() {
        let mut books = Books::new(kind, demo()).await;
        let name = books.name;
        let sku: SkuNo = books.sale.skus[0].no;
        let transfer = |id, units| Transfer { id, sku, from: 0, to: 2, units, now_ms: NOON };
        assert_eq!(books.append_one(&books.wish(3, "k", 2)).await, CREATED, "{name}");
        assert!(!books.ledger.transfer(transfer(1, 3)).await.unwrap(), "{name}: the donor has two");
        assert!(books.ledger.transfer(transfer(1, 2)).await.unwrap(), "{name}: a refusal uses no id up");
        books.reopen().await;
        assert!(books.ledger.transfer(transfer(1, 2)).await.unwrap(), "{name}: done before");
        assert!(!books.ledger.transfer(transfer(2, 1)).await.unwrap(), "{name}: nothing is left");
        assert!(!books.ledger.transfer(transfer(u128::MAX, 1)).await.unwrap(), "{name}");
        assert_eq!(totals(&books, 0).await, [2, 3, 5], "{name}");
        books.assert_balanced().await;
    }
}

/// `after` 0 is no epoch yet.
fn begin(shard: u16, after: i64) -> EpochRequest {
    EpochRequest { shard, after: Epoch::new(after) }
}

#[tokio::test]
async fn epochs_increase_by_shard_and_one_is_the_first() {
    for kind in ledgers() {
        let mut books = Books::new(kind, demo()).await;
        let name = books.name;
        let begun = async |books: &Books, begins: &[EpochRequest]| {
            let epochs = books.ledger.begin_epochs(books.sale.no, begins.to_vec()).await.unwrap();
            epochs.iter().map(|epoch| (epoch.epoch.get(), epoch.begun.is_some(), epoch.is_first())).collect::<Vec<_>>()
        };
        assert_eq!(begun(&books, &[begin(1, 0)]).await, [(1, true, true)], "{name}");
        let three = [begin(0, 0), begin(1, 1), begin(2, 0)];
        assert_eq!(begun(&books, &three).await, [(1, true, true), (2, true, false), (1, true, true)], "{name}");
        books.reopen().await;
        assert_eq!(begun(&books, &[begin(0, 1), begin(2, 1)]).await, [(2, true, false), (2, true, false)], "{name}");
        assert_eq!(begun(&books, &[]).await, [], "{name}");
    }
}

#[tokio::test]
async fn of_two_who_find_a_shard_stale_one_begins_the_epoch() {
    for kind in ledgers() {
        let books = Books::new(kind, demo()).await;
        let ask = async |shard, after| {
            let epochs = books.ledger.begin_epochs(books.sale.no, vec![begin(shard, after)]).await.unwrap();
            (epochs[0].epoch.get(), epochs[0].begun.is_some())
        };
        assert_eq!((ask(1, 0).await, ask(1, 0).await), ((1, true), (1, false)), "{}", books.name);
        assert_eq!((ask(1, 7).await, ask(1, 1).await), ((1, false), (2, true)), "{}: any other epoch", books.name);
        assert_eq!(ask(0, 7).await, (1, true), "{}: a shard without an epoch gets its first", books.name);
    }
}

#[tokio::test]
async fn an_epoch_tells_the_stock_of_its_shard_and_the_switch() {
    for kind in ledgers() {
        let books = Books::new(kind, demo()).await;
        books.append_one(&books.wish(1, "k", 2)).await;
        books.ledger.switch(books.sale.no, Switch::Paused).await.unwrap();
        let begins = (0..3).map(|shard| begin(shard, 0)).collect();
        let epochs = books.ledger.begin_epochs(books.sale.no, begins).await.unwrap();
        let stock = books.ledger.stock(books.sale.no).await.unwrap();
        for (shard, epoch) in epochs.into_iter().enumerate() {
            let levels = vec![stock[0][shard], stock[1][shard]];
            assert_eq!(
                epoch.begun,
                Some(EpochStart { levels, switch: Switch::Paused }),
                "{}: shard {shard}",
                books.name
            );
        }
        assert_eq!(stock[0][1], SkuLevel { total: 3, held: 2, sold: 0, returned: 0 }, "{}", books.name);
    }
}

#[tokio::test]
async fn an_order_is_told_the_epoch_that_began_before_it() {
    for kind in ledgers() {
        let books = Books::new(kind, demo()).await;
        assert_eq!(books.append_one(&books.wish(1, "a", 1)).await, CREATED, "{}", books.name);
        books.ledger.begin_epochs(books.sale.no, vec![begin(1, 0)]).await.unwrap();
        books.ledger.begin_epochs(books.sale.no, vec![begin(1, 1)]).await.unwrap();
        let after = books.append(&[books.wish(1, "b", 1), books.wish(2, "c", 1)]).await;
        assert_eq!(after, [AppendOutcome::Created { epoch: Epoch::new(2) }, CREATED], "{}", books.name);
    }
}

#[tokio::test]
async fn revisions_tell_what_is_new() {
    for kind in ledgers() {
        let books = Books::new(kind, demo()).await;
        let CreateOutcome::New(second) = create(&books, new_sale("t", rules(1), &[("a", 1)])).await else { panic!() };
        let ids = async |after| {
            let sales = books.ledger.sales(after).await.unwrap();
            sales.into_iter().map(|sale| sale.id.as_str().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(ids(0).await, [books.sale.id.as_str(), "t"], "{}", books.name);
        assert_eq!(ids(books.sale.revision).await, ["t"], "{}", books.name);
        assert_eq!(ids(second.revision).await, [""; 0], "{}", books.name);
    }
}

#[tokio::test]
async fn a_ledger_keeps_its_id_and_shares_it_with_none() {
    for kind in ledgers() {
        let mut books = Books::new(kind, demo()).await;
        let id = books.ledger.id().await.unwrap();
        books.reopen().await;
        assert_eq!(books.ledger.id().await.unwrap(), id, "{}", books.name);
        assert_ne!(Books::new(kind, demo()).await.ledger.id().await.unwrap(), id, "{}", books.name);
    }
}

#[tokio::test]
async fn that_orders_went_past_the_gate_is_kept() {
    for kind in ledgers() {
        let mut books = Books::new(kind, demo()).await;
        let bypassed = async |books: &Books| books.ledger.sales(0).await.unwrap()[0].bypassed;
        assert!(!bypassed(&books).await, "{}", books.name);
        books.ledger.mark_bypassed(books.sale.no).await.unwrap();
        books.ledger.mark_bypassed(books.sale.no).await.unwrap();
        books.reopen().await;
        assert!(bypassed(&books).await, "{}", books.name);
    }
}
