//! Memory for answers that a client may read slowly. It counts until the last byte has been written, or the
//! connection ends.

use std::sync::Arc;

use axum::body::Bytes;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::{self, Instant};

use crate::load_limit;
use crate::problem::Problem;

/// A quarter of a small container. A page of a list is at most 2 MiB, and 300 KiB of usual text.
const LISTS_KIB: usize = 64 * 1024;
const PAGE_KIB: u32 = 2 * 1024;
/// Memory for metrics alone, which show that the other is in use.
const METRICS_KIB: usize = 8 * 1024;
const METRICS_TEXT_KIB: u32 = 256;
/// Shorter answers do not count: they fit into the socket's send buffer.
const SHORT_BYTES: usize = 16 * 1024;
/// The pages that are made at once, each of which is in memory three times for a moment: as rows, as
/// values and as JSON. It is half of the connections that there are by default, too.
const PAGES_AT_ONCE: usize = 8;
/// Maximum for one list, whose table may be locked: the remainder serves the other lists.
pub(crate) const PAGES_OF_ONE_LIST: usize = 6;

/// The memory that is available.
#[derive(Debug)]
pub(crate) struct AnswerMemory {
    turns: Semaphore,
    lists: Arc<Semaphore>,
    metrics: Arc<Semaphore>,
}

/// Bytes that count until they are dropped.
struct Held {
    bytes: Vec<u8>,
    _kib: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AnswerMemory {
    pub(crate) fn new() -> Self {
        Self {
            turns: Semaphore::new(PAGES_AT_ONCE),
            lists: Arc::new(Semaphore::new(LISTS_KIB)),
            metrics: Arc::new(Semaphore::new(METRICS_KIB)),
        }
    }

    /// Returns whether the next answer may exceed the memory.
    pub(crate) fn is_short(&self) -> bool {
        self.lists.available_permits() < PAGE_KIB as usize
            || self.metrics.available_permits() < METRICS_TEXT_KIB as usize
    }

    /// Waits until `deadline` for a turn to make a page, also of this list. It is made while the turn is
    /// held.
    pub(crate) async fn wait_for_turn(
        &self,
        of_list: &'static Semaphore,
        deadline: Instant,
    ) -> Result<[SemaphorePermit<'_>; 2], Problem> {
        let turn = async {
            Ok::<_, AcquireError>([of_list.acquire().await?, self.turns.acquire().await?])
        };
        let turn = time::timeout_at(deadline, turn).await;
        turn.ok().and_then(Result::ok).ok_or_else(overloaded)
    }

    /// Waits until `deadline` for the memory of a page of an answer that has begun. It comes before the
    /// turn, which others may need who need no memory.
    pub(crate) async fn reserve_page(
        &self,
        deadline: Instant,
    ) -> Result<OwnedSemaphorePermit, Problem> {
        let acquiring = Arc::clone(&self.lists).acquire_many_owned(PAGE_KIB);
        let acquired = time::timeout_at(deadline, acquiring).await;
        acquired.ok().and_then(Result::ok).ok_or_else(overloaded)
    }

    /// Returns the memory of one text of the metrics, unless unread texts use it.
    pub(crate) fn room_for_metrics(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let room = Arc::clone(&self.metrics).try_acquire_many_owned(METRICS_TEXT_KIB);
        room.map_err(|_taken| overloaded())
    }

    /// Counts bytes until they have been written: in `room`, or in what other answers leave free now.
    pub(crate) fn count_bytes(
        &self,
        mut bytes: Vec<u8>,
        room: Option<OwnedSemaphorePermit>,
    ) -> Result<Bytes, Problem> {
        if bytes.len() <= SHORT_BYTES {
            return Ok(bytes.into());
        }
        bytes.shrink_to_fit();
        let kib = bytes.len().div_ceil(1024);
        let held = if let Some(mut room) = room {
            room.split(kib).unwrap_or(room)
        } else {
            let kib = u32::try_from(kib).unwrap_or(u32::MAX);
            let acquired = Arc::clone(&self.lists).try_acquire_many_owned(kib);
            acquired.map_err(|_taken| overloaded())?
        };
        Ok(Bytes::from_owner(Held { bytes, _kib: held }))
    }
}

fn overloaded() -> Problem {
    load_limit::overloaded("too many long answers are being read")
}
