//! The `sale` commands against a server of a few lines.

use clap::Parser;
use serde_json::Value;

use super::*;
use crate::cli::client::tests::{answer, server_saying};
use crate::cli::{Cli, Command};

const DEMO: &str = r#"{"sale_id": "demo", "starts_at": null, "ends_at": "2026-11-20T12:00:00.000Z", "boundary": "request",
    "user_limit": 2, "payment_timeout_s": null, "on_duplicate": "replay", "require_token": false, "shards": 1,
    "state": "open", "skus": [
    {"sku_id": "a", "unit_price": 1999, "currency": "CNY", "total": 10, "available": 7, "held": 2, "sold": 1,
     "shards": [{"shard": 0, "total": 10, "available": 7, "held": 2, "sold": 1}]},
    {"sku_id": "b", "unit_price": 5, "currency": "CNY", "total": 4, "available": 4, "held": 0, "sold": 0, "shards": []}]}"#;

fn sale(line: &str) -> SaleCommand {
    match Cli::try_parse_from(line.split_whitespace()).map(|cli| cli.command) {
        Ok(Command::Sale(sale)) => *sale,
        Ok(_) => panic!("{line} is no sale command"),
        Err(error) => panic!("{error}"),
    }
}

fn refused(line: &str) -> String {
    Cli::try_parse_from(line.split_whitespace()).err().unwrap().to_string()
}

/// Runs a command against a server that answers `said`; answers the request that the server got.
fn sent(line: &str, said: &str) -> String {
    let (address, server) = server_saying(said);
    sale(&format!("{line} --server http://{address}")).run().unwrap();
    server.join().unwrap()
}

#[test]
fn a_sale_is_made_of_what_was_said_and_nothing_else() {
    let SaleCommand::Create(create) = sale("rushgate sale create demo --sku a:10:1999:CNY") else { panic!() };
    let skus = json!([{"sku_id": "a", "stock": 10, "unit_price": 1999, "currency": "CNY"}]);
    assert_eq!(create.body(), json!({"sale_id": "demo", "skus": skus}));

    let SaleCommand::Create(create) = sale(
        "rushgate sale create demo --sku a:10:1999:CNY --starts-at 2026-11-27T00:00:00+08:00 \
         --ends-at 2026-11-27T00:00:00.25Z --boundary user_sku_day --time-zone Asia/Shanghai --user-limit 2 --payment-timeout-s none \
         --on-duplicate conflict --require-token --shards 64",
    ) else {
        panic!()
    };
    let want = json!({
        "sale_id": "demo", "skus": skus, "starts_at": "2026-11-26T16:00:00.000Z",
        "ends_at": "2026-11-27T00:00:00.250Z", "boundary": "user_sku_day", "time_zone": "Asia/Shanghai",
        "user_limit": 2, "payment_timeout_s": null,
        "on_duplicate": "conflict", "require_token": true, "shards": 64
    });
    assert_eq!(create.body(), want);
}

#[test]
fn what_cannot_be_a_sale_is_refused_before_anything_is_sent() {
    for (line, part) in [
        ("create", "required"),
        ("create demo", "--sku"),
        ("create a/b --sku a:1:1:CNY", "must be 1-64 letters"),
        ("create demo --sku a:1:1", "must be ID:STOCK:PRICE:CURRENCY"),
        ("create demo --sku a:-1:1:CNY", "STOCK must be a whole number, 0 to 1000000000"),
        ("create demo --sku a:1:19.99:CNY", "PRICE (in minor units) must be"),
        ("create demo --sku a:1:1:cny", "three capital letters"),
        ("create demo --sku a:1:1:CNY --payment-timeout-s 0", "must be none, or seconds from 1 to 2592000"),
        ("create demo --sku a:1:1:CNY --starts-at tomorrow", "must be a time with its offset"),
        ("create demo --sku a:1:1:CNY --starts-at 2026-11-27T00:00:00", "must be a time with its offset"),
        ("create demo --sku a:1:1:CNY --time-zone Mars/Olympus", "must be a name such as Asia/Shanghai"),
        ("create --file sale.json --time-zone UTC", "cannot be used with"),
        ("create demo --sku a:1:1:CNY --shards 1025", "1025"),
        ("create demo --file sale.json", "cannot be used with"),
        ("create --file sale.json --shards 2", "cannot be used with"),
        ("restock demo --sku a --quantity 1", "--change-id"),
    ] {
        let text = refused(&format!("rushgate sale {line}"));
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn commands_call_what_the_contract_names() {
    let ok = answer("200 OK", DEMO);
    let list = answer("200 OK", &format!(r#"{{"sales": [{DEMO}]}}"#));
    for (line, said, call) in [
        ("list", &list, "GET /admin/v1/sales "),
        ("show demo", &ok, "GET /admin/v1/sales/demo "),
        ("show demo --json", &ok, "GET /admin/v1/sales/demo "),
        ("pause demo", &ok, "POST /admin/v1/sales/demo/pause "),
        ("resume demo", &ok, "POST /admin/v1/sales/demo/resume "),
        ("end demo", &ok, "POST /admin/v1/sales/demo/end "),
        ("create demo --sku a:1:1:CNY", &ok, "POST /admin/v1/sales "),
    ] {
        let sent = sent(&format!("rushgate sale {line}"), said);
        assert!(sent.starts_with(call), "{call} in {sent}");
    }
    let sent = sent("rushgate sale restock demo --sku a --quantity -3 --change-id c-1", &ok);
    let (head, body) = sent.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /admin/v1/sales/demo/restock "), "{head}");
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(body, json!({"change_id": "c-1", "sku_id": "a", "quantity": -3}));
}

#[test]
fn a_file_is_sent_as_it_is_and_has_a_bound() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sale.json");
    std::fs::write(&path, r#"{"sale_id":  "demo"}"#).unwrap();
    let line = format!("rushgate sale create --file {}", path.display());
    assert!(sent(&line, &answer("201 Created", DEMO)).ends_with(r#"{"sale_id":  "demo"}"#));

    std::fs::write(&path, " ".repeat(crate::limits::BODY_BYTES_MAX + 1)).unwrap();
    assert!(matches!(sale(&line).run(), Err(CommandError::Usage(text)) if text.contains("longer than 65536 bytes")));
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(sale(&line).run(), Err(CommandError::Usage(text)) if text.contains("sale.json: No such file")));
}

#[test]
fn a_sale_is_shown_with_its_rules_and_units() {
    let shown: ShownSale = serde_json::from_str(DEMO).unwrap();
    assert_eq!(shown.in_brief(), "demo is open: 11 of 14 units left, 2 held, 1 sold");
    let text = shown.in_full();
    for part in ["payment_timeout_s  none", "user_limit         2", "starts_at          -", "a             1999  CNY"] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    assert!(!text.contains("time_zone"), "{text}");
    let daily = DEMO.replace("\"request\"", "\"user_sku_day\", \"time_zone\": \"Asia/Shanghai\"");
    let daily: ShownSale = serde_json::from_str(&daily).unwrap();
    assert!(daily.in_full().contains("time_zone          Asia/Shanghai"), "{}", daily.in_full());
    let sales: ShownSales = serde_json::from_str(&format!(r#"{{"sales": [{DEMO}]}}"#)).unwrap();
    assert_eq!(sales.as_table().lines().count(), 2);
}
