//! Histories generated from a seed: steps of a server and its backups, and the restores at the end.

mod display;

use std::time::Duration;

use super::bucket_outage::{self, BucketOutage};
use crate::seeded_rng::SeededRng;

/// History.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupSchedule {
    /// Seed that generates it.
    pub seed: u64,
    /// Number of buckets that must store an object before it counts as stored.
    pub required_buckets: u8,
    /// Whether the server has a table that makes its packs larger than one part of an upload.
    pub ballast: bool,
    /// Steps, in order.
    pub steps: Vec<BackupStep>,
    /// Restores at the end, in order.
    pub restores: Vec<PlannedRestore>,
}

/// One of the two buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BucketName {
    /// First bucket in the settings.
    Near,
    /// Second bucket in the settings.
    Far,
}

/// Step of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackupStep {
    /// Commits transactions of one row each.
    Write {
        /// Number of rows.
        rows: u64,
        /// Size of each row.
        bytes: u64,
    },
    /// Rolls back a transaction that wrote a row.
    RollBack,
    /// Creates a restore point.
    RestorePoint,
    /// Ends the segment, without waiting for its archiving.
    Switch,
    /// Ends the segment, and waits until all WAL is archived.
    ArchiveAll,
    /// Takes a base backup.
    Backup {
        /// Time after which `backup` is killed.
        killed_after: Option<Duration>,
    },
    /// Stops or kills the server, starts it as a standby of the WAL archive, and promotes it.
    Promote {
        /// Number of timelines that are reserved before the promotion and not used.
        reserved: u32,
        /// Whether the server is killed.
        killed: bool,
    },
    /// Promotes two servers out of one segment: this one, then an older copy.
    PromoteTwice,
    /// Kills PostgreSQL, and restarts it.
    KillPostgres,
    /// Ends a segment, and kills each process that archives after a while.
    KillPush {
        /// Time until the kill.
        after: Duration,
    },
    /// Starts an outage of a bucket.
    Fail(BucketName, BucketOutage),
    /// Ends every outage.
    Heal,
    /// Copies to each bucket the objects that it lacks.
    Backfill,
    /// Deletes everything in a bucket.
    Lose(BucketName),
    /// Damages or deletes an object.
    Damage {
        /// Bucket; both if `None`.
        which: Option<BucketName>,
        /// Whether the object is deleted instead of damaged.
        deleted: bool,
        /// Kind of the object.
        of: ObjectKind,
        /// Number that selects the object.
        pick: u64,
    },
}

/// Kind of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// WAL segment.
    Segment,
    /// Pack of a base backup.
    Pack,
    /// Manifest.
    Manifest,
    /// Timeline history.
    TimelineHistory,
}

/// Kind of a recovery target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetKind {
    /// End of the WAL.
    End,
    /// Time of a commit.
    Time,
    /// LSN after a commit.
    Lsn,
    /// Transaction ID.
    Xid,
    /// Named restore point.
    Name,
}

/// Restore at the end of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedRestore {
    /// Kind of its target.
    pub target: TargetKind,
    /// Number that selects the target among those that qualify.
    pub pick: u64,
    /// Only bucket to restore from; both if `None`.
    pub from: Option<BucketName>,
    /// Outages while the directory is filled.
    pub while_filled: Vec<(BucketName, BucketOutage)>,
    /// Outages during recovery.
    pub while_recovering: Vec<(BucketName, BucketOutage)>,
    /// Time after which `restore` is killed and run again.
    pub killed_after: Option<Duration>,
    /// Whether recovery pauses at the target instead of promoting.
    pub pauses: bool,
}

const STEPS: &[(StepKind, u64)] = &[
    (StepKind::Write, 6),
    (StepKind::RollBack, 1),
    (StepKind::RestorePoint, 1),
    (StepKind::Switch, 3),
    (StepKind::ArchiveAll, 2),
    (StepKind::Backup, 2),
    (StepKind::Promote, 3),
    (StepKind::PromoteTwice, 1),
    (StepKind::KillPostgres, 1),
    (StepKind::KillPush, 2),
    (StepKind::Fail, 6),
    (StepKind::Heal, 1),
    (StepKind::Backfill, 1),
    (StepKind::Lose, 1),
];

#[derive(Clone, Copy)]
enum StepKind {
    Write,
    RollBack,
    RestorePoint,
    Switch,
    ArchiveAll,
    Backup,
    Promote,
    PromoteTwice,
    KillPostgres,
    KillPush,
    Fail,
    Heal,
    Backfill,
    Lose,
}

