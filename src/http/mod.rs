//! HTTP/1.1 over TCP: the accept loop with its limits and its drain, reading headers, bodies and queries, finding calls. The
//! public listener, the admin listener and `examples/echo.rs` are served by it. It knows nothing of orders beyond the codes
//! with which it refuses a request.

mod body;
mod header;
mod linger;
mod query;
mod router;

pub use body::{MediaType, discard, read_body, read_json};
pub use header::{Repeated, single};
pub use query::UrlQuery;
pub use router::{Route, RouteMatch, Router, plain_path};

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use self::linger::Lingering;
use crate::limits;

/// An answer with its whole body.
pub type Answer = Response<Full<Bytes>>;

/// Answers requests. Its future is dropped when the client hangs up, so it must own nothing that has to be finished.
pub trait Handle: Send + Sync + 'static {
    /// Answers one request that came over a connection from `peer`.
    fn handle(&self, peer: SocketAddr, request: Request<Incoming>) -> impl Future<Output = Answer> + Send;

    /// Answers in place of a handler that panicked.
    fn panicked(&self) -> Answer;
}

/// Listens on `address`; port 0 takes a free one.
pub fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait until the connections of the last process time out.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(limits::BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts and serves connections until `stop`, then closes the listener, lets every connection finish the request
/// it is in, and returns. The caller bounds how long that may take. At most `connections_max` are open at once.
pub async fn serve<H: Handle>(listener: TcpListener, handler: Arc<H>, connections_max: usize, stop: CancellationToken) {
    let connections = GracefulShutdown::new();
    let permits = Arc::new(Semaphore::new(connections_max));
    let http = http();
    loop {
        // The permit first: connections over the bound wait in the listen queue, where they cost nothing.
        let accepted = async {
            let permit = permits.clone().acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            accepted = accepted => accepted,
            () = stop.cancelled() => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(limits::ACCEPT_PAUSE_MS)).await;
                continue;
            }
        };
        let handler = handler.clone();
        let service = service_fn(move |request| answer(handler.clone(), peer, request));
        set_up(&stream);
        let stream = TokioIo::new(Lingering::new(stream, stop.clone()));
        let connection = connections.watch(http.serve_connection(stream, service));
        tokio::spawn(async move {
            // The error is not logged: a broken connection is the client's affair.
            connection.await.unwrap_or_default();
            drop(permit);
        });
    }
    drop(listener);
    connections.shutdown().await;
}

async fn answer<H: Handle>(
    handler: Arc<H>,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Result<Answer, Infallible> {
    let handled = AssertUnwindSafe(handler.handle(peer, request)).catch_unwind().await;
    Ok(handled.unwrap_or_else(|_| handler.panicked()))
}

fn http() -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        // This also bounds how long an idle connection is kept.
        .header_read_timeout(Duration::from_millis(limits::HEAD_MS_MAX))
        .max_headers(limits::HEADERS_MAX)
        .max_header_size(limits::HEAD_BYTES_MAX)
        .max_buf_size(limits::READ_BUFFER_BYTES_MAX);
    // `pipeline_flush` stays off: with it, a refusal that is sent before the input is read never reaches the client.
    http
}

fn set_up(stream: &TcpStream) {
    // Answers are small and complete: waiting for more to send only delays them. The server works without either setting.
    let socket = socket2::SockRef::from(stream);
    if let Err(error) = socket.set_tcp_nodelay(true) {
        tracing::debug!(%error, "could not set TCP_NODELAY: {error}");
    }
    #[cfg(target_os = "linux")]
    if let Err(error) = socket.set_tcp_user_timeout(Some(Duration::from_millis(limits::UNREAD_MS_MAX))) {
        tracing::debug!(%error, "could not set TCP_USER_TIMEOUT: {error}");
    }
}
