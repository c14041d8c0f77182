//! How much one client may ask: a bucket of tokens for each, in a table that never grows.
//!
//! A bucket is one number: the moment at which it will be full again. That is all the generic cell
//! rate algorithm needs, and a client whose moment has passed need not be remembered. The table has
//! the shape of a processor's cache: a client belongs to one set, and where the set is full the one
//! whose bucket is nearest to full makes way, so that a flood of addresses costs no memory and
//! forgives least to those who owe most.

use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// With four ways, 32,768 clients in 1 MiB: more than send requests within one second, the time
/// after which a bucket is full again.
const SETS: usize = 8_192;
const WAYS: usize = 4;

/// Counts what clients ask.
#[derive(Debug)]
pub(crate) struct RateLimit {
    /// What one request costs of a client's time.
    cost: Duration,
    began: Instant,
    /// Drawn at the start, so that nobody can choose addresses that share a set.
    seed: RandomState,
    sets: Mutex<Box<[[Bucket; WAYS]]>>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    client: Ipv6Addr,
    /// When it is full again, from the start of the limit.
    full_at: Duration,
}

impl RateLimit {
    /// Returns a limit of `per_second` requests for each client, which may come all at once.
    pub(crate) fn new(per_second: u32) -> Self {
        let empty = Bucket {
            client: Ipv6Addr::UNSPECIFIED,
            full_at: Duration::ZERO,
        };
        Self {
            cost: Duration::from_secs(1) / per_second.max(1),
            began: Instant::now(),
            seed: RandomState::new(),
            sets: Mutex::new(vec![[empty; WAYS]; SETS].into_boxed_slice()),
        }
    }

    /// Takes a token for one request of `client` at `now`.
    ///
    /// # Errors
    ///
    /// How long to wait, when there is none.
    pub(crate) fn take(&self, client: IpAddr, now: Instant) -> Result<(), Duration> {
        const BURST: Duration = Duration::from_secs(1);
        let now = now.saturating_duration_since(self.began);
        let client = household(client);
        let hash = self.seed.hash_one(client);
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        let index = usize::try_from(hash).unwrap_or(usize::MAX) % SETS;
        let Some(set) = sets.get_mut(index) else {
            return Ok(());
        };
        let known = set.iter().position(|it| it.client == client);
        let Some(bucket) = (match known {
            Some(way) => set.get_mut(way),
            None => set.iter_mut().min_by_key(|it| it.full_at),
        }) else {
            return Ok(());
        };
        if bucket.client != client {
            bucket.client = client;
            bucket.full_at = now;
        }
        let full_at = bucket.full_at.max(now) + self.cost;
        if let Some(wait) = full_at.checked_sub(now + BURST)
            && !wait.is_zero()
        {
            return Err(wait);
        }
        bucket.full_at = full_at;
        Ok(())
    }
}

/// Returns what stands for a client: its IPv4 address, or the /64 that one IPv6 host may move in.
fn household(client: IpAddr) -> Ipv6Addr {
    match client {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => {
            let network = address.to_bits() >> 64 << 64;
            address
                .to_ipv4_mapped()
                .map_or(Ipv6Addr::from_bits(network), |it| it.to_ipv6_mapped())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_second_of_requests_at_once_and_then_as_they_come() {
        let limit = RateLimit::new(4);
        let client = address("192.0.2.1");
        let start = Instant::now();

        for _ in 0..4 {
            assert_eq!(limit.take(client, start), Ok(()));
        }
        let wait = limit.take(client, start).unwrap_err();
        assert!(wait <= Duration::from_millis(250), "{wait:?}");
        assert_eq!(limit.take(address("192.0.2.2"), start), Ok(()));

        let later = start + wait;
        assert_eq!(limit.take(client, later), Ok(()));
        assert!(limit.take(client, later).is_err());
        // What is refused costs nothing: who keeps asking is not locked out.
        let much_later = start + Duration::from_secs(5);
        for _ in 0..4 {
            assert_eq!(limit.take(client, much_later), Ok(()));
        }
        assert!(limit.take(client, much_later).is_err());
    }

    #[test]
    fn a_network_of_one_host_is_one_client() {
        let limit = RateLimit::new(1);
        let now = Instant::now();

        assert!(limit.take(address("2001:db8::1"), now).is_ok());
        assert!(limit.take(address("2001:db8::2"), now).is_err());
        assert!(limit.take(address("2001:db8:0:1::1"), now).is_ok());
        assert!(limit.take(address("192.0.2.1"), now).is_ok());
        assert!(limit.take(address("::ffff:192.0.2.1"), now).is_err());
    }

    #[test]
    fn a_flood_of_addresses_does_not_free_who_owes() {
        let limit = RateLimit::new(100);
        let now = Instant::now();
        let greedy = address("192.0.2.1");
        for _ in 0..100 {
            limit.take(greedy, now).unwrap();
        }

        for it in 0..500_000_u32 {
            limit.take(IpAddr::from(it.to_be_bytes()), now).unwrap();
        }
        assert!(limit.take(greedy, now).is_err());
    }
}
