//! Who is asking. A leaf that reads headers and the address a request came from, and answers the user or a refusal; it
//! does no I/O, keeps nothing, and never says what it was shown.

mod claims;
mod error;
mod gateway;
mod jwt;
mod jwt_keys;
mod proxies;

pub use jwt::Jwt;
pub use jwt_keys::{Algorithm, InvalidKeys, Keys};
pub use proxies::{FORWARDED, InvalidProxies, Proxies};

use std::net::IpAddr;

use http::header::HeaderMap;

use crate::clock::{Clock, UnixMs};
use crate::order::{Code, Refusal, UserId};

/// Finds out who is asking.
pub struct Authenticator {
    mode: Mode,
    proxies: Proxies,
    clock: Clock,
}

/// Who says who is asking.
pub enum Mode {
    /// The request itself, in `X-User-Id` or in its body: development and load tests.
    None,
    /// A signed token.
    Jwt(Jwt),
    /// A trusted proxy, in `X-User-Id`.
    Gateway,
}

/// Who sends a request, as far as its head tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A user, by a signature or by a trusted proxy.
    Proven(UserId),
    /// A user whom the head names without proof, or no user yet. A fault of the head is answered after those of the body.
    Claimed(Result<Option<UserId>, Refusal>),
}

impl Authenticator {
    /// An authenticator; `clock` tells whether tokens are valid yet or still.
    pub fn new(mode: Mode, proxies: Proxies, clock: Clock) -> Self {
        Authenticator { mode, proxies, clock }
    }

    /// Who sent a request with these headers from `peer`.
    pub fn caller(&self, peer: IpAddr, headers: &HeaderMap) -> Result<Caller, Refusal> {
        match &self.mode {
            Mode::None => Ok(Caller::Claimed(gateway::user(headers))),
            Mode::Gateway => gateway::proven(headers, self.proxies.trusts(peer)).map(Caller::Proven),
            Mode::Jwt(jwt) => match jwt.user(headers, seconds(self.clock.now_ms())) {
                Ok(user) => Ok(Caller::Proven(user)),
                Err(invalid) => Err(Refusal::because(Code::Unauthenticated, invalid.to_string())),
            },
        }
    }

    /// The address whose requests are counted together with this one; `None` if our own proxies do not say.
    pub fn address(&self, peer: IpAddr, headers: &HeaderMap) -> Option<IpAddr> {
        self.proxies.client(peer, headers)
    }
}

impl Caller {
    /// The user, given the body's `user_id`: it must be absent or the same, and names the user where nothing else does.
    pub fn user(self, member: Option<u64>) -> Result<UserId, Refusal> {
        let header = match self {
            Caller::Proven(user) => Some(user),
            Caller::Claimed(claimed) => claimed?,
        };
        let member = match member {
            Some(number) => Some(UserId::new(number).map_err(|_| {
                Refusal::because(Code::MalformedRequest, "user_id must be an integer from 1 to 2^63 - 1")
            })?),
            None => None,
        };
        match (header, member) {
            (Some(header), Some(member)) if header != member => {
                Err(Refusal::because(Code::Forbidden, "user_id in the body is not the user who is asking"))
            }
            (Some(user), _) | (None, Some(user)) => Ok(user),
            (None, None) => Err(Refusal::because(Code::Unauthenticated, "send X-User-Id, or user_id in the body")),
        }
    }
}

fn seconds(now_ms: UnixMs) -> i64 {
    now_ms.div_euclid(1000)
}

#[cfg(test)]
mod tests;
