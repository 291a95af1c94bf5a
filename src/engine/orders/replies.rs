//! The answers of the walk, and the log lines of those that are refusals.

use super::request::IdentifiedOrder;
use crate::clock::UnixMs;
use crate::command::PlaceOrder;
use crate::engine::catalog::ActiveSale;
use crate::order::{Code, Fingerprint, Key, OnDuplicate, OrderNo, Outcome, Receipt, Refusal, SaleState};

/// The answer to an operation that has made its order, with the fingerprint that it was recorded with.
pub(super) fn repeat(
    active: &ActiveSale,
    order: &IdentifiedOrder,
    fingerprint: Fingerprint,
    created_at: UnixMs,
) -> Result<Outcome, Refusal> {
    if fingerprint != order.fingerprint {
        return Err(Code::IdempotencyKeyReused.into());
    }
    match active.sale.rules.on_duplicate {
        OnDuplicate::Replay => Ok(Outcome::Replayed(receipt(active, order, created_at)?)),
        OnDuplicate::Conflict => {
            Err(Refusal { order_no: Some(order.order_no), ..Refusal::from(Code::IdempotencyConflict) })
        }
    }
}

pub(super) fn receipt(active: &ActiveSale, order: &IdentifiedOrder, created_at: UnixMs) -> Result<Receipt, Refusal> {
    let Some(sku) = order.sku else {
        crate::bug!("order {} is recorded with a sku that its sale does not have", order.order_no);
        return Err(Code::UnknownOutcome.into());
    };
    Ok(Receipt {
        order_no: order.order_no,
        sale: active.sale.clone(),
        sku,
        user: order.user,
        quantity: order.quantity,
        created_at,
    })
}

pub(super) fn not_open(state: SaleState, now_ms: UnixMs) -> Refusal {
    match state {
        SaleState::Scheduled(starts_at) => {
            let wait_ms = u64::try_from(starts_at.saturating_sub(now_ms)).unwrap_or(0);
            Refusal::from(Code::SaleNotOpen).retry_after(wait_ms.div_ceil(1000).max(1))
        }
        SaleState::Paused => Code::SalePaused.into(),
        SaleState::Ended => Code::SaleEnded.into(),
        // It opened between the gate's look and this one: the next try finds it open.
        SaleState::Open => Refusal::from(Code::SaleNotOpen).retry_after(1),
    }
}

pub(super) fn limit_reached(active: &ActiveSale) -> Refusal {
    let limit = active.sale.rules.user_limit.unwrap_or(0);
    Refusal::because(Code::LimitReached, format!("at most {limit} units of a sku per user"))
}

/// What the log line of a request says beside its answer.
#[derive(Default)]
pub(super) struct RequestLog {
    pub(super) order_no: Option<OrderNo>,
    /// Whether the gate or the ledger knew the order already.
    pub(super) hit: bool,
}

impl RequestLog {
    /// One line for each request that failed or that the engine turned away. A "no" of the sale is no trouble: it is
    /// counted, and logged at debug level only.
    pub(super) fn write(&self, request: &PlaceOrder<'_>, refusal: &Refusal) {
        let key = request.key.as_ref().ok().and_then(Option::as_ref).map_or("", Key::as_str);
        let order_no = self.order_no.map_or_else(|| "without a number".to_owned(), |no| no.to_string());
        let (code, hit, user) = (refusal.code.as_str(), self.hit, request.context.principal.get());
        let (request_id, sale) = (request.context.request_id, request.sale_id.as_str());
        match refusal.code {
            Code::Overloaded
            | Code::RateLimited
            | Code::GateUnavailable
            | Code::LedgerUnavailable
            | Code::UnknownOutcome => {
                tracing::warn!(%request_id, code, user, key, order_no, hit, sale, "did not take order {order_no} of user {user}: {code}");
            }
            _ => {
                tracing::debug!(%request_id, code, user, key, order_no, hit, sale, "refused order {order_no} of user {user}: {code}")
            }
        }
    }
}
