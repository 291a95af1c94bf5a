//! A way to the server that can be cut where it hurts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What happens to the next COMMIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// It never reaches the server.
    Before = 1,
    /// The server commits, and nobody hears of it.
    After = 2,
}

/// A port that leads to the server.
pub(super) struct Proxy {
    pub(super) port: u16,
    next: Arc<AtomicU8>,
}

impl Proxy {
    pub(super) async fn start(server_port: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, next) = (listener.local_addr().unwrap().port(), Arc::new(AtomicU8::new(0)));
        let shared = next.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", server_port)).await.unwrap();
                tokio::spawn(pass(client, server, shared.clone()));
            }
        });
        Proxy { port, next }
    }

    /// Cuts the connection of the next COMMIT.
    pub(super) fn cut_next(&self, cut: Cut) {
        self.next.store(cut as u8, Ordering::SeqCst);
    }
}

async fn pass(mut client: TcpStream, mut server: TcpStream, next: Arc<AtomicU8>) {
    let (mut from_client, mut from_server) = ([0; 65_536], [0; 65_536]);
    loop {
        tokio::select! {
            read = client.read(&mut from_client) => {
                let Ok(read @ 1..) = read else { return };
                let sent = &from_client[..read];
                let is_commit = sent.windows(7).any(|window| window == b"COMMIT\0");
                let cut = if is_commit { next.swap(0, Ordering::SeqCst) } else { 0 };
                if cut == Cut::Before as u8 {
                    return;
                }
                if server.write_all(sent).await.is_err() {
                    return;
                }
                if cut == Cut::After as u8 {
                    // The answer is waited for, so that the commit has surely happened, and thrown away.
                    drop(server.read(&mut from_server).await);
                    return;
                }
            }
            read = server.read(&mut from_server) => {
                let Ok(read @ 1..) = read else { return };
                if client.write_all(&from_server[..read]).await.is_err() {
                    return;
                }
            }
        }
    }
}
