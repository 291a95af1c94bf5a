//! Where a Redis node is, and how to log in. The password is in no text that this module makes.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use redis::{ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo};

use super::ConnectError;

/// One node, as an operator or the cluster named it.
#[derive(Clone)]
pub(super) struct NodeAddress {
    pub(super) endpoint: Endpoint,
    /// User, password and database; RESP2.
    pub(super) login: RedisConnectionInfo,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Tcp { host: String, port: u16, tls: bool },
    Unix(PathBuf),
}

impl NodeAddress {
    /// Reads one text: `redis://`, `rediss://` (TLS), `redis+unix://`, or the seeds of a cluster with commas between
    /// them, `redis-cluster://` or `rediss-cluster://`.
    pub(super) fn parse(text: &str) -> Result<Vec<NodeAddress>, ConnectError> {
        // The text may hold a password, so no message repeats it.
        let wrong = |why: &str| ConnectError::Address(why.to_owned());
        let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong("no scheme such as redis:// in it"))?;
        let tls = match scheme {
            "redis" | "redis-cluster" | "redis+unix" => false,
            "rediss" | "rediss-cluster" => true,
            _ => return Err(wrong("the scheme is none of redis, rediss, redis-cluster, rediss-cluster, redis+unix")),
        };
        if scheme == "redis+unix" {
            return Ok(vec![NodeAddress::of(text, tls).ok_or_else(|| wrong("not a path of a socket"))?]);
        }
        let (login, places) = rest.rsplit_once('@').map_or(("", rest), |(login, places)| (login, places));
        let (hosts, path) = places.split_once('/').map_or((places, ""), |(hosts, path)| (hosts, path));
        let at = if login.is_empty() { "" } else { "@" };
        let each = hosts.split(',').map(|host| {
            let one = format!("redis://{login}{at}{host}/{path}");
            NodeAddress::of(&one, tls)
                .ok_or_else(|| wrong("not of the form redis://[user:password@]host:port[/database]"))
        });
        each.collect()
    }

    fn of(text: &str, tls: bool) -> Option<NodeAddress> {
        let info = text.into_connection_info().ok()?;
        let endpoint = match info.addr() {
            ConnectionAddr::Tcp(host, port) if !host.is_empty() => {
                Endpoint::Tcp { host: host.clone(), port: *port, tls }
            }
            ConnectionAddr::Unix(path) => Endpoint::Unix(path.clone()),
            _ => return None,
        };
        Some(NodeAddress { endpoint, login: info.redis_settings().clone() })
    }

    /// A node that this one named, with the same login.
    pub(super) fn beside(&self, host: &str, port: u16) -> NodeAddress {
        let endpoint = match &self.endpoint {
            // A node that does not know its own name sends an empty one: it is where the question went.
            Endpoint::Tcp { host: own, tls, .. } => {
                Endpoint::Tcp { host: if host.is_empty() { own.clone() } else { host.to_owned() }, port, tls: *tls }
            }
            Endpoint::Unix(path) => Endpoint::Unix(path.clone()),
        };
        NodeAddress { endpoint, login: self.login.clone() }
    }
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.endpoint {
            Endpoint::Tcp { host, port, .. } if host.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6()) => {
                write!(f, "[{host}]:{port}")
            }
            Endpoint::Tcp { host, port, .. } => write!(f, "{host}:{port}"),
            Endpoint::Unix(path) => path.display().fmt(f),
        }
    }
}

impl fmt::Debug for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        NodeAddress::parse(text).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn addresses_are_read_with_login_and_database() {
        let one = NodeAddress::parse("rediss://me:s%40crt@example.org:6380/3").unwrap().remove(0);
        assert_eq!(one.endpoint, Endpoint::Tcp { host: "example.org".to_owned(), port: 6380, tls: true });
        assert_eq!((one.login.username(), one.login.password(), one.login.db()), (Some("me"), Some("s@crt"), 3));
        assert_eq!(shown("redis://10.0.0.1"), ["10.0.0.1:6379"]);
        assert_eq!(shown("redis://[::1]:7000"), ["[::1]:7000"]);
        assert_eq!(shown("redis-cluster://u:p@a:1,b:2,c"), ["a:1", "b:2", "c:6379"]);
        assert_eq!(shown("redis+unix:///run/redis.sock"), ["/run/redis.sock"]);
    }

    #[test]
    fn what_is_no_address_is_refused_without_its_secret() {
        for text in [
            "",
            "hunter2",
            "http://:hunter2@a",
            "redis://:hunter2@",
            "redis://:hunter2@a:port",
            "redis://:hunter2@a:1/x",
        ] {
            let error = NodeAddress::parse(text).err().unwrap_or_else(|| panic!("{text:?} was taken"));
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
        let kept = NodeAddress::parse("redis://:hunter2@a").unwrap();
        assert!(!format!("{kept:?}").contains("hunter2"));
    }
}
