//! Backfill: copies objects to buckets that lack them. Objects are copied as they are stored: they
//! are bound to their key and not to a bucket, so a backfill needs no identity.
//!
//! Pushes and backups record the objects that a bucket lacks, and a separate process copies them,
//! however long that takes: pushes and backups neither wait for a slow bucket nor abandon it.

pub(crate) mod background;
pub(crate) mod compare;
pub(crate) mod fill;
pub(crate) mod pack_tally;
pub(crate) mod replicate;
pub(crate) mod replicate_object;
pub(crate) mod replicate_packs;
pub(crate) mod sameness;
pub(crate) mod side_by_side;
pub(crate) mod stats;
pub(crate) mod wal_needs;
