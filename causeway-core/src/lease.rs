//! The lease: one object in S3 that says who may accept writes, and the times that make it safe.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::lsn::Ancestor;
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
    pub ancestry: Option<Ancestry>,
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
    /// Says whether both are one bucket. How a host reaches it is no part of that.
    pub fn is_same(&self, other: &Self) -> bool {
        (&self.bucket, &self.region) == (&other.bucket, &other.region)
    }
}

impl fmt::Display for LeaseStoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bucket `{}` in `{}`", self.bucket, self.region)
    }
}

/// A timeline, and where each of its ancestors was left: its history file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ancestry {
    /// The timeline.
    pub timeline: Timeline,
    /// Its ancestors, oldest first.
    pub ancestors: Vec<Ancestor>,
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

/// The times of the lease. A holder counts them from when it *sent* the request that was granted, a
/// challenger from the *answer* that first showed the version it waits on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTiming {
    /// How often a holder renews.
    pub renew_interval: Duration,
    /// How long one request to the store may take.
    pub request_timeout: Duration,
    /// How often a challenger looks.
    pub poll_interval: Duration,
    /// When guard asks PostgreSQL to stop: clients are cut at once, walsenders drain.
    pub stop_deadline: Duration,
    /// When guard ends PostgreSQL.
    pub kill_deadline: Duration,
    /// How long one version must have stood before a challenger takes over.
    pub lease_duration: Duration,
}

/// What guard may need after a deadline: 0.1 s to wake up (it looks twenty times a second) and 0.5 s
/// to sweep `/proc` and see that nothing is left.
pub const GUARD_LATENCY: Duration = Duration::from_millis(600);

/// How far ahead guard's deadline must lie before it starts or promotes: a promotion takes 0.1 to
/// 0.3 s on an idle host, and ten times that on a struggling one.
pub const MIN_START_HEADROOM: Duration = Duration::from_secs(3);

/// How far two hosts' clocks may differ in rate, in parts per million. Quartz drifts below 100 ppm;
/// the kernel lets NTP correct by 500.
pub const MAX_CLOCK_DRIFT_PPM: u32 = 1000;

impl Default for LeaseTiming {
    /// A lease of 10 s. With renewals at 2 s and requests of 1.5 s, tries at 2.0, 3.5 and 5.0 s
    /// must all fail before the soft deadline; 8.8 s at a clock 1000 ppm slow is 8.81 s, and 10 s at
    /// one as fast is 9.99 s, so 1.18 s are left for guard's 0.6 s.
    fn default() -> Self {
        Self {
            renew_interval: Duration::from_secs(2),
            request_timeout: Duration::from_millis(1500),
            poll_interval: Duration::from_millis(500),
            stop_deadline: Duration::from_millis(7300),
            kill_deadline: Duration::from_millis(8800),
            lease_duration: Duration::from_secs(10),
        }
    }
}

/// Times that contradict each other, and by how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimingError {
    /// One lost renewal would end the lease.
    #[error(
        "`stop-deadline-secs` is {stop_deadline:?}, and must be more than {needed:?}, which is `renew-interval-secs` plus twice \
         `request-timeout-secs`: a lease must survive two lost renewals"
    )]
    TooFewTries {
        /// The soft deadline.
        stop_deadline: Duration,
        /// What it must be more than.
        needed: Duration,
    },
    /// A node could be promoted before the old primary has ended.
    #[error(
        "`lease-duration-secs` is {lease_duration:?}, and must be at least {needed:?}: `kill-deadline-secs`, 0.6 s for guard to end \
         PostgreSQL, and clocks that differ by 1000 ppm"
    )]
    LeaseDurationTooShort {
        /// The term.
        lease_duration: Duration,
        /// The least it may be.
        needed: Duration,
    },
    /// The two deadlines are in the wrong order.
    #[error(
        "`kill-deadline-secs` is {kill_deadline:?}, and must be later than `stop-deadline-secs`, {stop_deadline:?}"
    )]
    NoTimeToDrain {
        /// The soft deadline.
        stop_deadline: Duration,
        /// The hard deadline.
        kill_deadline: Duration,
    },
    /// Guard would refuse every promotion.
    #[error(
        "`stop-deadline-secs` is {stop_deadline:?}, and must be more than {needed:?}: `request-timeout-secs` and the 3 s that \
         guard wants ahead of it before it promotes"
    )]
    NoHeadroom {
        /// The soft deadline.
        stop_deadline: Duration,
        /// What it must be more than.
        needed: Duration,
    },
    /// A time is zero.
    #[error("`{0}` must be more than zero")]
    Zero(&'static str),
}

