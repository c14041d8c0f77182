//! One read of the database for all who want the same thing at the same time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OnceCell;

/// What is being read: a key, and the generation under which. A request that came after a write has
/// another generation, and does not wait for a read that began before it.
type Place = (String, i64);
type Landing<T> = Arc<OnceCell<T>>;

/// The reads that are under way.
#[derive(Debug)]
pub(super) struct Flights<T> {
    under_way: Arc<Mutex<BTreeMap<Place, Landing<T>>>>,
}

/// A seat on one of them. The first who reads does so for all; if it fails, or its client leaves, the
/// next one reads.
#[derive(Debug)]
pub(super) struct Seat<T> {
    place: Place,
    landing: Landing<T>,
    under_way: Arc<Mutex<BTreeMap<Place, Landing<T>>>>,
}

impl<T> Flights<T> {
    pub(super) fn new() -> Self {
        Self {
            under_way: Arc::default(),
        }
    }

    /// Joins the read of `key` under `generation`, or opens it.
    pub(super) fn board(&self, key: &str, generation: i64) -> Seat<T> {
        let place = (key.to_owned(), generation);
        let landing = Arc::clone(lock(&self.under_way).entry(place.clone()).or_default());
        Seat {
            place,
            landing,
            under_way: Arc::clone(&self.under_way),
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        lock(&self.under_way).is_empty()
    }
}

impl<T> Seat<T> {
    /// Returns what was read: by `read`, if nobody else does.
    pub(super) async fn land<E>(&self, read: impl Future<Output = Result<T, E>>) -> Result<&T, E> {
        self.landing.get_or_try_init(|| read).await
    }
}

impl<T> Drop for Seat<T> {
    fn drop(&mut self) {
        let mut under_way = lock(&self.under_way);
        // Seats are taken and left under the lock, so this one and the map's are the last two.
        if Arc::strong_count(&self.landing) == 2 {
            under_way.remove(&self.place);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::future::{join, pending};
    use tokio::time;

    use super::*;

    #[tokio::test]
    async fn one_reads_for_all_and_nothing_is_left_behind() {
        let flights = Flights::<u32>::new();
        let (first, second) = (flights.board("user:1", 7), flights.board("user:1", 7));
        let read = async {
            tokio::task::yield_now().await;
            Ok::<_, ()>(1)
        };
        let nobody_reads = async { unreachable!("the first reads for both") };
        let landed = join(first.land(read), second.land::<()>(nobody_reads)).await;
        assert_eq!(landed, (Ok(&1), Ok(&1)));
        drop(first);
        assert!(!flights.is_empty());
        drop(second);
        assert!(flights.is_empty());
    }

    #[tokio::test]
    async fn another_generation_is_another_read() {
        let flights = Flights::<u32>::new();
        let (before, after) = (flights.board("user:1", 7), flights.board("user:1", 8));
        assert_eq!(before.land(async { Ok::<_, ()>(1) }).await, Ok(&1));
        assert_eq!(after.land(async { Ok::<_, ()>(2) }).await, Ok(&2));
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_outlive_the_one_who_reads_for_them() {
        let flights = Flights::<u32>::new();
        let (leaves, stays) = (flights.board("user:1", 7), flights.board("user:1", 7));
        let left = async move {
            let reading = leaves.land(pending::<Result<u32, ()>>());
            assert!(
                time::timeout(Duration::from_secs(1), reading)
                    .await
                    .is_err()
            );
        };
        let ((), landed) = join(left, stays.land(async { Ok::<_, ()>(2) })).await;
        assert_eq!(landed, Ok(&2));

        let (fails, stays) = (flights.board("user:1", 8), flights.board("user:1", 8));
        let failing = fails.land(async {
            tokio::task::yield_now().await;
            Err(())
        });
        let (failed, landed) = join(failing, stays.land::<()>(async { Ok(3) })).await;
        assert_eq!((failed, landed), (Err(()), Ok(&3)));
    }
}
