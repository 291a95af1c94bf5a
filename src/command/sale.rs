//! Creating a sale.

use std::collections::HashSet;

use serde::{Deserialize, Deserializer};

use super::bounds::{from_one, from_zero, malformed, name, word};
use super::json::Object;
use super::time::time;
use crate::limits;
use crate::order::{Boundary, Currency, NewSale, NewSku, OnDuplicate, Refusal, Rules, Zone};

/// A sale as operators send it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawSale {
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
    #[serde(default, deserialize_with = "present")]
    payment_timeout_s: Option<Option<u64>>,
    #[serde(default)]
    on_duplicate: Option<String>,
    #[serde(default)]
    require_token: Option<bool>,
    #[serde(default)]
    shards: Option<u64>,
    skus: Vec<Object<RawSku>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSku {
    sku_id: String,
    stock: i64,
    unit_price: i64,
    currency: String,
}

/// Tells a member that is `null` from one that is left out.
fn present<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Option<u64>>, D::Error> {
    Option::deserialize(value).map(Some)
}

impl RawSale {
    /// Checks every rule of the contract; the refusal names the first that the sale breaks. A sale that names no shards has
    /// `default_shards`.
    pub fn typed(self, default_shards: u16) -> Result<NewSale, Refusal> {
        let starts_at = time("starts_at", self.starts_at)?;
        let ends_at = time("ends_at", self.ends_at)?;
        if let (Some(starts_at), Some(ends_at)) = (starts_at, ends_at)
            && starts_at >= ends_at
        {
            return Err(malformed("ends_at must be later than starts_at"));
        }
        let payment_timeout_s = match self.payment_timeout_s {
            None => Rules::default().payment_timeout_s,
            Some(None) => None,
            Some(Some(seconds)) => Some(from_one("payment_timeout_s", seconds, limits::PAYMENT_TIMEOUT_S_MAX)?),
        };
        let shards = match self.shards {
            None => default_shards,
            Some(shards) => from_one("shards", shards, limits::SHARDS_MAX)?,
        };
        let user_limit = self.user_limit.map(|limit| from_one("user_limit", limit, u32::MAX)).transpose()?;
        Ok(NewSale {
            id: name("sale_id", &self.sale_id)?,
            rules: Rules {
                starts_at,
                ends_at,
                boundary: word("boundary", self.boundary, Boundary::parse)?,
                user_limit,
                payment_timeout_s,
                on_duplicate: word("on_duplicate", self.on_duplicate, OnDuplicate::parse)?,
                require_token: self.require_token.unwrap_or(false),
                shards,
                time_zone: zone(self.time_zone)?,
            },
            shards_named: self.shards.is_some(),
            skus: typed_skus(self.skus)?,
        })
    }
}

fn typed_skus(skus: Vec<Object<RawSku>>) -> Result<Vec<NewSku>, Refusal> {
    if skus.is_empty() || skus.len() > limits::SKUS_MAX {
        return Err(malformed(format!("a sale has 1 to {} skus", limits::SKUS_MAX)));
    }
    let mut seen = HashSet::new();
    let typed = |Object(sku): Object<RawSku>| {
        let id = name("sku_id", &sku.sku_id)?;
        if !seen.insert(id.clone()) {
            return Err(malformed(format!("sku_id {id} stands twice")));
        }
        Ok(NewSku {
            id,
            stock: from_zero("stock", sku.stock, limits::STOCK_UNITS_MAX)?,
            unit_price: from_zero("unit_price", sku.unit_price, limits::UNIT_PRICE_MAX)?,
            currency: Currency::parse(&sku.currency)
                .map_err(|_| malformed("currency must be three capital letters"))?,
        })
    };
    skus.into_iter().map(typed).collect()
}

fn zone(name: Option<String>) -> Result<Zone, Refusal> {
    let Some(name) = name else { return Ok(Zone::UTC) };
    let unknown = |_| malformed("time_zone must be a name of the IANA database, such as Asia/Shanghai");
    Zone::parse(&name).map_err(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::parse;
    use crate::order::Code;

    fn sale(members: &str) -> Result<NewSale, Refusal> {
        let body = format!(
            "{{\"sale_id\":\"s\",\"skus\":[{{\"sku_id\":\"a\",\"stock\":1,\"unit_price\":0,\"currency\":\"CNY\"}}]{members}}}"
        );
        parse::<RawSale>(body.as_bytes())?.typed(4)
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