impl LeaseTiming {
    /// Checks that the times cannot make two nodes overlap, nor a healthy one stop.
    ///
    /// # Errors
    ///
    /// The first contradiction, those that endanger the data before those that endanger service.
    pub fn checked(self) -> Result<Self, TimingError> {
        let times = [
            ("renew-interval-secs", self.renew_interval),
            ("request-timeout-secs", self.request_timeout),
            ("poll-interval-secs", self.poll_interval),
        ];
        if let Some((name, _)) = times.iter().find(|(_, time)| time.is_zero()) {
            return Err(TimingError::Zero(name));
        }

        let slow = 1.0 + f64::from(MAX_CLOCK_DRIFT_PPM) / 1e6;
        let needed = (self.kill_deadline.mul_f64(slow) + GUARD_LATENCY).mul_f64(slow);
        if self.lease_duration < needed {
            return Err(TimingError::LeaseDurationTooShort {
                lease_duration: self.lease_duration,
                needed,
            });
        }

        let (stop_deadline, kill_deadline) = (self.stop_deadline, self.kill_deadline);
        if kill_deadline <= stop_deadline {
            return Err(TimingError::NoTimeToDrain {
                stop_deadline,
                kill_deadline,
            });
        }

        let needed = self.renew_interval + 2 * self.request_timeout;
        if stop_deadline <= needed {
            return Err(TimingError::TooFewTries {
                stop_deadline,
                needed,
            });
        }

        let needed = self.request_timeout + MIN_START_HEADROOM;
        if stop_deadline <= needed {
            return Err(TimingError::NoHeadroom {
                stop_deadline,
                needed,
            });
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn millis(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn the_default_times_are_consistent() {
        assert_eq!(LeaseTiming::default().checked(), Ok(LeaseTiming::default()));
    }

    proptest! {
        /// However the times are chosen, those that are accepted keep two holders apart.
        #[test]
        fn what_is_accepted_leaves_guard_its_time(
            hard in 1_u64..60_000, soft in 1_u64..60_000, term in 1_u64..120_000,
        ) {
            let timing =
                LeaseTiming { kill_deadline: millis(hard), stop_deadline: millis(soft), lease_duration: millis(term), ..LeaseTiming::default() };
            if timing.checked().is_ok() {
                let last_write = timing.kill_deadline.as_secs_f64() * 1.001 + 0.6;
                let first_write = timing.lease_duration.as_secs_f64() / 1.001;
                prop_assert!(last_write <= first_write + 1e-9);
                prop_assert!(timing.stop_deadline < timing.kill_deadline);
            }
        }
    }

    #[test]
    fn says_which_times_contradict_each_other() {
        let short = LeaseTiming {
            lease_duration: millis(9000),
            ..LeaseTiming::default()
        };
        let said = short.checked().unwrap_err().to_string();
        assert!(said.contains("`lease-duration-secs` is 9s"), "{said}");

        let hasty = LeaseTiming {
            stop_deadline: millis(5000),
            ..LeaseTiming::default()
        };
        assert!(matches!(
            hasty.checked(),
            Err(TimingError::TooFewTries { .. })
        ));
    }
}
