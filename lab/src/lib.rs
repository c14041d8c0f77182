//! The whole platform on one machine: real PostgreSQL servers, the programs as processes, and AWS on
//! loopback addresses that stand for regions and zones.
//!
//! [`Lab::start`] is what both the command `lab` and the end-to-end tests call.

pub mod aws;
pub mod backup_faults;
pub mod chaos;
pub mod cluster;
pub mod control;
pub mod demo;
pub mod exec;
pub mod fault;
mod lab;
pub mod network;
pub mod progress;
pub mod report;
pub mod scenarios;
pub mod seeded_rng;
mod seeded_runs;
pub mod wait;
pub mod workload;

pub use lab::Lab;
