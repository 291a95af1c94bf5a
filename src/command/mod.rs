//! What clients ask for, as typed commands.

mod json;
mod key;

pub use json::Object;
pub use key::{key_of, need_key};
