//! Memory for answers that a client may take its time over. It counts until the last byte has been
//! written, or the client was cut off.

use std::sync::Arc;

use axum::body::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::{self, Instant};

use crate::problem::{Kind, Problem};

/// A quarter of a small container. A page of a list is at most 2 MiB, and 300 KiB of usual text.
const TOTAL_KIB: usize = 64 * 1024;
const PAGE_KIB: u32 = 2 * 1024;
/// What is shorter does not count: it fits into what the kernel keeps of an answer.
const SHORT_BYTES: usize = 16 * 1024;
/// The pages that are made at once, each of which is in memory three times for a moment: as rows, as
/// values and as JSON. It is half of the connections that there are by default, too.
const PAGES_AT_ONCE: usize = 8;

/// The memory that is left.
#[derive(Debug)]
pub(crate) struct AnswerMemory {
    turns: Semaphore,
    kib: Arc<Semaphore>,
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
            kib: Arc::new(Semaphore::new(TOTAL_KIB)),
        }
    }

    /// Waits until another page may be made. It is made while the turn is held.
    ///
    /// # Errors
    ///
    /// [`Kind::Overloaded`] at `deadline`.
    pub(crate) async fn turn(&self, deadline: Instant) -> Result<SemaphorePermit<'_>, Problem> {
        let turn = time::timeout_at(deadline, self.turns.acquire()).await;
        turn.ok().and_then(Result::ok).ok_or_else(overloaded)
    }

    /// Waits for the memory of a page of an answer that has begun. It comes before the turn, which
    /// others may need who need no memory.
    ///
    /// # Errors
    ///
    /// [`Kind::Overloaded`] at `deadline`.
    pub(crate) async fn room(&self, deadline: Instant) -> Result<OwnedSemaphorePermit, Problem> {
        let acquiring = Arc::clone(&self.kib).acquire_many_owned(PAGE_KIB);
        let acquired = time::timeout_at(deadline, acquiring).await;
        acquired.ok().and_then(Result::ok).ok_or_else(overloaded)
    }

    /// Counts bytes until they have been written: in `room`, or in what is free now.
    ///
    /// # Errors
    ///
    /// [`Kind::Overloaded`] when other answers have the memory.
    pub(crate) fn hold(
        &self,
        mut bytes: Vec<u8>,
        room: Option<OwnedSemaphorePermit>,
    ) -> Result<Bytes, Problem> {
        if bytes.len() <= SHORT_BYTES {
            return Ok(bytes.into());
        }
        bytes.shrink_to_fit();
        let kib = bytes.len().div_ceil(1024).min(TOTAL_KIB);
        let held = if let Some(mut room) = room {
            room.split(kib).unwrap_or(room)
        } else {
            let kib = u32::try_from(kib).unwrap_or(u32::MAX);
            let acquired = Arc::clone(&self.kib).try_acquire_many_owned(kib);
            acquired.map_err(|_taken| overloaded())?
        };
        Ok(Bytes::from_owner(Held { bytes, _kib: held }))
    }
}

fn overloaded() -> Problem {
    Problem::new(
        Kind::Overloaded,
        "too many long answers are being read; try again in a moment",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bytes_dropped_then_memory_is_free_again() {
        let memory = AnswerMemory::new();
        let most = || vec![b'x'; (TOTAL_KIB - 100) * 1024];
        let first = memory.hold(most(), None).unwrap();
        let copy = first.clone();
        drop(first);
        assert!(memory.hold(vec![b'x'; 200 * 1024], None).is_err());
        assert!(memory.hold(vec![b'x'; 200], None).is_ok());
        assert!(memory.room(Instant::now()).await.is_err());
        drop(copy);

        let room = memory.room(Instant::now()).await.unwrap();
        let page = memory.hold(vec![b'x'; 200 * 1024], Some(room)).unwrap();
        assert_eq!(memory.kib.available_permits(), TOTAL_KIB - 200);
        drop(page);
        assert!(memory.hold(vec![b'x'; TOTAL_KIB * 2048], None).is_ok());
    }
}
