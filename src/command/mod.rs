//! What clients ask for. A transport reads raw values and the [`RequestContext`]; this room checks them once and makes a typed
//! command of them, which the engine takes without another check. It knows no transport. It is pure, but for the context, which takes the
//! time and an id.

mod bounds;
mod context;
mod json;
mod key;
mod place;
mod policy;
mod restock;
mod sale;
mod step;
mod time;

pub use context::{Principal, RequestContext, RequestId};
pub use json::{Object, parse};
pub use key::{agreed, required};
pub use place::{PlaceOrder, RawOrder};
pub use policy::IdempotencyPolicy;
pub use restock::{RawRestock, RestockSale};
pub use sale::RawSale;
pub use step::{RawStep, TakeStep};
