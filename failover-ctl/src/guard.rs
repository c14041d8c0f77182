//! Guard, the process that supervises PostgreSQL and fences it (a software watchdog).
//!
//! Only the guard starts, promotes and stops PostgreSQL. It has one thread and no network, so that it keeps running
//! when the rest of the host stalls. Its decisions are in `causeway_core::guard`; this module executes them.

pub(crate) mod child;
mod command_execution;
pub(crate) mod config_file;
mod lock_files;
mod shutdown;
pub(crate) mod supervisor;
mod watchdog_device;
