//! Database nodes of a lab: topology, settings files, processes, and PostgreSQL.

pub(crate) mod active_faults;
pub mod disks;
pub mod files;
pub(crate) mod lab_directory;
pub mod lab_lock;
pub mod node;
pub mod postgres;
pub mod process;
pub mod process_table;
pub mod program;
pub mod programs;
pub mod secrets;
pub mod settings;
pub mod sql;
mod supervisor;
pub mod topology;
pub mod watchdog;
