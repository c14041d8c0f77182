//! What the lab's clients remember: every row acknowledged to them, which node acknowledged a write
//! when, and what happened meanwhile.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use causeway_core::NodeId;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// Through which door a row was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Door {
    /// Through the API, which finds the primary by itself.
    Api,
    /// By SQL, with all hosts in the connection string.
    Sql,
}

/// One row that was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// When the answer arrived.
    pub at: Duration,
    /// How it was written.
    pub door: Door,
    /// Its number, which no other row of that door has.
    pub row: u64,
}

/// Something that happened, for whoever reads the timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// When.
    #[serde(with = "seconds")]
    pub at: Duration,
    /// What, in a few words.
    pub what: String,
}

/// The memory of all clients. A clone is the same memory.
#[derive(Clone, Debug)]
pub struct Memory {
    started: Instant,
    held: Arc<Mutex<Held>>,
}

/// Everything that is remembered.
#[derive(Clone, Debug, Default)]
pub struct Held {
    /// Every acknowledged row, in the order of the answers.
    pub acknowledged: Vec<Acknowledged>,
    /// When each node acknowledged a write, in order.
    pub accepted: BTreeMap<NodeId, Vec<Duration>>,
    /// What happened, in order.
    pub marks: Vec<Mark>,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            held: Arc::default(),
        }
    }
}

impl Memory {
    /// Returns how long the memory reaches back.
    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Remembers a row that was just acknowledged.
    pub fn row(&self, door: Door, row: u64) {
        let mut held = self.hold();
        // The clock is read with the memory in hand, so that what is remembered is in order.
        let at = self.now();
        held.acknowledged.push(Acknowledged { at, door, row });
    }

    /// Remembers that a node just acknowledged a write.
    pub fn write_on(&self, node: &NodeId) {
        let mut held = self.hold();
        let at = self.now();
        held.accepted.entry(node.clone()).or_default().push(at);
    }

    /// Remembers what just happened, and returns when that was.
    pub fn mark(&self, what: impl Into<String>) -> Duration {
        let mut held = self.hold();
        let at = self.now();
        held.marks.push(Mark {
            at,
            what: what.into(),
        });
        at
    }

    /// Returns a copy of everything remembered.
    pub fn recall(&self) -> Held {
        self.hold().clone()
    }

    /// Returns when a row was last acknowledged through `door`.
    pub fn last(&self, door: Door) -> Option<Duration> {
        let held = self.hold();
        let mut latest = held.acknowledged.iter().rev();
        latest.find(|it| it.door == door).map(|it| it.at)
    }

    /// Returns when the first row after `since` was acknowledged, through whichever door.
    pub fn first_since(&self, since: Duration) -> Option<Duration> {
        let held = self.hold();
        let mut rows = held.acknowledged.iter();
        rows.find(|it| it.at > since).map(|it| it.at)
    }

    /// Returns which nodes acknowledged a write since `since`.
    pub fn writers_since(&self, since: Duration) -> Vec<NodeId> {
        let held = self.hold();
        let wrote = |at: &Vec<Duration>| at.last().is_some_and(|it| *it >= since);
        let nodes = held.accepted.iter().filter(|(_, at)| wrote(at));
        nodes.map(|(node, _)| node.clone()).collect()
    }

    fn hold(&self) -> MutexGuard<'_, Held> {
        // What is held is only ever added to, so it is whole even if somebody panicked with it.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Durations as reports write them: seconds, to the millisecond.
pub(crate) mod seconds {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer};

    /// Writes a duration.
    pub(crate) fn serialize<S: Serializer>(it: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64((it.as_secs_f64() * 1000.0).round() / 1000.0)
    }

    /// Reads a duration.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let seconds = f64::deserialize(from)?;
        Duration::try_from_secs_f64(seconds).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn remembers_in_order_and_tells_who_wrote_lately() {
        let memory = Memory::default();
        let (a, b): (NodeId, NodeId) = ("a".parse().unwrap(), "b".parse().unwrap());
        memory.write_on(&a);
        tokio::time::advance(Duration::from_secs(5)).await;
        memory.write_on(&b);
        memory.row(Door::Sql, 7);

        assert_eq!(memory.writers_since(Duration::from_secs(1)), [b]);
        assert_eq!(memory.last(Door::Sql), Some(Duration::from_secs(5)));
        assert_eq!(memory.last(Door::Api), None);
    }
}
