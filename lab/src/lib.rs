//! The whole platform on one machine: real PostgreSQL servers, the real programs as processes, and
//! AWS on loopback addresses that stand for regions and zones.

pub mod aws;
pub mod link;
pub mod memory;
pub mod process;
pub mod topology;
pub mod verdict;
pub mod wait;
pub mod writer;
