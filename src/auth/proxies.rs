//! Whose word about others is taken: the proxies in front of this server, by address.

use std::net::IpAddr;

use http::header::HeaderMap;

use crate::limits;

/// The header in which a proxy names whom it forwards for.
pub const FORWARDED: &str = "x-forwarded-for";

/// The networks of the trusted proxies; by default there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies(Vec<Network>);

/// Addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    first: u128,
    /// Bits that an address of this kind has: 32 or 128.
    width: u32,
    /// Bits that are the same in all.
    same: u32,
}

/// A text that is no list of networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a list of addresses and networks")]
pub struct InvalidProxies;

impl Proxies {
    /// Reads addresses and networks such as `10.0.0.0/8`, separated by commas. An empty text is an empty list. A network of
    /// every address, and one that is not written as its first address, is refused as a likely mistake.
    pub fn parse(text: &str) -> Result<Self, InvalidProxies> {
        if text.trim().is_empty() {
            return Ok(Proxies::default());
        }
        let networks: Vec<Network> =
            text.split(',').map(|part| Network::parse(part.trim())).collect::<Result<_, _>>()?;
        if networks.len() > limits::PROXIES_MAX { Err(InvalidProxies) } else { Ok(Proxies(networks)) }
    }

    /// Whether no proxy is trusted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this is a trusted proxy. An IPv4-mapped IPv6 address counts as the IPv4 address.
    pub fn trusts(&self, address: IpAddr) -> bool {
        let (bits, width) = bits(address.to_canonical());
        self.0.iter().any(|network| network.holds(bits, width))
    }

    /// The address that a request came from: the peer, or, if that is a trusted proxy, the right-most address of
    /// `X-Forwarded-For` that is none. Further left stands what a client may have made up. `None`: our own proxies name
    /// nobody, or somebody we cannot read.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> Option<IpAddr> {
        if !self.trusts(peer) {
            return Some(peer.to_canonical());
        }
        let lines = headers.get_all(FORWARDED).iter().rev();
        for hop in lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b',')) {
            let hop = address(std::str::from_utf8(hop).ok()?.trim())?;
            if !self.trusts(hop) {
                return Some(hop.to_canonical());
            }
        }
        None
    }
}

impl Network {
    fn parse(text: &str) -> Result<Self, InvalidProxies> {
        let (address, same) = match text.split_once('/') {
            None => (text, None),
            Some((address, same)) => (address, Some(same)),
        };
        let address: IpAddr = address.parse().map_err(|_| InvalidProxies)?;
        let (_, width_written) = bits(address);
        let (first, width) = bits(address.to_canonical());
        let same = match same {
            None => width,
            // An IPv4-mapped IPv6 address has 96 bits before those of the IPv4 address.
            Some(same) if same.bytes().all(|byte| byte.is_ascii_digit()) => {
                let same: u32 = same.parse().map_err(|_| InvalidProxies)?;
                same.checked_sub(width_written - width).ok_or(InvalidProxies)?
            }
            Some(_) => return Err(InvalidProxies),
        };
        let network = Network { first, width, same };
        let is_first = same == width || first.checked_shl(128 - width + same).unwrap_or(0) == 0;
        if (1..=width).contains(&same) && is_first { Ok(network) } else { Err(InvalidProxies) }
    }

    fn holds(&self, bits: u128, width: u32) -> bool {
        self.width == width && (self.first ^ bits).checked_shr(self.width - self.same).unwrap_or(0) == 0
    }
}

fn bits(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    }
}

/// An address as proxies write it: with a port or without, IPv6 in brackets or without.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse().ok().map(|address: std::net::SocketAddr| address.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(text: &str) -> Proxies {
        Proxies::parse(text).unwrap_or_else(|_| panic!("{text}"))
    }

    #[test]
    fn networks_hold_their_addresses_and_no_others() {
        let table = [
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.8", false),
            ("192.0.2.7", "::ffff:192.0.2.7", true),
            ("::ffff:192.0.2.7", "192.0.2.7", true),
            ("10.0.0.0/8", "10.255.255.255", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("10.0.0.0/8", "9.255.255.255", false),
            ("::ffff:10.0.0.0/104", "10.1.2.3", true),
            ("::ffff:10.0.0.0/104", "11.1.2.3", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::", false),
            ("::1", "::1", true),
            ("::1", "127.0.0.1", false),
            ("0.0.0.1", "::1", false),
            ("127.0.0.1, ::1", "::1", true),
            ("", "127.0.0.1", false),
        ];
        for (list, address, trusted) in table {
            assert_eq!(proxies(list).trusts(address.parse().unwrap()), trusted, "{address} in {list}");
        }
    }

    #[test]
    fn a_list_that_was_hardly_meant_is_refused() {
        for bad in [
            "0.0.0.0/0",
            "::/0",
            "10.0.0.1/8",
            "10.0.0.0/33",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "10.0.0.0/",
            "2001:db8::/129",
            "2001:db8::1/64",
            "::ffff:10.0.0.0/64",
            "10.0.0.0/8,",
            ",",
            "localhost",
            "10.0.0.0/8 11.0.0.0/8",
            "10.0.0.1:80",
        ] {
            assert_eq!(Proxies::parse(bad), Err(InvalidProxies), "{bad}");
        }
        assert!(Proxies::parse(&vec!["192.0.2.7"; limits::PROXIES_MAX].join(",")).is_ok());
        assert!(Proxies::parse(&vec!["192.0.2.7"; limits::PROXIES_MAX + 1].join(",")).is_err());
    }

    #[test]
    fn the_client_is_the_last_address_that_is_not_ours() {
        let client = |peer: &str, lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(FORWARDED, line.parse().unwrap());
            }
            proxies("10.0.0.0/8").client(peer.parse().unwrap(), &headers).map(|address| address.to_string())
        };
        let some = |text: &str| Some(text.to_owned());
        // Only a trusted proxy is believed.
        assert_eq!(client("192.0.2.1", &["198.51.100.7"]), some("192.0.2.1"));
        assert_eq!(client("10.0.0.1", &["198.51.100.7"]), some("198.51.100.7"));
        assert_eq!(client("::ffff:10.0.0.1", &["::ffff:198.51.100.7"]), some("198.51.100.7"));
        assert_eq!(client("10.0.0.1", &["1.1.1.1, 198.51.100.7, 10.0.0.2"]), some("198.51.100.7"));
        assert_eq!(client("10.0.0.1", &["1.1.1.1", "198.51.100.7,10.0.0.2", "10.0.0.3"]), some("198.51.100.7"));
        assert_eq!(client("10.0.0.1", &["1.1.1.1, 198.51.100.7:4711"]), some("198.51.100.7"));
        assert_eq!(client("10.0.0.1", &["[2001:db8::7]:4711"]), some("2001:db8::7"));
        assert_eq!(client("10.0.0.1", &["[2001:db8::7]"]), some("2001:db8::7"));
        assert_eq!(client("10.0.0.1", &["2001:db8::7"]), some("2001:db8::7"));
        // No trusted proxy named it.
        assert_eq!(client("10.0.0.1", &[]), None);
        assert_eq!(client("10.0.0.1", &["10.0.0.2"]), None);
        assert_eq!(client("10.0.0.1", &["198.51.100.7, unknown"]), None);
        assert_eq!(client("10.0.0.1", &["198.51.100.7,"]), None);
    }
}
