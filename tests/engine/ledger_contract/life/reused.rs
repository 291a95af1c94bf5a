//! Reports whose ids another report had before: kept, shown, and without effect.

use rushgate::ledger::{Change, ChangeOutcome, ReportOutcome};
use rushgate::order::{Money, Note, PaymentEvent, Report, State};
use tokio::task::JoinSet;

use super::super::{Books, ledgers};
use super::{heard, known, money, paid, payment, refund, report};
use crate::world::{NOON, new_sale, rules};

#[tokio::test]
async fn an_id_that_says_something_else_is_kept_beside_the_first() {
    for kind in ledgers() {
        let mut books = Books::new(kind, new_sale("s", rules(1), &[("a", 99)])).await;
        let name = books.name;
        let [wish, other] = [books.taken_through(1, "k", &[]).await, books.taken_through(2, "k", &[]).await];
        assert_eq!(books.record_report(payment(&wish, "e")).await, paid(), "{name}");
        let row = books.row(&wish).await;
        let first = money(&wish, "pay-e");
        let of_wish = [
            PaymentEvent::Refunded(first.clone()),
            PaymentEvent::Succeeded(Money { amount: 1, ..first.clone() }),
            PaymentEvent::Succeeded(money(&wish, "another")),
            PaymentEvent::Failed(wish.reservation.order_no),
        ];
        let of_other = PaymentEvent::Succeeded(money(&other, "pay-e"));
        let all: Vec<Report> = of_wish.into_iter().chain([of_other]).map(|fact| report("e", fact)).collect();
        for told in &all {
            assert_eq!(books.record_report(told.clone()).await, heard(Note::IdReused), "{name}: {told:?}");
        }
        books.reopen().await;
        for told in &all {
            assert_eq!(books.record_report(told.clone()).await, known(Note::IdReused), "{name}: {told:?}");
        }
        assert_eq!(
            books.record_report(payment(&wish, "e")).await,
            known(Note::Applied),
            "{name}: the first is what it was"
        );
        assert_eq!((books.row(&wish).await, books.state(&other).await), (row, State::PendingPayment), "{name}");
        // Each stands in the history of its own order, under an id of its own.
        let kept = |told: &Report| Report { event_id: told.reused_id(), ..told.clone() };
        for (wish, told) in [(&wish, &all[..4]), (&other, &all[4..])] {
            let history = books.history(wish).await;
            let kept_here: Vec<&Report> =
                history.reports.iter().filter(|kept| kept.note == Note::IdReused).map(|kept| &kept.report).collect();
            assert_eq!(kept_here.len(), told.len(), "{name}");
            assert!(told.iter().all(|told| kept_here.contains(&&kept(told))), "{name}: {kept_here:?}");
        }
        // Nothing of it counts: the other order is paid by the next report that has an id of its own.
        let again = Report { event_id: super::reference("f"), ..all[4].clone() };
        assert_eq!(books.record_report(again).await, paid(), "{name}");
        // An order that is not there leaves nothing.
        let nobody = books.wish(3, "k", 2);
        let nobodys = report("e", PaymentEvent::Succeeded(money(&nobody, "pay-e")));
        assert_eq!(books.record_report(nobodys.clone()).await, ReportOutcome::NotFound, "{name}");
        // Of two of one batch, the first has the id.
        let batch = [payment(&wish, "g"), refund(&other, "g"), payment(&wish, "g"), refund(&other, "g")];
        let answers = books.change_at(batch.map(Change::Report).to_vec(), NOON + 5).await;
        let [second, reused] = [Note::SecondPayment, Note::IdReused];
        let expected = [heard(second), heard(reused), known(second), known(reused)].map(ChangeOutcome::Report);
        assert_eq!(answers, expected, "{name}");
        books.assert_balanced().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pairs_at_once_under_one_id_are_both_kept() {
    for kind in ledgers() {
        let books = Books::new(kind, new_sale("s", rules(2), &[("a", 99)])).await;
        let name = books.name;
        let mut pairs = Vec::new();
        for n in 0..20 {
            let one = books.taken_through(2 * n + 1, "k", &[]).await;
            pairs.push((one, books.taken_through(2 * n + 2, "k", &[]).await));
        }
        for expected in [[paid(), heard(Note::IdReused)], [known(Note::Applied), known(Note::IdReused)]] {
            let mut sent = JoinSet::new();
            for (n, (one, other)) in pairs.iter().enumerate() {
                for wish in [one, other] {
                    let (ledger, told) = (books.ledger.clone(), payment(wish, &format!("e{n}")));
                    sent.spawn(async move {
                        ledger.change(vec![Change::Report(told)], NOON + 5).await.unwrap().remove(0).report().unwrap()
                    });
                }
            }
            let answers: Vec<ReportOutcome> = sent.join_all().await;
            for answer in expected {
                assert_eq!(answers.iter().filter(|other| **other == answer).count(), 20, "{name}: {answers:?}");
            }
        }
        for (one, other) in &pairs {
            let mut ends = Vec::new();
            for wish in [one, other] {
                let reports = books.history(wish).await.reports;
                assert_eq!(reports.len(), 1, "{name}: {reports:?}");
                ends.push((books.state(wish).await, reports[0].note));
            }
            let [paid, reused] = [(State::Paid, Note::Applied), (State::PendingPayment, Note::IdReused)];
            assert!(ends == [paid, reused] || ends == [reused, paid], "{name}: {ends:?}");
        }
        books.assert_balanced().await;
    }
}
