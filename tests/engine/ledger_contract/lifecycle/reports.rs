//! What payment providers report: once per event, in any order, and never more than it says.

use rushgate::ledger::{Change, Entry, ReportOutcome, Returned, StepOutcome};
use rushgate::order::{Currency, History, Money, Note, PaymentEvent, Provider, Report, SkuLevel, State, Step};
use tokio::task::JoinSet;

use super::super::{Books, CREATED, ledgers, limited};
use super::{
    LATE, PRICE, asked, done, free, heard, is_done, known, money, paid, paid_and_counted, paid_and_refunded, payment,
    reference, refund, refunded, report,
};
use crate::world::{NOON, new_sale, rules};

fn part(wish: &Entry, event_id: &str, amount: i64) -> Report {
    let whole = money(wish, &format!("refund-{event_id}"));
    report(event_id, PaymentEvent::Refunded(Money { amount, ..whole }))
}

/// Every order of these numbers.
fn permutations(of: usize) -> Vec<Vec<usize>> {
    if of == 0 {
        return vec![Vec::new()];
    }
    let shorter = permutations(of - 1);
    let longer =
        |less: &Vec<usize>| (0..of).map(|at| [&less[..at], &[of - 1], &less[at..]].concat()).collect::<Vec<_>>();
    shorter.iter().flat_map(longer).collect()
}

#[tokio::test]
async fn a_payment_is_heard_once() {
    for kind in ledgers() {
        let mut books = Books::new(kind, new_sale("s", rules(1), &[("a", 9)])).await;
        let name = books.name;
        let wish = books.taken_through(1, "k", &[]).await;
        assert_eq!(books.record_report(payment(&wish, "e")).await, paid(), "{name}");
        let row = books.row(&wish).await;
        assert_eq!((row.state, row.state_version, row.updated_at), (State::Paid, 2, NOON + 5), "{name}");
        let history = books.history(&wish).await;
        // The provider sends it again, perhaps with other words, or we have learned meanwhile whose merchant it is.
        let renamed = Report { event_type: reference("other"), ..payment(&wish, "e") };
        let PaymentEvent::Succeeded(money) = payment(&wish, "e").event else { panic!("no payment") };
        let elsewhere = report("e", PaymentEvent::Succeeded(Money { is_ours: false, ..money }));
        for repeat in [payment(&wish, "e"), renamed, elsewhere] {
            assert_eq!(books.record_report(repeat).await, known(Note::Applied), "{name}");
            books.reopen().await;
        }
        assert_eq!(books.row(&wish).await, row, "{name}");
        assert_eq!(books.history(&wish).await, history, "{name}");
        // The same ids from another provider are another event, and another payment.
        let elsewhere = Report { provider: Provider::Alipay, ..payment(&wish, "e") };
        assert_eq!(books.record_report(elsewhere).await, heard(Note::SecondPayment), "{name}");
        assert_eq!(books.level(0, 0).await, SkuLevel { total: 9, held: 0, sold: 2, returned: 0 }, "{name}");
        books.assert_balanced().await;
    }
}

#[tokio::test]
async fn a_report_of_no_order_leaves_nothing() {
    for kind in ledgers() {
        let books = Books::new(kind, new_sale("s", rules(1), &[("a", 9)])).await;
        let name = books.name;
        let wish = books.wish(1, "k", 2);
        let failed = report("f", PaymentEvent::Failed(wish.reservation.order_no));
        for report in [payment(&wish, "e"), refund(&wish, "r"), failed.clone()] {
            assert_eq!(books.record_report(report).await, ReportOutcome::NotFound, "{name}");
        }
        assert_eq!(books.append_one(&wish).await, CREATED, "{name}");
        assert_eq!(books.history(&wish).await, History::default(), "{name}");
        assert_eq!(books.record_report(payment(&wish, "e")).await, paid(), "{name}: sent again");
        assert_eq!(books.record_report(failed).await, heard(Note::NoEffect), "{name}");
        books.assert_balanced().await;
    }
}

