//! backup-agent as PostgreSQL and operators start it, with the S3 service `s3s-fs` and, where a
//! scenario needs one, a real PostgreSQL.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that is surprised has failed"
)]

mod agent;
mod backfill;
mod backfill_conflicts;
mod backfill_packs;
mod backup;
mod backup_copies;
mod backup_damage;
mod backup_failover;
mod backup_limits;
mod backup_slow_archiver;
mod backup_source;
mod check_user;
mod clocks;
mod faults;
mod forks;
mod gate;
mod metrics;
mod planted_objects;
mod postgres;
mod push;
mod reach;
mod recovery_end;
mod restore_choice;
mod restore_resumed;
mod restore_settings;
mod restore_tablespaces;
mod restore_wal_volume;
mod restored_standby;
mod retries;
mod server_hangs;
mod silent_bucket;
mod slow_bucket;
mod store;
mod timelines;
mod verify_restore;
mod wal;
mod wal_scan;
