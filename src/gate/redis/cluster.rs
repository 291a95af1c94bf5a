//! Which node has which shard: by its number where the nodes are fixed, else as the Redis Cluster says.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::RwLock;
use redis::{Cmd, Value};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::address::Address;
use super::key::tag;
use super::link::{self, NoLink};
use super::node::{Node, Shared};
use super::{ConnectError, Error, Nodes};
use crate::limits;

/// Hash slots of a Redis Cluster.
const SLOTS: u16 = 16_384;

/// The nodes, and who has what.
pub(super) struct Map {
    layout: RwLock<Arc<Layout>>,
    seeds: Vec<Address>,
    shared: Arc<Shared>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// What was true at one time: the slots count these very nodes, so both are replaced and read together.
#[derive(Default)]
struct Layout {
    /// In the order they were listed if fixed.
    nodes: Vec<Arc<Node>>,
    /// Index of the node of each slot; empty if fixed. Slots without a node say `u16::MAX`.
    slots: Vec<u16>,
}

impl Map {
    /// Connects to everything that is there, and sees to it from then on.
    pub(super) async fn connect(
        seeds: Vec<Address>,
        shared: Arc<Shared>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Result<Arc<Map>, ConnectError> {
        let map = Arc::new(Map { layout: RwLock::default(), seeds, shared, tasks, stop });
        match map.shared.nodes {
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
        let node = match self.shared.nodes {
            Nodes::Fixed => nodes.get(usize::from(shard) % nodes.len().max(1)),
            Nodes::Cluster => {
                let node = slots.get(usize::from(slot(tag(shard).as_bytes()))).copied();
                nodes.get(usize::from(node.unwrap_or(u16::MAX)))
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

    /// Uses exactly the nodes at these places, whose slots are these: those that are new are connected to, those that are gone are let go.
    async fn join(&self, places: &[Address], slots: Vec<u16>, is_start: bool) -> Result<(), ConnectError> {
        let old = self.layout();
        let mut fresh = Vec::new();
        let mut nodes: Vec<Arc<Node>> = Vec::with_capacity(places.len());
        for place in places {
            let known = old.nodes.iter().find(|node| node.address.place == place.place);
            nodes.push(known.cloned().unwrap_or_else(|| {
                let node = Node::new(place.clone(), self.shared.clone(), self.stop.child_token());
                fresh.push(node.clone());
                node
            }));
        }
        let opened = join_all(fresh.iter().map(|node| node.first())).await;
        for (node, opened) in fresh.into_iter().zip(opened) {
            let opened = match opened {
                Err(error) if is_start => return Err(error),
                // It joined a running cluster, which is no reason to stop: it is tried again like one that is lost.
                Err(error) => {
                    tracing::error!(%error, "a new node of the redis cluster cannot be used");
                    None
                }
                Ok(opened) => opened,
            };
            self.tasks.spawn(node.keep(opened));
        }
        let layout = Arc::new(Layout { nodes, slots });
        *self.layout.write() = layout.clone();
        // Only now, so that no call is sent to a node that was let go.
        for gone in old.nodes.iter().filter(|node| !layout.nodes.iter().any(|other| Arc::ptr_eq(node, other))) {
            gone.stop.cancel();
        }
        Ok(())
    }

    /// Asks the cluster again whenever keys may have moved, and from time to time while something is missing.
    async fn keep(self: Arc<Map>) {
        let mut pause_ms = *limits::GATE_BACKOFF_MS.start();
        loop {
            let pause = tokio::time::sleep(Duration::from_millis(pause_ms));
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = self.shared.moved.notified() => {}
                () = pause, if !self.is_whole() => {}
            }
            pause_ms = if self.is_whole() { *limits::GATE_BACKOFF_MS.start() } else { 2 * pause_ms };
            pause_ms = pause_ms.min(*limits::GATE_BACKOFF_MS.end());
            if let Err(error) = self.refresh(false).await {
                tracing::error!(%error, "ask the redis cluster for its slots");
            }
            // A crowd of calls finds out at once that keys have moved; one look serves them all.
            tokio::time::sleep(Duration::from_millis(*limits::GATE_BACKOFF_MS.start())).await;
        }
    }

    fn is_whole(&self) -> bool {
        self.count().1 == 0 && self.layout().slots.iter().all(|node| *node != u16::MAX)
    }

    /// Learns who has what, from the first node or seed that tells.
    async fn refresh(&self, is_start: bool) -> Result<(), ConnectError> {
        let layout = self.layout();
        let known = layout.nodes.iter().filter(|node| node.is_up()).map(|node| &node.address);
        for asked in known.chain(&self.seeds) {
            let mut question = Cmd::new();
            question.arg("CLUSTER").arg("SLOTS");
            match link::ask(asked, &self.shared.tls, &question).await {
                Ok(answer) => {
                    let (places, slots) = read(&answer, asked);
                    // A node that has lost its memory knows no slots; others know better.
                    if !places.is_empty() {
                        return self.join(&places, slots, is_start).await;
                    }
                }
                Err(NoLink::Unfit(why)) if is_start => {
                    return Err(ConnectError::Unfit {
                        node: asked.to_string(),
                        why: format!("{why}; is it part of a redis cluster, and may the user run CLUSTER SLOTS?"),
                    });
                }
                Err(NoLink::Unfit(reason) | NoLink::Unreachable(reason)) if is_start => {
                    tracing::error!(node = %asked, reason, "redis cluster seed cannot be reached; going on without it");
                }
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Tells that a node answered MOVED or the like.
    pub(super) fn look_again(&self) {
        self.shared.moved.notify_one();
    }
}

/// The masters and the slots that `CLUSTER SLOTS` told: `[first, last, [host, port, …], replicas…]` for each range.
fn read(answer: &Value, asked: &Address) -> (Vec<Address>, Vec<u16>) {
    let mut places: Vec<Address> = Vec::new();
    let mut slots = vec![u16::MAX; usize::from(SLOTS)];
    let Value::Array(ranges) = answer else { return (places, slots) };
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
        let known = places.iter().position(|place| place.place == address.place);
        let node = known.unwrap_or_else(|| {
            places.push(address);
            places.len() - 1
        });
        if let (Some(range), Ok(node)) = (slots.get_mut(first..=last), u16::try_from(node)) {
            range.fill(node);
        }
    }
    places.truncate(limits::GATE_NODES_MAX);
    (places, slots)
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