#[tokio::test]
async fn an_unknown_event_is_kept() {
    for kind in ledgers() {
        let mut books = Books::new(kind, new_sale("s", rules(1), &[("a", 9)])).await;
        let wish = books.taken_through(1, "k", &[]).await;
        for answer in [heard(Note::NoEffect), known(Note::NoEffect)] {
            assert_eq!(books.record_report(report("u", PaymentEvent::Unknown)).await, answer, "{}", books.name);
            books.reopen().await;
        }
        // It has taken its id.
        assert_eq!(books.record_report(payment(&wish, "u")).await, heard(Note::IdReused), "{}", books.name);
        assert_eq!(books.state(&wish).await, State::PendingPayment, "{}", books.name);
        assert_eq!(books.history(&wish).await.steps, [], "{}", books.name);
        books.assert_balanced().await;
    }
}

#[tokio::test]
async fn money_that_does_not_fit_moves_nothing() {
    for kind in ledgers() {
        let books = Books::new(kind, new_sale("s", rules(1), &[("a", 9)])).await;
        let name = books.name;
        let wish = books.taken_through(1, "k", &[]).await;
        let right = money(&wish, "p");
        let wrong = [
            Money { amount: right.amount - 1, ..right.clone() },
            Money { amount: right.amount + 1, ..right.clone() },
            Money { currency: Currency::parse("USD").unwrap(), ..right.clone() },
            Money { is_ours: false, ..right.clone() },
        ];
        for (n, money) in wrong.iter().enumerate() {
            let answer = books.record_report(report(&format!("w{n}"), PaymentEvent::Succeeded(money.clone()))).await;
            assert_eq!(answer, heard(Note::Mismatch), "{name}: {money:?}");
        }
        assert_eq!(books.state(&wish).await, State::PendingPayment, "{name}");
        assert_eq!(books.record_report(report("e", PaymentEvent::Succeeded(right))).await, paid(), "{name}");
        let foreign = Money { is_ours: false, ..money(&wish, "r") };
        assert_eq!(
            books.record_report(report("r", PaymentEvent::Refunded(foreign))).await,
            heard(Note::Mismatch),
            "{name}"
        );
        assert_eq!(books.record_report(part(&wish, "r0", 0)).await, heard(Note::Mismatch), "{name}");
        assert_eq!(books.state(&wish).await, State::Paid, "{name}");
        let notes: Vec<Note> = books.history(&wish).await.reports.iter().map(|kept| kept.note).collect();
        assert_eq!(notes.iter().filter(|note| **note == Note::Mismatch).count(), 6, "{name}: all kept");
        books.assert_balanced().await;
    }
}

#[tokio::test]
async fn a_second_payment_is_for_the_operator() {
    for kind in ledgers() {
        let books = Books::new(kind, new_sale("s", rules(1), &[("a", 9)])).await;
        let name = books.name;
        let wish = books.taken_through(1, "k", &[]).await;
        assert_eq!(books.record_report(payment(&wish, "one")).await, paid(), "{name}");
        let row = books.row(&wish).await;
        assert_eq!(books.record_report(payment(&wish, "two")).await, heard(Note::SecondPayment), "{name}");
        assert_eq!(books.row(&wish).await, row, "{name}");
        let confirmed = Books::new(kind, new_sale("s", free(), &[("a", 9)])).await;
        let wish = confirmed.taken_through(1, "k", &[]).await;
        assert_eq!(
            confirmed.record_report(payment(&wish, "e")).await,
            heard(Note::Impossible),
            "{name}: nothing was to pay"
        );
        assert_eq!(confirmed.record_report(refund(&wish, "r")).await, heard(Note::Impossible), "{name}");
        assert_eq!(confirmed.state(&wish).await, State::Confirmed, "{name}");
        books.assert_balanced().await;
        confirmed.assert_balanced().await;
    }
}

