//! JSON bodies. Those of orders are hot and written byte by byte: every value in them is a number, a name that needs no
//! escaping, or a time.

use http::StatusCode;
use jiff::civil::DateTime;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::clock::UnixMs;
use crate::order::{
    Boundary, OrderNo, OrderView, Receipt, Refusal, Retry, Sale, SaleState, SaleView, Sku, SkuLevel, SkuView, UserId,
};

/// The answer to a created order, the same bytes each time; `None` for a receipt of a sku that its sale does not have.
pub fn created(receipt: &Receipt) -> Option<Vec<u8>> {
    let sku = receipt.sku()?;
    let mut body = Vec::with_capacity(384);
    let what = OrderMembers {
        order_no: receipt.order_no,
        sale_id: receipt.sale.id.as_str(),
        sku_id: sku.id.as_str(),
        user: receipt.user,
        quantity: receipt.quantity,
        unit_price: sku.unit_price,
        currency: sku.currency.as_str(),
        state: receipt.sale.rules.first_state().as_str(),
        created_at: receipt.created_at,
        expires_at: receipt.expires_at(),
    };
    what.write(&mut body);
    body.push(b'}');
    Some(body)
}

/// An order as it stands now.
pub fn order(view: &OrderView) -> Vec<u8> {
    let mut body = Vec::with_capacity(512);
    write_order(view, &mut body);
    body
}

/// A page of orders.
pub fn orders(views: &[OrderView], next_cursor: Option<OrderNo>) -> Vec<u8> {
    let mut body = Vec::with_capacity(64 + views.len() * 512);
    body.extend_from_slice(b"{\"orders\":[");
    for (i, view) in views.iter().enumerate() {
        if i > 0 {
            body.push(b',');
        }
        write_order(view, &mut body);
    }
    body.extend_from_slice(b"],\"next_cursor\":");
    match next_cursor {
        Some(order_no) => text(&mut body, &order_no.to_ascii()),
        None => body.extend_from_slice(b"null"),
    }
    body.push(b'}');
    body
}

fn write_order(view: &OrderView, body: &mut Vec<u8>) {
    write_members(view, body);
    body.push(b'}');
}

/// An order without the brace at its end.
pub(super) fn write_members(view: &OrderView, body: &mut Vec<u8>) {
    let order = &view.order;
    let what = OrderMembers {
        order_no: order.order_no,
        sale_id: view.sale.id.as_str(),
        sku_id: view.sku.id.as_str(),
        user: order.user,
        quantity: order.quantity,
        unit_price: view.sku.unit_price,
        currency: view.sku.currency.as_str(),
        state: order.state.as_str(),
        created_at: order.created_at,
        expires_at: view.sale.rules.expires_at(order.created_at),
    };
    what.write(body);
    member(body, b",\"state_version\":");
    number(body, i64::from(order.state_version));
    member(body, b",\"updated_at\":");
    time(body, order.updated_at);
}

/// The members that every view of an order has.
struct OrderMembers<'a> {
    order_no: OrderNo,
    sale_id: &'a str,
    sku_id: &'a str,
    user: UserId,
    quantity: u32,
    unit_price: i64,
    currency: &'a str,
    state: &'a str,
    created_at: UnixMs,
    expires_at: Option<UnixMs>,
}

impl OrderMembers<'_> {
    /// Writes the members without the closing brace.
    fn write(&self, body: &mut Vec<u8>) {
        member(body, b"{\"order_no\":");
        text(body, &self.order_no.to_ascii());
        member(body, b",\"sale_id\":");
        text(body, self.sale_id.as_bytes());
        member(body, b",\"sku_id\":");
        text(body, self.sku_id.as_bytes());
        member(body, b",\"user_id\":");
        number(body, self.user.get());
        member(body, b",\"quantity\":");
        number(body, i64::from(self.quantity));
        member(body, b",\"unit_price\":");
        number(body, self.unit_price);
        member(body, b",\"amount\":");
        number(body, self.unit_price.saturating_mul(i64::from(self.quantity)));
        member(body, b",\"currency\":");
        text(body, self.currency.as_bytes());
        member(body, b",\"state\":");
        text(body, self.state.as_bytes());
        member(body, b",\"created_at\":");
        time(body, self.created_at);
        member(body, b",\"expires_at\":");
        match self.expires_at {
            Some(at) => time(body, at),
            None => body.extend_from_slice(b"null"),
        }
    }
}

