//! History of the lab's clients: acknowledged rows, the times at which each node acknowledged a
//! write, and events.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use causeway_core::NodeId;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// Path through which a row was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WritePath {
    /// Through the API, which finds the primary itself.
    Api,
    /// By SQL, with all hosts in the connection string.
    Sql,
}

/// Acknowledged row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcknowledgedRow {
    /// Time of the response.
    pub at: Duration,
    /// Write path.
    pub path: WritePath,
    /// Number, unique within its path.
    pub row: u64,
}

/// Event on the timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEvent {
    /// Time.
    #[serde(with = "seconds")]
    pub at: Duration,
    /// Description.
    pub what: String,
}

/// History of all clients. Clones share it.
#[derive(Clone, Debug)]
pub struct History {
    started: Instant,
    snapshot: Arc<Mutex<HistorySnapshot>>,
}

/// Copy of the history.
#[derive(Clone, Debug, Default)]
pub struct HistorySnapshot {
    /// Acknowledged rows, in the order of the responses.
    pub acknowledged: Vec<AcknowledgedRow>,
    /// Times at which each node acknowledged a write, in order.
    pub accepted: BTreeMap<NodeId, Vec<Duration>>,
    /// Events, in order.
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
    /// Returns the time since the start of the history.
    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Records an acknowledged row.
    pub fn record_row(&self, path: WritePath, row: u64) {
        let mut snapshot = self.lock_snapshot();
        // The clock is read under the lock, so that the history is in order.
        let at = self.now();
        snapshot
            .acknowledged
            .push(AcknowledgedRow { at, path, row });
    }

    /// Records that a node acknowledged a write.
    pub fn record_write(&self, node: &NodeId) {
        let mut snapshot = self.lock_snapshot();
        let at = self.now();
        snapshot.accepted.entry(node.clone()).or_default().push(at);
    }

    /// Records an event, and returns its time.
    pub fn record_event(&self, what: impl Into<String>) -> Duration {
        let mut snapshot = self.lock_snapshot();
        let at = self.now();
        snapshot.events.push(HistoryEvent {
            at,
            what: what.into(),
        });
        at
    }

    /// Returns a copy of the history.
    pub fn snapshot(&self) -> HistorySnapshot {
        self.lock_snapshot().clone()
    }

    /// Returns the time of the last acknowledged row through `path`.
    pub fn last_acknowledged(&self, path: WritePath) -> Option<Duration> {
        let snapshot = self.lock_snapshot();
        let mut latest = snapshot.acknowledged.iter().rev();
        latest.find(|row| row.path == path).map(|row| row.at)
    }

    /// Returns the time of the first row acknowledged after `since`, through either path.
    pub fn first_acknowledged_after(&self, since: Duration) -> Option<Duration> {
        let snapshot = self.lock_snapshot();
        let mut rows = snapshot.acknowledged.iter();
        rows.find(|row| row.at > since).map(|row| row.at)
    }

    /// Returns the nodes that acknowledged a write since `since`.
    pub fn nodes_acknowledging_since(&self, since: Duration) -> Vec<NodeId> {
        let snapshot = self.lock_snapshot();
        let wrote = |at: &Vec<Duration>| at.last().is_some_and(|at| *at >= since);
        let nodes = snapshot.accepted.iter().filter(|(_, at)| wrote(at));
        nodes.map(|(node, _)| node.clone()).collect()
    }

    fn lock_snapshot(&self) -> MutexGuard<'_, HistorySnapshot> {
        // The history is only appended to, so it is consistent even after a panic under the lock.
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Durations in reports: seconds, rounded to the millisecond.
pub(crate) mod seconds {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer};

    /// Serializes a duration.
    pub(crate) fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64((duration.as_secs_f64() * 1000.0).round() / 1000.0)
    }

    /// Deserializes a duration.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let seconds = f64::deserialize(from)?;
        Duration::try_from_secs_f64(seconds).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn writes_then_recorded_in_order_per_node() {
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
