//! One read of the database for all requests that miss the same value at the same time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::OnceCell;

/// The reads that are under way.
#[derive(Debug)]
pub(super) struct SingleFlight<T> {
    reads: Mutex<BTreeMap<String, Weak<OnceCell<T>>>>,
}

impl<T> SingleFlight<T> {
    pub(super) fn new() -> Self {
        Self {
            reads: Mutex::default(),
        }
    }

    /// Joins the read under `key`, or begins one. The first that initializes the cell reads for all;
    /// when it fails, or its client leaves, the next one reads.
    pub(super) fn join(&self, key: &str) -> Arc<OnceCell<T>> {
        let mut reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        // At most as many as there are requests, so that looking at each is cheaper than a guard.
        reads.retain(|_, it| it.strong_count() > 0);
        if let Some(under_way) = reads.get(key).and_then(Weak::upgrade) {
            return under_way;
        }
        let read = Arc::default();
        reads.insert(key.to_owned(), Arc::downgrade(&read));
        read
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join;

    use super::*;

    #[tokio::test]
    async fn same_key_then_read_once_for_all() {
        let flights = SingleFlight::<u32>::new();
        let (first, second, other) = (flights.join("a"), flights.join("a"), flights.join("b"));
        let read = async {
            tokio::task::yield_now().await;
            Ok::<_, ()>(1)
        };
        let not_needed = async { unreachable!("the first reads for both") };
        let both = join(
            first.get_or_try_init(|| read),
            second.get_or_try_init(|| not_needed),
        );
        assert_eq!(both.await, (Ok(&1), Ok::<_, ()>(&1)));
        assert!(!other.initialized());

        drop((first, second));
        assert!(!flights.join("a").initialized());
    }
}
