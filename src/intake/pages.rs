//! Pages of a buyer's orders.

use crate::engine::Engine;
use crate::limits;
use crate::order::{Code, OrderNo, OrderView, Refusal, UserId};

/// A page of orders, newest first.
pub(super) struct OrderPage {
    pub(super) orders: Vec<OrderView>,
    /// The cursor of the next page, if there is one.
    pub(super) next: Option<OrderNo>,
}

/// The page of `user`'s orders in a sale that follows `cursor`.
pub(super) async fn page(
    engine: &Engine,
    user: UserId,
    sale_id: &str,
    cursor: Option<&str>,
    limit: u32,
) -> Result<OrderPage, Refusal> {
    if !(1..=limits::PAGE_ORDERS_MAX).contains(&limit) {
        return Err(not_a_limit());
    }
    let before = match cursor {
        None => None,
        Some(cursor) => Some(seq_of(engine, user, sale_id, cursor).await?),
    };
    // One order more than the client asks for tells whether there is a next page.
    let mut orders = engine.orders(user, sale_id, before, limit + 1).await?;
    let size = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_next = orders.len() > size;
    orders.truncate(size);
    let next = orders.last().filter(|_| has_next).map(|view| view.order.order_no);
    Ok(OrderPage { orders, next })
}

/// The refusal of a `limit` that is no number, or out of bounds.
pub(super) fn not_a_limit() -> Refusal {
    let detail = format!("limit must be an integer from 1 to {}", limits::PAGE_ORDERS_MAX);
    Refusal::because(Code::MalformedRequest, detail)
}

/// The position of the order that a page ended with. The cursor is the number of that order: it does not show how many orders
/// there are, and works for its owner only.
async fn seq_of(engine: &Engine, user: UserId, sale_id: &str, cursor: &str) -> Result<i64, Refusal> {
    let refusal = || Refusal::because(Code::MalformedRequest, "cursor does not come from this listing");
    let order_no = OrderNo::parse(cursor).ok_or_else(refusal)?;
    let found = engine.order(Some(user), order_no).await;
    let last = found.map_err(|other| if other.code == Code::OrderNotFound { refusal() } else { other })?;
    if last.sale.id.as_str() == sale_id { Ok(last.order.seq) } else { Err(refusal()) }
}
