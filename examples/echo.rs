//! The floor of every load test: the engine's own accept loop answering a constant to every request, body read. What
//! an order costs beyond this is the engine's.
//!
//! ```text
//! cargo run --release --example echo -- 127.0.0.1:8081
//! ```
//!
//! Port 0 takes a free one. The address is printed as the engine prints its own, so that a script can read both.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use rushgate::http::{Answer, Handle, listen, serve};
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Echo;

/// As long as the answer to an order.
const CONSTANT: &[u8] = &[b'.'; 256];

impl Handle for Echo {
    async fn handle(&self, _: SocketAddr, request: Request<Incoming>) -> Answer {
        let read = request.into_body().collect().await.is_ok();
        let mut answer = Response::new(Full::new(Bytes::from_static(CONSTANT)));
        *answer.status_mut() = if read { StatusCode::CREATED } else { StatusCode::BAD_REQUEST };
        answer
    }

    fn panicked(&self) -> Answer {
        Response::new(Full::new(Bytes::from_static(b"panicked")))
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8081".to_owned());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = listen(address.parse()?)?;
        let mut screen = std::io::stdout();
        writeln!(screen, "public http://{}", listener.local_addr()?)?;
        screen.flush()?;
        serve(listener, Arc::new(Echo), rushgate::limits::CONNECTIONS_MAX, CancellationToken::new()).await;
        Ok(())
    })
}
