//! The rate limit of a client: a token bucket, by governor.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota};

/// Number of requests after which the clients with a full bucket are dropped. A bucket fills within a
/// second, so the table holds this many more than send requests within one.
const DROP_INTERVAL: u32 = 16_384;

/// The rate limit of all clients.
#[derive(Debug)]
pub(crate) struct RateLimit {
    limiter: DefaultKeyedRateLimiter<Ipv6Addr>,
    requests: AtomicU32,
}

impl RateLimit {
    /// Returns a limit of `per_second` requests for each client, also in one burst; none for 0.
    pub(crate) fn new(per_second: u32) -> Option<Self> {
        let quota = Quota::per_second(NonZeroU32::new(per_second)?);
        Some(Self {
            limiter: DefaultKeyedRateLimiter::keyed(quota),
            requests: AtomicU32::new(0),
        })
    }

    /// Takes a token for one request of `client`, or returns the time until there is one.
    pub(crate) fn take(&self, client: IpAddr) -> Result<(), Duration> {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        if number % DROP_INTERVAL == DROP_INTERVAL - 1 {
            self.limiter.retain_recent();
            self.limiter.shrink_to_fit();
        }
        let taken = self.limiter.check_key(&network_of(client));
        taken.map_err(|not_until| not_until.wait_time_from(DefaultClock::default().now()))
    }
}

/// Returns the key of a client: its IPv4 address, or the /64 in which one IPv6 host may change its address.
fn network_of(client: IpAddr) -> Ipv6Addr {
    match client.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_addresses_then_only_limited_clients_kept() {
        let limit = RateLimit::new(1_000_000).unwrap();
        let slow = RateLimit::new(1).unwrap();
        let limited = IpAddr::from([192, 0, 2, 1]);
        slow.take(limited).unwrap();
        for number in 0..DROP_INTERVAL * 4 {
            let client = IpAddr::from(number.to_be_bytes());
            limit.take(client).unwrap();
            slow.take(client).ok();
        }
        let kept = limit.limiter.len();
        assert!(kept <= DROP_INTERVAL as usize * 2, "{kept}");
        assert!(slow.take(limited).is_err());
    }
}
