//! One connection to a node that passed the preflight: its calls, and what its errors mean.
//!
//! The client library's own reconnecting and retrying are not used: see `docs/decisions/0008-redis-client.md`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, ErrorKind, Pipeline, RedisError, Value};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::address::{Endpoint, NodeAddress};
use super::preflight::{self, Fit};
use super::script::Script;
use super::{Error, Nodes};
use crate::limits;

/// A connection that passed the preflight.
pub(super) struct Link {
    connection: MultiplexedConnection,
    pub(super) peer: Peer,
    stalls: Mutex<Stalls>,
    /// Why it has to be replaced.
    fault: Mutex<Option<String>>,
    condemned: Notify,
}

/// How often in a row the node did not answer in time. However many calls were under way, one silence counts once.
#[derive(Default)]
struct Stalls {
    count: u32,
    /// When the last one was counted.
    last: Option<Instant>,
}

impl Stalls {
    /// Counts a call sent at `sent` that was not answered by `now`, unless the stall that it met is counted.
    fn add(&mut self, sent: Instant, now: Instant) {
        if self.last.is_none_or(|last| sent >= last) {
            self.count += 1;
            self.last = Some(now);
        }
    }
}

/// The process behind a connection.
pub(super) struct Peer {
    /// Its run id.
    pub(super) lineage: String,
    /// The hashes of the scripts, in the order of [`Script::ALL`].
    pub(super) hashes: [String; Script::ALL.len()],
}

/// A fresh connection and the work that carries its bytes, which must be polled for anything to happen. It ends with
/// the connection.
pub(super) type Opened = (Arc<Link>, BoxFuture<'static, ()>);

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum NoLink {
    /// No answer; the node may come back.
    Unreachable(String),
    /// An answer, but of a node that is not fit for a gate.
    Unfit(String),
}

/// Connects, logs in, looks, and loads the scripts.
pub(super) async fn open(address: &NodeAddress, tls: &TlsConnector, nodes: Nodes) -> Result<(Opened, Fit), NoLink> {
    within(async {
        let (connection, mut driver) = dial(address, tls).await?;
        let looked = async {
            let fit = look(&connection, nodes).await?;
            let hashes = load_scripts(&connection).await.map_err(|error| unfit("SCRIPT LOAD", &error))?;
            Ok::<_, NoLink>((fit, hashes))
        };
        let (fit, hashes) = tokio::select! {
            looked = looked => looked?,
            () = &mut driver => return Err(NoLink::Unreachable("the connection was closed".to_owned())),
        };
        let link = Link {
            connection,
            peer: Peer { lineage: fit.lineage.clone(), hashes },
            stalls: Mutex::default(),
            fault: Mutex::new(None),
            condemned: Notify::new(),
        };
        Ok(((Arc::new(link), driver), fit))
    })
    .await
}

/// Sends one command over a connection of its own, without a preflight.
pub(super) async fn ask(address: &NodeAddress, tls: &TlsConnector, question: &Cmd) -> Result<Value, NoLink> {
    within(async {
        let (mut connection, mut driver) = dial(address, tls).await?;
        tokio::select! {
            answer = connection.send_packed_command(question) => {
                let answer = answer.and_then(Value::extract_error);
                answer.map_err(|error| unfit("its answer", &error))
            }
            () = &mut driver => Err(NoLink::Unreachable("the connection was closed".to_owned())),
        }
    })
    .await
}

async fn within<T>(work: impl Future<Output = Result<T, NoLink>>) -> Result<T, NoLink> {
    let in_time = timeout(Duration::from_millis(limits::GATE_CONNECT_MS), work).await;
    in_time.unwrap_or_else(|_| Err(NoLink::Unreachable(format!("no answer in {} ms", limits::GATE_CONNECT_MS))))
}

async fn dial(
    address: &NodeAddress,
    tls: &TlsConnector,
) -> Result<(MultiplexedConnection, BoxFuture<'static, ()>), NoLink> {
    let unreachable = |error: std::io::Error| NoLink::Unreachable(error.to_string());
    let (host, port, is_tls) = match &address.endpoint {
        Endpoint::Unix(path) => return set_up(address, UnixStream::connect(path).await.map_err(unreachable)?).await,
        Endpoint::Tcp { host, port, tls } => (host, *port, *tls),
    };
    let stream = TcpStream::connect((host.as_str(), port)).await.map_err(unreachable)?;
    tune(&stream).map_err(unreachable)?;
    if !is_tls {
        return set_up(address, stream).await;
    }
    let name = ServerName::try_from(host.clone()).map_err(|error| NoLink::Unfit(error.to_string()))?;
    // A bad certificate does not pass by itself: an operator has to look at it.
    let stream = tls.connect(name, stream).await.map_err(|error| match error.get_ref() {
        Some(refused) => NoLink::Unfit(format!("TLS (promise: only the entitled buy): {refused}")),
        None => unreachable(error),
    })?;
    set_up(address, stream).await
}

/// Small packets leave at once, and the kernel notices a peer that is gone.
fn tune(stream: &TcpStream) -> std::io::Result<()> {
    let socket = SockRef::from(stream);
    let idle = Duration::from_secs(limits::GATE_KEEPALIVE_S);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(idle).with_interval(idle))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(Duration::from_millis(limits::GATE_UNACKED_MS)))?;
    Ok(())
}

