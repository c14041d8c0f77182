//! Connections that short reads share: each carries many at once, one behind the other.
//!
//! PostgreSQL answers the statements of a connection in their order, so whatever is slow belongs on a
//! connection of its own, from [`super::pool`].

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::{self, Instant};

use super::connect::Connector;
use super::failure::Failure;
use super::opened::Opened;
use super::primary::Primary;
use super::queries::Effect;

/// The connections, each opened when it is first needed.
#[derive(Clone, Debug)]
pub(super) struct SharedConnections {
    connector: Connector,
    primary: Primary,
    slots: Arc<[Slot]>,
    turn: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
struct Slot {
    current: Mutex<Option<Arc<Opened>>>,
    /// Held by the one that opens a connection, while the others wait for it.
    opening: tokio::sync::Mutex<()>,
}

impl SharedConnections {
    pub(super) fn new(size: usize, connector: Connector, primary: Primary) -> Self {
        Self {
            connector,
            primary,
            slots: std::iter::repeat_with(Slot::default).take(size).collect(),
            turn: Arc::default(),
        }
    }

    /// Returns the connection whose turn it is, waiting for the primary until `deadline`.
    pub(super) async fn lend(
        &self,
        effect: Effect,
        deadline: Instant,
    ) -> Result<Arc<Opened>, Failure> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let Some(slot) = self.slots.get(turn % self.slots.len().max(1)) else {
            return Err(Failure::PoolExhausted);
        };
        loop {
            let known = self.primary.known(effect, deadline).await?;
            if let Some(opened) = slot.current(known.generation) {
                return Ok(opened);
            }
            let Ok(_opening) = time::timeout_at(deadline, slot.opening.lock()).await else {
                return Err(Failure::NoPrimary { read_only: false });
            };
            if let Some(opened) = slot.current(known.generation) {
                return Ok(opened);
            }
            // Whoever held the place before may have found that this primary is none.
            if !self.primary.is_known(known.generation) {
                continue;
            }
            let opened = Opened::to(&known, &self.connector, &self.primary).await?;
            let opened = Arc::new(opened);
            slot.replace(Some(Arc::clone(&opened)));
            return Ok(opened);
        }
    }

    /// Returns how many are open.
    pub(super) fn open(&self) -> usize {
        let open = |it: &&Slot| it.lock().as_ref().is_some_and(|it| it.is_of_use());
        self.slots.iter().filter(open).count()
    }

    /// Closes the connections; what is under way on them is still answered.
    pub(super) fn close(&self) {
        for slot in self.slots.iter() {
            slot.replace(None);
        }
    }
}

impl Slot {
    fn current(&self, generation: u64) -> Option<Arc<Opened>> {
        let current = self.lock();
        let usable = |it: &&Arc<Opened>| it.generation == generation && it.is_of_use();
        current.as_ref().filter(usable).cloned()
    }

    fn replace(&self, opened: Option<Arc<Opened>>) {
        *self.lock() = opened;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Arc<Opened>>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
