//! The gate in Redis: eight scripts, and a client that sends them in batches.
//!
//! A node may forget, so every call first compares the epoch and the *lineage*, the run id of the process that the shard
//! was loaded on: a node that came back with old data is as good as empty. The gate retries only what surely did not run,
//! and a node without a connection fails its calls at once.

mod address;
mod cluster;
mod key;
mod lane;
mod link;
mod node;
mod preflight;
mod script;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::HashMap;
use std::sync::Arc;

use ::redis::{Cmd, RedisError, Value};
use futures_util::future::{BoxFuture, FutureExt};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use self::address::{Endpoint, NodeAddress};
use self::cluster::NodeMap;
use self::lane::{Lanes, Queued, Turn};
use self::link::Link;
use self::node::NodeContext;
use self::wire::Target;
use super::{
    Denial, Error, Gate, Level, ReserveMode, ReserveOutcome, ReserveRequest, ReturnedUnits, Settlement, ShardEpoch,
    ShardId,
};
use crate::clock::UnixMs;
use crate::limits;
use crate::metrics::GateMetrics;
use crate::order::{Reservation, Sale, SaleNo, Switch};

/// How shards find their node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nodes {
    /// The listed nodes, each shard on the one that its number says. The list must be the same in every process.
    Fixed,
    /// The nodes of the Redis Cluster that the listed ones belong to.
    Cluster,
}

/// Why the gate cannot be used as it is set up.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address cannot be read.
    #[error("not an address of a redis node: {0}")]
    Address(String),
    /// The certificates that TLS needs cannot be read.
    #[error("set up TLS: {0}")]
    Tls(String),
    /// A node was reached that is not fit.
    #[error("redis node {node} is not fit for the gate: {why}")]
    Unfit {
        /// Host and port.
        node: String,
        /// The promise it would break, and what to do.
        why: String,
    },
}

/// The gate in Redis. Its tasks end when it is dropped.
pub struct RedisGate {
    inner: Arc<Inner>,
    _stop: DropGuard,
}

struct Inner {
    map: Arc<NodeMap>,
    ledger_id: u64,
    lanes: Lanes,
    tasks: TaskTracker,
    /// Where the next search for overdue reservations goes on, for shards in which the last one did not reach the end.
    cursors: Mutex<HashMap<(SaleNo, u16), u64>>,
    metrics: Arc<GateMetrics>,
}

impl RedisGate {
    /// Connects to every node that is there now, and goes on trying those that are not. `addresses`:
    /// `redis://[user:password@]host:port[/database]`, `rediss://` for TLS, `redis+unix:///path`, or seeds of a cluster
    /// as `redis-cluster://host:port,host:port`. `ledger_id`: two ledgers may share a node.
    ///
    /// Refuses a node that can be reached and is not fit.
    pub async fn connect<A: AsRef<str>>(
        addresses: &[A],
        nodes: Nodes,
        ledger_id: u64,
    ) -> Result<RedisGate, ConnectError> {
        let mut seeds = Vec::with_capacity(addresses.len());
        for address in addresses {
            seeds.extend(NodeAddress::parse(address.as_ref())?);
        }
        if seeds.is_empty() || seeds.len() > limits::GATE_NODES_MAX {
            return Err(ConnectError::Address(format!("{} are listed", seeds.len())));
        }
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let guard = stop.clone().drop_guard();
        let tls = tls(&seeds)?;
        let metrics = Arc::new(GateMetrics::default());
        let context = Arc::new(NodeContext { nodes, tls, moved: Notify::new(), metrics: metrics.clone() });
        let map = NodeMap::connect(seeds, context, tasks.clone(), stop).await?;
        let inner = Inner { map, ledger_id, lanes: Lanes::default(), tasks, cursors: Mutex::default(), metrics };
        Ok(RedisGate { inner: Arc::new(inner), _stop: guard })
    }

    /// Nodes in use.
    pub fn nodes(&self) -> usize {
        self.inner.map.count().0
    }

    /// Nodes without a connection: the shards on them have no gate now.
    pub fn nodes_down(&self) -> usize {
        self.inner.map.count().1
    }

    /// What the gate counted so far.
    pub fn metrics(&self) -> &GateMetrics {
        &self.inner.metrics
    }
}

