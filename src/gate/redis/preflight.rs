//! What a node must be before the gate trusts it with reservations. Every refusal names the promise it protects and what to
//! do about it. All but one warning comes from `INFO` alone, which restricted users may run.

use super::Nodes;

/// Oldest version whose scripts are refused as a whole when memory is full.
const VERSION_MIN: (u32, u32) = (7, 0);

/// What a node says about itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fit {
    /// The run id: another one is another process, which may have come back with old data.
    pub(super) lineage: String,
    /// Advice for the log; no promise depends on it.
    pub(super) advice: Option<String>,
}

/// Examines the answers to `INFO` and, if the node gave it, to `CONFIG GET save`.
pub(super) fn examine(info: &str, save: Option<&str>, nodes: Nodes) -> Result<Fit, String> {
    let of = |name: &str| {
        let found = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        found.map(str::trim).unwrap_or_default()
    };
    let version = of("redis_version");
    if !is_recent(version) {
        return Err(format!(
            "it is version {version:?}: before {}.{} a script that runs out of memory stops half way, and units would \
             stay reserved without an order (promise: everything sells); install 7.0 or later, patched against the known flaws \
             of Lua (7.2.11, 7.4.6, 8.0.4, 8.2.2 or what your distribution maintains; 8.6.3 has all fixes)",
            VERSION_MIN.0, VERSION_MIN.1
        ));
    }
    if of("role") != "master" {
        return Err(format!(
            "its role is {:?}: a replica may be behind, and a gate that is behind is worse than an empty one (promise: \
             the gate is disposable); name the master",
            of("role")
        ));
    }
    if of("maxmemory_policy") != "noeviction" {
        return Err(format!(
            "its maxmemory-policy is {:?}: Redis would throw away reservations, and their units would stay unsold \
             (promise: everything sells); set maxmemory-policy noeviction",
            of("maxmemory_policy")
        ));
    }
    let is_cluster = of("redis_mode") == "cluster" || of("cluster_enabled") == "1";
    match (nodes, is_cluster) {
        (Nodes::Fixed, true) => Err(
            "it is part of a Redis Cluster, which moves keys between nodes by itself, but is listed as a node of its \
             own (promise: the gate is disposable); list it as redis-cluster://host:port"
                .to_owned(),
        ),
        (Nodes::Cluster, false) => Err("it is listed as a seed of a Redis Cluster, but its cluster mode is off \
             (promise: the gate is disposable); list it as redis://host:port, or set cluster-enabled yes"
            .to_owned()),
        (Nodes::Fixed, false) | (Nodes::Cluster, true) => match of("run_id") {
            "" => Err(
                "it does not show its run id, so that a restart with old data would go unnoticed (promise: the gate \
                 is disposable); let the user run INFO"
                    .to_owned(),
            ),
            lineage => Ok(Fit { lineage: lineage.to_owned(), advice: advice(&of, save) }),
        },
    }
}

fn is_recent(version: &str) -> bool {
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= VERSION_MIN
}

fn advice<'a>(of: &impl Fn(&str) -> &'a str, save: Option<&str>) -> Option<String> {
    let mut advice = Vec::new();
    if of("aof_enabled") == "1" || save.is_some_and(|save| !save.is_empty()) {
        advice.push("it keeps its data on disk, which costs time and is never used: set save \"\" and appendonly no");
    }
    if of("maxmemory") == "0" {
        advice.push("it has no maxmemory: set one, or the machine runs out of memory instead of the gate");
    }
    if !matches!(of("connected_slaves"), "0" | "") {
        advice.push("it has replicas, which are never used: their buffers take memory that maxmemory does not count");
    }
    (!advice.is_empty()).then(|| advice.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\nrun_id:abc\r\n\
        maxmemory:1000\r\nmaxmemory_policy:noeviction\r\naof_enabled:0\r\nrole:master\r\ncluster_enabled:0\r\n";

    #[test]
    fn a_fit_node_is_taken_and_others_are_refused_with_a_reason() {
        assert_eq!(examine(GOOD, Some(""), Nodes::Fixed), Ok(Fit { lineage: "abc".to_owned(), advice: None }));
        let table = [
            ("7.0.15", "6.2.14", "version"),
            ("7.0.15", "", "version"),
            ("role:master", "role:slave", "replica"),
            ("noeviction", "volatile-lru", "noeviction"),
            ("cluster_enabled:0", "cluster_enabled:1", "redis-cluster://"),
            ("run_id:abc", "", "run id"),
        ];
        for (from, to, why) in table {
            let refusal = examine(&GOOD.replace(from, to), None, Nodes::Fixed).unwrap_err();
            assert!(refusal.contains(why) && refusal.contains("promise"), "{refusal}");
        }
        assert!(examine(GOOD, None, Nodes::Cluster).unwrap_err().contains("cluster mode is off"));
        for version in ["7.0.0", "7.2.4", "8.0.1", "10.0"] {
            assert!(examine(&GOOD.replace("7.0.15", version), None, Nodes::Fixed).is_ok(), "{version}");
        }
    }

    #[test]
    fn persistence_and_unbounded_memory_are_worth_a_line() {
        let advice = |info: &str, save| examine(info, save, Nodes::Fixed).unwrap().advice.unwrap_or_default();
        assert!(advice(GOOD, Some("3600 1")).contains("save"));
        assert!(advice(&GOOD.replace("aof_enabled:0", "aof_enabled:1"), None).contains("appendonly"));
        assert!(advice(&format!("{GOOD}connected_slaves:1\r\n"), None).contains("replicas"));
        assert!(advice(&GOOD.replace("maxmemory:1000", "maxmemory:0"), None).contains("maxmemory"));
    }
}
