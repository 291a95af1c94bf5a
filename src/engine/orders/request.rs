//! A request for an order, and which operation it is: a token says so, whatever the sale's boundary and the key are.

use super::Orders;
use crate::clock::UnixMs;
use crate::command::PlaceOrder;
use crate::engine::catalog::ActiveSale;
use crate::order::{Code, Fingerprint, Identity, OrderNo, Refusal, Reservation, UserId, place_fingerprint};

/// A request whose order number is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct IdentifiedOrder {
    pub(super) order_no: OrderNo,
    pub(super) fingerprint: Fingerprint,
    pub(super) user: UserId,
    /// Position of the sku in the sale; `None` if the sale has no such sku. That is a content like any other until it is
    /// known that the operation is a new one.
    pub(super) sku: Option<u16>,
    pub(super) quantity: u32,
    pub(super) created_at: UnixMs,
    /// From then on the request's purchase token makes no new order; `None` without a token.
    pub(super) token_expires_at: Option<UnixMs>,
}

impl IdentifiedOrder {
    /// When the request's token expired, if it did before the request came.
    pub(super) fn expired_token(&self) -> Option<UnixMs> {
        self.token_expires_at.filter(|expires_at| self.created_at >= *expires_at)
    }

    /// What the gate reserves for the order.
    pub(super) fn reservation(&self, sku: u16) -> Reservation {
        Reservation {
            order_no: self.order_no,
            fingerprint: self.fingerprint,
            user: self.user,
            sku,
            quantity: self.quantity,
            created_at: self.created_at,
        }
    }

    /// What a look of the gate needs: its answer depends on neither sku nor units.
    pub(super) fn for_look(&self) -> Reservation {
        self.reservation(self.sku.unwrap_or_default())
    }
}

impl Orders {
    /// What the request wants and which operation it is.
    pub(super) fn identify(&self, active: &ActiveSale, request: &PlaceOrder<'_>) -> Result<IdentifiedOrder, Refusal> {
        let sale = &active.sale;
        let (user, sku_id) = (request.context.principal, request.sku_id.as_str());
        let created_at = self.core.clock.now_ms();
        let token = self.token_of(sale, user, request.token)?;
        let identity = match (&token, &request.key) {
            (Some(token), _) => Some(Identity::Token(&token.id)),
            (None, _) if !sale.rules.boundary.needs_key() => Identity::of(&sale.rules, None, sku_id, created_at),
            (None, Ok(key)) => Identity::of(&sale.rules, key.as_ref(), sku_id, created_at),
            (None, Err(invalid)) => return Err((*invalid).into()),
        };
        let identity = identity.ok_or(Code::IdempotencyKeyMissing)?;
        let (salt, id) = (&sale.salt, sale.id.as_str());
        Ok(IdentifiedOrder {
            order_no: OrderNo::derive(salt, id, user, identity),
            fingerprint: place_fingerprint(salt, id, user, sku_id, request.quantity),
            user,
            sku: sale.sku(sku_id).map(|(sku, _)| sku),
            quantity: request.quantity,
            created_at,
            token_expires_at: token.map(|token| token.expires_at),
        })
    }
}
