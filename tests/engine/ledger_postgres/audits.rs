//! An audit that finds what is broken in the database.

use rushgate::ledger::{Ledger, OrderLedger};
use rushgate::order::Rules;
use sqlx::AssertSqlSafe;

use super::{Shop, is_created};
use crate::world::rules;

#[tokio::test]
async fn an_audit_names_what_is_broken_in_the_database() {
    let shop = Shop::new(1, Rules { user_limit: Some(5), ..rules(2) }, &[("a", 20), ("b", 20)]).await;
    let wishes: Vec<_> = (1..=8).map(|user| shop.wish(user, "k", 0, 2)).collect();
    assert!(shop.engines[0].append(wishes).await.unwrap().iter().all(is_created));
    shop.assert_balanced().await;
    let mut sql = shop.sql().await;
    let guards = "ALTER TABLE segments DROP CONSTRAINT segments_never_oversold; \
         CREATE SCHEMA kept; CREATE TABLE kept.orders AS TABLE orders; CREATE TABLE kept.segments AS TABLE segments; \
         CREATE TABLE kept.skus AS TABLE skus; CREATE TABLE kept.buyers AS TABLE buyers";
    sqlx::raw_sql(guards).execute(&mut sql).await.unwrap();
    // What a broken index would let in.
    let twice = "INSERT INTO orders SELECT seq + 99, user_id + 100, sale_no, sku_no, epoch, created_at, updated_at, \
         order_no, fingerprint, quantity, state_version, state FROM orders WHERE user_id = 3";
    for (check, statements) in [
        ("never_oversold", "UPDATE segments SET held = total + 1 WHERE shard = 1"),
        ("never_oversold", "UPDATE segments SET sold = -1 WHERE shard = 0"),
        ("segments_add_up", "UPDATE segments SET total = total + 1 WHERE sku_no = 1 AND shard = 0"),
        ("segments_add_up", "DELETE FROM segments WHERE sku_no = 2 AND shard = 1"),
        ("restocks_add_up", "UPDATE skus SET total = total + 1; UPDATE segments SET total = total + 1 WHERE shard = 0"),
        ("orders_match_stock", "DELETE FROM orders WHERE user_id = 3"),
        ("orders_match_stock", "UPDATE orders SET quantity = 1 WHERE user_id = 3"),
        ("orders_match_stock", "UPDATE orders SET state = 2 WHERE user_id = 3"),
        ("orders_match_stock", "UPDATE orders SET state = 4 WHERE user_id = 3"),
        ("orders_match_stock", "UPDATE segments SET held = held - 1, sold = sold + 1 WHERE shard = 1"),
        ("orders_belong", "UPDATE orders SET sku_no = 99 WHERE user_id = 3"),
        ("orders_belong", "UPDATE orders SET state = 8 WHERE user_id = 3"),
        ("orders_belong", "UPDATE orders SET state_version = 0 WHERE user_id = 3"),
        ("one_order_per_operation", twice),
        ("user_limits_hold", "INSERT INTO buyers VALUES (1, 999, 5)"),
        ("user_limits_hold", "UPDATE buyers SET units = 1 WHERE user_id = 3"),
        ("user_limits_hold", "DELETE FROM buyers WHERE user_id = 3"),
        ("user_limits_hold", "UPDATE sales SET user_limit = 1"),
    ] {
        sqlx::raw_sql(statements).execute(&mut sql).await.unwrap();
        let checks = shop.engines[0].audit(Some(shop.sale.no)).await.unwrap();
        assert_eq!(checks, shop.engines[0].audit(None).await.unwrap(), "one sale is the whole ledger here");
        let failing: Vec<_> = checks.iter().filter(|check| !check.ok).map(|check| check.name).collect();
        assert!(failing.contains(&check), "after {statements:?}, {check} is not among {failing:?}");
        for table in ["orders", "segments", "buyers"] {
            let mend = format!("TRUNCATE {table}; INSERT INTO {table} SELECT * FROM kept.{table}");
            sqlx::raw_sql(AssertSqlSafe(mend)).execute(&mut sql).await.unwrap();
        }
        let mend = "UPDATE skus SET total = k.total FROM kept.skus k WHERE k.no = skus.no; \
             UPDATE sales SET user_limit = 5";
        sqlx::raw_sql(mend).execute(&mut sql).await.unwrap();
    }
    shop.assert_balanced().await;
}
