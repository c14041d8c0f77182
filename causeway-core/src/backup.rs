//! Backups as values: their manifest, the WAL that they need, and the choice of one for a recovery target.

mod backup_id;
pub mod chain;
pub mod manifest;
pub mod reach;
pub mod restore;
pub mod wal_end;

pub use backup_id::{BackupId, InvalidBackupId};
pub use chain::SegmentShare;
pub use manifest::{BackupSummary, Manifest, WallTime};
pub use reach::{ArchiveReach, HeldSegments, WalGap};
pub use restore::{BackupChoiceError, RecoveryTarget, choose_backup};

pub use crate::lsn::TimelineHistory;