async fn set_up<S>(address: &NodeAddress, stream: S) -> Result<(MultiplexedConnection, BoxFuture<'static, ()>), NoLink>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let settings = AsyncConnectionConfig::new()
        .set_response_timeout(Some(Duration::from_millis(limits::GATE_REPLY_MS)))
        .set_pipeline_buffer_size(limits::GATE_CALLS_MAX)
        .set_concurrency_limit(limits::GATE_CALLS_MAX)
        .set_write_backpressure_boundary(limits::GATE_WRITE_BYTES);
    let set_up = MultiplexedConnection::new_with_config(&address.login, stream, settings).await;
    let (connection, driver) = set_up.map_err(|error| unfit("logging in", &error))?;
    Ok((connection, Box::pin(driver)))
}

async fn look(connection: &MultiplexedConnection, nodes: Nodes) -> Result<Fit, NoLink> {
    let mut connection = connection.clone();
    let info = redis::cmd("INFO").query_async::<String>(&mut connection).await;
    let info = info.map_err(|error| unfit("INFO", &error))?;
    let mut save = redis::cmd("CONFIG");
    save.arg("GET").arg("save");
    // Many users may not read settings; then there is no warning about them.
    let save = save.query_async::<(String, String)>(&mut connection).await.ok();
    preflight::examine(&info, save.as_ref().map(|(_, save)| save.as_str()), nodes).map_err(NoLink::Unfit)
}

async fn load_scripts(connection: &MultiplexedConnection) -> Result<[String; Script::ALL.len()], RedisError> {
    let mut all = Pipeline::with_capacity(Script::ALL.len());
    for script in Script::ALL {
        all.cmd("SCRIPT").arg("LOAD").arg(script.text());
    }
    all.query_async(&mut connection.clone()).await
}

/// A node that is only starting may become fit; one that says no does not.
fn unfit(what: &str, error: &RedisError) -> NoLink {
    let text = format!("{what}: {error}");
    match error.code() {
        Some("LOADING" | "BUSY" | "MASTERDOWN" | "CLUSTERDOWN") => NoLink::Unreachable(text),
        Some(_) => NoLink::Unfit(text),
        None if error.kind() == ErrorKind::AuthenticationFailed => NoLink::Unfit(text),
        None => NoLink::Unreachable(text),
    }
}

fn is_forgotten(answer: &Result<Value, RedisError>) -> bool {
    answer.as_ref().is_err_and(|error| error.code() == Some("NOSCRIPT"))
}

