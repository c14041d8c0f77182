//! The vocabulary and the decisions of the platform.
//!
//! This crate reads no clock, opens no socket and generates no randomness: time, seeds and observations are
//! arguments, and actions are returned as values. So every rule that prevents split-brain can be tested and
//! simulated without I/O.

pub mod agent;
pub mod backup;
pub mod epoch;
pub mod failover;
pub mod guard;
pub mod host_instant;
pub mod lease;
pub mod lsn;
pub mod node;
pub mod problem;
pub mod rejoin;
pub mod replay_lag;
pub mod wal;

pub use epoch::Epoch;
pub use host_instant::HostInstant;
pub use lsn::{Lsn, Timeline};
pub use node::{NodeId, Region};
