//! The lease: one object in S3 whose holder may accept writes, and its times.

mod timing;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use self::timing::{
    GUARD_LATENCY, LeaseTiming, MAX_CLOCK_DRIFT_PPM, MIN_START_HEADROOM, TimingError,
};
use crate::lsn::TimelineHistory;
use crate::{Epoch, Lsn, NodeId, Timeline};

/// Format that this release writes, and the highest that it reads. An agent that reads a higher one neither
/// writes the lease nor takes over, and reports a problem.
pub const LEASE_FORMAT: u32 = 1;

/// Highest epoch and sequence of a valid record, which every JSON parser reads exactly (RFC 8259, section 6). A
/// record that is written every second reaches it in 285 million years.
const MAX_NUMBER: u64 = 1 << 53;

/// Highest timeline of a valid record: SQL returns timelines as `int`.
const MAX_TIMELINE: u64 = 0x7FFF_FFFF;

/// Content of the lease object. It is changed only by conditional PUT, so each version has one successor, and
/// each epoch one holder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRecord {
    /// Format of the record.
    pub format: u32,
    /// Name of the cluster.
    pub cluster: String,
    /// System identifier that initdb generated: a node never takes the lease of another database.
    pub system_id: SystemId,
    /// Epoch of the lease.
    pub epoch: Epoch,
    /// Number of the record, which rises by one with each write, within an epoch and across epochs.
    pub sequence: u64,
    /// Nonce of this write, by which its writer recognises it after a lost response.
    pub nonce: Nonce,
    /// Holder of the lease.
    pub holder: LeaseHolder,
    /// State of the lease.
    pub state: LeaseState,
    /// Position of the last primary when it last wrote the record.
    pub last_position: Option<PrimaryPosition>,
    /// Node that recorded `last_position`: its disk has all WAL up to there. It differs from the holder's node
    /// until a new holder has accepted writes.
    pub last_primary: Option<NodeId>,
    /// History of the timeline of `last_position`, from which the loss of a standby on an earlier timeline is
    /// estimated. None if no primary has recorded it.
    #[serde(default)]
    pub ancestry: Option<TimelineHistory>,
    /// Highest timeline that a holder has reserved: a promotion takes a number above it.
    pub highest_reserved_timeline: Timeline,
    /// Standby whose flush a commit waits for; none in asynchronous mode.
    pub synchronous_standby: Option<SynchronousStandby>,
    /// Nodes of the cluster, from the holder's settings.
    pub members: Vec<NodeId>,
    /// Store that has the cluster's lease now; only in a retired record.
    #[serde(default)]
    pub successor: Option<LeaseStoreId>,
    /// Store whose record of this cluster could not be retired when this one was written.
    #[serde(default)]
    pub unretired: Option<LeaseStoreId>,
    /// Time without a sign of progress of the holder's server when this was written, in milliseconds: a
    /// restarted agent continues to count from there.
    pub idle_millis: u64,
}

/// Identity of a lease store: its bucket, as named in the settings.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LeaseStoreId {
    /// Name of the bucket.
    pub bucket: String,
    /// Region of the bucket.
    pub region: String,
    /// Address of the store, if it is not AWS's.
    #[serde(default)]
    pub endpoint: Option<String>,
}

impl LeaseStoreId {
    /// Returns whether both are the same bucket, through whatever endpoint.
    pub fn is_same(&self, other: &Self) -> bool {
        (&self.bucket, &self.region) == (&other.bucket, &other.region)
    }
}

impl fmt::Display for LeaseStoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bucket `{}` in `{}`", self.bucket, self.region)
    }
}

/// Holder of a lease: a node, on one host, in one boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseHolder {
    /// Node.
    pub node: NodeId,
    /// Identity of the host, which no copy of its disk has: its EC2 instance ID, or its machine ID.
    pub host_id: String,
    /// Boot in which it took the lease. Deadlines of an earlier boot are meaningless.
    pub boot_id: String,
}

/// State of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeaseState {
    /// The holder is becoming primary.
    Acquiring,
    /// The holder accepts writes.
    Held,
    /// The holder has released the lease, and its PostgreSQL has stopped.
    Released,
    /// No node takes over, and guard stays unarmed.
    Paused,
    /// Another lease replaces this one, in this store or another: no node takes it.
    Retired,
}

impl fmt::Display for LeaseState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Acquiring => "acquiring",
            Self::Held => "held",
            Self::Released => "released",
            Self::Paused => "paused",
            Self::Retired => "retired",
        })
    }
}

/// WAL position and write rates of a primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrimaryPosition {
    /// Timeline that it wrote on.
    pub timeline: Timeline,
    /// End of its flushed WAL.
    pub flush_lsn: Lsn,
    /// Time of its last commit, in microseconds since 1970 by its own wall clock, for display only.
    pub last_commit_at_micros: u64,
    /// Highest rate of written WAL in the last minute, in bytes per second.
    pub wal_bytes_per_sec: u64,
    /// Highest rate of changed rows, or of started write transactions, in the last minute, in rows per second.
    pub rows_per_sec: u64,
    /// Age of the position when the record was written, in milliseconds: a primary that proves no write reports
    /// no new position, and may nevertheless acknowledge commits.
    pub age_millis: u64,
}

/// Standby that a commit waits for in synchronous mode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SynchronousStandby {
    /// Node of the standby.
    pub node: NodeId,
    /// End of its flushed WAL when it was recorded; it takes over only from there on.
    pub flush_lsn: Lsn,
}

