//! The lease: one object in S3 that says who may accept writes, and the times that make it safe.

mod timing;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use self::timing::{
    GUARD_LATENCY, LeaseTiming, MAX_CLOCK_DRIFT_PPM, MIN_START_HEADROOM, TimingError,
};
use crate::lsn::TimelineHistory;
use crate::{Epoch, Lsn, NodeId, Timeline};

/// The format that this release writes, and the highest that it reads. Whoever finds a higher one
/// neither writes the lease nor takes over, and says so.
pub const LEASE_FORMAT: u32 = 1;

/// What the lease object holds. It is changed only by conditional PUT, so each version of it has one
/// successor, and each epoch one holder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRecord {
    /// The format of the record.
    pub format: u32,
    /// The name of the cluster.
    pub cluster: String,
    /// The system identifier that initdb drew: a lease of another database is never taken.
    pub system_id: SystemId,
    /// The number of the holder's term.
    pub epoch: Epoch,
    /// Rises by one with each write of the record, within an epoch and across epochs.
    pub sequence: u64,
    /// Drawn anew for each write: by it a writer recognises a write whose answer was lost.
    pub nonce: Nonce,
    /// Who holds the lease.
    pub holder: LeaseHolder,
    /// What the holder does with it.
    pub state: LeaseState,
    /// How far the last open primary had come when it last wrote the record.
    pub last_position: Option<PrimaryPosition>,
    /// The node that recorded `last_position`: its own disk holds everything up to there. It differs from the
    /// holder's node until a new holder has accepted writes.
    pub last_primary: Option<NodeId>,
    /// Where the timeline of `last_position` comes from: without it nobody could say what a standby on an
    /// earlier one lacks. None if no open primary has recorded it.
    #[serde(default)]
    pub ancestry: Option<TimelineHistory>,
    /// The highest timeline that a holder has reserved: a promotion takes a number above it.
    pub highest_reserved_timeline: Timeline,
    /// The one standby whose flush a commit waits for; none in asynchronous mode.
    pub synchronous_standby: Option<SynchronousStandby>,
    /// Who may take over, as the holder knows it.
    pub members: Vec<NodeId>,
    /// In a retired record: where the cluster's lease is now.
    #[serde(default)]
    pub successor: Option<LeaseStoreId>,
    /// A store whose own record of this cluster could not be retired when this one was written.
    #[serde(default)]
    pub unretired: Option<LeaseStoreId>,
    /// For how long the holder's server had shown no sign of life when this was written, in milliseconds:
    /// an agent that is started again goes on counting from there.
    pub idle_millis: u64,
}

/// A bucket, as settings name it: what tells one lease store from another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LeaseStoreId {
    /// The bucket.
    pub bucket: String,
    /// Its region.
    pub region: String,
    /// Another address than AWS's own.
    #[serde(default)]
    pub endpoint: Option<String>,
}

impl LeaseStoreId {
    /// Returns whether both are one bucket. How a host reaches it is no part of that.
    pub fn is_same(&self, other: &Self) -> bool {
        (&self.bucket, &self.region) == (&other.bucket, &other.region)
    }
}

impl fmt::Display for LeaseStoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bucket `{}` in `{}`", self.bucket, self.region)
    }
}

/// A node, on one host, in one boot of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseHolder {
    /// The node.
    pub node: NodeId,
    /// The host's identity, which no copy of its disk has: its EC2 instance id, or its machine id.
    pub host_id: String,
    /// The boot in which it took the lease; after a reboot the deadlines it had mean nothing.
    pub boot_id: String,
}

/// What a holder does with its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeaseState {
    /// It is becoming primary.
    Acquiring,
    /// It accepts writes.
    Held,
    /// It has given the lease up, and its PostgreSQL is proved to have ended.
    Released,
    /// Nobody takes over, and guard stays unarmed.
    Paused,
    /// Another record has taken this one's place, in this store or another: nobody takes it again.
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

