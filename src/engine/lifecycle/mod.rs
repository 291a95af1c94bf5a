//! An order after it was made: steps, reports of payment providers, expiry, and the units that come back.

pub(super) mod changes;
pub(super) mod expiry;
pub(super) mod returns;