/// The system's certificates, if any node wants TLS. Names `ring`, so that nothing depends on the default of other crates.
fn tls(addresses: &[NodeAddress]) -> Result<TlsConnector, ConnectError> {
    let mut roots = RootCertStore::empty();
    if addresses.iter().any(|address| matches!(address.endpoint, Endpoint::Tcp { tls: true, .. })) {
        let found = rustls_native_certs::load_native_certs();
        let (added, _) = roots.add_parsable_certificates(found.certs);
        if added == 0 {
            let why = found.errors.first().map_or_else(|| "no certificates found".to_owned(), ToString::to_string);
            return Err(ConnectError::Tls(why));
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| ConnectError::Tls(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

impl Gate for RedisGate {
    fn load<'a>(
        &'a self,
        at: ShardEpoch,
        sale: &'a Sale,
        available: &'a [i64],
        remembers_all: bool,
    ) -> BoxFuture<'a, Result<(), Error>> {
        let load = async move {
            let answer =
                self.inner.call(at.id(), |to| to.in_epoch(at.epoch).load(sale, available, remembers_all)).await?;
            wire::done(&answer)
        };
        load.boxed()
    }

    fn reserve<'a>(
        &'a self,
        at: ShardEpoch,
        now_ms: UnixMs,
        requests: &'a [ReserveRequest],
    ) -> BoxFuture<'a, Result<Vec<ReserveOutcome>, Error>> {
        let reserve = async move {
            let queued = self.inner.lanes.reserve(at, now_ms, requests)?;
            self.inner.answers(at, queued).await
        };
        reserve.boxed()
    }

    fn settle<'a>(&'a self, at: ShardEpoch, settlements: &'a [Settlement]) -> BoxFuture<'a, Result<(), Error>> {
        let settle = async move {
            let queued = self.inner.lanes.settle(at, settlements)?;
            self.inner.answers(at, queued).await.map(|_| ())
        };
        settle.boxed()
    }

    fn switch<'a>(&'a self, shard: ShardId, switch: Switch) -> BoxFuture<'a, Result<(), Error>> {
        let switch = async move { wire::done(&self.inner.call(shard, |to| to.switch(switch)).await?) };
        switch.boxed()
    }

    fn adjust<'a>(&'a self, at: ShardEpoch, sku: u16, units: i64) -> BoxFuture<'a, Result<i64, Error>> {
        let adjust =
            async move { wire::moved(&self.inner.call(at.id(), |to| to.in_epoch(at.epoch).adjust(sku, units)).await?) };
        adjust.boxed()
    }

    fn return_units<'a>(&'a self, at: ShardEpoch, returns: &'a [ReturnedUnits]) -> BoxFuture<'a, Result<(), Error>> {
        let return_units = async move {
            if returns.is_empty() {
                return Ok(());
            }
            let link = self.inner.link(at.shard)?;
            let to = Target { peer: &link.peer, ledger_id: self.inner.ledger_id, shard: at.id() }.in_epoch(at.epoch);
            // All in one write: a caller that stops waiting does not cut it into halves.
            let calls = returns.chunks(limits::GATE_BATCH_MAX).map(|some| to.return_units(some)).collect();
            let answers = self.inner.send(&link, calls).await.into_iter();
            let (done, failed): (Vec<_>, Vec<_>) =
                answers.map(|answer| answer.and_then(|answer| wire::done(&answer))).partition(Result::is_ok);
            match failed.into_iter().next() {
                None => Ok(()),
                Some(Err(error)) if !done.is_empty() => Err(Error::Unknown(format!("partly done: {error}"))),
                Some(error) => error,
            }
        };
        return_units.boxed()
    }

    fn level<'a>(&'a self, shard: ShardId) -> BoxFuture<'a, Result<Level, Error>> {
        let level = async move { wire::level(&self.inner.call(shard, |to| to.level()).await?) };
        level.boxed()
    }

    fn metrics(&self) -> Option<&GateMetrics> {
        Some(self.metrics())
    }

    fn servers_down(&self) -> usize {
        self.nodes_down()
    }

    fn overdue<'a>(
        &'a self,
        at: ShardEpoch,
        now_ms: UnixMs,
        max: usize,
    ) -> BoxFuture<'a, Result<Vec<Reservation>, Error>> {
        let inner = self.inner.clone();
        let overdue = async move {
            // In a task of its own: the reservations of the first pages must not be lost with the caller.
            let search = inner.clone().overdue(at, now_ms, max);
            inner.tasks.spawn(search).await.unwrap_or_else(|_| Err(no_answer()))
        };
        overdue.boxed()
    }
}

impl Inner {
    /// Starts the worker of the shard if it has none, and waits for the answers.
    async fn answers<T>(self: &Arc<Self>, at: ShardEpoch, queued: Queued<T>) -> Result<Vec<T>, Error> {
        if queued.is_idle {
            // From here on nothing depends on the caller.
            self.tasks.spawn(self.clone().work(at));
        }
        let mut all = Vec::with_capacity(queued.answers.len());
        for answer in queued.answers {
            let answer: Result<Result<T, Error>, oneshot::error::RecvError> = answer.await;
            all.push(answer.map_err(|_| no_answer())??);
        }
        Ok(all)
    }