#[tokio::test]
async fn a_refund_waits_for_its_payment() {
    for kind in ledgers() {
        let mut books = Books::new(kind, new_sale("s", rules(1), &[("a", 9)])).await;
        let name = books.name;
        let whole = books.taken_through(1, "k", &[]).await;
        assert_eq!(books.record_report(refund(&whole, "r")).await, heard(Note::Parked), "{name}");
        assert_eq!(books.state(&whole).await, State::PendingPayment, "{name}");
        books.reopen().await;
        assert_eq!(books.record_report(refund(&whole, "r")).await, known(Note::Parked), "{name}: it waits");
        assert_eq!(books.record_report(payment(&whole, "e")).await, paid_and_refunded(), "{name}");
        let row = books.row(&whole).await;
        assert_eq!((row.state, row.state_version, row.returned), (State::Refunded, 3, false), "{name}");
        assert_eq!(books.record_report(refund(&whole, "r")).await, known(Note::Applied), "{name}: it waits no more");
        let steps: Vec<Step> = books.history(&whole).await.steps.iter().map(|taken| taken.step).collect();
        assert_eq!(steps, [Step::Pay, Step::Refund], "{name}");
        assert_eq!(books.level(0, 0).await, SkuLevel { total: 9, held: 0, sold: 2, returned: 0 }, "{name}");

        let parts = books.taken_through(2, "k", &[]).await;
        assert_eq!(books.record_report(part(&parts, "r1", PRICE)).await, heard(Note::Parked), "{name}");
        assert_eq!(books.record_report(payment(&parts, "e2")).await, paid_and_counted(), "{name}");
        assert_eq!(books.state(&parts).await, State::Paid, "{name}: a part is no refund");
        assert_eq!(books.record_report(part(&parts, "r1", PRICE)).await, known(Note::Counted), "{name}");
        assert_eq!(books.record_report(part(&parts, "r2", PRICE)).await, refunded(), "{name}: the other part");
        assert_eq!(books.state(&parts).await, State::Refunded, "{name}");

        let given_up = books.taken_through(3, "k", &[Step::Cancel]).await;
        assert_eq!(books.record_report(refund(&given_up, "r3")).await, heard(Note::Parked), "{name}");
        assert_eq!(books.record_report(payment(&given_up, "e3")).await, paid_and_refunded(), "{name}");
        let row = books.row(&given_up).await;
        assert_eq!((row.state, row.state_version, row.returned), (State::Refunded, 4, true), "{name}");
        books.assert_balanced().await;
    }
}

#[tokio::test]
async fn a_payment_that_comes_too_late_goes_back() {
    for kind in ledgers() {
        let books = Books::new(kind, new_sale("s", limited(2), &[("a", 2)])).await;
        let name = books.name;
        let late = books.taken_through(1, "k", &[]).await;
        assert_eq!(books.ledger.expire(LATE, 9).await.unwrap().len(), 1, "{name}");
        // Somebody else has bought the units by now.
        assert_eq!(books.append_one(&books.wish(2, "k", 2)).await, CREATED, "{name}");
        assert_eq!(books.record_report(payment(&late, "e")).await, paid(), "{name}");
        assert_eq!(books.state(&late).await, State::RefundDue, "{name}");
        assert_eq!(books.level(0, 0).await, SkuLevel { total: 2, held: 2, sold: 0, returned: 2 }, "{name}");
        assert_eq!(books.record_report(refund(&late, "r")).await, refunded(), "{name}");
        assert_eq!(books.state(&late).await, State::Refunded, "{name}");
        assert_eq!(books.level(0, 0).await, SkuLevel { total: 2, held: 2, sold: 0, returned: 2 }, "{name}");
        books.assert_balanced().await;
    }
}

/// What has been done to an order, in some order; `true` if it was refused for there is no such order yet.
async fn drive(books: &Books, wish: &Entry, reports: &[Report], turn: usize) -> bool {
    if turn == 0 {
        assert_eq!(books.append_one(wish).await, CREATED, "{}", books.name);
        return false;
    }
    books.record_report(reports[turn - 1].clone()).await == ReportOutcome::NotFound
}

