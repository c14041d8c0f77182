//! WAL files: archived in every bucket, fetched, and copied to buckets that lack them.

pub(crate) mod backfill;
pub(crate) mod encrypted_wal_file;
pub(crate) mod fetch;
pub(crate) mod followed;
pub(crate) mod gap;
pub(crate) mod reach;
pub(crate) mod scratch_file;
pub(crate) mod store;
pub(crate) mod wal_archive;
pub(crate) mod wal_file;
