//! `order`: one order of a running server, by its number or by the key that made it.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::client::ServerFlags;
use super::sale::name;
use super::table::table;
use super::{CommandError, screen};
use crate::order::{Key, UserId};

/// The members of an order, in the order in which they are shown.
const MEMBERS: &[&str] = &[
    "order_no",
    "state",
    "sale_id",
    "sku_id",
    "user_id",
    "quantity",
    "unit_price",
    "amount",
    "currency",
    "created_at",
    "expires_at",
    "updated_at",
    "state_version",
];

/// Look an order up
#[derive(Subcommand)]
#[command(after_help = "\
EXAMPLES
  rushgate order show 01J8ZQ5W6T9V3K7M2N4P8R0S1X
  rushgate order find --sale demo --user 42 --key checkout-7")]
pub(super) enum OrderCommand {
    Show(ShowOrderArgs),
    Find(Find),
}

/// Show the order with this number
#[derive(Args)]
#[command(after_help = "\
EXAMPLES
  rushgate order show 01J8ZQ5W6T9V3K7M2N4P8R0S1X
  rushgate order show 01J8ZQ5W6T9V3K7M2N4P8R0S1X --json")]
pub(super) struct ShowOrderArgs {
    /// The order's number, 26 characters
    #[arg(value_parser = order_no)]
    order_no: String,
    /// Print the server's JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerFlags,
}

/// Show the order that a user's key made
#[derive(Args)]
#[command(after_help = "\
EXAMPLES
  rushgate order find --sale demo --user 42 --key checkout-7
  rushgate order find --sale demo --user 42 --key checkout-7 --json")]
pub(super) struct Find {
    /// The sale
    #[arg(long, value_name = "SALE_ID", value_parser = name)]
    sale: String,
    /// The buyer, a positive number
    #[arg(long, value_name = "USER_ID", value_parser = user)]
    user: UserId,
    /// The Idempotency-Key that the buyer's client sent
    #[arg(long, value_parser = key)]
    key: String,
    /// Print the server's JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerFlags,
}

impl OrderCommand {
    pub(super) fn run(&self) -> Result<(), CommandError> {
        let (answer, json) = match self {
            OrderCommand::Show(show) => (show.server.client()?.get(&show.path())?, show.json),
            OrderCommand::Find(find) => (find.server.client()?.get(&find.path())?, find.json),
        };
        screen::out(&if json { answer.text() } else { shown(&answer.read()?) })
    }
}

impl ShowOrderArgs {
    fn path(&self) -> String {
        format!("/admin/v1/orders/{}/history", self.order_no)
    }
}

impl Find {
    fn path(&self) -> String {
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("sale_id", &self.sale)
            .append_pair("user_id", &self.user.to_string())
            .append_pair("idempotency_key", &self.key)
            .finish();
        format!("/admin/v1/orders?{query}")
    }
}

/// What happened to an order, and what payment providers reported of it, with the columns of each.
const LISTS: &[(&str, &[&str])] = &[
    ("history", &["state_version", "step", "from", "to", "by", "event_id", "at"]),
    ("payments", &["provider", "event_id", "type", "note", "payment_id", "amount", "currency", "at"]),
];

fn shown(order: &Value) -> String {
    let mut text = members(order);
    for (name, columns) in LISTS {
        let rows: Vec<Vec<String>> = order.get(*name).and_then(Value::as_array).map_or_else(Vec::new, |rows| {
            rows.iter().map(|row| columns.iter().map(|column| value(row.get(*column))).collect()).collect()
        });
        if !rows.is_empty() {
            text.push_str(&format!("\n\n{name}\n{}", table(columns, &rows)));
        }
    }
    text
}

fn value(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

fn members(order: &Value) -> String {
    let row = |member: &&str| {
        let text = order.get(*member)?;
        Some(vec![(*member).to_owned(), value(Some(text))])
    };
    table(&[], &MEMBERS.iter().filter_map(row).collect::<Vec<_>>())
}

fn order_no(text: &str) -> Result<String, String> {
    let is_one = text.len() == 26 && text.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase());
    if is_one { Ok(text.to_owned()) } else { Err("must be 26 digits and capital letters".to_owned()) }
}

fn user(text: &str) -> Result<UserId, String> {
    UserId::parse(text).map_err(|_| "must be a whole number above 0 and below 2^63".to_owned())
}

fn key(text: &str) -> Result<String, String> {
    Key::parse(text.as_bytes()).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_shown_member_by_member() {
        let order = serde_json::json!({
            "sale_id": "demo", "order_no": "A", "user_id": 42, "expires_at": null, "unknown": 1
        });
        let text = shown(&order);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines, [["order_no", "A"], ["sale_id", "demo"], ["user_id", "42"], ["expires_at", "-"]]);
    }

    #[test]
    fn what_happened_stands_below_in_columns() {
        let order = serde_json::json!({
            "order_no": "A", "payments": [],
            "history": [{"state_version": 2, "step": "cancel", "from": "pending_payment", "to": "cancelled",
                "by": "buyer", "at": "t"}]
        });
        let text = shown(&order);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[2], ["history"]);
        assert_eq!(lines[3], ["state_version", "step", "from", "to", "by", "event_id", "at"]);
        assert_eq!(lines[4], ["2", "cancel", "pending_payment", "cancelled", "buyer", "-", "t"]);
        assert!(!text.contains("payments"));
    }

    #[test]
    fn a_key_is_escaped_in_the_query() {
        let server = ServerFlags::default();
        let user = UserId::new(42).unwrap();
        let find = Find { sale: "s".into(), user, key: "\"a&b c=\"".into(), json: false, server };
        assert_eq!(find.path(), "/admin/v1/orders?sale_id=s&user_id=42&idempotency_key=%22a%26b+c%3D%22");
    }

    #[test]
    fn numbers_users_and_keys_are_checked_before_anything_is_sent() {
        assert!(order_no("01J8ZQ5W6T9V3K7M2N4P8R0S1X").is_ok());
        assert!(order_no("../admin").is_err() && order_no("01j8zq5w6t9v3k7m2n4p8r0s1x").is_err());
        assert!(user("0").is_err() && user("9223372036854775808").is_err() && user("1").is_ok());
        assert!(key("").is_err() && key("a,b").is_err() && key("a-b").is_ok());
    }
}