fn member(body: &mut Vec<u8>, name: &[u8]) {
    body.extend_from_slice(name);
}

/// A text that needs no escaping.
fn text(body: &mut Vec<u8>, text: &[u8]) {
    body.push(b'"');
    body.extend_from_slice(text);
    body.push(b'"');
}

fn number(body: &mut Vec<u8>, number: i64) {
    body.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn time(body: &mut Vec<u8>, at: UnixMs) {
    text(body, rfc3339(at).as_bytes());
}

/// RFC 3339 with milliseconds, in UTC.
pub(super) fn rfc3339(at: UnixMs) -> String {
    if let Ok(at) = Timestamp::from_millisecond(at) {
        return format!("{at:.3}");
    }
    // `Timestamp` ends before the last day of the year 9999, on which a sale may end. The settings allow nothing later.
    let since = SignedDuration::from_millis(at);
    let at = DateTime::constant(1970, 1, 1, 0, 0, 0, 0).checked_add(since).unwrap_or(DateTime::MAX);
    format!("{at:.3}Z")
}

/// A problem document.
pub(super) fn problem(refusal: &Refusal, status: StatusCode) -> Vec<u8> {
    #[derive(Serialize)]
    struct ProblemDocument<'a> {
        r#type: String,
        title: &'a str,
        status: u16,
        code: &'a str,
        retryable: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        detail: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        order_no: Option<String>,
    }
    let code = refusal.code;
    document(&ProblemDocument {
        r#type: format!("/problems/{}", code.as_str()),
        title: code.title(),
        status: status.as_u16(),
        code: code.as_str(),
        retryable: code.retry() != Retry::Never,
        detail: refusal.detail.as_deref(),
        order_no: refusal.order_no.map(|order_no| order_no.to_string()),
    })
}

/// A sale as buyers see it. `left` is a hint: it is old when the client reads it.
pub fn public_sale(sale: &Sale, state: SaleState, left: &[i64]) -> Vec<u8> {
    #[derive(Serialize)]
    struct PublicSale<'a> {
        sale_id: &'a str,
        state: &'a str,
        starts_at: Option<String>,
        ends_at: Option<String>,
        items: Vec<Item<'a>>,
    }
    #[derive(Serialize)]
    struct Item<'a> {
        sku_id: &'a str,
        unit_price: i64,
        currency: &'a str,
        left_hint: i64,
    }
    impl<'a> From<(&'a Sku, &i64)> for Item<'a> {
        fn from((sku, left): (&'a Sku, &i64)) -> Self {
            let (sku_id, currency) = (sku.id.as_str(), sku.currency.as_str());
            Item { sku_id, unit_price: sku.unit_price, currency, left_hint: *left }
        }
    }
    document(&PublicSale {
        sale_id: sale.id.as_str(),
        state: state.as_str(),
        starts_at: sale.rules.starts_at.map(rfc3339),
        ends_at: sale.rules.ends_at.map(rfc3339),
        items: sale.skus.iter().zip(left).map(Item::from).collect(),
    })
}

/// A purchase token and when it expires.
pub fn purchase_token(token: &str, expires_at: UnixMs) -> Vec<u8> {
    #[derive(Serialize)]
    struct TokenDocument<'a> {
        token: &'a str,
        expires_at: String,
    }
    document(&TokenDocument { token, expires_at: rfc3339(expires_at) })
}

/// A sale as operators see it.
pub fn sale(view: &SaleView) -> Vec<u8> {
    document(&AdminSale::from(view))
}

/// All sales as operators see them.
pub fn sales(views: &[SaleView]) -> Vec<u8> {
    #[derive(Serialize)]
    struct SaleList<'a> {
        sales: Vec<AdminSale<'a>>,
    }
    document(&SaleList { sales: views.iter().map(AdminSale::from).collect() })
}

#[derive(Serialize)]
struct AdminSale<'a> {
    sale_id: &'a str,
    state: &'a str,
    starts_at: Option<String>,
    ends_at: Option<String>,
    boundary: &'a str,
    /// Only where days matter.
    #[serde(skip_serializing_if = "Option::is_none")]
    time_zone: Option<&'a str>,
    user_limit: Option<u32>,
    payment_timeout_s: Option<u32>,
    on_duplicate: &'a str,
    require_token: bool,
    shards: u16,
    skus: Vec<AdminSku<'a>>,
}

