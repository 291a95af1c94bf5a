//! What a request passes before it may cost anything, from cheap to dear:
//!
//! 1. the rate of its address, before anything but its path is read ([`RequestGuard::charge`]);
//! 2. who asks, from its head alone ([`RequestGuard::principal`]);
//! 3. the rate of that user;
//! 4. its body, which the call reads and parses;
//! 5. the `user_id` in the body, which must be absent or the same ([`PendingPrincipal::user`]);
//! 6. the engine.
//!
//! Without authentication the user may stand in the body alone, so there 2 and 3 come with 5. A request that is refused before
//! 6 has asked neither gate nor ledger, and has used up no key.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use http::header::HeaderMap;

use crate::admission::{Buckets, Rate, network};
use crate::auth::{Authenticator, Caller, FORWARDED};
use crate::order::{Refusal, UserId};

const BUSY_ADDRESS: &str = "this address exceeds its request rate";
const BUSY_USER: &str = "this user exceeds their request rate";

/// Authenticates requests and limits their rates. It reads headers, which HTTP and gRPC have alike.
pub struct RequestGuard {
    authenticator: Authenticator,
    addresses: Option<Buckets>,
    users: Option<Buckets>,
    /// Whether the log has the line about a proxy that may be the operator's.
    has_warned_of_proxy: AtomicBool,
}

/// The rate limits of the public listener; `None` means no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Of one user, over all addresses.
    pub user: Option<Rate>,
    /// Of one address, over all users.
    pub address: Option<Rate>,
}

/// The principal of a request, which its body may still name or contradict.
pub(super) struct PendingPrincipal<'g> {
    caller: Caller,
    /// The rates of users, if this one has not been charged yet.
    uncharged: Option<&'g Buckets>,
}

impl RequestGuard {
    /// A guard with these limits.
    pub fn new(authenticator: Authenticator, rates: Rates) -> Self {
        let (addresses, users) = (rates.address.map(Buckets::new), rates.user.map(Buckets::new));
        RequestGuard { authenticator, addresses, users, has_warned_of_proxy: AtomicBool::new(false) }
    }

    /// Charges a request to its address, whatever it calls. A request that a trusted proxy forwards without an address is not
    /// charged: all clients of that proxy would be charged as one.
    pub(super) fn charge(&self, peer: IpAddr, headers: &HeaderMap) -> Result<(), Refusal> {
        self.ask(peer, headers, |buckets, network| buckets.take(network, BUSY_ADDRESS))
    }

    /// Checks the limit of a request's address without charging it: the call charges it later, if at all.
    pub(super) fn check(&self, peer: IpAddr, headers: &HeaderMap) -> Result<(), Refusal> {
        self.ask(peer, headers, |buckets, network| buckets.check(network, BUSY_ADDRESS))
    }

    fn ask(
        &self,
        peer: IpAddr,
        headers: &HeaderMap,
        question: impl FnOnce(&Buckets, IpAddr) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let Some(buckets) = &self.addresses else { return Ok(()) };
        let Some(address) = self.authenticator.address(peer, headers) else { return Ok(()) };
        let answer = question(buckets, network(address));
        if answer.is_err() && address == peer.to_canonical() && headers.contains_key(FORWARDED) {
            self.warn_of_proxy();
        }
        answer
    }

    /// Warns once: a client can make up the header, and must not fill the log with it.
    fn warn_of_proxy(&self) {
        if !self.has_warned_of_proxy.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "refused a request of an address that exceeds its request rate and sends X-Forwarded-For; if that is your proxy, \
                 name it in auth.trusted_proxies, so that each of its clients is charged alone"
            );
        }
    }

    /// Finds out who asks, and charges them, as far as the head tells.
    pub(super) fn principal(&self, peer: IpAddr, headers: &HeaderMap) -> Result<PendingPrincipal<'_>, Refusal> {
        let caller = self.authenticator.caller(peer, headers)?;
        match caller {
            Caller::Proven(user) => {
                charge(self.users.as_ref(), user)?;
                Ok(PendingPrincipal { caller, uncharged: None })
            }
            Caller::Claimed(_) => Ok(PendingPrincipal { caller, uncharged: self.users.as_ref() }),
        }
    }
}