/// How far a primary had come, and how fast it was going.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrimaryPosition {
    /// The timeline it wrote on.
    pub timeline: Timeline,
    /// Up to where its log was flushed.
    pub flush_lsn: Lsn,
    /// When it last saw a commit: microseconds since 1970 on its own wall clock, for people.
    pub last_commit_at_micros: u64,
    /// The highest rate at which it wrote log in the last minute, in bytes per second.
    pub wal_bytes_per_sec: u64,
    /// The highest rate at which it changed rows, or began transactions that write, in the last minute,
    /// in rows per second.
    pub rows_per_sec: u64,
    /// How old this was when the record was written, in milliseconds: a primary that proves no write shows
    /// no position either, and may acknowledge commits all the same.
    pub age_millis: u64,
}

/// The one standby that a commit waits for, in synchronous mode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SynchronousStandby {
    /// The standby.
    pub node: NodeId,
    /// What it had flushed when it was recorded; it takes over only from there on.
    pub flush_lsn: Lsn,
}

/// The identifier that initdb drew for a database cluster, written as a decimal number in a string:
/// it needs all 64 bits, and JSON readers keep 53.
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

/// What makes one write of the record different from every other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nonce(String);

/// Nonces that no other process draws: a random seed, and a counter.
#[derive(Clone, Debug)]
pub struct NonceGenerator {
    seed: u128,
    generated: u64,
}

impl NonceGenerator {
    /// Returns the nonces of a process that drew `seed` when it started.
    pub const fn new(seed: u128) -> Self {
        Self { seed, generated: 0 }
    }

    /// Returns a nonce that was never returned before.
    pub fn generate(&mut self) -> Nonce {
        self.generated += 1;
        Nonce(format!("{:032x}-{}", self.seed, self.generated))
    }
}

/// The entity tag of one version of the lease object, as S3 gave it, quotes included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ETag(pub String);

/// What a write of the lease object requires of what is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WritePrecondition {
    /// Exactly this version is there (`If-Match`).
    Match(ETag),
    /// Nothing is there (`If-None-Match: *`).
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
    /// It is no lease.
    #[error("the lease object is not a lease record: {0}")]
    Malformed(String),
}

/// Says that a record is not this node's cluster's, so that nothing may be concluded from it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseMismatch {
    /// It is another cluster's.
    #[error(
        "the lease belongs to cluster `{found}`, not `{expected}`: check `cluster` and `[lease] bucket`"
    )]
    Cluster {
        /// The cluster that the record names.
        found: String,
        /// The cluster that the settings name.
        expected: String,
    },
    /// It is that of another database.
    #[error(
        "the lease is that of the database with system identifier {found}, and the data directory has {expected}: \
         check `[postgres] data-directory`"
    )]
    System {
        /// The identifier in the record.
        found: SystemId,
        /// The identifier in `global/pg_control`.
        expected: SystemId,
    },
}

/// The one member that every format has.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

impl LeaseRecord {
    /// Reads a lease object's body.
    ///
    /// # Errors
    ///
    /// [`LeaseFormatError`], without looking further than the format if that is too new.
    pub fn parse(body: &[u8]) -> Result<Self, LeaseFormatError> {
        let malformed = |error: serde_json::Error| LeaseFormatError::Malformed(error.to_string());
        let Format { format } = serde_json::from_slice(body).map_err(malformed)?;
        if format > LEASE_FORMAT {
            return Err(LeaseFormatError::TooNew(format));
        }
        serde_json::from_slice(body).map_err(malformed)
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

    /// Checks that the record is of this cluster and this database.
    ///
    /// # Errors
    ///
    /// [`LeaseMismatch`], which says what differs.
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

    /// Returns what is stored in this record's place when the cluster's lease is moved to `successor`:
    /// nobody takes it, and whoever holds it is deposed by its epoch.
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

    /// Returns the record's place in the order of all records ever written.
    pub const fn order(&self) -> (Epoch, u64) {
        (self.epoch, self.sequence)
    }
}
