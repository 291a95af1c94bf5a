//! One Redis node: it has a connection or none, and a task that maintains it. Without a connection every call
//! fails at once, so that orders go on without the gate.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::sync::Notify;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use super::address::NodeAddress;
use super::link::{self, Link, NoLink, Opened};
use super::{ConnectError, Error, Nodes};
use crate::limits;
use crate::metrics::GateMetrics;

/// What all nodes share.
pub(super) struct NodeContext {
    pub(super) nodes: Nodes,
    pub(super) tls: TlsConnector,
    /// Notified when keys may have moved to other nodes.
    pub(super) moved: Notify,
    pub(super) metrics: Arc<GateMetrics>,
}

pub(super) struct Node {
    pub(super) address: NodeAddress,
    context: Arc<NodeContext>,
    link: RwLock<Option<Arc<Link>>>,
    /// Ends the task: the node is no longer used.
    pub(super) stop: CancellationToken,
}

impl Node {
    pub(super) fn new(address: NodeAddress, context: Arc<NodeContext>, stop: CancellationToken) -> Arc<Node> {
        Arc::new(Node { address, context, link: RwLock::new(None), stop })
    }

    /// The connection, if there is one now.
    pub(super) fn link(&self) -> Result<Arc<Link>, Error> {
        let link = self.link.read().clone();
        link.ok_or_else(|| Error::Unavailable(format!("no connection to {}", self.address)))
    }

    pub(super) fn is_up(&self) -> bool {
        self.link.read().is_some()
    }

    /// The first try. An unfit node refuses the start; for one that does not answer, the task goes on trying.
    pub(super) async fn first(&self) -> Result<Option<Opened>, ConnectError> {
        match self.open().await {
            Ok((link, driver)) => {
                *self.link.write() = Some(link.clone());
                Ok(Some((link, driver)))
            }
            Err(NoLink::Unfit(why)) => Err(ConnectError::Unfit { node: self.address.to_string(), why }),
            Err(NoLink::Unreachable(reason)) => {
                tracing::error!(node = %self.address, reason, "could not reach redis node {}: {reason}; going on without it", self.address);
                Ok(None)
            }
        }
    }

    /// Keeps the node connected until it is stopped. Logs what changes, not what stays.
    pub(super) async fn keep(self: Arc<Node>, mut opened: Option<Opened>) {
        let mut is_first = opened.is_some();
        loop {
            let (link, driver) = match opened.take() {
                Some(opened) => opened,
                None => tokio::select! {
                    opened = self.reopen() => opened,
                    () = self.stop.cancelled() => return,
                },
            };
            *self.link.write() = Some(link.clone());
            if !is_first {
                tracing::info!(node = %self.address, "redis node {} is back", self.address);
                self.context.moved.notify_one();
            }
            is_first = false;
            let reason = tokio::select! {
                () = driver => "the connection was closed".to_owned(),
                why = link.condemned() => why,
                () = self.stop.cancelled() => return,
            };
            *self.link.write() = None;
            tracing::error!(node = %self.address, reason, "lost redis node {}: {reason}; going on without it", self.address);
            self.context.moved.notify_one();
        }
    }

    /// Tries until it has a connection.
    async fn reopen(&self) -> Opened {
        let mut pause_ms = *limits::GATE_BACKOFF_MS.start();
        let mut last = String::new();
        loop {
            let jitter = u64::from(getrandom::u32().unwrap_or(0)) % pause_ms;
            tokio::time::sleep(Duration::from_millis(pause_ms / 2 + jitter)).await;
            match self.open().await {
                Ok(opened) => return opened,
                Err(NoLink::Unfit(why)) if why != last => {
                    tracing::error!(node = %self.address, reason = why, "redis node {} is not fit for the gate: {why}", self.address);
                    last = why;
                }
                Err(NoLink::Unfit(_) | NoLink::Unreachable(_)) => {}
            }
            pause_ms = (2 * pause_ms).min(*limits::GATE_BACKOFF_MS.end());
        }
    }

    async fn open(&self) -> Result<Opened, NoLink> {
        let (opened, fit) = link::open(&self.address, &self.context.tls, self.context.nodes).await?;
        let is_first = self.context.metrics.connections.get() == 0;
        self.context.metrics.connections.add(1);
        // Once: nodes are set up alike, and a reconnection changes nothing about it.
        if let Some(advice) = fit.advice.filter(|_| is_first) {
            tracing::warn!(node = %self.address, advice, "redis node {} could be set up better: {advice}", self.address);
        }
        Ok(opened)
    }
}
