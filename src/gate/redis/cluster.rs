//! Which node has which shard: by its number where the nodes are fixed, else as the Redis Cluster says.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::RwLock;
use redis::{Cmd, Value};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::address::NodeAddress;
use super::key::tag;
use super::link::{self, NoLink};
use super::node::{Node, NodeContext};
use super::{ConnectError, Error, Nodes};
use crate::limits;

/// Hash slots of a Redis Cluster.
const SLOTS: u16 = 16_384;

/// The nodes, and which of them has each shard.
pub(super) struct NodeMap {
    layout: RwLock<Arc<Layout>>,
    seeds: Vec<NodeAddress>,
    context: Arc<NodeContext>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// Nodes and slots of one moment: the slots are indices of these very nodes, so both are replaced and read together.
#[derive(Default)]
struct Layout {
    /// In the order they were listed if fixed.
    nodes: Vec<Arc<Node>>,
    /// Index of the node of each slot, `None` for a slot without one; empty if fixed.
    slots: Vec<Option<u16>>,
}

impl NodeMap {
    /// Connects to every node that answers, and maintains the connections from then on.
    pub(super) async fn connect(
        seeds: Vec<NodeAddress>,
        context: Arc<NodeContext>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Result<Arc<NodeMap>, ConnectError> {
        let map = Arc::new(NodeMap { layout: RwLock::default(), seeds, context, tasks, stop });
        match map.context.nodes {
            Nodes::Fixed => {
                map.join(&map.seeds, Vec::new(), true).await?;
            }
            Nodes::Cluster => {
                map.refresh(true).await?;
                map.tasks.spawn(map.clone().keep());
            }
        }
        Ok(map)
    }

    fn layout(&self) -> Arc<Layout> {
        self.layout.read().clone()
    }

    /// The node of a shard.
    pub(super) fn node(&self, shard: u16) -> Result<Arc<Node>, Error> {
        let layout = self.layout();
        let Layout { nodes, slots } = &*layout;
        let node = match self.context.nodes {
            Nodes::Fixed => nodes.get(usize::from(shard) % nodes.len().max(1)),
            Nodes::Cluster => {
                let node = slots.get(usize::from(slot(tag(shard).as_bytes()))).copied().flatten();
                node.and_then(|node| nodes.get(usize::from(node)))
            }
        };
        node.cloned().ok_or_else(|| Error::Unavailable(format!("no redis node has shard {shard}")))
    }

    /// Nodes in use, and those of them without a connection. A cluster that was never reached counts its seeds.
    pub(super) fn count(&self) -> (usize, usize) {
        let layout = self.layout();
        match layout.nodes.len() {
            0 => (self.seeds.len(), self.seeds.len()),
            all => (all, layout.nodes.iter().filter(|node| !node.is_up()).count()),
        }
    }

    /// Uses exactly the nodes at these places, with these slots: connects to new ones and drops those that are gone.
    async fn join(
        &self,
        addresses: &[NodeAddress],
        slots: Vec<Option<u16>>,
        is_start: bool,
    ) -> Result<(), ConnectError> {
        let old = self.layout();
        let mut fresh = Vec::new();
        let mut nodes: Vec<Arc<Node>> = Vec::with_capacity(addresses.len());
        for endpoint in addresses {
            let known = old.nodes.iter().find(|node| node.address.endpoint == endpoint.endpoint);
            nodes.push(known.cloned().unwrap_or_else(|| {
                let node = Node::new(endpoint.clone(), self.context.clone(), self.stop.child_token());
                fresh.push(node.clone());
                node
            }));
        }
        let opened = join_all(fresh.iter().map(|node| node.first())).await;
        for (node, opened) in fresh.into_iter().zip(opened) {
            let opened = match opened {
                Err(error) if is_start => return Err(error),
                // It joined a running cluster, which is no reason to stop: its task tries again as for a lost node.
                Err(error) => {
                    tracing::error!(%error, "could not use a new node of the redis cluster: {error}");
                    None
                }
                Ok(opened) => opened,
            };
            self.tasks.spawn(node.keep(opened));
        }
        let layout = Arc::new(Layout { nodes, slots });
        *self.layout.write() = layout.clone();
        // Only now, so that no call goes to a dropped node.
        for gone in old.nodes.iter().filter(|node| !layout.nodes.iter().any(|other| Arc::ptr_eq(node, other))) {
            gone.stop.cancel();
        }
        Ok(())
    }

    /// Reads the slots again whenever keys may have moved, and from time to time while a node or slot is missing.
    async fn keep(self: Arc<NodeMap>) {
        let mut pause_ms = *limits::GATE_BACKOFF_MS.start();
        loop {
            let pause = tokio::time::sleep(Duration::from_millis(pause_ms));
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = self.context.moved.notified() => {}
                () = pause, if !self.is_whole() => {}
            }
            pause_ms = if self.is_whole() { *limits::GATE_BACKOFF_MS.start() } else { 2 * pause_ms };
            pause_ms = pause_ms.min(*limits::GATE_BACKOFF_MS.end());
            if let Err(error) = self.refresh(false).await {
                tracing::error!(%error, "could not read the slots of the redis cluster: {error}");
            }
            // Many calls notice at once that keys have moved; one refresh serves them all.
            tokio::time::sleep(Duration::from_millis(*limits::GATE_BACKOFF_MS.start())).await;
        }
    }