impl BackupSchedule {
    /// Generates the history of a seed, always the same for the same seed.
    pub fn of(seed: u64) -> Self {
        let mut rng = SeededRng::new(seed);
        let required_buckets = if rng.percent(25) { 2 } else { 1 };
        let ballast = rng.percent(20);
        let calm = rng.percent(10);
        let mut steps = vec![
            BackupStep::Write {
                rows: 3,
                bytes: 200,
            },
            BackupStep::Backup { killed_after: None },
            BackupStep::Write {
                rows: 3,
                bytes: 200,
            },
        ];
        for _step in 0..4 + rng.below(6) {
            let step = step(&mut rng, calm);
            let writes = matches!(
                step,
                BackupStep::Promote { .. } | BackupStep::PromoteTwice | BackupStep::Fail(..)
            );
            steps.push(step);
            if writes {
                steps.push(write(&mut rng));
                steps.push(BackupStep::Switch);
            }
        }
        steps.push(write(&mut rng));
        if rng.percent(80) {
            steps.push(BackupStep::Heal);
        }
        steps.push(BackupStep::ArchiveAll);
        if rng.percent(25) {
            steps.push(BackupStep::Backfill);
        }
        if !calm && rng.percent(30) {
            steps.push(pick_damage(&mut rng));
        }
        let restores = 1 + rng.below(2);
        let restores = (0..restores).map(|_| restore(&mut rng, calm)).collect();
        Self {
            seed,
            required_buckets,
            ballast,
            steps,
            restores,
        }
    }
}

fn step(rng: &mut SeededRng, calm: bool) -> BackupStep {
    let mut kind = rng.weighted(STEPS).unwrap_or(StepKind::Write);
    if calm && matches!(kind, StepKind::Fail | StepKind::Lose) {
        kind = StepKind::Write;
    }
    match kind {
        StepKind::Write => write(rng),
        StepKind::RollBack => BackupStep::RollBack,
        StepKind::RestorePoint => BackupStep::RestorePoint,
        StepKind::Switch => BackupStep::Switch,
        StepKind::ArchiveAll => BackupStep::ArchiveAll,
        StepKind::Backup => BackupStep::Backup {
            killed_after: rng.percent(40).then(|| rng.between(50, 1_500)),
        },
        StepKind::Promote => BackupStep::Promote {
            reserved: u32::try_from(rng.below(3)).unwrap_or(0),
            killed: rng.percent(50),
        },
        StepKind::PromoteTwice => BackupStep::PromoteTwice,
        StepKind::KillPostgres => BackupStep::KillPostgres,
        StepKind::KillPush => BackupStep::KillPush {
            after: rng.between(20, 500),
        },
        StepKind::Fail => BackupStep::Fail(pick_bucket(rng), bucket_outage::generate(rng)),
        StepKind::Heal => BackupStep::Heal,
        StepKind::Backfill => BackupStep::Backfill,
        StepKind::Lose => BackupStep::Lose(pick_bucket(rng)),
    }
}

fn write(rng: &mut SeededRng) -> BackupStep {
    if rng.percent(25) {
        return BackupStep::Write {
            rows: 2 + rng.below(4),
            bytes: 300_000,
        };
    }
    BackupStep::Write {
        rows: 1 + rng.below(6),
        bytes: 200,
    }
}

fn pick_bucket(rng: &mut SeededRng) -> BucketName {
    if rng.percent(50) {
        BucketName::Near
    } else {
        BucketName::Far
    }
}

fn pick_damage(rng: &mut SeededRng) -> BackupStep {
    let of = [
        (ObjectKind::Segment, 6),
        (ObjectKind::Pack, 1),
        (ObjectKind::Manifest, 1),
        (ObjectKind::TimelineHistory, 1),
    ];
    BackupStep::Damage {
        which: rng.percent(50).then(|| pick_bucket(rng)),
        deleted: rng.percent(50),
        of: rng.weighted(&of).unwrap_or(ObjectKind::Segment),
        pick: rng.bits(),
    }
}

fn restore(rng: &mut SeededRng, calm: bool) -> PlannedRestore {
    let targets = [
        (TargetKind::End, 5),
        (TargetKind::Time, 2),
        (TargetKind::Lsn, 2),
        (TargetKind::Xid, 1),
        (TargetKind::Name, 1),
    ];
    let outages = |rng: &mut SeededRng| {
        let mut outages = Vec::new();
        for which in [BucketName::Near, BucketName::Far] {
            if !calm && rng.percent(30) {
                outages.push((which, bucket_outage::generate(rng)));
            }
        }
        outages
    };
    PlannedRestore {
        target: rng.weighted(&targets).unwrap_or(TargetKind::End),
        pick: rng.bits(),
        from: rng.percent(30).then(|| pick_bucket(rng)),
        while_filled: outages(rng),
        while_recovering: outages(rng),
        killed_after: rng.percent(20).then(|| rng.between(20, 900)),
        pauses: rng.percent(30),
    }
}

#[cfg(test)]
mod tests;
