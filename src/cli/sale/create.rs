//! `sale create`: from flags, or from a file that holds what the admin listener takes.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{Ask, created, name};
use crate::cli::CommandError;
use crate::limits;
use crate::order::{Currency, Zone};

/// Make a sale; the same again changes nothing
#[derive(Args)]
#[command(after_help = "\
What is not said keeps the server's default: open at once, no end, no user limit, 900 s to pay.

EXAMPLES
  rushgate sale create demo --sku sku-1:10000:1999:CNY
  rushgate sale create spring --sku shoe-42:300:9900:EUR --sku shoe-43:300:9900:EUR --user-limit 1
  rushgate sale create night --sku s:5:100:USD --starts-at 2026-11-27T00:00:00+08:00 --shards 8
  rushgate sale create gift --sku mug:50:0:USD --payment-timeout-s none --boundary user_sale
  rushgate sale create daily --sku s:90:100:CNY --boundary user_sku_day --time-zone Asia/Shanghai
  rushgate sale create --file sale.json")]
pub(in crate::cli) struct Create {
    /// The sale's id: 1-64 letters, digits, dots, underscores or dashes
    #[arg(value_name = "SALE_ID", value_parser = name, required_unless_present = "file")]
    sale_id: Option<String>,
    /// JSON as POST /admin/v1/sales takes it, instead of flags; - reads stdin
    #[arg(long, value_name = "FILE", conflicts_with_all = [
        "sale_id", "sku", "starts_at", "ends_at", "boundary", "time_zone", "user_limit", "payment_timeout_s", "on_duplicate",
        "require_token", "shards",
    ])]
    file: Option<PathBuf>,
    /// An item: id, units, price of one unit in minor units, currency; repeat for more
    #[arg(long, value_name = "ID:STOCK:PRICE:CURRENCY", value_parser = sku, required_unless_present = "file")]
    sku: Vec<SkuArg>,
    /// Opens then, such as 2026-11-27T00:00:00+08:00
    #[arg(long, value_name = "TIME", value_parser = time)]
    starts_at: Option<Timestamp>,
    /// Ends then
    #[arg(long, value_name = "TIME", value_parser = time)]
    ends_at: Option<Timestamp>,
    /// What counts as the same order: request (the client's key), or one per user and what is named
    #[arg(long, value_parser = ["request", "user_sku", "user_sale", "user_sku_day"])]
    boundary: Option<String>,
    /// Where the days of user_sku_day begin, such as Asia/Shanghai; UTC if not said
    #[arg(long, value_name = "ZONE", value_parser = zone)]
    time_zone: Option<String>,
    /// Most units of one sku per user
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    user_limit: Option<u32>,
    /// Seconds to pay, or none: no payment step
    #[arg(long, value_name = "N|none", value_parser = payment_timeout)]
    payment_timeout_s: Option<PaymentTimeout>,
    /// Answer to a repeat: replay (the first answer again) or conflict
    #[arg(long, value_parser = ["replay", "conflict"])]
    on_duplicate: Option<String>,
    /// Take orders only with a purchase token
    #[arg(long)]
    require_token: bool,
    /// Virtual shards, 1 to 1024
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(limits::SHARDS_MAX)))]
    shards: Option<u16>,
    #[command(flatten)]
    ask: Ask,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SkuArg {
    id: String,
    stock: i64,
    unit_price: i64,
    currency: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PaymentTimeout {
    NoPayment,
    Seconds(u32),
}

impl Create {
    pub(super) fn run(&self) -> Result<(), CommandError> {
        let body = match &self.file {
            Some(path) => read(path)?,
            None => self.body().to_string(),
        };
        let answer = self.ask.server.client()?.post("/admin/v1/sales", body)?;
        self.ask.print(&answer, created)
    }

    /// Only what was said: defaults are the server's.
    pub(super) fn body(&self) -> Value {
        let skus = self.sku.iter().map(
            |sku| json!({"sku_id": sku.id, "stock": sku.stock, "unit_price": sku.unit_price, "currency": sku.currency}),
        );
        let mut body = Map::new();
        let mut say = |member: &str, value: Option<Value>| {
            if let Some(value) = value {
                body.insert(member.to_owned(), value);
            }
        };
        say("sale_id", self.sale_id.as_deref().map(Value::from));
        say("skus", Some(skus.collect()));
        say("starts_at", self.starts_at.map(|time| format!("{time:.3}").into()));
        say("ends_at", self.ends_at.map(|time| format!("{time:.3}").into()));
        say("boundary", self.boundary.as_deref().map(Value::from));
        say("time_zone", self.time_zone.as_deref().map(Value::from));
        say("user_limit", self.user_limit.map(Value::from));
        say("payment_timeout_s", self.payment_timeout_s.map(PaymentTimeout::as_json));
        say("on_duplicate", self.on_duplicate.as_deref().map(Value::from));
        say("require_token", self.require_token.then_some(Value::Bool(true)));
        say("shards", self.shards.map(Value::from));
        Value::Object(body)
    }
}

impl PaymentTimeout {
    fn as_json(self) -> Value {
        match self {
            PaymentTimeout::NoPayment => Value::Null,
            PaymentTimeout::Seconds(n) => n.into(),
        }
    }
}

/// Reads a sale, and no more of a file than a request may carry.
fn read(path: &Path) -> Result<String, CommandError> {
    let max = limits::BODY_BYTES_MAX;
    let mut text = String::new();
    let most = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    let n = if path == Path::new("-") {
        std::io::stdin().lock().take(most).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(most).read_to_string(&mut text))
    };
    match n {
        Ok(n) if n <= max => Ok(text),
        Ok(_) => Err(CommandError::Usage(format!("{}: longer than {max} bytes", path.display()))),
        Err(error) => Err(CommandError::Usage(format!("{}: {error}", path.display()))),
    }
}

pub(super) fn sku(text: &str) -> Result<SkuArg, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let [id, stock, price, currency] = parts.as_slice() else {
        return Err("must be ID:STOCK:PRICE:CURRENCY, such as sku-1:10000:1999:CNY".to_owned());
    };
    let number = |what: &str, text: &str, max: i64| {
        let number = text.parse().ok().filter(|n| (0..=max).contains(n));
        number.ok_or_else(|| format!("{what} must be a whole number, 0 to {max}"))
    };
    Ok(SkuArg {
        id: name(id)?,
        stock: number("STOCK", stock, limits::STOCK_UNITS_MAX)?,
        unit_price: number("PRICE (in minor units)", price, limits::UNIT_PRICE_MAX)?,
        currency: Currency::parse(currency).map_err(|_| "CURRENCY must be three capital letters")?.as_str().to_owned(),
    })
}

pub(super) fn payment_timeout(text: &str) -> Result<PaymentTimeout, String> {
    let max = limits::PAYMENT_TIMEOUT_S_MAX;
    match text.parse() {
        Ok(n) if (1..=max).contains(&n) => Ok(PaymentTimeout::Seconds(n)),
        _ if text == "none" => Ok(PaymentTimeout::NoPayment),
        _ => Err(format!("must be none, or seconds from 1 to {max}")),
    }
}

fn zone(text: &str) -> Result<String, String> {
    Zone::parse(text)
        .map(|zone| zone.as_str().to_owned())
        .map_err(|_| "must be a name such as Asia/Shanghai or UTC".to_owned())
}

fn time(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| "must be a time with its offset, such as 2026-11-27T00:00:00+08:00 or …Z".to_owned())
}
