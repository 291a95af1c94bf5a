//! The reports of payment providers in a set of changes.

use super::{ChangeSet, LockedOrder, ReportId};
use crate::ledger::{Error, ReportOutcome};
use crate::order::{Actor, Decision, Note, PriorReport, Report, judge};

impl<'c> ChangeSet<'c> {
    /// Takes in a stored report. The same one may come twice: once by its id, once by its order.
    pub(in crate::ledger) fn add_prior_report(&mut self, id: ReportId, prior: PriorReport) {
        let order_no = prior.event.order_no();
        if self.prior_reports.insert(id.clone(), prior.clone()).is_none()
            && let Some(locked) = order_no.and_then(|order_no| self.orders.get_mut(&order_no))
        {
            locked.prior_reports.push((id, prior));
        }
    }

    /// The note of a report that is to be stored.
    pub(in crate::ledger) fn note(&self, id: &ReportId) -> Result<Note, Error> {
        let prior = self.prior_reports.get(id);
        prior.map(|prior| prior.note).ok_or_else(|| impossible!("report {} of {} has no note", id.1, id.0.as_str()))
    }

    /// Records a report once, with the steps that it leads to. One whose id another report had, which said something else,
    /// is recorded under [`Report::reused_id`] and changes nothing.
    pub(super) fn record_report(&mut self, report: &'c Report) -> Result<ReportOutcome, Error> {
        let order_no = report.order_no();
        if order_no.is_some_and(|order_no| !self.orders.contains_key(&order_no)) {
            return Ok(ReportOutcome::NotFound);
        }
        let mut id = (report.provider, report.event_id.clone());
        let decision = match self.prior_reports.get(&id) {
            Some(prior) if prior.event.says_the_same(&report.event) => return Ok(repeat(prior)),
            Some(_) => {
                id.1 = report.reused_id();
                if let Some(prior) = self.prior_reports.get(&id) {
                    return Ok(repeat(prior));
                }
                only(Note::IdReused)
            }
            None => match order_no.and_then(|order_no| self.orders.get(&order_no)) {
                Some(locked) => decide(locked, report),
                None => only(Note::NoEffect),
            },
        };
        let Decision { note, steps, parked } = decision;
        if let Some(order_no) = order_no {
            let by = Actor::Report(report.provider, report.event_id.clone());
            for step in steps.into_iter().flatten() {
                let taken = self.take_step(&order_no, step, false, &by)?;
                taken.map_err(|error| {
                    Error::Corrupt(format!("a report leads order {order_no} to a step that it cannot take: {error}"))
                })?;
            }
            if let Some(note) = parked
                && let Some(locked) = self.orders.get_mut(&order_no)
            {
                for (id, prior) in locked.prior_reports.iter_mut().filter(|(_, prior)| prior.note == Note::Parked) {
                    prior.note = note;
                    self.prior_reports.insert(id.clone(), prior.clone());
                }
                self.unparked.insert(order_no, note);
            }
        }
        let prior = PriorReport { provider: report.provider, event: report.event.clone(), note };
        self.add_prior_report(id.clone(), prior);
        self.new_reports.insert(id, report);
        Ok(ReportOutcome::Recorded { note, steps, parked, is_new: true })
    }
}

fn decide(locked: &LockedOrder, report: &Report) -> Decision {
    let prior: Vec<PriorReport> = locked.prior_reports.iter().map(|(_, prior)| prior.clone()).collect();
    let amount = locked.unit_price.saturating_mul(i64::from(locked.order.quantity));
    judge(locked.order.state, amount, locked.currency, &prior, report.provider, &report.event)
}

fn only(note: Note) -> Decision {
    Decision { note, steps: [None; 2], parked: None }
}

fn repeat(prior: &PriorReport) -> ReportOutcome {
    ReportOutcome::Recorded { note: prior.note, steps: [None; 2], parked: None, is_new: false }
}