#[derive(Serialize)]
struct AdminSku<'a> {
    sku_id: &'a str,
    unit_price: i64,
    currency: &'a str,
    #[serde(flatten)]
    units: Units,
    shards: Vec<AdminShard>,
}

#[derive(Serialize)]
struct AdminShard {
    shard: usize,
    #[serde(flatten)]
    units: Units,
}

#[derive(Serialize)]
struct Units {
    total: i64,
    available: i64,
    held: i64,
    sold: i64,
}

impl<'a> From<&'a SaleView> for AdminSale<'a> {
    fn from(view: &'a SaleView) -> Self {
        let rules = &view.sale.rules;
        AdminSale {
            sale_id: view.sale.id.as_str(),
            state: view.state.as_str(),
            starts_at: rules.starts_at.map(rfc3339),
            ends_at: rules.ends_at.map(rfc3339),
            boundary: rules.boundary.as_str(),
            time_zone: (rules.boundary == Boundary::UserSkuDay).then(|| rules.time_zone.as_str()),
            user_limit: rules.user_limit,
            payment_timeout_s: rules.payment_timeout_s,
            on_duplicate: rules.on_duplicate.as_str(),
            require_token: rules.require_token,
            shards: rules.shards,
            skus: view.skus.iter().map(AdminSku::from).collect(),
        }
    }
}

impl<'a> From<&'a SkuView> for AdminSku<'a> {
    fn from(view: &'a SkuView) -> Self {
        let shards = view.shards.iter().enumerate();
        AdminSku {
            sku_id: view.sku.id.as_str(),
            unit_price: view.sku.unit_price,
            currency: view.sku.currency.as_str(),
            units: Units::from(&view.sum()),
            shards: shards.map(|(shard, level)| AdminShard { shard, units: Units::from(level) }).collect(),
        }
    }
}

impl From<&SkuLevel> for Units {
    fn from(level: &SkuLevel) -> Self {
        Units { total: level.total, available: level.available(), held: level.held, sold: level.sold }
    }
}

/// Every type above serializes: text keys, finite numbers.
fn document(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::order::{Code, Currency, Name, Rules, SaleNo, Salt, SkuNo, Switch};

    fn receipt(payment_timeout_s: Option<u32>) -> Receipt {
        let rules = Rules { payment_timeout_s, ..Rules::default() };
        let sku = Sku {
            no: SkuNo(1),
            id: Name::parse("sku-1").unwrap(),
            unit_price: 1999,
            currency: Currency::parse("CNY").unwrap(),
        };
        let sale = Sale {
            no: SaleNo(1),
            id: Name::parse("demo").unwrap(),
            rules,
            salt: Salt::new([0; 32]),
            derivation: 1,
            switch: Switch::Running,
            revision: 1,
            bypassed: false,
            skus: vec![sku],
        };
        Receipt {
            order_no: OrderNo::from_bytes([0; 16]),
            sale: Arc::new(sale),
            sku: 0,
            user: UserId::new(42).unwrap(),
            quantity: 2,
            created_at: 1_795_176_000_000,
        }
    }

    #[test]
    fn an_order_reads_as_the_contract_shows_it() {
        assert_eq!(
            String::from_utf8(created(&receipt(Some(900))).unwrap()).unwrap(),
            "{\"order_no\":\"00000000000000000000000000\",\"sale_id\":\"demo\",\"sku_id\":\"sku-1\",\"user_id\":42,\
             \"quantity\":2,\"unit_price\":1999,\"amount\":3998,\"currency\":\"CNY\",\"state\":\"pending_payment\",\
             \"created_at\":\"2026-11-20T12:00:00.000Z\",\"expires_at\":\"2026-11-20T12:15:00.000Z\"}"
        );
        let confirmed = String::from_utf8(created(&receipt(None)).unwrap()).unwrap();
        assert!(confirmed.contains("\"state\":\"confirmed\"") && confirmed.ends_with("\"expires_at\":null}"));
    }

    #[test]
    fn a_problem_has_the_members_of_the_contract() {
        let refusal = Refusal::because(Code::SoldOut, "a \"quoted\" detail");
        let document: Value = serde_json::from_slice(&problem(&refusal, StatusCode::CONFLICT)).unwrap();
        assert_eq!(
            document,
            json!({"type": "/problems/sold_out", "title": Code::SoldOut.title(), "status": 409, "code": "sold_out",
                   "retryable": false, "detail": "a \"quoted\" detail"})
        );
    }
}
