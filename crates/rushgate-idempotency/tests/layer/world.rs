//! A service behind the layer, its database, and the requests of its clients.

use std::convert::Infallible;
use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Body;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use rushgate_idempotency::layer::{IdempotencyLayer, LayerBody, Store};
use rushgate_idempotency::{Claim, Scope};
use tower_layer::Layer;
use tower_service::Service;

use databases::Database;

pub(crate) const NOW: i64 = 1_000_000;
pub(crate) const LEASE_MS: i64 = 500;
pub(crate) const KEEP_MS: i64 = 9_000;
/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) type AnswerBody = UnsyncBoxBody<Bytes, Broken>;
pub(crate) type RequestBody = UnsyncBoxBody<Bytes, Broken>;

/// The error of a body that breaks off, and of a handler that fails.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("broken")
    }
}

impl Error for Broken {}

pub(crate) fn full(body: impl Into<Bytes>) -> UnsyncBoxBody<Bytes, Broken> {
    Full::from(body.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

type Answering = Pin<Box<dyn Future<Output = Result<Response<AnswerBody>, Broken>> + Send>>;

/// A request as a handler gets it: its number among all calls, its body, and its claim.
pub(crate) struct Call {
    pub(crate) number: usize,
    pub(crate) body: Bytes,
    pub(crate) claim: Option<Claim>,
}

/// A service whose handler is a function of the test.
#[derive(Clone)]
pub(crate) struct Handler {
    calls: Arc<AtomicUsize>,
    handle: Arc<dyn Fn(Call) -> Answering + Send + Sync>,
}

impl<B> Service<Request<LayerBody<B>>> for Handler
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: std::fmt::Debug + Send,
{
    type Response = Response<AnswerBody>;
    type Error = Broken;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<LayerBody<B>>) -> Self::Future {
        let handler = self.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let number = handler.calls.fetch_add(1, Ordering::SeqCst) + 1;
            (handler.handle)(Call { number, body, claim: head.extensions.get().cloned() }).await
        })
    }
}