    /// Works for one shard until nothing waits.
    async fn work(self: Arc<Self>, at: ShardEpoch) {
        let _worker = Worker { lanes: &self.lanes, at };
        while let Some(turn) = self.lanes.next(at) {
            self.run_turn(at, turn).await;
        }
    }

    /// One round trip: settlements, then reserve requests.
    async fn run_turn(&self, at: ShardEpoch, turn: Turn) {
        let link = match self.link(at.shard) {
            Ok(link) => link,
            Err(error) => return turn.answer(Err(error.clone()), Err(error)),
        };
        let to = Target { peer: &link.peer, ledger_id: self.ledger_id, shard: at.id() }.in_epoch(at.epoch);
        let (settlements, requests) = (turn.settlements(), turn.requests());
        let mut calls = Vec::with_capacity(2);
        if !settlements.is_empty() {
            calls.push(to.settle(&settlements));
        }
        if !requests.is_empty() {
            calls.push(to.reserve(turn.now_ms(), &requests));
            #[allow(clippy::cast_precision_loss, reason = "a batch has at most some hundred requests")]
            self.metrics.batch_requests.observe(requests.len() as f64);
        }
        let mut answers = self.send(&link, calls).await.into_iter();
        let mut next = || answers.next().unwrap_or_else(|| Err(no_answer()));
        let settled = if settlements.is_empty() { Ok(()) } else { next().and_then(|answer| wire::done(&answer)) };
        let reserved = if requests.is_empty() {
            Ok(Vec::new())
        } else {
            next().and_then(|answer| wire::reserve_outcomes(&answer, &requests))
        };
        if let Ok(reserved) = &reserved {
            self.lanes.share(at, &requests, reserved);
        }
        turn.answer(settled, reserved);
    }

    /// One call of a script.
    async fn call(&self, shard: ShardId, call: impl FnOnce(Target<'_>) -> Cmd) -> Result<Value, Error> {
        let link = self.link(shard.shard)?;
        let call = call(Target { peer: &link.peer, ledger_id: self.ledger_id, shard });
        let answer = self.send(&link, vec![call]).await.pop();
        answer.unwrap_or_else(|| Err(no_answer()))
    }

    fn link(&self, shard: u16) -> Result<Arc<Link>, Error> {
        self.map.node(shard)?.link()
    }

    async fn send(&self, link: &Link, calls: Vec<Cmd>) -> Vec<Result<Value, Error>> {
        self.metrics.calls.add(u64::try_from(calls.len()).unwrap_or(0));
        let answers = link.send(calls).await.into_iter();
        answers.map(|answer| answer.map_err(|error| self.failure(link, &error))).collect()
    }

    fn failure(&self, link: &Link, error: &RedisError) -> Error {
        self.metrics.failed_calls.add(1);
        if matches!(error.code(), Some("MOVED" | "ASK" | "CLUSTERDOWN" | "READONLY")) {
            self.map.refresh_soon();
        }
        link.meaning(error)
    }

    async fn overdue(self: Arc<Self>, at: ShardEpoch, now_ms: UnixMs, max: usize) -> Result<Vec<Reservation>, Error> {
        let shard = (at.sale, at.shard);
        let mut cursor = self.cursors.lock().remove(&shard).unwrap_or(0);
        let mut is_second_pass = cursor == 0;
        let mut reservations = Vec::new();
        for _ in 0..limits::GATE_PAGES_MAX {
            let left = max.saturating_sub(reservations.len());
            if left == 0 {
                break;
            }
            let page = self.call(at.id(), |to| to.in_epoch(at.epoch).overdue(now_ms, left, cursor)).await;
            // Reservations of earlier pages have a new lease: the caller gets them even if this page failed.
            let page = page.and_then(|answer| wire::overdue(&answer));
            let Ok((next, found)) = page else {
                return if reservations.is_empty() { page.map(|(_, found)| found) } else { Ok(reservations) };
            };
            reservations.extend(found);
            cursor = next;
            if cursor == 0 {
                // A search that began in the middle goes on at the beginning.
                if is_second_pass {
                    break;
                }
                is_second_pass = true;
            }
        }
        if cursor != 0 {
            self.cursors.lock().insert(shard, cursor);
        }
        Ok(reservations)
    }
}

/// Frees the lane if its worker panics: it would count as busy for ever.
struct Worker<'a> {
    lanes: &'a Lanes,
    at: ShardEpoch,
}

impl Drop for Worker<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.lanes.forget(self.at);
        }
    }
}

fn no_answer() -> Error {
    Error::Unknown("the worker of the shard is gone".to_owned())
}
