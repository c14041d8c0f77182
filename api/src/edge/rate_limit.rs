//! How much one client may ask: a bucket of tokens for each, by governor.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota};

/// After so many requests the clients whose bucket is full again are forgotten. A bucket fills within
/// a second, so the table holds this many more than send requests within one.
const FORGET_EVERY: u32 = 16_384;

/// Counts what clients ask.
#[derive(Debug)]
pub(crate) struct RateLimit {
    limiter: DefaultKeyedRateLimiter<Ipv6Addr>,
    clock: DefaultClock,
    requests: AtomicU32,
}

impl RateLimit {
    /// Returns a limit of `per_second` requests for each client, which may come all at once.
    pub(crate) fn new(per_second: u32) -> Option<Self> {
        let quota = Quota::per_second(NonZeroU32::new(per_second)?);
        Some(Self {
            limiter: DefaultKeyedRateLimiter::keyed(quota),
            clock: DefaultClock::default(),
            requests: AtomicU32::new(0),
        })
    }

    /// Takes a token for one request of `client`.
    ///
    /// # Errors
    ///
    /// How long to wait, when there is none.
    pub(crate) fn take(&self, client: IpAddr) -> Result<(), Duration> {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        if number % FORGET_EVERY == FORGET_EVERY - 1 {
            self.limiter.retain_recent();
            self.limiter.shrink_to_fit();
        }
        let taken = self.limiter.check_key(&household(client));
        taken.map_err(|refusal| refusal.wait_time_from(self.clock.now()))
    }
}

/// Returns what stands for a client: its IPv4 address, or the /64 that one IPv6 host may move in.
fn household(client: IpAddr) -> Ipv6Addr {
    match client.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_addresses_then_debtors_are_kept_and_others_forgotten() {
        let limit = RateLimit::new(1_000_000).unwrap();
        let slow = RateLimit::new(1).unwrap();
        let debtor = IpAddr::from([192, 0, 2, 1]);
        slow.take(debtor).unwrap();
        for it in 0..FORGET_EVERY * 4 {
            let client = IpAddr::from(it.to_be_bytes());
            limit.take(client).unwrap();
            slow.take(client).ok();
        }
        let kept = limit.limiter.len();
        assert!(kept <= FORGET_EVERY as usize * 2, "{kept}");
        assert!(slow.take(debtor).is_err());
    }
}
