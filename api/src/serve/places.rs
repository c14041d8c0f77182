//! How many connections there may be, and who makes way when there are more.
//!
//! A newcomer beyond the limit takes the place of whoever has been silent for longest, if that is
//! long enough. If nobody has, it gets one of a few places in reserve: for a moment and one request,
//! which is answered if it is a probe, and refused otherwise. So a probe gets through however many
//! connections there are, and everybody else hears that there is no room. Only when all of the
//! reserve is being worked on is a newcomer refused unheard.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::progress::Progress;
use crate::metrics::Metrics;

/// The places in reserve: several times the probes that a service has at one moment.
pub(super) const RESERVE: usize = 32;
/// The connections that have made way and not yet gone: what a crowd displaces faster than we can
/// hang up. Beyond them newcomers are not accepted for a moment.
pub(super) const LEAVING: usize = 64;
/// How long a connection may be silent while others wait for its place: as long as it may take over
/// the head of a request.
const SILENCE: Duration = Duration::from_secs(10);

/// The places that connections have.
#[derive(Debug)]
pub(crate) struct Places {
    most: usize,
    metrics: Metrics,
    taken: Mutex<Taken>,
    has_left: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    regular: BTreeMap<u64, Arc<Progress>>,
    /// Until then nobody on a regular place will have been silent for long enough.
    lively_until: Option<Instant>,
    spare: BTreeMap<u64, Arc<Progress>>,
    leaving: usize,
}

/// One place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    number: u64,
    places: Arc<Places>,
    progress: Arc<Progress>,
}

impl Places {
    pub(crate) fn new(most: usize, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self {
            most,
            metrics,
            taken: Mutex::default(),
            has_left: Notify::new(),
        })
    }

    /// Waits until those who have made way have gone, or most of them.
    pub(super) async fn calm(&self) {
        loop {
            let mut has_left = pin!(self.has_left.notified());
            has_left.as_mut().enable();
            if self.lock().leaving < LEAVING {
                return;
            }
            has_left.await;
        }
    }

    /// Returns a place for a connection that has just come, if there is one.
    pub(super) fn take(self: &Arc<Self>) -> Option<Place> {
        let mut taken = self.lock();
        if taken.regular.len() >= self.most {
            let is_freed = self.displace_silent(&mut taken)
                || (taken.spare.len() >= RESERVE
                    && displace(&mut taken.spare, Duration::ZERO).is_ok());
            taken.leaving += usize::from(is_freed);
        }
        let is_spare = taken.regular.len() >= self.most;
        if is_spare && taken.spare.len() >= RESERVE {
            return None;
        }
        let progress = Arc::new(Progress::new(is_spare));
        let number = taken.next;
        taken.next += 1;
        let places = if is_spare {
            &mut taken.spare
        } else {
            &mut taken.regular
        };
        places.insert(number, Arc::clone(&progress));
        self.metrics.http_connections.inc();
        Some(Place {
            number,
            places: Arc::clone(self),
            progress,
        })
    }

    /// Makes room on a regular place. It looks at all of them, but not again before it could find
    /// something, however many come.
    fn displace_silent(&self, taken: &mut Taken) -> bool {
        let now = Instant::now();
        if taken.lively_until.is_some_and(|it| now < it) {
            return false;
        }
        match displace(&mut taken.regular, SILENCE) {
            Ok(()) => {
                self.metrics.http_connections_displaced.inc();
                true
            }
            Err(longest) => {
                taken.lively_until = Some(now + SILENCE.saturating_sub(longest));
                false
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Frees the place of whoever has waited for a request for longest, and at least for `silence`.
///
/// # Errors
///
/// For how long that is, where it is not long enough.
fn displace(places: &mut BTreeMap<u64, Arc<Progress>>, silence: Duration) -> Result<(), Duration> {
    let now = Instant::now();
    let longest = places
        .iter()
        .filter_map(|(number, progress)| Some((progress.waiting_for(now)?, Reverse(*number))))
        .max();
    match longest {
        Some((waited, Reverse(number))) if waited >= silence => {
            if let Some(progress) = places.remove(&number) {
                progress.give_way();
            }
            Ok(())
        }
        Some((waited, _)) => Err(waited),
        None => Err(Duration::ZERO),
    }
}

impl Place {
    pub(super) fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        let places = if self.progress.is_spare {
            &mut taken.spare
        } else {
            &mut taken.regular
        };
        // Whoever has made way has no place any more, but is still here.
        if places.remove(&self.number).is_none() {
            taken.leaving -= 1;
            self.places.has_left.notify_waiters();
        }
        self.places.metrics.http_connections.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(most: usize) -> Arc<Places> {
        Places::new(most, Metrics::new().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_been_silent_for_longest_makes_way() {
        let places = places(2);
        let first = places.take().unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
        let second = places.take().unwrap();

        let third = places.take().unwrap();
        assert!(third.progress.is_spare, "nobody has been silent for long");
        tokio::time::advance(SILENCE).await;
        let fourth = places.take().unwrap();
        assert!(!fourth.progress.is_spare);
        assert!(first.progress.is_unwanted());
        assert!(!second.progress.is_unwanted());

        second.progress.works();
        drop(first);
        assert!(
            places.take().unwrap().progress.is_spare,
            "one works, one is new"
        );
        drop(fourth);
        assert!(!places.take().unwrap().progress.is_spare);
    }

    #[tokio::test(start_paused = true)]
    async fn of_the_reserve_whoever_works_stays() {
        let places = places(0);
        let held: Vec<_> = (0..RESERVE).map(|_| places.take().unwrap()).collect();
        let newest = places.take().unwrap();
        assert!(held[0].progress.is_unwanted());
        assert!(!held[1].progress.is_unwanted());

        for place in held.iter().chain([&newest]) {
            place.progress.works();
        }
        assert!(places.take().is_none());
        held[5].progress.waits(Instant::now());
        assert!(places.take().is_some());
        assert!(held[5].progress.is_unwanted());
    }
}
