//! Text of a schedule.

use std::fmt;

use super::{BackupSchedule, BackupStep, BucketName, PlannedRestore};

impl fmt::Display for BucketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Near => "near",
            Self::Far => "far",
        })
    }
}

impl fmt::Display for BackupStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { rows, bytes } => write!(f, "write {rows} rows of {bytes} bytes"),
            Self::RollBack => f.write_str("roll a row back"),
            Self::RestorePoint => f.write_str("create a restore point"),
            Self::Switch => f.write_str("end the segment"),
            Self::ArchiveAll => f.write_str("end the segment, and archive everything"),
            Self::Backup { killed_after: None } => f.write_str("base backup"),
            Self::Backup {
                killed_after: Some(after),
            } => {
                write!(f, "base backup, killed after {after:?}")
            }
            Self::Promote { reserved, killed } => write!(
                f,
                "{} the server, and promote it past {reserved} reserved timelines",
                if *killed { "kill" } else { "stop" }
            ),
            Self::PromoteTwice => f.write_str("promote two servers out of one segment"),
            Self::KillPostgres => f.write_str("kill PostgreSQL, and start it again"),
            Self::KillPush { after } => {
                write!(f, "end the segment, and kill the archiving after {after:?}")
            }
            Self::Fail(which, outage) => write!(f, "{which} fails: {outage}"),
            Self::Heal => f.write_str("heal"),
            Self::Backfill => f.write_str("backfill"),
            Self::Lose(which) => write!(f, "{which} loses everything"),
            Self::Damage {
                which,
                deleted,
                of,
                pick,
            } => {
                let what = if *deleted { "delete" } else { "damage" };
                let place = which.map_or("both".to_owned(), |which| which.to_string());
                write!(f, "{what} a {of:?} in {place} ({pick:x})")
            }
        }
    }
}

impl fmt::Display for PlannedRestore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "restore to {:?} ({:x})", self.target, self.pick)?;
        if let Some(from) = self.from {
            write!(f, " from {from}")?;
        }
        if let Some(after) = self.killed_after {
            write!(f, ", killed after {after:?} and run again")?;
        }
        if self.pauses {
            f.write_str(", pausing")?;
        }
        for (which, outage) in &self.while_filled {
            write!(f, "; {which} fails: {outage}")?;
        }
        for (which, outage) in &self.while_recovering {
            write!(f, "; while PostgreSQL recovers {which} fails: {outage}")?;
        }
        Ok(())
    }
}

impl fmt::Display for BackupSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ballast = if self.ballast { ", with ballast" } else { "" };
        let Self {
            seed,
            required_buckets,
            ..
        } = self;
        write!(
            f,
            "seed {seed}: {required_buckets} of 2 buckets required{ballast}"
        )?;
        for step in &self.steps {
            write!(f, "\n  {step}")?;
        }
        for restore in &self.restores {
            write!(f, "\n  {restore}")?;
        }
        Ok(())
    }
}
