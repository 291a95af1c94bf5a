//! How often one user or one address may come: a token bucket each, in memory that is bounded whoever comes.
//!
//! A bucket is one number, the *theoretical arrival time* of the generic cell rate algorithm (ITU-T Recommendation I.371,
//! annex A, "virtual scheduling"): the time at which the bucket is full again. A key that is not in the table has a full
//! bucket, so a full one need not be kept.

use std::hash::{BuildHasher, Hash, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::limits;
use crate::order::{Code, Refusal};

/// How often one key may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Requests a second in the long run, 1..=[`limits::RATE_MAX`].
    pub per_s: u32,
    /// Requests at once, 1..=[`limits::RATE_MAX`].
    pub burst: u32,
}

/// A bucket for each key. The table has a fixed size: a newcomer in a full place takes the slot of whoever has least to wait
/// for. So nobody is kept out by a crowd, however many keys it makes up; at worst somebody's waiting time is forgiven.
pub struct Buckets {
    /// Between two requests, in ns.
    interval_ns: u64,
    /// From an empty bucket to a full one, in ns.
    full_ns: u64,
    sets: Box<[Mutex<Set>]>,
    /// Drawn at start: nobody can tell which keys share a place.
    hash: RandomState,
    start: Instant,
}

type Set = [Slot; limits::RATE_KEYS_PER_SET];

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// Stands for the key; two keys of one set share it once in 2^60.
    hash: u64,
    /// When the bucket is full again, in ns since the start. In the past: the slot is free.
    full_at: u64,
}

impl Buckets {
    /// Buckets that are all full.
    pub fn new(rate: Rate) -> Self {
        let interval_ns = 1_000_000_000_u64.div_ceil(u64::from(rate.per_s.max(1)));
        let sets = limits::RATE_KEYS_MAX / limits::RATE_KEYS_PER_SET;
        Buckets {
            interval_ns,
            full_ns: interval_ns.saturating_mul(u64::from(rate.burst.max(1))),
            sets: (0..sets).map(|_| Mutex::default()).collect(),
            hash: RandomState::new(),
            start: Instant::now(),
        }
    }

    /// Takes a token out of a key's bucket, or says when there will be one.
    pub fn take(&self, key: impl Hash, whose: &'static str) -> Result<(), Refusal> {
        self.take_at(key, self.now_ns()).map_err(|wait| too_often(whose, wait))
    }

    /// Says whether there is a token in a key's bucket, or when there will be one, and leaves it there.
    pub fn check(&self, key: impl Hash, whose: &'static str) -> Result<(), Refusal> {
        self.peek_at(key, self.now_ns()).map_err(|wait| too_often(whose, wait))
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// [`Buckets::take`] at a time of the caller's choice. An `Err` changes nothing, so asking early does not prolong the wait.
    fn take_at(&self, key: impl Hash, now_ns: u64) -> Result<(), Duration> {
        self.look_at(key, now_ns, |slot, taken| *slot = taken)
    }

    fn peek_at(&self, key: impl Hash, now_ns: u64) -> Result<(), Duration> {
        self.look_at(key, now_ns, |_, _| ())
    }

    /// If there is a token, hands on the key's slot, and what it would be without that token.
    fn look_at(&self, key: impl Hash, now_ns: u64, then: impl FnOnce(&mut Slot, Slot)) -> Result<(), Duration> {
        let hash = self.hash.hash_one(key);
        let sets = u64::try_from(self.sets.len()).unwrap_or(u64::MAX);
        let place = usize::try_from(hash % sets.max(1)).unwrap_or(0);
        // There always is such a place, and a set always has slots.
        let Some(set) = self.sets.get(place) else { return Ok(()) };
        let mut set = set.lock();
        let known = set.iter().position(|slot| slot.hash == hash);
        let Some(slot) = (match known {
            Some(at) => set.get_mut(at),
            None => set.iter_mut().min_by_key(|slot| slot.full_at),
        }) else {
            return Ok(());
        };
        let full_at = if known.is_some() { slot.full_at.max(now_ns) } else { now_ns };
        let full_at = full_at.saturating_add(self.interval_ns);
        let latest = now_ns.saturating_add(self.full_ns);
        if full_at > latest {
            return Err(Duration::from_nanos(full_at - latest));
        }
        then(slot, Slot { hash, full_at });
        Ok(())
    }
}

fn too_often(whose: &'static str, wait: Duration) -> Refusal {
    Refusal::because(Code::RateLimited, whose).retry_after(seconds(wait))
}

/// Rounded up, and never "at once": who comes back then finds a token.
fn seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

/// What counts as one address: an IPv4 address, whatever clothes it wears, or the /64 of an IPv6 address, within which
/// everybody can have as many as they like.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const S: u64 = 1_000_000_000;

    fn buckets(per_s: u32, burst: u32) -> Buckets {
        Buckets::new(Rate { per_s, burst })
    }

