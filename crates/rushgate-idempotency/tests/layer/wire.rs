//! The layer in a hyper server, over sockets.

use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::world::databases::Database;
use crate::world::{PATIENCE, World, created};

pub(crate) async fn a_server_replays_over_its_sockets<D: Database>(world: World<D>) {
    let service = world.service(|call| async move { created(call.body) }).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        loop {
            let (connection, _) = listener.accept().await.unwrap();
            let service = TowerToHyperService::new(service.clone());
            let served = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(connection), service);
            tokio::spawn(served);
        }
    });
    let ask = async |request: &str| {
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(PATIENCE, client.read_to_string(&mut answer)).await.unwrap().unwrap();
        answer
    };
    let top_up = "POST /wallets/42 HTTP/1.1\r\nHost: wallets\r\nConnection: close\r\nUser: 42\r\n\
         Idempotency-Key: \"k\"\r\nContent-Length: 3\r\n\r\n500";
    let first = ask(top_up).await;
    assert!(first.starts_with("HTTP/1.1 201 Created\r\n") && first.ends_with("\r\n\r\n500"), "{first}");
    assert!(!first.contains("idempotency-replayed"), "{first}");
    let chunked =
        top_up.replace("Content-Length: 3\r\n\r\n500", "Transfer-Encoding: chunked\r\n\r\n3\r\n500\r\n0\r\n\r\n");
    for request in [top_up, &chunked] {
        let again = ask(request).await;
        assert!(again.starts_with("HTTP/1.1 201 Created\r\n") && again.ends_with("\r\n\r\n500"), "{again}");
        assert!(again.contains("\r\nidempotency-replayed: true\r\n"), "{again}");
        assert!(again.contains("\r\ncontent-length: 3\r\n"), "{again}");
    }
    let without = ask(&top_up.replace("Idempotency-Key: \"k\"\r\n", "")).await;
    assert!(without.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{without}");
    assert_eq!(world.calls(), 1);
    server.abort();
}
