//! A Redis Cluster: masters that share the slots evenly, replicas if wanted.

use std::time::Duration;

use super::RedisServer;
use super::resp::Reply;
use crate::wait::within;

/// Slots of every Redis Cluster.
const SLOTS: usize = 16_384;

/// Longest wait until every node agrees with every other.
const AGREED: Duration = Duration::from_secs(30);

/// The nodes of a cluster.
pub struct RedisCluster {
    /// The masters first.
    pub nodes: Vec<RedisServer>,
    n_masters: usize,
}

impl RedisCluster {
    /// Starts masters, and replicas of the first `n_replicas` of them.
    pub fn start(n_masters: usize, n_replicas: usize) -> Self {
        let nodes: Vec<RedisServer> = (0..n_masters + n_replicas).map(|_| RedisServer::start_member()).collect();
        for (n, node) in nodes[..n_masters].iter().enumerate() {
            let (first, last) = (SLOTS * n / n_masters, SLOTS * (n + 1) / n_masters - 1);
            node.ask(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]);
            node.ask(&["CLUSTER", "SET-CONFIG-EPOCH", &(n + 1).to_string()]);
            nodes[0].ask(&["CLUSTER", "MEET", "127.0.0.1", &node.port.to_string(), &bus(node)]);
        }
        let cluster = RedisCluster { nodes, n_masters };
        cluster.agree(n_masters);
        for (replica, master) in cluster.nodes[n_masters..].iter().zip(&cluster.nodes) {
            let id = master.ask(&["CLUSTER", "MYID"]).text();
            replica.ask(&["CLUSTER", "MEET", "127.0.0.1", &master.port.to_string(), &bus(master)]);
            // It must know its master first.
            within(AGREED, || replica.ask(&["CLUSTER", "NODES"]).text().contains(&id).then_some(()));
            within(AGREED, || {
                let reply = replica.try_ask(&["CLUSTER", "REPLICATE", &id]).unwrap();
                (reply == Reply::Text("OK".to_owned())).then_some(())
            });
            within(AGREED, || replica.ask(&["INFO"]).text().contains("master_link_status:up").then_some(()));
        }
        cluster.agree(n_masters + n_replicas);
        cluster
    }

    /// Every master, as rushgate's settings name them.
    pub fn address(&self) -> String {
        address(&self.nodes[..self.n_masters])
    }

    /// All masters but the last, which the client has to find.
    pub fn seeds(&self) -> String {
        address(&self.nodes[..self.n_masters - 1])
    }

    fn agree(&self, known: usize) {
        let size = format!("cluster_size:{}", self.n_masters);
        let fits = |node: &RedisServer| {
            let info = node.ask(&["CLUSTER", "INFO"]).text();
            info.contains("cluster_state:ok")
                && info.contains(&format!("cluster_known_nodes:{known}"))
                && info.contains(&size)
        };
        within(AGREED, || self.nodes[..known].iter().all(fits).then_some(()));
    }
}

fn address(nodes: &[RedisServer]) -> String {
    let nodes: Vec<String> = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
    format!("redis-cluster://{}", nodes.join(","))
}

/// The port on which the nodes talk to each other.
fn bus(node: &RedisServer) -> String {
    match node.ask(&["CONFIG", "GET", "cluster-port"]) {
        Reply::Rows(rows) => rows[1].clone().text(),
        other => panic!("{other:?}"),
    }
}
