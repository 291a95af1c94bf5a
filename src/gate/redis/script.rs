//! The scripts in `lua/`, one per method of the gate, and the keys that each is given.

use super::key::Part;

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
    pub(super) fn keys(self) -> &'static [Part] {
        match self {
            Script::Load => &[Part::State, Part::Reservations, Part::Records, Part::Units],
            Script::Reserve => &[Part::State, Part::Reservations, Part::Records, Part::Units],
            Script::Settle => &[Part::State, Part::Reservations, Part::Records, Part::Units],
            Script::Switch => &[Part::State],
            Script::Adjust => &[Part::State],
            Script::ReturnUnits => &[Part::State, Part::Units],
            Script::Level => &[Part::State, Part::Reservations],
            Script::Overdue => &[Part::State, Part::Reservations],
        }
    }
}