    #[test]
    fn a_burst_and_then_the_rate() {
        let buckets = buckets(2, 3);
        let take = |now_ns| buckets.take_at("k", now_ns);
        for _ in 0..3 {
            assert_eq!(take(7 * S), Ok(()));
        }
        assert_eq!(take(7 * S), Err(Duration::from_millis(500)));
        assert_eq!(take(7 * S + 499_999_999), Err(Duration::from_nanos(1)));
        assert_eq!(take(7 * S + 500_000_000), Ok(()));
        assert!(take(7 * S + 500_000_000).is_err());
        assert_eq!(buckets.take_at("other", 7 * S), Ok(()));
        // A long rest fills the bucket, and no more than that.
        for _ in 0..3 {
            assert_eq!(take(900 * S), Ok(()));
        }
        assert!(take(900 * S).is_err());
    }

    #[test]
    fn a_look_takes_nothing() {
        let buckets = buckets(1, 1);
        for _ in 0..3 {
            assert_eq!(buckets.peek_at("k", S), Ok(()));
        }
        assert_eq!(buckets.take_at("k", S), Ok(()));
        for _ in 0..3 {
            assert_eq!(buckets.peek_at("k", S), Err(Duration::from_secs(1)));
        }
        assert_eq!(buckets.peek_at("other", S), Ok(()));
        assert_eq!(buckets.take_at("k", 2 * S), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_is_whole_seconds_and_enough() {
        let slow = buckets(1, 5);
        for _ in 0..5 {
            assert_eq!(slow.take("k", "who"), Ok(()));
        }
        let refusal = slow.take("k", "who").unwrap_err();
        assert_eq!((refusal.code, refusal.detail.as_deref()), (Code::RateLimited, Some("who")));
        assert_eq!(refusal.retry_after_s, Some(1));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(slow.take("k", "who"), Ok(()));
        for (wait_ns, whole_s) in [(0, 1), (1, 1), (S, 1), (S + 1, 2), (40 * S, 40)] {
            assert_eq!(seconds(Duration::from_nanos(wait_ns)), whole_s, "{wait_ns}");
        }
    }

    /// A bucket as one would draw it: tokens that drip in, counted in ns of dripping.
    struct Drawn {
        level_ns: u64,
        full_ns: u64,
        interval_ns: u64,
        seen_ns: u64,
    }

    impl Drawn {
        fn take_at(&mut self, now_ns: u64) -> bool {
            self.level_ns = self.full_ns.min(self.level_ns + (now_ns - self.seen_ns));
            self.seen_ns = now_ns;
            let enough = self.level_ns >= self.interval_ns;
            if enough {
                self.level_ns -= self.interval_ns;
            }
            enough
        }
    }

    proptest! {
        #[test]
        fn it_is_a_token_bucket(per_s in 1_u32..=1000, burst in 1_u32..=50, pauses in prop::collection::vec(0_u64..=S, 1..200)) {
            let buckets = buckets(per_s, burst);
            let (interval_ns, full_ns) = (buckets.interval_ns, buckets.full_ns);
            let mut drawn = Drawn { level_ns: full_ns, full_ns, interval_ns, seen_ns: 0 };
            let mut now_ns = 0;
            for pause in pauses {
                // Mostly pauses about as long as an interval: there the two could differ.
                now_ns += if pause % 4 == 0 { pause } else { pause % (2 * interval_ns) };
                let taken = buckets.take_at(1, now_ns);
                prop_assert_eq!(taken.is_ok(), drawn.take_at(now_ns));
                if let Err(wait) = taken {
                    let wait = u64::try_from(wait.as_nanos()).unwrap();
                    prop_assert!(buckets.take_at(1, now_ns + wait - 1).is_err());
                    now_ns += wait;
                    prop_assert!(buckets.take_at(1, now_ns).is_ok() && drawn.take_at(now_ns));
                }
            }
        }
    }

    #[test]
    fn a_million_addresses_take_no_more_memory_and_keep_nobody_out() {
        let buckets = buckets(200, 400);
        let slots = buckets.sets.len() * limits::RATE_KEYS_PER_SET;
        assert_eq!(slots, limits::RATE_KEYS_MAX);
        for _ in 0..400 {
            assert_eq!(buckets.take_at("greedy", 0), Ok(()));
        }
        // Four times as many keys as there are slots, all at one moment.
        for key in 0..4 * limits::RATE_KEYS_MAX {
            assert_eq!(buckets.take_at(key, 0), Ok(()), "a newcomer always finds a place");
        }
        assert_eq!(buckets.sets.len() * limits::RATE_KEYS_PER_SET, slots);
        assert!(buckets.take_at("greedy", 0).is_err(), "who has most to wait for is forgotten last");
    }

    #[test]
    fn seeds_differ() {
        let place = |buckets: &Buckets| (0..8).map(|key| buckets.hash.hash_one(key)).collect::<Vec<u64>>();
        assert_ne!(place(&buckets(1, 1)), place(&buckets(1, 1)));
    }

    #[test]
    fn an_address_is_ipv4_or_a_network() {
        let network_of = |text: &str| network(text.parse().unwrap()).to_string();
        assert_eq!(network_of("192.0.2.7"), "192.0.2.7");
        assert_eq!(network_of("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(network_of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(network_of("2001:db8:1:2:ffff::"), "2001:db8:1:2::");
        assert_eq!(network_of("2001:db8:1:3::"), "2001:db8:1:3::");
    }
}
