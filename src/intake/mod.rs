//! The ways in for buyers and payment providers.

mod guard;
mod http;

pub use self::guard::{Rates, RequestGuard};
pub use self::http::{Intake, Parts};
