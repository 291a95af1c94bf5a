//! An order for operators: as it stands now, with its steps and with what payment providers reported of it.

use serde::Serialize;

use super::json::{rfc3339, write_members};
use crate::order::{HistoryView, ProviderId, StepRecord, StoredReport};

#[derive(Serialize)]
struct StepOut<'a> {
    state_version: u32,
    step: &'static str,
    from: &'static str,
    to: &'static str,
    by: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<&'a str>,
    at: String,
}

#[derive(Serialize)]
struct ReportOut<'a> {
    provider: &'static str,
    event_id: &'a str,
    #[serde(rename = "type")]
    event_type: &'a str,
    note: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    payment_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    amount: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    currency: Option<&'a str>,
    at: String,
}

/// The members of an order, and `history` and `payments` beside them.
pub fn history(view: &HistoryView) -> Vec<u8> {
    let mut body = Vec::with_capacity(1024);
    write_members(&view.view, &mut body);
    let steps: Vec<StepOut<'_>> = view.history.steps.iter().map(step).collect();
    let reports: Vec<ReportOut<'_>> = view.history.reports.iter().map(report).collect();
    body.extend_from_slice(b",\"history\":");
    // Numbers, texts and lists of them: writing to memory cannot fail.
    serde_json::to_writer(&mut body, &steps).unwrap_or_default();
    body.extend_from_slice(b",\"payments\":");
    serde_json::to_writer(&mut body, &reports).unwrap_or_default();
    body.push(b'}');
    body
}

fn step(taken: &StepRecord) -> StepOut<'_> {
    StepOut {
        state_version: taken.state_version,
        step: taken.step.as_str(),
        from: taken.from.as_str(),
        to: taken.to.as_str(),
        by: taken.by.as_str(),
        event_id: taken.by.event_id().map(ProviderId::as_str),
        at: rfc3339(taken.at),
    }
}

fn report(stored: &StoredReport) -> ReportOut<'_> {
    let money = stored.report.event.money();
    ReportOut {
        provider: stored.report.provider.as_str(),
        event_id: stored.report.event_id.as_str(),
        event_type: stored.report.event_type.as_str(),
        note: stored.note.as_str(),
        payment_id: money.map(|money| money.payment_id.as_str()),
        amount: money.map(|money| money.amount),
        currency: money.map(|money| money.currency.as_str()),
        at: rfc3339(stored.at),
    }
}
