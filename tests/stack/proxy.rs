//! A proxy in front of one server, where faults are made: it delays, stalls, swallows, refuses and resets, and springs
//! tripwires at the very request or reply that a test names.
//!
//! A killed engine is one whose request is held here while it dies; a lost answer is one that came here, and no
//! further. So every fault point of the protocol can be reached without a line in the product.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::SockRef;

use crate::wire::{Bare, Frame, Protocol, Replies, Requests};

/// Longest wait for a tripwire.
const SPRUNG: Duration = Duration::from_secs(60);

/// What becomes of bytes in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Pass,
    /// Each piece comes so much later.
    Delay(Duration),
    /// Nothing comes until the mode changes; then everything does, as after a repaired cable.
    Stall,
    /// Bytes are swallowed while connections stay open; one that lost bytes stays dead, as behind a firewall that
    /// forgot it, and its end is not told while this mode lasts.
    Blackhole,
}

/// When a tripwire springs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// The server has not seen the request yet.
    Request,
    /// The server has done what was asked; the client has not heard of it.
    Reply,
}

/// What becomes of the held bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Forward,
    /// They are dropped, and the connection is reset.
    Reset,
    /// They are swallowed, and so is everything after them.
    Silence,
}

/// Whether a request is the one.
pub(crate) type Matches = Box<dyn FnMut(&[String]) -> bool + Send>;
type Act = Arc<dyn Fn() + Send + Sync>;

struct Wire {
    matches: Matches,
    spring: Spring,
}

#[derive(Clone)]
struct Spring {
    at: At,
    then: Then,
    act: Act,
    /// How often it may still spring.
    left: Arc<AtomicUsize>,
    count: Arc<(Mutex<usize>, Condvar)>,
}

/// The other end of a tripwire.
pub(crate) struct Trip(Arc<(Mutex<usize>, Condvar)>);

impl Trip {
    pub(crate) fn count(&self) -> usize {
        *lock(&self.0.0)
    }

