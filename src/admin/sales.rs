//! Making sales and changing them.

use std::collections::HashSet;
use std::sync::Arc;

use http::Request;
use hyper::body::Incoming;
use jiff::Timestamp;
use jiff::civil::DateTime;
use serde::{Deserialize, Deserializer};

use crate::clock::UnixMs;
use crate::command::Object;
use crate::engine::{Engine, RestockSale};
use crate::http::{MediaType, parse, read_json};
use crate::limits;
use crate::order::{Boundary, Code, Currency, Name, NewSale, NewSku, OnDuplicate, Refusal, Rules, Switch, Zone};
use crate::reply::{self, Answer};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SaleBody {
    sale_id: String,
    #[serde(default)]
    starts_at: Option<String>,
    #[serde(default)]
    ends_at: Option<String>,
    #[serde(default)]
    boundary: Option<String>,
    #[serde(default)]
    time_zone: Option<String>,
    #[serde(default)]
    user_limit: Option<u64>,
    /// Left out, it is the default; `null` means a sale without a payment step.
    #[serde(default, deserialize_with = "named")]
    payment_timeout_s: Option<Option<u64>>,
    #[serde(default)]
    on_duplicate: Option<String>,
    #[serde(default)]
    require_token: Option<bool>,
    #[serde(default)]
    shards: Option<u64>,
    skus: Vec<Object<SkuBody>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SkuBody {
    sku_id: String,
    stock: i64,
    unit_price: i64,
    currency: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RestockBody {
    change_id: String,
    sku_id: String,
    quantity: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// Tells a member that is `null` from one that is left out.
fn named<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Option<u64>>, D::Error> {
    Option::deserialize(value).map(Some)
}

/// `POST /admin/v1/sales`: 201 if it is new, 200 if the same sale exists.
pub(super) async fn create(
    engine: &Arc<Engine>,
    default_shards: u16,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let (head, body) = request.into_parts();
    let body = read_json(&head.headers, body, MediaType::Json).await?;
    let (is_new, view) = engine.create_sale(new_sale(parse(&body)?, default_shards)?).await?;
    let document = reply::sale(&view);
    Ok(if is_new { reply::created_json(document) } else { reply::ok_json(document) })
}

/// `POST …/restock`.
pub(super) async fn restock(
    engine: &Arc<Engine>,
    sale_id: &str,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let (head, body) = request.into_parts();
    let body = read_json(&head.headers, body, MediaType::Json).await?;
    let body: RestockBody = parse(&body)?;
    let units = body.quantity;
    if units == 0 || units.unsigned_abs() > limits::STOCK_UNITS_MAX.unsigned_abs() {
        return Err(malformed(format!(
            "quantity must be an integer other than 0, at most {}",
            limits::STOCK_UNITS_MAX
        )));
    }
    let change =
        RestockSale { change_id: name("change_id", &body.change_id)?, sku_id: name("sku_id", &body.sku_id)?, units };
    Ok(reply::ok_json(reply::sale(&engine.restock_sale(sale_id, change).await?)))
}

/// `POST …/pause`, `…/resume`, `…/end`.
pub(super) async fn switch(
    engine: &Arc<Engine>,
    sale_id: &str,
    switch: Switch,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let (head, body) = request.into_parts();
    let body = read_json(&head.headers, body, MediaType::JsonOrEmpty).await?;
    let Nothing {} = parse(&body)?;
    Ok(reply::ok_json(reply::sale(&engine.switch_sale(sale_id, switch).await?)))
}

/// Checks every rule of the contract; the first that is broken is named.
fn new_sale(body: SaleBody, default_shards: u16) -> Result<NewSale, Refusal> {
    let starts_at = time("starts_at", body.starts_at)?;
    let ends_at = time("ends_at", body.ends_at)?;
    if let (Some(starts_at), Some(ends_at)) = (starts_at, ends_at)
        && starts_at >= ends_at
    {
        return Err(malformed("ends_at must be later than starts_at"));
    }
    let payment_timeout_s = match body.payment_timeout_s {
        None => Rules::default().payment_timeout_s,
        Some(None) => None,
        Some(Some(seconds)) => Some(in_range("payment_timeout_s", seconds, limits::PAYMENT_TIMEOUT_S_MAX)?),
    };
    let shards = match body.shards {
        None => default_shards,
        Some(shards) => in_range("shards", shards, limits::SHARDS_MAX)?,
    };
    let user_limit = body.user_limit.map(|limit| in_range("user_limit", limit, u32::MAX)).transpose()?;
    Ok(NewSale {
        id: name("sale_id", &body.sale_id)?,
        rules: Rules {
            starts_at,
            ends_at,
            boundary: word("boundary", body.boundary, Boundary::parse)?,
            user_limit,
            payment_timeout_s,
            on_duplicate: word("on_duplicate", body.on_duplicate, OnDuplicate::parse)?,
            require_token: body.require_token.unwrap_or(false),
            shards,
            time_zone: zone(body.time_zone)?,
        },
        shards_named: body.shards.is_some(),
        skus: new_skus(body.skus)?,
    })
}

fn new_skus(bodies: Vec<Object<SkuBody>>) -> Result<Vec<NewSku>, Refusal> {
    if bodies.is_empty() || bodies.len() > limits::SKUS_MAX {
        return Err(malformed(format!("a sale has 1 to {} skus", limits::SKUS_MAX)));
    }
    let mut seen = HashSet::new();
    bodies
        .into_iter()
        .map(|Object(body)| {
            let id = name("sku_id", &body.sku_id)?;
            if !seen.insert(id.clone()) {
                return Err(malformed(format!("sku_id {id} stands twice")));
            }
            if !(0..=limits::STOCK_UNITS_MAX).contains(&body.stock) {
                return Err(malformed(format!("stock must be an integer from 0 to {}", limits::STOCK_UNITS_MAX)));
            }
            if !(0..=limits::UNIT_PRICE_MAX).contains(&body.unit_price) {
                return Err(malformed(format!("unit_price must be an integer from 0 to {}", limits::UNIT_PRICE_MAX)));
            }
            let currency =
                Currency::parse(&body.currency).map_err(|_| malformed("currency must be three capital letters"))?;
            Ok(NewSku { id, stock: body.stock, unit_price: body.unit_price, currency })
        })
        .collect()
}

fn malformed(detail: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    Refusal::because(Code::MalformedRequest, detail)
}

fn name(member: &str, text: &str) -> Result<Name, Refusal> {
    Name::parse(text).map_err(|_| malformed(format!("{member} must be 1-64 of A-Z a-z 0-9 . _ -")))
}

/// A whole number from 1 to the largest that `T` may hold here.
fn in_range<T: TryFrom<u64> + PartialOrd + std::fmt::Display>(member: &str, n: u64, max: T) -> Result<T, Refusal> {
    let refusal = malformed(format!("{member} must be an integer from 1 to {max}"));
    T::try_from(n).ok().filter(|value| n >= 1 && *value <= max).ok_or(refusal)
}

fn word<T: Default>(member: &str, text: Option<String>, parse: impl Fn(&str) -> Option<T>) -> Result<T, Refusal> {
    match text {
        None => Ok(T::default()),
        Some(text) => {
            parse(&text).ok_or_else(|| malformed(format!("{member} has a value that is not in the contract")))
        }
    }
}

fn zone(name: Option<String>) -> Result<Zone, Refusal> {
    match name {
        None => Ok(Zone::UTC),
        Some(name) => Zone::parse(&name)
            .map_err(|_| malformed("time_zone must be a name of the IANA database, such as Asia/Shanghai")),
    }
}

fn time(member: &str, text: Option<String>) -> Result<Option<UnixMs>, Refusal> {
    let Some(text) = text else { return Ok(None) };
    let parsed = if is_rfc3339(&text) { unix_ms(&text) } else { None };
    let detail = || malformed(format!("{member} must be an RFC 3339 time, as 2026-11-20T12:00:00.000Z"));
    parsed.map(Some).ok_or_else(detail)
}

fn unix_ms(text: &str) -> Option<UnixMs> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at.as_millisecond());
    }
    // The last day of the year 9999, which some write for "never", has no timestamp here: it might have no local time.
    let at: DateTime = text.strip_suffix(['Z', 'z']).or_else(|| text.strip_suffix("+00:00"))?.parse().ok()?;
    let since = at.duration_since(DateTime::constant(1970, 1, 1, 0, 0, 0, 0));
    UnixMs::try_from(since.as_millis()).ok()
}