#[tokio::test]
async fn every_order_of_the_same_events_ends_in_one_state() {
    for kind in ledgers() {
        let books = Books::new(kind, new_sale("s", limited(2), &[("a", 500)])).await;
        let name = books.name;
        let orders = permutations(4);
        assert_eq!(orders.len(), 24);
        for (n, turns) in orders.iter().enumerate() {
            let wish = books.wish(n as u64 + 1, "k", 2);
            let id = |what: &str| format!("{what}{n}");
            let reports = [payment(&wish, &id("e")), part(&wish, &id("part"), PRICE), refund(&wish, &id("whole"))];
            // What was refused is sent again afterwards, in the same order, as providers do.
            let mut refused = Vec::new();
            for turn in turns {
                if drive(&books, &wish, &reports, *turn).await {
                    refused.push(*turn);
                }
            }
            for turn in refused {
                assert!(!drive(&books, &wish, &reports, turn).await, "{name}: {turns:?}");
            }
            let row = books.row(&wish).await;
            assert_eq!((row.state, row.state_version, row.returned), (State::Refunded, 3, false), "{name}: {turns:?}");
            let notes: Vec<Note> = books.history(&wish).await.reports.iter().map(|kept| kept.note).collect();
            // The part and the whole are more than was paid, and one of them was the last to come.
            let is_seen = |note: &Note| matches!(note, Note::Applied | Note::Counted | Note::OverRefunded);
            assert!(notes.iter().all(is_seen), "{name}: {turns:?}: {notes:?}");
            assert!(notes.contains(&Note::OverRefunded), "{name}: {turns:?}: {notes:?}");
            assert_eq!(notes.len(), 3, "{name}: {turns:?}");
        }
        assert_eq!(books.level(0, 0).await, SkuLevel { total: 500, held: 0, sold: 48, returned: 0 }, "{name}");
        books.assert_balanced().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_report_many_times_at_once_is_one_step() {
    for kind in ledgers() {
        let books = Books::new(kind, new_sale("s", rules(1), &[("a", 9)])).await;
        let name = books.name;
        let wish = books.taken_through(1, "k", &[]).await;
        let elsewhere = books.taken_through(2, "k", &[]).await;
        // Under one id, for two orders: one of them is paid, and of the other it is kept. And an event that belongs to none.
        let two = [payment(&wish, "x"), payment(&elsewhere, "x")];
        for reports in [&[payment(&wish, "e")][..], &two, &[report("u", PaymentEvent::Unknown)]] {
            let mut sent = JoinSet::new();
            for (n, report) in (0..50).zip(reports.iter().cycle()) {
                let (ledger, report) = (books.ledger.clone(), report.clone());
                sent.spawn(async move {
                    ledger.change(vec![Change::Report(report)], NOON + n).await.unwrap().remove(0).report().unwrap()
                });
            }
            let answers: Vec<ReportOutcome> = sent.join_all().await;
            assert_eq!(answers.len(), 50, "{name}");
            let reused = answers.iter().filter(|answer| **answer == heard(Note::IdReused)).count();
            assert_eq!(reused, reports.len() - 1, "{name}: {answers:?}");
            let repeats =
                answers.iter().filter(|answer| matches!(answer, ReportOutcome::Recorded { is_new: false, .. }));
            assert_eq!(repeats.count(), 50 - reports.len(), "{name}: {answers:?}");
        }
        for wish in [&wish, &elsewhere] {
            let history = books.history(wish).await;
            assert!(history.steps.len() <= 1, "{name}: {history:?}");
            assert_eq!(history.steps.len(), usize::from(books.state(wish).await == State::Paid), "{name}");
        }
        assert_eq!(books.state(&wish).await, State::Paid, "{name}");
        let reports = [&wish, &elsewhere].map(async |wish| books.history(wish).await.reports.len());
        let kept = futures_util::future::join_all(reports).await;
        assert_eq!(kept, [2, 1], "{name}: each report is kept once");
        books.assert_balanced().await;
    }
}

#[tokio::test]
async fn an_operator_and_a_provider_agree() {
    for kind in ledgers() {
        let books = Books::new(kind, new_sale("s", rules(1), &[("a", 9)])).await;
        let name = books.name;
        let wish = books.taken_through(1, "k", &[]).await;
        assert_eq!(books.record_report(payment(&wish, "e")).await, paid(), "{name}");
        let asked_back = rushgate::ledger::StepRequest { restock: true, ..asked(&wish, Step::Refund, "x") };
        let (order, returned) = done(books.ask(asked_back).await);
        assert_eq!((order.state, returned), (State::Refunded, Some(Returned { epoch: None })), "{name}");
        assert_eq!(books.record_report(refund(&wish, "r")).await, heard(Note::Counted), "{name}: it confirms it");
        assert_eq!(books.row(&wish).await, order, "{name}");
        let shipped = books.taken_through(2, "k", &[Step::Pay, Step::Ship]).await;
        assert_eq!(books.record_report(refund(&shipped, "r2")).await, heard(Note::Impossible), "{name}");
        let other = books.taken_through(3, "k", &[]).await;
        assert_eq!(books.record_report(payment(&other, "e3")).await, paid(), "{name}");
        assert_eq!(books.record_report(refund(&other, "r3")).await, refunded(), "{name}");
        let late = books.step(&other, Step::Refund, "x").await;
        assert_eq!(late, StepOutcome::NotAllowed(State::Refunded), "{name}");
        assert!(!is_done(&late) && !books.row(&other).await.returned, "{name}: a report returns no units");
        books.assert_balanced().await;
    }
}
