//! Taking a step in the life of an order.

use super::context::{Principal, RequestContext};
use super::key::required;
use crate::order::{Code, InvalidKey, Key, OrderNo, Refusal, Step};

/// A request for a step as a transport reads it.
#[derive(Debug)]
pub struct RawStep<'a> {
    /// The order's number.
    pub order_no: &'a str,
    /// The step.
    pub step: Step,
    /// Whether the units of a refunded order go back on sale.
    pub restock: bool,
    /// The key that was sent.
    pub key: Result<Option<Key>, InvalidKey>,
}

/// A request for a step in the life of an order.
#[derive(Clone, Debug)]
pub struct TakeStep {
    /// The request and who asks: a buyer reaches their own orders only.
    pub context: RequestContext<Principal>,
    /// The order.
    pub order_no: OrderNo,
    /// The step.
    pub step: Step,
    /// Whether the units of a refunded order go back on sale.
    pub restock: bool,
    /// The client's key.
    pub key: Key,
}

impl RawStep<'_> {
    /// Checks the request: a step requires a key.
    pub fn typed(self, context: RequestContext<Principal>) -> Result<TakeStep, Refusal> {
        let key = required(self.key)?;
        // A text that cannot be a number of ours names no order.
        let order_no = OrderNo::parse(self.order_no).ok_or(Code::OrderNotFound)?;
        Ok(TakeStep { context, order_no, step: self.step, restock: self.restock, key })
    }
}