    /// Waits until it has sprung so often.
    #[track_caller]
    pub(crate) fn wait(&self, times: usize) {
        let (count, bell) = &*self.0;
        let waited = bell.wait_timeout_while(lock(count), SPRUNG, |count| *count < times);
        let (count, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(!timeout.timed_out(), "the request never came: the tripwire sprang {} times, not {times}", *count);
    }
}

pub(crate) struct Proxy {
    shared: Arc<Shared>,
    pub(crate) address: SocketAddr,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    protocol: Protocol,
    to: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
    ended: AtomicBool,
}

struct State {
    requests: Mode,
    replies: Mode,
    refuses: bool,
    wires: Vec<Wire>,
    links: Vec<Weak<Link>>,
}

/// One connection.
struct Link {
    client: TcpStream,
    server: UnixStream,
    bare: Bare,
    /// Bytes were lost: nothing that follows would make sense.
    spoiled: AtomicBool,
    dead: AtomicBool,
    /// Replies to hold: the number of their unit.
    held: Mutex<VecDeque<(u64, Spring)>>,
}

impl Proxy {
    /// In front of the server with this Unix socket.
    pub(crate) fn start(protocol: Protocol, to: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, replies) = (Mode::Pass, Mode::Pass);
        let state = State { requests, replies, refuses: false, wires: Vec::new(), links: Vec::new() };
        let shared = Arc::new(Shared {
            protocol,
            to: to.into(),
            state: Mutex::new(state),
            changed: Condvar::new(),
            ended: AtomicBool::new(false),
        });
        let to_accept = Arc::clone(&shared);
        let accepting = std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if to_accept.ended.load(Ordering::SeqCst) {
                    return;
                }
                to_accept.accept(client);
            }
        });
        Proxy { shared, address, accepting: Some(accepting) }
    }

    /// What becomes of requests and of replies from now on.
    pub(crate) fn set(&self, requests: Mode, replies: Mode) {
        let mut state = lock(&self.shared.state);
        (state.requests, state.replies) = (requests, replies);
        self.shared.changed.notify_all();
    }

    /// Whether new connections are reset at once.
    pub(crate) fn refuse(&self, refuses: bool) {
        lock(&self.shared.state).refuses = refuses;
    }

    /// Resets every connection.
    pub(crate) fn reset_all(&self) {
        for link in std::mem::take(&mut lock(&self.shared.state).links).iter().filter_map(Weak::upgrade) {
            link.reset();
        }
        self.shared.changed.notify_all();
    }

    /// At the next requests that match, up to `times`, hold the bytes, `act`, and then do as told.
    pub(crate) fn trip(
        &self,
        matches: impl FnMut(&[String]) -> bool + Send + 'static,
        (times, at, then): (usize, At, Then),
        act: impl Fn() + Send + Sync + 'static,
    ) -> Trip {
        let count = Arc::new((Mutex::new(0), Condvar::new()));
        let left = Arc::new(AtomicUsize::new(times));
        let spring = Spring { at, then, act: Arc::new(act), left, count: count.clone() };
        lock(&self.shared.state).wires.push(Wire { matches: Box::new(matches), spring });
        Trip(count)
    }

    /// Takes all tripwires away.
    pub(crate) fn disarm(&self) {
        lock(&self.shared.state).wires.clear();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.set(Mode::Pass, Mode::Pass);
        self.reset_all();
        // Whatever comes of it, the thread looks up.
        TcpStream::connect(self.address).ok();
        if let Some(accepting) = self.accepting.take() {
            accepting.join().ok();
        }
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, client: TcpStream) {
        client.set_nodelay(true).ok();
        let server = UnixStream::connect(&self.to);
        let (false, Ok(server)) = (lock(&self.state).refuses, server) else {
            SockRef::from(&client).set_linger(Some(Duration::ZERO)).ok();
            return;
        };
        let link = Arc::new(Link {
            client,
            server,
            bare: Bare::default(),
            spoiled: AtomicBool::new(false),
            dead: AtomicBool::new(false),
            held: Mutex::default(),
        });
        let mut state = lock(&self.state);
        state.links.retain(|link| link.strong_count() > 0);
        state.links.push(Arc::downgrade(&link));
        drop(state);
        let (shared, up) = (Arc::clone(self), Arc::clone(&link));
        std::thread::spawn(move || {
            shared.carry_requests(&up);
            shared.end(&up);
        });
        let shared = Arc::clone(self);
        std::thread::spawn(move || {
            shared.carry_replies(&link);
            shared.end(&link);
        });
    }

    fn carry_requests(&self, link: &Link) {
        let (mut requests, mut chunk, mut unit) = (Requests::new(self.protocol), [0; 65_536], 0);
        while let Ok(n @ 1..) = (&link.client).read(&mut chunk) {
            requests.feed(&chunk[..n]);
            self.delay(|state| state.requests);
            while let Some(frame) = requests.next(&link.bare) {
                let spring = self.spring(&frame.words);
                match spring {
                    Some(spring) if spring.at == At::Request => {
                        let then = spring.pull();
                        if !link.obey(then) {
                            return;
                        }
                    }
                    // Known before the server can answer it.
                    Some(spring) => lock(&link.held).push_back((unit, spring)),
                    None => {}
                }
                unit += u64::from(frame.ends);
                if !self.pass(link, &frame.bytes, &link.server, |state| state.requests) {
                    return;
                }
            }
        }
    }

    fn carry_replies(&self, link: &Link) {
        let (mut replies, mut chunk, mut unit) = (Replies::new(self.protocol), [0; 65_536], 0);
        let mut kept: Vec<Frame> = Vec::new();
        while let Ok(n @ 1..) = (&link.server).read(&mut chunk) {
            replies.feed(&chunk[..n]);
            self.delay(|state| state.replies);
            while let Some(frame) = replies.next(&link.bare) {
                let ends = frame.ends;
                kept.push(frame);
                let spring = lock(&link.held).front().filter(|(held, _)| *held == unit).map(|(_, s)| s.clone());
                if let Some(spring) = spring {
                    if !ends {
                        continue;
                    }
                    lock(&link.held).pop_front();
                    let then = spring.pull();
                    if !link.obey(then) {
                        return;
                    }
                }
                unit += u64::from(ends);
                for frame in kept.drain(..) {
                    if !self.pass(link, &frame.bytes, &link.client, |state| state.replies) {
                        return;
                    }
                }
            }
        }
    }

    fn delay(&self, mode: impl Fn(&State) -> Mode) {
        let mode = mode(&lock(&self.state));
        if let Mode::Delay(delay) = mode {
            std::thread::sleep(delay);
        }
    }

    /// Writes, waits or swallows; `false` when the connection is over.
    fn pass(&self, link: &Link, bytes: &[u8], mut to: impl Write, mode: impl Fn(&State) -> Mode) -> bool {
        let stalled = |state: &mut State| mode(state) == Mode::Stall && !link.is_dead();
        let state = self.changed.wait_while(lock(&self.state), stalled).unwrap_or_else(PoisonError::into_inner);
        if mode(&state) == Mode::Blackhole {
            link.spoiled.store(true, Ordering::SeqCst);
        }
        drop(state);
        link.spoiled.load(Ordering::SeqCst) || to.write_all(bytes).is_ok()
    }

    /// The tripwire that a request touches.
    fn spring(&self, words: &[String]) -> Option<Spring> {
        if words.is_empty() {
            return None;
        }
        let wires = &mut lock(&self.state).wires;
        let mut armed = wires.iter_mut().filter(|wire| wire.spring.left.load(Ordering::SeqCst) > 0);
        let spring = armed.find_map(|wire| (wire.matches)(words).then(|| wire.spring.clone()))?;
        spring.left.fetch_sub(1, Ordering::SeqCst);
        Some(spring)
    }

    /// Ends a connection; the other side learns of it, unless nothing gets through.
    fn end(&self, link: &Link) {
        let hidden = |state: &mut State| {
            let is_hole = state.requests == Mode::Blackhole || state.replies == Mode::Blackhole;
            is_hole && link.spoiled.load(Ordering::SeqCst) && !self.ended.load(Ordering::SeqCst)
        };
        drop(self.changed.wait_while(lock(&self.state), hidden).unwrap_or_else(PoisonError::into_inner));
        if !link.dead.swap(true, Ordering::SeqCst) {
            link.client.shutdown(Shutdown::Both).ok();
        }
        link.server.shutdown(Shutdown::Both).ok();
        // A reply that was lost with its connection, for whatever reason, did not come to its tripwire.
        for (_, spring) in lock(&link.held).drain(..) {
            spring.left.fetch_add(1, Ordering::SeqCst);
        }
        self.changed.notify_all();
    }
}