impl PendingPrincipal<'_> {
    /// The user, given the body's `user_id`.
    pub(super) fn user(self, member: Option<u64>) -> Result<UserId, Refusal> {
        let user = self.caller.user(member)?;
        charge(self.uncharged, user)?;
        Ok(user)
    }
}

fn charge(buckets: Option<&Buckets>, user: UserId) -> Result<(), Refusal> {
    buckets.map_or(Ok(()), |buckets| buckets.take(user, BUSY_USER))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Mode, Proxies};
    use crate::clock::Clock;
    use crate::order::Code;

    const PEER: &str = "192.0.2.1";

    fn guard(mode: Mode, rates: Rates) -> RequestGuard {
        let proxies = Proxies::parse("10.0.0.0/8").unwrap();
        RequestGuard::new(Authenticator::new(mode, proxies, Clock::manual(0)), rates)
    }

    /// One request a second; the clock stands still.
    fn one() -> Option<Rate> {
        Some(Rate { per_s: 1, burst: 1 })
    }

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())])
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_is_charged_wherever_a_proxy_says_it_is() {
        let guard = guard(Mode::None, Rates { user: None, address: one() });
        let charge = |peer: &str, headers: &HeaderMap| {
            guard.charge(peer.parse().unwrap(), headers).map_err(|refusal| refusal.code)
        };
        let none = HeaderMap::new();
        assert_eq!(charge(PEER, &none), Ok(()));
        assert_eq!(charge(PEER, &none), Err(Code::RateLimited));
        // A made-up X-Forwarded-For does not help.
        assert_eq!(charge(PEER, &headers("x-forwarded-for", "198.51.100.7")), Err(Code::RateLimited));
        assert_eq!(charge("10.0.0.1", &headers("x-forwarded-for", PEER)), Err(Code::RateLimited));
        assert_eq!(charge("10.0.0.1", &headers("x-forwarded-for", "198.51.100.7")), Ok(()));
        assert_eq!(charge("10.0.0.1", &headers("x-forwarded-for", "198.51.100.7")), Err(Code::RateLimited));
        for _ in 0..3 {
            assert_eq!(charge("10.0.0.1", &none), Ok(()));
        }
        assert_eq!(charge("2001:db8::1", &none), Ok(()));
        assert_eq!(charge("2001:db8::2", &none), Err(Code::RateLimited));
        assert_eq!(charge("2001:db8:0:1::", &none), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_of_an_address_charges_nothing() {
        let guard = guard(Mode::None, Rates { user: None, address: one() });
        let (peer, none) = (PEER.parse().unwrap(), HeaderMap::new());
        for _ in 0..3 {
            assert_eq!(guard.check(peer, &none), Ok(()));
        }
        assert_eq!(guard.charge(peer, &none), Ok(()));
        assert_eq!(guard.check(peer, &none).map_err(|refusal| refusal.code), Err(Code::RateLimited));
    }

    #[tokio::test(start_paused = true)]
    async fn a_user_is_charged_once_and_wherever_they_are_named() {
        for (mode, peer) in [(Mode::None, PEER), (Mode::Gateway, "10.0.0.1")] {
            let guard = guard(mode, Rates { user: one(), address: None });
            let ask = |headers: &HeaderMap, member| {
                let principal = guard.principal(peer.parse().unwrap(), headers);
                principal.and_then(|principal| principal.user(member)).map(UserId::get).map_err(|refusal| refusal.code)
            };
            let (first, second) = (headers("x-user-id", "1"), headers("x-user-id", "2"));
            assert_eq!(ask(&first, Some(1)), Ok(1));
            assert_eq!(ask(&first, None), Err(Code::RateLimited));
            assert_eq!(ask(&second, None), Ok(2));
        }
        let guard = guard(Mode::None, Rates { user: one(), address: None });
        let ask = |member| {
            let principal = guard.principal(PEER.parse().unwrap(), &HeaderMap::new()).unwrap();
            principal.user(Some(member)).map(UserId::get).map_err(|refusal| refusal.code)
        };
        assert_eq!(ask(1), Ok(1));
        assert_eq!(ask(1), Err(Code::RateLimited));
        assert_eq!(ask(2), Ok(2));
    }
}
