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
pub enum WritePath {
    /// Through the API, which finds the primary by itself.
    Api,
    /// By SQL, with all hosts in the connection string.
    Sql,
}

/// One row that was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcknowledgedRow {
    /// When the answer arrived.
    pub at: Duration,
    /// How it was written.
    pub path: WritePath,
    /// Its number, which no other row of that door has.
    pub row: u64,
}

/// Something that happened, for whoever reads the timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEvent {
    /// When.
    #[serde(with = "seconds")]
    pub at: Duration,
    /// What, in a few words.
    pub what: String,
}

/// The memory of all clients. A clone is the same memory.
#[derive(Clone, Debug)]
pub struct History {
    started: Instant,
    snapshot: Arc<Mutex<HistorySnapshot>>,
}

/// Everything that is remembered.
#[derive(Clone, Debug, Default)]
pub struct HistorySnapshot {
    /// Every acknowledged row, in the order of the answers.
    pub acknowledged: Vec<AcknowledgedRow>,
    /// When each node acknowledged a write, in order.
    pub accepted: BTreeMap<NodeId, Vec<Duration>>,
    /// What happened, in order.
    pub events: Vec<HistoryEvent>,
}

impl Default for History {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            snapshot: Arc::default(),
        }
    }
}

impl History {
    /// Returns how long the memory reaches back.
    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Remembers a row that was just acknowledged.
    pub fn record_row(&self, path: WritePath, row: u64) {
        let mut snapshot = self.lock_snapshot();
        // The clock is read with the memory in hand, so that what is remembered is in order.
        let at = self.now();
        snapshot
            .acknowledged
            .push(AcknowledgedRow { at, path, row });
    }

    /// Remembers that a node just acknowledged a write.
    pub fn record_write(&self, node: &NodeId) {
        let mut snapshot = self.lock_snapshot();
        let at = self.now();
        snapshot.accepted.entry(node.clone()).or_default().push(at);
    }

    /// Remembers what just happened, and returns when that was.
    pub fn record_event(&self, what: impl Into<String>) -> Duration {
        let mut snapshot = self.lock_snapshot();
        let at = self.now();
        snapshot.events.push(HistoryEvent {
            at,
            what: what.into(),
        });
        at
    }

    /// Returns a copy of everything remembered.
    pub fn snapshot(&self) -> HistorySnapshot {
        self.lock_snapshot().clone()
    }

    /// Returns when a row was last acknowledged through `path`.
    pub fn last_acknowledged(&self, path: WritePath) -> Option<Duration> {
        let snapshot = self.lock_snapshot();
        let mut latest = snapshot.acknowledged.iter().rev();
        latest.find(|it| it.path == path).map(|it| it.at)
    }

    /// Returns when the first row after `since` was acknowledged, through whichever door.
    pub fn first_acknowledged_after(&self, since: Duration) -> Option<Duration> {
        let snapshot = self.lock_snapshot();
        let mut rows = snapshot.acknowledged.iter();
        rows.find(|it| it.at > since).map(|it| it.at)
    }

    /// Returns which nodes acknowledged a write since `since`.
    pub fn nodes_acknowledging_since(&self, since: Duration) -> Vec<NodeId> {
        let snapshot = self.lock_snapshot();
        let wrote = |at: &Vec<Duration>| at.last().is_some_and(|it| *it >= since);
        let nodes = snapshot.accepted.iter().filter(|(_, at)| wrote(at));
        nodes.map(|(node, _)| node.clone()).collect()
    }

    fn lock_snapshot(&self) -> MutexGuard<'_, HistorySnapshot> {
        // What is held is only ever added to, so it is whole even if somebody panicked with it.
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner)
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
        let history = History::default();
        let (a, b): (NodeId, NodeId) = ("a".parse().unwrap(), "b".parse().unwrap());
        history.record_write(&a);
        tokio::time::advance(Duration::from_secs(5)).await;
        history.record_write(&b);
        history.record_row(WritePath::Sql, 7);

        assert_eq!(
            history.nodes_acknowledging_since(Duration::from_secs(1)),
            [b]
        );
        assert_eq!(
            history.last_acknowledged(WritePath::Sql),
            Some(Duration::from_secs(5))
        );
        assert_eq!(history.last_acknowledged(WritePath::Api), None);
    }
}
