//! Copying to each bucket what it lacks and another has. Objects are copied as they are stored: they
//! are bound to their key and not to a bucket, so this needs no identity.
//!
//! Pushes and backups note what a bucket lacks, and a process of its own drains the notes, for as long
//! as that takes: neither waits for a bucket that is slow, nor gives up on it.

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