impl Peer {
    /// The beginning of a call of `script`, whose keys and arguments are still to come.
    pub(super) fn command(&self, script: Script, args: usize, bytes: usize) -> Cmd {
        let mut command = Cmd::with_capacity(args + 8, bytes + 256);
        command.arg("EVALSHA").arg(self.hashes.get(script as usize).map_or("", String::as_str));
        command.arg(script.keys().len());
        command
    }
}

impl Link {
    /// Sends calls in one write, in order, and answers each. What surely did not run because the node forgot its
    /// scripts is sent once more; nothing else is.
    pub(super) async fn send(&self, calls: Vec<Cmd>) -> Vec<Result<Value, RedisError>> {
        let mut all = Pipeline::with_capacity(calls.len());
        for call in calls {
            all.add_command(call);
        }
        let mut answers = self.transmit(&all).await;
        if answers.iter().any(is_forgotten) && load_scripts(&self.connection).await.is_ok() {
            let mut again = Pipeline::new();
            for (call, _) in all.cmd_iter().zip(&answers).filter(|(_, answer)| is_forgotten(answer)) {
                again.add_command(call.clone());
            }
            let places = answers.iter_mut().filter(|answer| is_forgotten(answer));
            for (endpoint, answer) in places.zip(self.transmit(&again).await) {
                *endpoint = answer;
            }
        }
        answers
    }

    async fn transmit(&self, calls: &Pipeline) -> Vec<Result<Value, RedisError>> {
        let sent = Instant::now();
        match self.connection.clone().send_packed_commands(calls, 0, calls.len()).await {
            Ok(answers) => {
                self.stalls.lock().count = 0;
                answers.into_iter().map(Value::extract_error).collect()
            }
            Err(error) => {
                if error.is_timeout() {
                    self.stalled(sent);
                }
                vec![Err(error); calls.len()]
            }
        }
    }

    /// A call sent at `sent` was not answered in time.
    fn stalled(&self, sent: Instant) {
        let count = {
            let mut stalls = self.stalls.lock();
            stalls.add(sent, Instant::now());
            stalls.count
        };
        if count >= limits::GATE_TIMEOUTS_MAX {
            self.condemn(format!("no answer in {} ms, {count} times in a row", limits::GATE_REPLY_MS));
        }
    }

    /// What an error says about the call, having drawn the conclusions for this connection.
    pub(super) fn meaning(&self, error: &RedisError) -> Error {
        if error.is_timeout() {
            return Error::Unknown(format!("no answer in {} ms", limits::GATE_REPLY_MS));
        }
        let text = error.to_string();
        match error.code() {
            // From a command inside a script, which may have written before.
            Some(_) if text.contains("user_script") => Error::Unknown(text),
            // It stopped being the master: its next answers no longer count.
            Some("READONLY" | "MASTERDOWN" | "NOAUTH") => {
                self.condemn(text.clone());
                Error::Unavailable(text)
            }
            Some(
                "OOM" | "NOSCRIPT" | "LOADING" | "BUSY" | "MOVED" | "ASK" | "TRYAGAIN" | "CLUSTERDOWN" | "CROSSSLOT"
                | "NOPERM" | "MISCONF" | "NOREPLICAS" | "DENIED",
            ) => Error::Unavailable(text),
            _ => Error::Unknown(text),
        }
    }

    fn condemn(&self, why: String) {
        self.fault.lock().get_or_insert(why);
        self.condemned.notify_one();
    }

    /// Waits until the connection has to be replaced, and says why.
    pub(super) async fn condemned(&self) -> String {
        loop {
            if let Some(why) = self.fault.lock().take() {
                return why;
            }
            self.condemned.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_counts_once_however_many_calls_met_it() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut stalls = Stalls::default();
        for (sent, now, count) in
            [(0, 1_000, 1), (0, 1_000, 1), (999, 1_999, 1), (1_000, 2_000, 2), (1_500, 2_500, 2), (2_001, 3_001, 3)]
        {
            stalls.add(at(sent), at(now));
            assert_eq!(stalls.count, count, "sent at {sent} ms");
        }
    }
}
