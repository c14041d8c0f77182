//! Database nodes of a lab: topology, settings files, processes, and PostgreSQL.

pub mod node;
pub mod postgres;
pub mod process;
pub mod program;
pub mod programs;
pub mod settings;
pub mod sql;
pub mod topology;
pub mod watchdog;
