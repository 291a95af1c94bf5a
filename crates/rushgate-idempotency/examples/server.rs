//! A wallet behind the layer: a hyper server whose handler knows nothing of keys.
//!
//! ```text
//! cargo run --package rushgate-idempotency --features http,sqlite --example server
//! curl -i 127.0.0.1:8090/wallets/42/top-up -H 'User: 42' -H 'Idempotency-Key: monday' -d 500
//! ```
//!
//! Send it twice: the second answer is the first one, with `Idempotency-Replayed: true`, and the wallet holds 500 cents.

use std::convert::Infallible;
use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rushgate_idempotency::Scope;
use rushgate_idempotency::layer::{IdempotencyLayer, LayerBody, SqliteStore};
use rushgate_idempotency::sqlite::SCHEMA;
use rusqlite::Connection;
use tokio::net::TcpListener;
use tower_layer::Layer;
use tower_service::Service;

/// The service: one wallet in memory.
#[derive(Clone, Default)]
struct Wallet {
    cents: Arc<AtomicU64>,
}

impl Wallet {
    async fn answer(self, request: Request<LayerBody<Incoming>>) -> Response<Full<Bytes>> {
        let is_top_up = request.method() == Method::POST;
        let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let cents =
            if is_top_up { std::str::from_utf8(&body).ok().and_then(|text| text.parse().ok()) } else { Some(0) };
        let (status, text) = match cents {
            Some(cents) => {
                let before = self.cents.fetch_add(cents, Ordering::SeqCst);
                (StatusCode::OK, format!("{} cents in the wallet\n", before + cents))
            }
            None => (StatusCode::BAD_REQUEST, "send a number of cents\n".to_owned()),
        };
        let mut response = Response::new(Full::from(text));
        *response.status_mut() = status;
        response
    }
}

impl Service<Request<LayerBody<Incoming>>> for Wallet {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<LayerBody<Incoming>>) -> Self::Future {
        let wallet = self.clone();
        Box::pin(async move { Ok(wallet.answer(request).await) })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let keys = Connection::open("keys.db")?;
    if !keys.table_exists(None, "idempotency_keys")? {
        keys.execute_batch(SCHEMA)?;
    }
    // A real service takes the user from what its authentication has proven.
    let layer = IdempotencyLayer::new(SqliteStore::new(keys), |head| {
        Scope::new(&["wallets", head.headers.get("user")?.to_str().ok()?]).ok()
    });
    let service = layer.layer(Wallet::default());
    let listener = TcpListener::bind("127.0.0.1:8090").await?;
    loop {
        let (connection, _) = listener.accept().await?;
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(async move {
            let mut http = hyper::server::conn::http1::Builder::new();
            // A connection that breaks off is its client's affair.
            drop(http.timer(TokioTimer::new()).serve_connection(TokioIo::new(connection), service).await);
        });
    }
}