/// What a client gets.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn is_replayed(&self) -> bool {
        self.headers.get("idempotency-replayed").is_some_and(|value| value == "true")
    }

    /// The code of a problem document, and whether the client is asked to come again.
    pub(crate) fn problem(&self) -> (u16, String, bool) {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{self:?}");
        let text = std::str::from_utf8(&self.body).unwrap();
        let code = text.split_once(r#""code":""#).unwrap().1.split('"').next().unwrap();
        assert!(text.contains(&format!(r#""status":{}"#, self.status)), "{text}");
        (self.status, code.to_owned(), self.headers.contains_key("retry-after"))
    }

    #[track_caller]
    pub(crate) fn assert_problem(&self, status: u16, code: &str, comes_again: bool) {
        assert_eq!(self.problem(), (status, code.to_owned(), comes_again), "{self:?}");
    }
}

/// A database, a clock, and the services that share them.
pub(crate) struct World<D> {
    pub(crate) database: D,
    clock: Arc<AtomicI64>,
    calls: Arc<AtomicUsize>,
}

impl<D: Database> World<D> {
    pub(crate) async fn new() -> Self {
        World { database: D::new().await, clock: Arc::new(AtomicI64::new(NOW)), calls: Arc::default() }
    }

    /// How often a handler was called.
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    pub(crate) fn advance(&self, by_ms: i64) {
        self.clock.fetch_add(by_ms, Ordering::SeqCst);
    }

    /// The layer of a process of the service. The header `user` is who asks.
    pub(crate) async fn layer(&self) -> IdempotencyLayer<D::Store> {
        let clock = Arc::clone(&self.clock);
        let scope =
            |head: &http::request::Parts| Scope::new(&["wallets", head.headers.get("user")?.to_str().ok()?]).ok();
        IdempotencyLayer::new(self.database.store().await, scope)
            .lease_ms(LEASE_MS)
            .keep_ms(KEEP_MS)
            .clock(move || clock.load(Ordering::SeqCst))
    }

    pub(crate) fn handler<F>(&self, handle: impl Fn(Call) -> F + Send + Sync + 'static) -> Handler
    where
        F: Future<Output = Result<Response<AnswerBody>, Broken>> + Send + 'static,
    {
        let handle = move |call| -> Answering { Box::pin(handle(call)) };
        Handler { calls: Arc::clone(&self.calls), handle: Arc::new(handle) }
    }

    /// A process of the service, with a handler.
    pub(crate) async fn service<F>(
        &self,
        handle: impl Fn(Call) -> F + Send + Sync + 'static,
    ) -> rushgate_idempotency::layer::Idempotent<Handler, D::Store>
    where
        F: Future<Output = Result<Response<AnswerBody>, Broken>> + Send + 'static,
    {
        self.layer().await.layer(self.handler(handle))
    }
}

/// `POST /wallets/42` of a user under a key.
pub(crate) fn post(key: &str, body: impl Into<Bytes>) -> Request<RequestBody> {
    let head = Request::post("/wallets/42?currency=CNY").header("user", "42").header("idempotency-key", key);
    head.body(full(body)).unwrap()
}

/// 201 with a body.
pub(crate) fn created(body: impl Into<Bytes>) -> Result<Response<AnswerBody>, Broken> {
    Ok(Response::builder().status(201).header("content-type", "text/plain").body(full(body)).unwrap())
}

/// Sends a request to a service; `Err` if its handler fails without an answer.
pub(crate) async fn try_send<S: Store>(
    service: &rushgate_idempotency::layer::Idempotent<Handler, S>,
    request: Request<RequestBody>,
) -> Result<Reply, Broken> {
    let mut service = service.clone();
    std::future::poll_fn(|context| Service::<Request<RequestBody>>::poll_ready(&mut service, context)).await?;
    let (head, body) = service.call(request).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(Reply { status: head.status.as_u16(), headers: head.headers, body })
}

pub(crate) async fn send<S: Store>(
    service: &rushgate_idempotency::layer::Idempotent<Handler, S>,
    request: Request<RequestBody>,
) -> Reply {
    try_send(service, request).await.unwrap()
}

/// Sends a request until no other one with its key is under way.
pub(crate) async fn send_until_settled<S: Store>(
    service: &rushgate_idempotency::layer::Idempotent<Handler, S>,
    request: impl Fn() -> Request<RequestBody>,
) -> Reply {
    let settled = async {
        loop {
            let reply = send(service, request()).await;
            if reply.status != 409 {
                return reply;
            }
            assert_eq!(reply.headers["retry-after"], "1");
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, settled).await.expect("the key stays under way")
}

pub(crate) mod databases {
    use rushgate_idempotency::layer::{PostgresStore, SqliteStore, Store};
    use rushgate_idempotency::{Claim, postgres, sqlite};
    use rusqlite::{Connection as SqliteConnection, TransactionBehavior};
    use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
    use tempfile::TempDir;

    const EFFECTS: &str = "CREATE TABLE effects (who text NOT NULL)";
    const EFFECT: &str = "INSERT INTO effects VALUES ('handler')";
    const COUNT: &str = "SELECT count(*) FROM effects";

    /// A database of a service, with the table of keys and one for effects.
    pub(crate) trait Database: Send + Sync + 'static {
        type Store: Store;
        async fn new() -> Self;
        /// A process's way to the keys.
        async fn store(&self) -> Self::Store;
        /// Runs a statement.
        fn execute(&self, statement: &'static str) -> impl Future<Output = ()> + Send;
        async fn effects(&self) -> i64;
        /// An effect that completes its claim in its transaction.
        fn effect_and_complete(&self, claim: Claim, answer: Vec<u8>) -> impl Future<Output = ()> + Send;
    }

    pub(crate) struct Sqlite(TempDir);

    fn open(directory: &std::path::Path) -> SqliteConnection {
        let sql = SqliteConnection::open(directory.join("service.db")).unwrap();
        sql.busy_timeout(super::PATIENCE).unwrap();
        sql
    }

    impl Database for Sqlite {
        type Store = SqliteStore;

        async fn new() -> Self {
            let directory = TempDir::new().unwrap();
            let sql = open(directory.path());
            sql.execute_batch("PRAGMA journal_mode = WAL").unwrap();
            sql.execute_batch(sqlite::SCHEMA).unwrap();
            sql.execute_batch(EFFECTS).unwrap();
            Sqlite(directory)
        }

        async fn store(&self) -> SqliteStore {
            SqliteStore::new(open(self.0.path()))
        }

        async fn execute(&self, statement: &'static str) {
            open(self.0.path()).execute_batch(statement).unwrap();
        }

        async fn effects(&self) -> i64 {
            open(self.0.path()).query_row(COUNT, [], |row| row.get(0)).unwrap()
        }

        async fn effect_and_complete(&self, claim: Claim, answer: Vec<u8>) {
            let mut sql = open(self.0.path());
            let transaction = sql.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
            transaction.execute_batch(EFFECT).unwrap();
            sqlite::complete(&transaction, &claim, &answer, super::NOW + super::KEEP_MS).unwrap().unwrap();
            transaction.commit().unwrap();
        }
    }

    pub(crate) struct Postgres(String);

    impl Database for Postgres {
        type Store = PostgresStore;

        async fn new() -> Self {
            let url = rushgate_test_support::postgres::shared().new_database();
            let mut sql = PgConnection::connect(&url).await.unwrap();
            sqlx::raw_sql(postgres::SCHEMA).execute(&mut sql).await.unwrap();
            sqlx::raw_sql(EFFECTS).execute(&mut sql).await.unwrap();
            Postgres(url)
        }

        async fn store(&self) -> PostgresStore {
            PostgresStore::new(PgPool::connect(&self.0).await.unwrap())
        }

        async fn execute(&self, statement: &'static str) {
            let mut sql = PgConnection::connect(&self.0).await.unwrap();
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut sql).await.unwrap();
        }

        async fn effects(&self) -> i64 {
            let mut sql = PgConnection::connect(&self.0).await.unwrap();
            sqlx::query_scalar(COUNT).fetch_one(&mut sql).await.unwrap()
        }

        async fn effect_and_complete(&self, claim: Claim, answer: Vec<u8>) {
            let mut sql = PgConnection::connect(&self.0).await.unwrap();
            let mut transaction = sql.begin().await.unwrap();
            sqlx::raw_sql(EFFECT).execute(&mut *transaction).await.unwrap();
            let keep_until = super::NOW + super::KEEP_MS;
            postgres::complete(&mut transaction, &claim, &answer, keep_until).await.unwrap().unwrap();
            transaction.commit().await.unwrap();
        }
    }
}
