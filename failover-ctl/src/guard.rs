//! Guard: the process that alone starts, promotes and ends PostgreSQL.
//!
//! One thread, no network, no allocation worth speaking of: it must go on when everything else on the
//! host has stopped. What it decides is in `causeway_core::guard`; here are its eyes and hands.

pub(crate) mod child;
mod config_file;
mod lock_files;
mod notify;
mod shutdown;
pub(crate) mod supervisor;
