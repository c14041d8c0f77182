//! WAL archive: WAL files are pushed to every bucket, fetched, and copied to buckets that lack
//! them.

pub(crate) mod backfill;
pub(crate) mod encrypted_wal_file;
pub(crate) mod fetch;
pub(crate) mod fetch_request;
pub(crate) mod followed;
pub(crate) mod gap;
pub(crate) mod histories;
pub(crate) mod listed_segments;
pub(crate) mod measure;
pub(crate) mod overview;
pub(crate) mod push;
pub(crate) mod reach;
pub(crate) mod scratch_file;
pub(crate) mod store;
pub(crate) mod wal_archive;
pub(crate) mod wal_file;
pub(crate) mod wal_header;
pub(crate) mod wal_tail;
