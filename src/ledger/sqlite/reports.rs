//! What payment providers report, and the history of an order.

use rusqlite::{Connection, Row, params};

use super::error::unreadable;
use super::read::{self, parse_column};
use crate::clock::UnixMs;
use crate::ledger::Error;
use crate::ledger::core::change_set::ChangeSet;
use crate::ledger::core::columns::{self, EventColumns};
use crate::order::{
    History, Note, OrderNo, PriorReport, Provider, ProviderId, Report, State, Step, StepRecord, StoredReport, UserId,
};

const SELECT_REPORT: &str = "SELECT provider, event_id, event_type, fact, order_no, payment_id, amount, currency, \
     is_total, is_ours, note, at FROM payment_reports WHERE provider = ?1 AND event_id = ?2";
const INSERT_REPORT: &str = "INSERT INTO payment_reports (provider, event_id, event_type, fact, order_no, payment_id, \
     amount, currency, is_total, is_ours, note, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";

/// Reads what decides a report: the report of the same id if there is one, and then that of the id it would get instead; or
/// else the prior reports of its order.
pub(super) fn load<'c>(
    connection: &Connection,
    report: &'c Report,
    change_set: &mut ChangeSet<'c>,
) -> Result<(), Error> {
    let mut stored: Vec<StoredReport> = find(connection, report.provider, &report.event_id)?.into_iter().collect();
    if !stored.is_empty() {
        stored.extend(find(connection, report.provider, &report.reused_id())?);
    } else if let Some(order_no) = report.order_no() {
        stored = reports(connection, order_no)?;
    }
    for StoredReport { report: Report { provider, event_id, fact, .. }, note, .. } in stored {
        change_set.add_prior_report((provider, event_id), PriorReport { provider, fact, note });
    }
    Ok(())
}

/// Stores the new reports of a set.
pub(super) fn insert(connection: &Connection, change_set: &ChangeSet<'_>, now_ms: UnixMs) -> Result<(), Error> {
    for (id, report) in &change_set.new_reports {
        let columns = EventColumns::of(report);
        connection.prepare_cached(INSERT_REPORT)?.execute(params![
            report.provider.as_str(),
            id.1.as_str(),
            report.event_type.as_str(),
            columns.event,
            columns.order_no,
            columns.payment_id,
            columns.amount,
            columns.currency,
            columns.is_total,
            columns.is_ours,
            change_set.note(id)?.as_str(),
            now_ms
        ])?;
    }
    Ok(())
}

fn find(connection: &Connection, provider: Provider, event_id: &ProviderId) -> Result<Option<StoredReport>, Error> {
    let mut select = connection.prepare_cached(SELECT_REPORT)?;
    let mut rows = select.query([provider.as_str(), event_id.as_str()])?;
    rows.next()?.map(stored_report).transpose()
}

/// What happened to an order of `user`, in one consistent view.
pub(super) fn history(connection: &mut Connection, user: UserId, order_no: OrderNo) -> Result<History, Error> {
    let view = connection.transaction()?;
    if read::find(&view, user, order_no)?.is_none() {
        return Ok(History::default());
    }
    Ok(History { steps: steps(&view, order_no)?, reports: reports(&view, order_no)? })
}

const SELECT_STEPS: &str = "SELECT state_version, step, from_state, to_state, by, event_id, at FROM order_steps \
     WHERE order_no = ?1 ORDER BY state_version";

fn steps(connection: &Connection, order_no: OrderNo) -> Result<Vec<StepRecord>, Error> {
    let mut select = connection.prepare_cached(SELECT_STEPS)?;
    let step = |row: &Row<'_>| {
        let (by, event_id): (String, Option<String>) = (row.get(4)?, row.get(5)?);
        let by = columns::actor(&by, event_id.as_deref());
        let state = |column| State::from_number(row.get(column)?).ok_or_else(|| unreadable(row, column));
        Ok(StepRecord {
            state_version: row.get(0)?,
            step: Step::from_number(row.get(1)?).ok_or_else(|| unreadable(row, 1))?,
            from: state(2)?,
            to: state(3)?,
            by: by.ok_or_else(|| unreadable(row, 4))?,
            at: row.get(6)?,
        })
    };
    select.query_and_then([order_no.as_bytes()], step)?.collect()
}

/// In the order in which they came, which is that of their rows: clocks may have been set back in between.
const SELECT_REPORTS: &str = "SELECT provider, event_id, event_type, fact, order_no, payment_id, amount, currency, \
     is_total, is_ours, note, at FROM payment_reports WHERE order_no = ?1 ORDER BY rowid";

fn reports(connection: &Connection, order_no: OrderNo) -> Result<Vec<StoredReport>, Error> {
    let mut select = connection.prepare_cached(SELECT_REPORTS)?;
    select.query_and_then([order_no.as_bytes()], stored_report)?.collect()
}

/// A report from a row of twelve columns, in the order of the table.
fn stored_report(row: &Row<'_>) -> Result<StoredReport, Error> {
    let provider_id = |column| parse_column(row, column, |text| ProviderId::parse(text).ok());
    let columns = EventColumns {
        event: row.get(3)?,
        order_no: row.get(4)?,
        payment_id: row.get(5)?,
        amount: row.get(6)?,
        currency: row.get(7)?,
        is_total: row.get(8)?,
        is_ours: row.get(9)?,
    };
    let report = Report {
        provider: parse_column(row, 0, Provider::parse)?,
        event_id: provider_id(1)?,
        event_type: provider_id(2)?,
        fact: columns.event().ok_or_else(|| unreadable(row, 3))?,
    };
    Ok(StoredReport { report, note: parse_column(row, 10, Note::parse)?, at: row.get(11)? })
}
