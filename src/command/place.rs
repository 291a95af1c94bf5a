//! Placing an order.

use super::bounds::{from_one, name_ref};
use super::context::RequestContext;
use crate::limits;
use crate::order::{InvalidKey, Key, NameRef, Refusal, UserId};

/// An order as a transport reads it.
#[derive(Debug)]
pub struct RawOrder<'a> {
    /// The sale's id.
    pub sale_id: &'a str,
    /// The sku's id.
    pub sku_id: &'a str,
    /// Units.
    pub quantity: u64,
    /// The key that was sent; an invalid one matters only where the sale needs a key.
    pub key: Result<Option<Key>, InvalidKey>,
    /// The purchase token that was sent; an empty text stands for a token that cannot be read.
    pub token: Option<&'a str>,
}

/// An order that a buyer places. It borrows from the request: nothing of it is copied on its way to the gate.
#[derive(Debug)]
pub struct PlaceOrder<'a> {
    /// The request and its buyer.
    pub context: RequestContext<UserId>,
    /// The sale's id.
    pub sale_id: NameRef<'a>,
    /// The sku's id.
    pub sku_id: NameRef<'a>,
    /// 1..=[`limits::QUANTITY_MAX`].
    pub quantity: u32,
    /// See [`RawOrder::key`].
    pub key: Result<Option<Key>, InvalidKey>,
    /// See [`RawOrder::token`].
    pub token: Option<&'a str>,
}

impl<'a> RawOrder<'a> {
    /// Checks the order.
    pub fn typed(self, context: RequestContext<UserId>) -> Result<PlaceOrder<'a>, Refusal> {
        let RawOrder { sale_id, sku_id, quantity, key, token } = self;
        Ok(PlaceOrder {
            context,
            quantity: from_one("quantity", quantity, limits::QUANTITY_MAX)?,
            sale_id: name_ref("sale_id", sale_id)?,
            sku_id: name_ref("sku_id", sku_id)?,
            key,
            token,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::RequestId;
    use super::*;
    use crate::order::Code;

    fn typed(sale_id: &str, sku_id: &str, quantity: u64) -> Result<(String, String, u32), Refusal> {
        let context = RequestContext::new(RequestId::next(), UserId::new(1).unwrap(), Duration::ZERO);
        let raw = RawOrder { sale_id, sku_id, quantity, key: Ok(None), token: None };
        let order = raw.typed(context)?;
        Ok((order.sale_id.as_str().to_owned(), order.sku_id.as_str().to_owned(), order.quantity))
    }

    #[test]
    fn an_order_has_a_quantity_and_two_names() {
        assert_eq!(typed("s", "a", 1), Ok(("s".to_owned(), "a".to_owned(), 1)));
        assert_eq!(typed("s", "a", 1_000_000).unwrap().2, limits::QUANTITY_MAX);
        for (refused, detail) in [
            (typed("s", "a", 0), "quantity must be an integer from 1 to 1000000"),
            (typed("s", "a", 1_000_001), "quantity must be an integer from 1 to 1000000"),
            (typed("s", "a", u64::MAX), "quantity must be an integer from 1 to 1000000"),
            (typed("", "a", 1), "sale_id must be 1-64 of A-Z a-z 0-9 . _ -"),
            (typed("s", "a b", 1), "sku_id must be 1-64 of A-Z a-z 0-9 . _ -"),
        ] {
            assert_eq!(refused, Err(Refusal::because(Code::MalformedRequest, detail)));
        }
    }
}