impl Spring {
    /// While the bytes are held.
    fn pull(&self) -> Then {
        (self.act)();
        *lock(&self.count.0) += 1;
        self.count.1.notify_all();
        self.then
    }
}

impl Link {
    fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// Whether the connection goes on.
    fn obey(&self, then: Then) -> bool {
        match then {
            Then::Forward => true,
            Then::Silence => {
                self.spoiled.store(true, Ordering::SeqCst);
                true
            }
            Then::Reset => {
                self.reset();
                false
            }
        }
    }

    /// The client sees a reset, not an end: the socket is closed with nothing said before.
    fn reset(&self) {
        self.dead.store(true, Ordering::SeqCst);
        SockRef::from(&self.client).set_linger(Some(Duration::ZERO)).ok();
        // Wakes the reader without a word to the other side.
        self.client.shutdown(Shutdown::Read).ok();
        self.server.shutdown(Shutdown::Both).ok();
    }
}

/// A lock that a failed test left behind is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Calls of a script of the product.
pub(crate) fn script(name: &str) -> impl Fn(&[String]) -> bool + Send + 'static {
    let sha1 = crate::redis::sha1_of_script(name);
    move |words| words.len() > 1 && words[0].eq_ignore_ascii_case("EVALSHA") && words[1] == sha1
}

/// Executions of SQL that contains `text`, in whatever case.
pub(crate) fn sql(text: &str) -> impl Fn(&[String]) -> bool + Send + 'static {
    let text = text.to_ascii_uppercase();
    move |words| words[0].to_ascii_uppercase().contains(&text)
}

/// The COMMIT of a transaction that executed SQL that contains each of `texts`.
pub(crate) fn commit_of(texts: &[&str]) -> impl Fn(&[String]) -> bool + Send + 'static {
    let texts: Vec<String> = texts.iter().map(|text| text.to_ascii_uppercase()).collect();
    let has = |words: &[String], text: &str| words[1..].iter().any(|sql| sql.to_ascii_uppercase().contains(text));
    move |words| words[0] == "COMMIT" && texts.iter().all(|text| has(words, text))
}