/// Whether a text that reads as a time has the form of RFC 3339: the parser takes more than that.
fn is_rfc3339(text: &str) -> bool {
    let digits = |part: &[u8]| part.iter().all(u8::is_ascii_digit);
    let Some((date_time, rest)) = text.as_bytes().split_at_checked(19) else { return false };
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T' | b't', h1, h2, b':', n1, n2, b':', s1, s2] = date_time
    else {
        return false;
    };
    let zone = match rest {
        [b'.', fraction @ ..] => {
            let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
            fraction.get(digits.max(1)..).unwrap_or_default()
        }
        other => other,
    };
    let zone_is_good = match zone {
        [b'Z' | b'z'] => true,
        [b'+' | b'-', h1, h2, b':', m1, m2] => digits(&[*h1, *h2, *m1, *m2]),
        _ => false,
    };
    zone_is_good && digits(&[*y1, *y2, *y3, *y4, *m1, *m2, *d1, *d2, *h1, *h2, *n1, *n2, *s1, *s2])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sale(members: &str) -> Result<NewSale, Refusal> {
        let body = format!(
            "{{\"sale_id\":\"s\",\"skus\":[{{\"sku_id\":\"a\",\"stock\":1,\"unit_price\":0,\"currency\":\"CNY\"}}]{members}}}"
        );
        new_sale(parse(body.as_bytes())?, 4)
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let new = sale("").unwrap();
        assert_eq!((new.rules.payment_timeout_s, new.rules.shards, new.shards_named), (Some(900), 4, false));
        assert_eq!(new.rules.boundary, Boundary::Request);
        assert_eq!(sale(",\"payment_timeout_s\":null").unwrap().rules.payment_timeout_s, None);
        assert_eq!(sale(",\"user_limit\":null,\"boundary\":null").unwrap().rules.user_limit, None);
        let timed = sale(",\"starts_at\":\"2026-11-20T20:00:00.5+08:00\"").unwrap();
        assert_eq!(timed.rules.starts_at, Some(1_795_176_000_500));
        for (text, ms) in [
            ("9999-12-30T22:00:00.000Z", 253_402_207_200_000),
            ("9999-12-30T22:00:01.000Z", 253_402_207_201_000),
            ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
            ("9999-12-31t23:59:59.9999z", 253_402_300_799_999),
            ("9999-12-31T23:59:59+00:00", 253_402_300_799_000),
        ] {
            assert_eq!(sale(&format!(",\"ends_at\":\"{text}\"")).unwrap().rules.ends_at, Some(ms), "{text}");
        }
    }

    #[test]
    fn impossible_values_are_refused_by_name() {
        let table = [
            (",\"shards\":0", "shards"),
            (",\"shards\":1025", "shards"),
            (",\"shards\":1.0", "floating point"),
            (",\"user_limit\":0", "user_limit"),
            (",\"payment_timeout_s\":0", "payment_timeout_s"),
            (",\"payment_timeout_s\":-1", "invalid value"),
            (",\"boundary\":\"user\"", "boundary"),
            (",\"starts_at\":\"tomorrow\"", "starts_at"),
            (",\"starts_at\":\"-000500-01-01T00:00:00Z\"", "starts_at"),
            (",\"starts_at\":\"2024-06-19T15:22:45-04[America/New_York]\"", "starts_at"),
            (",\"starts_at\":\"2024-06-19T15:22:45\"", "starts_at"),
            (",\"starts_at\":\"2024-06-19T15:22:45.Z\"", "starts_at"),
            (",\"ends_at\":\"9999-12-32T00:00:00Z\"", "ends_at"),
            (",\"ends_at\":\"9999-12-31T23:59:59-01:00\"", "ends_at"),
            (",\"starts_at\":\"2026-11-20T12:00:00Z\",\"ends_at\":\"2026-11-20T12:00:00Z\"", "ends_at"),
            (",\"colour\":1", "colour"),
            (",\"shards\":1,\"shards\":1", "duplicate"),
        ];
        for (members, named) in table {
            let refusal = sale(members).unwrap_err();
            assert_eq!(refusal.code, Code::MalformedRequest, "{members}");
            assert!(refusal.detail.as_ref().unwrap().contains(named), "{members}: {refusal:?}");
        }
    }
}
