//! Which code the client gets when the gate or the ledger is in trouble.

use crate::order::Code;
use crate::{gate, ledger};

/// The code for trouble with the ledger.
pub(super) fn ledger_trouble(error: &ledger::Error) -> Code {
    match error {
        ledger::Error::Busy => Code::Overloaded,
        ledger::Error::Unavailable(_) | ledger::Error::Corrupt(_) => Code::LedgerUnavailable,
        ledger::Error::Unknown(_) => Code::UnknownOutcome,
    }
}

/// The code for trouble with the gate. A reservation that perhaps happened is no answer yet either.
pub(super) fn gate_trouble(error: &gate::Error) -> Code {
    match error {
        gate::Error::Unavailable(_) => Code::GateUnavailable,
        gate::Error::Unknown(_) => Code::UnknownOutcome,
        gate::Error::Busy => Code::Overloaded,
    }
}
