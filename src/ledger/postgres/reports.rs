//! Reads the reports of payment providers, and stores new ones.

use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};
use uuid::Uuid;

use super::read;
use crate::clock::UnixMs;
use crate::ledger::Error;
use crate::ledger::core::change_set::{ChangeSet, ReportId};
use crate::ledger::core::columns::EventColumns;
use crate::order::{Note, OrderNo, PriorReport, Provider, ProviderId, Report, StoredReport, UserId};

/// The reports of some events ($1 providers, $2 ids) and all of some orders ($3). The events' rows are locked, in one
/// order: that a report is a repeat is answered by a commit that waits behind the first one's. Under this lock the notes of the
/// reports can be changed, so a transaction never waits here for an order.
const SELECT_REPORTS: &str = "WITH events AS (SELECT r.* FROM UNNEST($1::text[], $2::text[]) AS w(provider, event_id) \
         JOIN payment_reports r ON r.provider = w.provider AND r.event_id = w.event_id \
         ORDER BY r.provider, r.event_id FOR KEY SHARE OF r), \
     past AS (SELECT r.* FROM UNNEST($3::uuid[]) AS w(order_no) \
         JOIN payment_reports r ON r.order_no = w.order_no AND r.order_no IS NOT NULL) \
     SELECT e.provider, e.event_id, e.event_type, e.fact, e.order_no, e.payment_id, e.amount, e.currency, e.is_total, \
         e.is_ours, e.note, e.at FROM events e \
     UNION SELECT p.provider, p.event_id, p.event_type, p.fact, p.order_no, p.payment_id, p.amount, p.currency, \
         p.is_total, p.is_ours, p.note, p.at FROM past p";

/// Reads the prior reports of the orders of these reports, and the reports that have their ids.
pub(super) async fn read<'c>(
    sql: &mut PgConnection,
    reports: &[&'c Report],
    change_set: &mut ChangeSet<'c>,
) -> Result<(), Error> {
    // Under its own id, or under the id that it gets if another report has that.
    let events = reports.iter().flat_map(|report| {
        [report.event_id.clone(), report.reused_id()].map(|event_id| (report.provider.as_str(), event_id))
    });
    let (providers, event_ids): (Vec<&str>, Vec<ProviderId>) = events.unzip();
    let event_ids: Vec<&str> = event_ids.iter().map(ProviderId::as_str).collect();
    let mut order_nos: Vec<OrderNo> = reports.iter().filter_map(|report| report.order_no()).collect();
    order_nos.sort_unstable();
    order_nos.dedup();
    let order_nos: Vec<Uuid> = order_nos.iter().map(number).collect();
    let select = sqlx::query(SELECT_REPORTS).bind(providers).bind(event_ids).bind(order_nos);
    for row in select.fetch_all(sql).await? {
        let StoredReport { report: Report { provider, event_id, fact, .. }, note, .. } = stored_report(&row)?;
        change_set.add_prior_report((provider, event_id), PriorReport { provider, fact, note });
    }
    Ok(())
}

const INSERT_REPORTS: &str = "INSERT INTO payment_reports (provider, event_id, event_type, fact, order_no, payment_id, \
     amount, currency, is_total, is_ours, note, at) \
     SELECT w.*, $12 FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[], $5::uuid[], $6::text[], $7::bigint[], \
     $8::text[], $9::boolean[], $10::boolean[], $11::text[]) AS w ON CONFLICT (provider, event_id) DO NOTHING";

/// Stores the new reports of a set, in the order in which every transaction does; `false` if another transaction has stored
/// one of them first.
pub(super) async fn insert(sql: &mut PgConnection, change_set: &ChangeSet<'_>, now_ms: UnixMs) -> Result<bool, Error> {
    let mut columns = Columns::default();
    for (id, report) in &change_set.new_reports {
        columns.push(id, report, change_set.note(id)?);
    }
    let count = columns.provider.len();
    let insert = sqlx::query(INSERT_REPORTS)
        .bind(columns.provider)
        .bind(columns.event_id)
        .bind(columns.event_type)
        .bind(columns.event)
        .bind(columns.order_no)
        .bind(columns.payment_id)
        .bind(columns.amount)
        .bind(columns.currency)
        .bind(columns.is_total)
        .bind(columns.is_ours)
        .bind(columns.note)
        .bind(now_ms);
    Ok(usize::try_from(insert.execute(sql).await?.rows_affected()) == Ok(count))
}

/// Reports as the arrays that [`INSERT_REPORTS`] takes.
#[derive(Default)]
struct Columns {
    provider: Vec<&'static str>,
    event_id: Vec<String>,
    event_type: Vec<String>,
    event: Vec<String>,
    order_no: Vec<Option<Uuid>>,
    payment_id: Vec<Option<String>>,
    amount: Vec<Option<i64>>,
    currency: Vec<Option<String>>,
    is_total: Vec<Option<bool>>,
    is_ours: Vec<Option<bool>>,
    note: Vec<&'static str>,
}

impl Columns {
    fn push(&mut self, (provider, event_id): &ReportId, report: &Report, note: Note) {
        let event = EventColumns::of(report);
        self.provider.push(provider.as_str());
        self.event_id.push(event_id.as_str().to_owned());
        self.event_type.push(report.event_type.as_str().to_owned());
        self.event.push(event.event);
        self.order_no.push(event.order_no.map(Uuid::from_bytes));
        self.payment_id.push(event.payment_id);
        self.amount.push(event.amount);
        self.currency.push(event.currency);
        self.is_total.push(event.is_total);
        self.is_ours.push(event.is_ours);
        self.note.push(note.as_str());
    }
}

const SELECT_OF_ORDER: &str = "SELECT r.provider, r.event_id, r.event_type, r.fact, r.order_no, r.payment_id, r.amount, \
     r.currency, r.is_total, r.is_ours, r.note, r.at FROM orders o \
     JOIN payment_reports r ON r.order_no = o.order_no AND r.order_no IS NOT NULL \
     WHERE o.user_id = $1 AND o.order_no = $2 ORDER BY r.at, r.provider, r.event_id";

/// The reports of a user's order, oldest first.
pub(super) async fn of_order(
    sql: &mut PgConnection,
    user: UserId,
    order_no: OrderNo,
) -> Result<Vec<StoredReport>, Error> {
    let rows = sqlx::query(SELECT_OF_ORDER).bind(user.get()).bind(number(&order_no)).fetch_all(sql).await?;
    rows.iter().map(stored_report).collect()
}

/// A report from a row of twelve columns, in the order of the table.
fn stored_report(row: &PgRow) -> Result<StoredReport, Error> {
    let event = EventColumns {
        event: row.try_get(3)?,
        order_no: row.try_get::<Option<Uuid>, _>(4)?.map(Uuid::into_bytes),
        payment_id: row.try_get(5)?,
        amount: row.try_get(6)?,
        currency: row.try_get(7)?,
        is_total: row.try_get(8)?,
        is_ours: row.try_get(9)?,
    };
    let report = Report {
        provider: read::parse_column(row, 0, Provider::parse)?,
        event_id: provider_id(row, 1)?,
        event_type: provider_id(row, 2)?,
        fact: event.event().ok_or_else(|| read::unreadable(row, 3))?,
    };
    Ok(StoredReport { report, note: read::parse_column(row, 10, Note::parse)?, at: row.try_get(11)? })
}

fn provider_id(row: &PgRow, column: usize) -> Result<ProviderId, Error> {
    read::parse_column(row, column, |text| ProviderId::parse(text).ok())
}

fn number(order_no: &OrderNo) -> Uuid {
    Uuid::from_bytes(*order_no.as_bytes())
}