    fn is_whole(&self) -> bool {
        self.count().1 == 0 && self.layout().slots.iter().all(Option::is_some)
    }

    /// Learns the node of each slot from the first node or seed that answers.
    async fn refresh(&self, is_start: bool) -> Result<(), ConnectError> {
        let layout = self.layout();
        let known = layout.nodes.iter().filter(|node| node.is_up()).map(|node| &node.address);
        for asked in known.chain(&self.seeds) {
            let mut question = Cmd::new();
            question.arg("CLUSTER").arg("SLOTS");
            match link::ask(asked, &self.context.tls, &question).await {
                Ok(answer) => {
                    let (addresses, slots) = read(&answer, asked);
                    // A node that has lost its memory knows no slots: the next one is asked.
                    if !addresses.is_empty() {
                        return self.join(&addresses, slots, is_start).await;
                    }
                }
                Err(NoLink::Unfit(why)) if is_start => {
                    return Err(ConnectError::Unfit {
                        node: asked.to_string(),
                        why: format!("{why}; is it part of a redis cluster, and may the user run CLUSTER SLOTS?"),
                    });
                }
                Err(NoLink::Unfit(reason) | NoLink::Unreachable(reason)) if is_start => {
                    tracing::error!(node = %asked, reason, "could not reach redis cluster seed {asked}: {reason}");
                }
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// To be called when a node answered MOVED or the like.
    pub(super) fn refresh_soon(&self) {
        self.context.moved.notify_one();
    }
}

/// The masters and the slots in an answer to `CLUSTER SLOTS`: `[first, last, [host, port, …], replicas…]` for each range.
fn read(answer: &Value, asked: &NodeAddress) -> (Vec<NodeAddress>, Vec<Option<u16>>) {
    let mut addresses: Vec<NodeAddress> = Vec::new();
    let mut slots = vec![None; usize::from(SLOTS)];
    let Value::Array(ranges) = answer else { return (addresses, slots) };
    for range in ranges {
        let Value::Array(range) = range else { continue };
        let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = range.as_slice() else { continue };
        let [host, Value::Int(port), ..] = master.as_slice() else { continue };
        let host = match host {
            Value::BulkString(host) => String::from_utf8_lossy(host).into_owned(),
            _ => String::new(),
        };
        let (Ok(first), Ok(last), Ok(port)) = (usize::try_from(*first), usize::try_from(*last), u16::try_from(*port))
        else {
            continue;
        };
        let address = asked.beside(&host, port);
        let known = addresses.iter().position(|endpoint| endpoint.endpoint == address.endpoint);
        let node = known.unwrap_or_else(|| {
            addresses.push(address);
            addresses.len() - 1
        });
        if let (Some(range), Ok(node)) = (slots.get_mut(first..=last), u16::try_from(node)) {
            range.fill(Some(node));
        }
    }
    addresses.truncate(limits::GATE_NODES_MAX);
    (addresses, slots)
}

/// The slot of a key's hash tag: CRC-16 with the polynomial 0x1021, as the cluster's specification says.
fn slot(tag: &[u8]) -> u16 {
    let crc = tag.iter().fold(0_u16, |crc, byte| {
        (0..8).fold(
            crc ^ (u16::from(*byte) << 8),
            |crc, _| {
                if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
            },
        )
    });
    crc % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        // `CLUSTER KEYSLOT` of a redis-server said the second and third.
        assert_eq!(slot(b"123456789"), 0x31c3 % SLOTS);
        assert_eq!(slot(b"foo"), 12_182);
        assert_eq!(slot(b""), 0);
    }
}
