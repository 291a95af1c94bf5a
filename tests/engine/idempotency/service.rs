//! The service of docs/LIBRARY.md: what is printed there is this code, and it does what is said of it.

use rushgate::idempotency::{Acquired, Lost, Operation, postgres};
use sqlx::{Connection, PgConnection};

use super::session::{Database, KEPT_MS, LATE, LEASE_MS, NOW};
use super::top_up as operation;

// What docs/LIBRARY.md shows begins here.
/// Answers with a status and a text. A connection that is new needs `SET lock_timeout = '2s'` first.
async fn top_up(
    sql: &mut PgConnection,
    operation: &Operation,
    (user_id, cents): (i64, i64),
    (now_ms, lease_ms, keep_until): (i64, i64, i64),
) -> Result<(u16, String), sqlx::Error> {
    let mut transaction = sql.begin().await?;
    let claim = match postgres::acquire(&mut transaction, operation, now_ms, lease_ms, keep_until).await? {
        Acquired::Claimed(claim) => claim,
        other => {
            transaction.rollback().await?; // the row of the key is locked until then
            return Ok(match other {
                Acquired::Done(answer) => (200, String::from_utf8_lossy(&answer.body).into_owned()),
                Acquired::OtherContent => (422, "the key was used for something else".to_owned()),
                Acquired::InProgress(_) | Acquired::Claimed(_) => (409, "ask again".to_owned()),
            });
        }
    };
    let effect = "UPDATE wallets SET cents = cents + $2 WHERE user_id = $1 RETURNING cents";
    let cents: i64 = sqlx::query_scalar(effect).bind(user_id).bind(cents).fetch_one(&mut *transaction).await?;
    let answer = format!("{cents} cents");
    match postgres::complete(&mut transaction, &claim, answer.as_bytes(), keep_until).await? {
        Ok(()) => transaction.commit().await?,
        Err(Lost) => {
            transaction.rollback().await?;
            return Ok((409, "ask again".to_owned()));
        }
    }
    Ok((200, answer))
}

/// To be called every minute or so.
async fn forget(sql: &mut PgConnection) -> Result<(), sqlx::Error> {
    let now = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
    let now_ms: i64 = sqlx::query_scalar(now).fetch_one(&mut *sql).await?;
    while postgres::sweep(sql, now_ms, 500).await? == 500 {}
    Ok(())
}
// What docs/LIBRARY.md shows ends here.

#[test]
fn the_document_shows_this_code() {
    let shown = include_str!("service.rs").split("docs/LIBRARY.md shows").nth(1).unwrap();
    let shown = shown.trim_start_matches(" begins here.\n").trim_end_matches("// What ").trim_end();
    let indented = |line: &str| if line.is_empty() { String::new() } else { format!("    {line}") };
    let shown = shown.lines().map(indented).collect::<Vec<_>>().join("\n");
    assert!(include_str!("../../../docs/LIBRARY.md").contains(&shown), "to be shown:\n{shown}");
}

#[tokio::test]
async fn the_service_of_the_document_tops_up_once() {
    let [_, database] = Database::all().await;
    let Database::Postgres(url) = database else { panic!("the second is PostgreSQL") };
    let mut sql = PgConnection::connect(&url).await.unwrap();
    let wallets = "CREATE TABLE wallets (user_id bigint PRIMARY KEY, cents bigint NOT NULL); \
         INSERT INTO wallets VALUES (42, 10)";
    sqlx::raw_sql(wallets).execute(&mut sql).await.unwrap();
    let mut ask = async |amount: i64, now_ms: i64| {
        let times = (now_ms, LEASE_MS, now_ms + KEPT_MS);
        top_up(&mut sql, &operation("k", amount), (42, amount), times).await.unwrap()
    };
    assert_eq!(ask(5, NOW).await, (200, "15 cents".to_owned()));
    assert_eq!(ask(5, LATE).await, (200, "15 cents".to_owned()));
    assert_eq!(ask(6, LATE).await.0, 422);
    // Kept since 1970, and for seconds: the database's clock is far past that.
    forget(&mut sql).await.unwrap();
    let kept: i64 = sqlx::query_scalar("SELECT count(*) FROM idempotency_keys").fetch_one(&mut sql).await.unwrap();
    assert_eq!(kept, 0);
}
