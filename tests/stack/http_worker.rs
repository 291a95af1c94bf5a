//! Brings one request at a time to an engine and its answer back.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use crate::book::{About, Book};
use crate::client::{Answer, Client, Request};

/// How long somebody waits for an answer before asking again, perhaps elsewhere.
const PATIENCE: Duration = Duration::from_secs(3);

/// Sends one request at a time. Whoever waits in vain leaves the worker behind with it: an answer that comes late is
/// still held against the book.
pub(crate) struct HttpWorker {
    requests: SyncSender<(SocketAddr, About, Request)>,
    answers: Receiver<Option<Answer>>,
}

impl HttpWorker {
    pub(crate) fn new(book: &Arc<Book>) -> Self {
        let (requests, to_send) = sync_channel::<(SocketAddr, About, Request)>(1);
        let (answered, answers) = sync_channel(1);
        let book = book.clone();
        std::thread::spawn(move || {
            let mut clients: BTreeMap<SocketAddr, Client> = BTreeMap::new();
            for (door, about, request) in to_send {
                let client = clients.entry(door).or_insert_with(|| Client::new(door, None));
                let answer = client.try_send(request).ok();
                if let Some(answer) = &answer {
                    book.note(about, answer);
                }
                if answered.send(answer).is_err() {
                    return;
                }
            }
        });
        HttpWorker { requests, answers }
    }

    /// Sends; [`HttpWorker::wait`] must follow.
    pub(crate) fn send(&mut self, door: SocketAddr, about: About, request: Request) {
        self.requests.send((door, about, request)).expect("the worker waits for requests");
    }

    /// The answer; `None` if there was none in time.
    pub(crate) fn wait(&mut self, book: &Arc<Book>) -> Option<Answer> {
        match self.answers.recv_timeout(PATIENCE) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => {
                *self = HttpWorker::new(book);
                None
            }
            Err(RecvTimeoutError::Disconnected) => panic!("the worker panicked"),
        }
    }
}
