//! Measurements that only the metrics contain.

use std::time::Duration;

use causeway_core::guard::FencingWatch;
use causeway_core::replay_lag::ReplayLag;

/// State of measurements that compare with earlier observations.
#[derive(Debug, Default)]
pub(super) struct MeasurementState {
    pub(super) fencing: FencingWatch,
    pub(super) replay: ReplayLag,
}

/// Measurements that only the metrics contain. A time is that of the wall clock since 1970, and none means never.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NodeMeasurements {
    pub(super) postgres_responding: bool,
    pub(super) postgres_unfenced: bool,
    pub(super) lease_store_reachable: bool,
    pub(super) write_verified_at: Option<Duration>,
    pub(super) writable_since: Option<Duration>,
    pub(super) unreplicated: Duration,
    pub(super) replay_lag: Duration,
}