/// System identifier that initdb generated for a database cluster, stored as a decimal number in a string: it
/// has 64 bits, and JSON readers keep 53.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SystemId(pub u64);

impl fmt::Display for SystemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<String> for SystemId {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self)
    }
}

impl From<SystemId> for String {
    fn from(id: SystemId) -> Self {
        id.0.to_string()
    }
}

/// Unique value of one write of the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nonce(String);

/// Generator of nonces from a random seed and a counter, unique among processes.
#[derive(Clone, Debug)]
pub struct NonceGenerator {
    seed: u128,
    generated: u64,
}

impl NonceGenerator {
    /// Returns the generator of a process that generated `seed` when it started.
    pub const fn new(seed: u128) -> Self {
        Self { seed, generated: 0 }
    }

    /// Returns a new nonce.
    pub fn generate(&mut self) -> Nonce {
        self.generated += 1;
        Nonce(format!("{:032x}-{}", self.seed, self.generated))
    }
}

/// `ETag` of one version of an object, as returned by S3, quotes included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ETag(pub String);

/// Condition under which an object is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WritePrecondition {
    /// The object has this version (`If-Match`).
    Match(ETag),
    /// There is no object (`If-None-Match: *`).
    Missing,
}

/// A lease object that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseFormatError {
    /// A later release wrote it.
    #[error(
        "the lease has format {0}, and this release reads up to {LEASE_FORMAT}: upgrade this node"
    )]
    TooNew(u32),
    /// It is not a lease record.
    #[error("the lease object is not a lease record: {0}")]
    Malformed(String),
}

/// A lease record of another cluster or database, which is ignored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseMismatch {
    /// It belongs to another cluster.
    #[error(
        "the lease belongs to cluster `{found}`, not `{expected}`: check `cluster` and `[lease] bucket`"
    )]
    Cluster {
        /// Cluster in the record.
        found: String,
        /// Cluster in the settings.
        expected: String,
    },
    /// It belongs to another database.
    #[error(
        "the lease belongs to the database with system identifier {found}, and the data directory has {expected}: \
         check `[postgres] data-directory`"
    )]
    System {
        /// System identifier in the record.
        found: SystemId,
        /// System identifier in `global/pg_control`.
        expected: SystemId,
    },
}

/// The member that every format has.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

impl LeaseRecord {
    /// Parses the body of the lease object.
    ///
    /// # Errors
    ///
    /// [`LeaseFormatError`]; a format that is too new is found before any other member is parsed.
    pub fn parse(body: &[u8]) -> Result<Self, LeaseFormatError> {
        let malformed = |error: serde_json::Error| LeaseFormatError::Malformed(error.to_string());
        let Format { format } = serde_json::from_slice(body).map_err(malformed)?;
        if format > LEASE_FORMAT {
            return Err(LeaseFormatError::TooNew(format));
        }
        let record: Self = serde_json::from_slice(body).map_err(malformed)?;
        record.check_numbers()?;
        Ok(record)
    }

    /// Rejects numbers that have no successor: a takeover would begin again with epoch or timeline 0.
    fn check_numbers(&self) -> Result<(), LeaseFormatError> {
        let timeline = self
            .last_position
            .map_or(Timeline::FIRST, |last| last.timeline);
        let timeline = timeline.max(self.highest_reserved_timeline);
        for (name, number, max) in [
            ("epoch", self.epoch.get(), MAX_NUMBER),
            ("sequence", self.sequence, MAX_NUMBER),
            ("timeline", timeline.get().into(), MAX_TIMELINE),
        ] {
            if number > max {
                let reason = format!("`{name}` is {number}, and at most {max}");
                return Err(LeaseFormatError::Malformed(reason));
            }
        }
        Ok(())
    }

    /// Returns the body of the lease object.
    ///
    /// # Panics
    ///
    /// Never: a record has string keys and no floats.
    pub fn to_body(&self) -> String {
        // Not a default: an empty lease would be stored.
        serde_json::to_string_pretty(self).expect("a lease record has string keys and no floats")
    }

    /// Checks that the record belongs to this cluster and this database.
    ///
    /// # Errors
    ///
    /// [`LeaseMismatch`], with the difference.
    pub fn belongs_to(
        &self,
        cluster: &str,
        system_id: Option<SystemId>,
    ) -> Result<(), LeaseMismatch> {
        if self.cluster != cluster {
            let (found, expected) = (self.cluster.clone(), cluster.to_owned());
            return Err(LeaseMismatch::Cluster { found, expected });
        }
        match system_id {
            Some(expected) if expected != self.system_id => Err(LeaseMismatch::System {
                found: self.system_id,
                expected,
            }),
            Some(_) | None => Ok(()),
        }
    }

    /// Returns the record that retires this one when the cluster's lease moves to `successor`: no node takes
    /// it, and its epoch deposes the holder.
    #[must_use]
    pub fn retired(&self, successor: &LeaseStoreId, nonce: Nonce) -> Self {
        Self {
            epoch: self.epoch.next(),
            sequence: self.sequence + 1,
            nonce,
            state: LeaseState::Retired,
            successor: Some(successor.clone()),
            ..self.clone()
        }
    }

    /// Returns the key by which all records ever written are ordered.
    pub const fn order(&self) -> (Epoch, u64) {
        (self.epoch, self.sequence)
    }
}
