//! Histories: what a server and its backups go through, and what is restored afterwards, as a seed
//! decides.

mod display;

use std::time::Duration;

use super::bucket_outage::{self, BucketOutage};
use crate::seeded_rng::SeededRng;

/// A history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupSchedule {
    /// The seed that it comes from.
    pub seed: u64,
    /// In how many of the two buckets a thing must be.
    pub required_buckets: u8,
    /// Whether the server has a table that makes its packs larger than one part of an upload.
    pub ballast: bool,
    /// What happens, in order.
    pub steps: Vec<BackupStep>,
    /// What is restored then, in order.
    pub restores: Vec<PlannedRestore>,
}

/// One of the two buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BucketName {
    /// The first in the settings.
    Near,
    /// The second.
    Far,
}

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackupStep {
    /// So many transactions commit; each writes so many bytes.
    Write {
        /// How many.
        rows: u64,
        /// How much each.
        bytes: u64,
    },
    /// A transaction writes a row and is rolled back.
    RollBack,
    /// `pg_create_restore_point`.
    RestorePoint,
    /// The segment ends, and nobody waits for its archiving.
    Switch,
    /// The segment ends, and everything is archived before anything else happens.
    ArchiveAll,
    /// A base backup, which is killed after a while if that is given.
    Backup {
        /// After how long.
        killed_after: Option<Duration>,
    },
    /// The server is stopped, or killed, starts as a standby of the archive, and is promoted.
    Promote {
        /// How many timeline numbers are reserved before, and never written.
        reserved: u32,
        /// Whether it was killed.
        killed: bool,
    },
    /// Two servers are promoted out of one segment: first this one, then an older copy of it.
    PromoteTwice,
    /// PostgreSQL is killed, and started again.
    KillPostgres,
    /// A segment ends, and each process that archives is killed after a while.
    KillPush {
        /// After how long.
        after: Duration,
    },
    /// A bucket fails.
    Fail(BucketName, BucketOutage),
    /// Nothing fails any more.
    Heal,
    /// Each bucket is given what the other has.
    Backfill,
    /// A bucket loses everything.
    Lose(BucketName),
    /// An object is damaged or deleted.
    Damage {
        /// Where; in both buckets if nothing is said.
        which: Option<BucketName>,
        /// Whether it is deleted, and not damaged.
        deleted: bool,
        /// What kind of object.
        of: ObjectKind,
        /// Which of them.
        pick: u64,
    },
}

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// A WAL segment.
    Segment,
    /// A pack of a base backup.
    Pack,
    /// A manifest.
    Manifest,
    /// A timeline history.
    TimelineHistory,
}

/// To where a restore goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetKind {
    /// The end of the WAL.
    End,
    /// The time of a commit.
    Time,
    /// The position after a commit.
    Lsn,
    /// A transaction.
    Xid,
    /// A restore point.
    Name,
}

/// A restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedRestore {
    /// To where.
    pub target: TargetKind,
    /// To which of the moments that are possible.
    pub pick: u64,
    /// From one bucket alone.
    pub from: Option<BucketName>,
    /// How the buckets fail while the directory is filled.
    pub while_filled: Vec<(BucketName, BucketOutage)>,
    /// How the buckets fail while PostgreSQL recovers.
    pub while_recovering: Vec<(BucketName, BucketOutage)>,
    /// After how long `restore` is killed, and run again.
    pub killed_after: Option<Duration>,
    /// Whether it is paused at the target, and not promoted.
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
    /// Returns the history of a seed: the same for the same seed, always.
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
            steps.push(damage(&mut rng));
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
        StepKind::Fail => BackupStep::Fail(which(rng), bucket_outage::draw(rng)),
        StepKind::Heal => BackupStep::Heal,
        StepKind::Backfill => BackupStep::Backfill,
        StepKind::Lose => BackupStep::Lose(which(rng)),
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

fn which(rng: &mut SeededRng) -> BucketName {
    if rng.percent(50) {
        BucketName::Near
    } else {
        BucketName::Far
    }
}

fn damage(rng: &mut SeededRng) -> BackupStep {
    let of = [
        (ObjectKind::Segment, 6),
        (ObjectKind::Pack, 1),
        (ObjectKind::Manifest, 1),
        (ObjectKind::TimelineHistory, 1),
    ];
    BackupStep::Damage {
        which: rng.percent(50).then(|| which(rng)),
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
    let weather = |rng: &mut SeededRng| {
        let mut weather = Vec::new();
        for which in [BucketName::Near, BucketName::Far] {
            if !calm && rng.percent(30) {
                weather.push((which, bucket_outage::draw(rng)));
            }
        }
        weather
    };
    PlannedRestore {
        target: rng.weighted(&targets).unwrap_or(TargetKind::End),
        pick: rng.bits(),
        from: rng.percent(30).then(|| which(rng)),
        while_filled: weather(rng),
        while_recovering: weather(rng),
        killed_after: rng.percent(20).then(|| rng.between(20, 900)),
        pauses: rng.percent(30),
    }
}

#[cfg(test)]
mod tests;
