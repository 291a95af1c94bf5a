//! The outcomes of changes that tests expect.

use rushgate::ledger::{ChangeOutcome, ReportOutcome, StepOutcome};
use rushgate::order::{Note, Step};

/// It moves nothing.
pub(crate) fn heard(note: Note) -> ReportOutcome {
    ReportOutcome::Recorded { note, steps: [None; 2], parked: None, is_new: true }
}

/// It was kept before.
pub(super) fn known(note: Note) -> ReportOutcome {
    ReportOutcome::Recorded { note, steps: [None; 2], parked: None, is_new: false }
}

pub(super) fn applied(steps: [Option<Step>; 2], parked: Option<Note>) -> ReportOutcome {
    ReportOutcome::Recorded { note: Note::Applied, steps, parked, is_new: true }
}

pub(crate) fn paid() -> ReportOutcome {
    applied([Some(Step::Pay), None], None)
}

/// With a refund of a part that waited for it.
pub(super) fn paid_and_counted() -> ReportOutcome {
    applied([Some(Step::Pay), None], Some(Note::Counted))
}

pub(crate) fn paid_and_refunded() -> ReportOutcome {
    applied([Some(Step::Pay), Some(Step::Refund)], Some(Note::Applied))
}

pub(crate) fn refunded() -> ReportOutcome {
    applied([Some(Step::Refund), None], None)
}

/// An answer in words: what it is, and how the order stands.
pub(super) fn word(changed: &ChangeOutcome) -> String {
    match changed {
        ChangeOutcome::Step(StepOutcome::Done { order, returned }) => {
            let back = if returned.is_some() { " back" } else { "" };
            format!("done {} {}{back}", order.state.as_str(), order.state_version)
        }
        ChangeOutcome::Step(StepOutcome::Before(order)) => {
            format!("before {} {}", order.state.as_str(), order.state_version)
        }
        ChangeOutcome::Report(ReportOutcome::Recorded { note, .. }) => format!("heard {}", note.as_str()),
        ChangeOutcome::Step(StepOutcome::NotFound) | ChangeOutcome::Report(ReportOutcome::NotFound) => {
            "not found".to_owned()
        }
        ChangeOutcome::Step(StepOutcome::OtherContent) => "other content".to_owned(),
        ChangeOutcome::Step(StepOutcome::NotAllowed(state)) => format!("not allowed {}", state.as_str()),
    }
}
