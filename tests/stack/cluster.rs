//! A Redis Cluster of one's own: masters on ports of the kernel's choice, replicas if wanted.

use std::time::Duration;

use crate::proxy::within;
use crate::redis::{Node, Reply};

/// Slots of every Redis Cluster.
const SLOTS: usize = 16_384;

/// Longest wait until every node agrees with every other.
const AGREED: Duration = Duration::from_secs(30);

pub(crate) struct Cluster {
    /// The masters first.
    pub(crate) nodes: Vec<Node>,
    n_masters: usize,
}

impl Cluster {
    /// With `n_replicas` of its first masters.
    pub(crate) fn start(n_masters: usize, n_replicas: usize) -> Self {
        let nodes: Vec<Node> = (0..n_masters + n_replicas).map(|_| Node::of_cluster()).collect();
        for (n, node) in nodes[..n_masters].iter().enumerate() {
            let (first, last) = (SLOTS * n / n_masters, SLOTS * (n + 1) / n_masters - 1);
            node.ask(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]);
            node.ask(&["CLUSTER", "SET-CONFIG-EPOCH", &(n + 1).to_string()]);
            nodes[0].ask(&["CLUSTER", "MEET", "127.0.0.1", &node.port.to_string(), &bus(node)]);
        }
        let cluster = Cluster { nodes, n_masters };
        cluster.agree(n_masters);
        for (replica, master) in cluster.nodes[n_masters..].iter().zip(&cluster.nodes) {
            let id = master.ask(&["CLUSTER", "MYID"]).text();
            replica.ask(&["CLUSTER", "MEET", "127.0.0.1", &master.port.to_string(), &bus(master)]);
            // It must have heard of its master first.
            within(AGREED, || replica.ask(&["CLUSTER", "NODES"]).text().contains(&id).then_some(()));
            within(AGREED, || {
                let told = replica.try_ask(&["CLUSTER", "REPLICATE", &id]).unwrap();
                (told == Reply::Text("OK".to_owned())).then_some(())
            });
            within(AGREED, || replica.ask(&["INFO"]).text().contains("master_link_status:up").then_some(()));
        }
        cluster.agree(n_masters + n_replicas);
        cluster
    }

    /// As the engine is told of it: every master.
    pub(crate) fn address(&self) -> String {
        let nodes: Vec<String> =
            self.nodes[..self.n_masters].iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        format!("redis-cluster://{}", nodes.join(","))
    }

    fn agree(&self, known: usize) {
        let fits = |node: &Node| {
            let info = node.ask(&["CLUSTER", "INFO"]).text();
            info.contains("cluster_state:ok") && info.contains(&format!("cluster_known_nodes:{known}"))
        };
        within(AGREED, || self.nodes[..known].iter().all(fits).then_some(()));
    }
}

/// Where the nodes talk to each other.
fn bus(node: &Node) -> String {
    match node.ask(&["CONFIG", "GET", "cluster-port"]) {
        Reply::Rows(rows) => rows[1].clone().text(),
        other => panic!("{other:?}"),
    }
}
