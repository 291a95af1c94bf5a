//! What ledgers in an SQL server share, whatever the driver.

pub(super) mod lookups;
