//! What payment providers report, and the history of an order.

use rusqlite::{Connection, Error, OptionalExtension, Row, params};

use super::lifecycle::{broken, take};
use super::numbers::Numbers;
use super::read::{self, parse_column};
use crate::clock::UnixMs;
use crate::ledger::Changed;
use crate::ledger::core::columns::{self, FactColumns};
use crate::order::{
    Actor, Currency, Decision, History, Note, Order, OrderNo, PriorReport, Provider, ProviderId, Report, State, Step,
    StepRecord, StoredReport, UserId, judge,
};

const SELECT_REPORT: &str = "SELECT provider, event_id, event_type, fact, order_no, payment_id, amount, currency, \
     is_total, is_ours, note, at FROM payment_reports WHERE provider = ?1 AND event_id = ?2";
const INSERT_REPORT: &str = "INSERT INTO payment_reports (provider, event_id, event_type, fact, order_no, payment_id, \
     amount, currency, is_total, is_ours, note, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";

/// Takes a report in, once per event. Runs inside the caller's transaction.
pub(super) fn record_report(
    connection: &Connection,
    numbers: &Numbers,
    report: &Report,
    now_ms: UnixMs,
) -> Result<Changed, Error> {
    let order = match report.order_no() {
        Some(order_no) => match numbers.find(connection, None, order_no)? {
            Some(order) => Some(order),
            None => return Ok(Changed::NotFound),
        },
        None => None,
    };
    let known = |note| Ok(Changed::Reported { note, steps: [None; 2], waited: None, is_new: false });
    let (event_id, heard) = match (find(connection, report.provider, &report.event_id)?, order) {
        (Some(before), _) if before.report.fact.says_the_same(&report.fact) => return known(before.note),
        (Some(_), _) => {
            let event_id = report.reused_id();
            if let Some(before) = find(connection, report.provider, &event_id)? {
                return known(before.note);
            }
            (event_id, moves_nothing(Note::IdReused))
        }
        (None, Some(order)) => (report.event_id.clone(), apply(connection, order, report, now_ms)?),
        (None, None) => (report.event_id.clone(), moves_nothing(Note::NoEffect)),
    };
    let columns = FactColumns::of(report);
    connection.prepare_cached(INSERT_REPORT)?.execute(params![
        report.provider.as_str(),
        event_id.as_str(),
        report.event_type.as_str(),
        columns.fact,
        columns.order_no,
        columns.payment_id,
        columns.amount,
        columns.currency,
        columns.is_total,
        columns.is_ours,
        heard.note.as_str(),
        now_ms
    ])?;
    let Decision { note, steps, parked: waited } = heard;
    Ok(Changed::Reported { note, steps, waited, is_new: true })
}

fn moves_nothing(note: Note) -> Decision {
    Decision { note, steps: [None; 2], parked: None }
}

fn find(connection: &Connection, provider: Provider, event_id: &ProviderId) -> Result<Option<StoredReport>, Error> {
    let mut select = connection.prepare_cached(SELECT_REPORT)?;
    select.query_row([provider.as_str(), event_id.as_str()], kept).optional()
}

const SELECT_PRICE: &str = "SELECT unit_price, currency FROM skus WHERE no = ?1";
const END_PARKING: &str = "UPDATE payment_reports SET note = ?2 WHERE order_no = ?1 AND note = 'parked'";

/// Takes the steps that a report leads to, and answers what becomes of it, and which they are.
fn apply(connection: &Connection, mut order: Order, report: &Report, now_ms: UnixMs) -> Result<Decision, Error> {
    let mut select = connection.prepare_cached(SELECT_PRICE)?;
    let (unit_price, currency) = select.query_row([order.sku.0], |row| {
        Ok((row.get::<_, i64>(0)?, parse_column(row, 1, |text| Currency::parse(text).ok())?))
    })?;
    let past = reports(connection, order.order_no)?;
    let past = past.into_iter().map(|StoredReport { report, note, .. }| PriorReport {
        provider: report.provider,
        fact: report.fact,
        note,
    });
    let past: Vec<PriorReport> = past.collect();
    let amount = unit_price.saturating_mul(i64::from(order.quantity));
    let verdict = judge(order.state, amount, currency, &past, report.provider, &report.fact);
    let by = Actor::Report(report.provider, report.event_id.clone());
    for step in verdict.steps.into_iter().flatten() {
        let taken = take(connection, &order, step, false, &by, now_ms)?;
        (order, _) = taken.map_err(|_| broken("a report led to a step that the order's state does not allow"))?;
    }
    if let Some(note) = verdict.parked {
        connection.prepare_cached(END_PARKING)?.execute(params![order.order_no.as_bytes(), note.as_str()])?;
    }
    Ok(verdict)
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
    let read = |row: &Row<'_>| {
        let by = columns::by(row.get_ref(4)?.as_str()?, row.get_ref(5)?.as_str_or_null()?);
        Ok(StepRecord {
            state_version: row.get(0)?,
            step: known(Step::from_number(row.get(1)?))?,
            from: known(State::from_number(row.get(2)?))?,
            to: known(State::from_number(row.get(3)?))?,
            by: known(by)?,
            at: row.get(6)?,
        })
    };
    select.query_map([order_no.as_bytes()], read)?.collect()
}

/// In the order in which they came, which is that of their rows; clocks may have been set back in between.
const SELECT_REPORTS: &str = "SELECT provider, event_id, event_type, fact, order_no, payment_id, amount, currency, \
     is_total, is_ours, note, at FROM payment_reports WHERE order_no = ?1 ORDER BY rowid";

fn reports(connection: &Connection, order_no: OrderNo) -> Result<Vec<StoredReport>, Error> {
    let mut select = connection.prepare_cached(SELECT_REPORTS)?;
    select.query_map([order_no.as_bytes()], kept)?.collect()
}

/// A row of twelve columns, in the order of the table.
fn kept(row: &Row<'_>) -> Result<StoredReport, Error> {
    let reference = |column| parse_column(row, column, |text| ProviderId::parse(text).ok());
    let columns = FactColumns {
        fact: row.get(3)?,
        order_no: row.get(4)?,
        payment_id: row.get(5)?,
        amount: row.get(6)?,
        currency: row.get(7)?,
        is_total: row.get(8)?,
        is_ours: row.get(9)?,
    };
    let report = Report {
        provider: parse_column(row, 0, Provider::parse)?,
        event_id: reference(1)?,
        event_type: reference(2)?,
        fact: known(columns.read())?,
    };
    Ok(StoredReport { report, note: parse_column(row, 10, Note::parse)?, at: row.get(11)? })
}

fn known<T>(value: Option<T>) -> Result<T, Error> {
    value.ok_or_else(|| broken("a step or a report that this program does not know"))
}
