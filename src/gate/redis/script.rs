//! The scripts in `lua/`, one per method of the gate, and the keys that each is given.

use super::key::KeyPart;

/// A script, called like its file and its method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Script {
    Load,
    Reserve,
    Settle,
    Switch,
    Adjust,
    ReturnUnits,
    Level,
    Overdue,
}

impl Script {
    /// All, each at the place that its number says.
    pub(super) const ALL: [Script; 8] = [
        Script::Load,
        Script::Reserve,
        Script::Settle,
        Script::Switch,
        Script::Adjust,
        Script::ReturnUnits,
        Script::Level,
        Script::Overdue,
    ];

    /// What Redis runs.
    pub(super) fn text(self) -> &'static str {
        match self {
            Script::Load => include_str!("../../../lua/load.lua"),
            Script::Reserve => include_str!("../../../lua/reserve.lua"),
            Script::Settle => include_str!("../../../lua/settle.lua"),
            Script::Switch => include_str!("../../../lua/switch.lua"),
            Script::Adjust => include_str!("../../../lua/adjust.lua"),
            Script::ReturnUnits => include_str!("../../../lua/return_units.lua"),
            Script::Level => include_str!("../../../lua/level.lua"),
            Script::Overdue => include_str!("../../../lua/overdue.lua"),
        }
    }

    /// Its KEYS, in order.
    pub(super) fn keys(self) -> &'static [KeyPart] {
        match self {
            Script::Load => &[KeyPart::State, KeyPart::Reservations, KeyPart::Records, KeyPart::Units],
            Script::Reserve => &[KeyPart::State, KeyPart::Reservations, KeyPart::Records, KeyPart::Units],
            Script::Settle => &[KeyPart::State, KeyPart::Reservations, KeyPart::Records, KeyPart::Units],
            Script::Switch => &[KeyPart::State],
            Script::Adjust => &[KeyPart::State],
            Script::ReturnUnits => &[KeyPart::State, KeyPart::Units],
            Script::Level => &[KeyPart::State, KeyPart::Reservations],
            Script::Overdue => &[KeyPart::State, KeyPart::Reservations],
        }
    }
}
