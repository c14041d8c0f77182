//! The vocabulary and the decisions of the platform.
//!
//! Nothing here reads a clock, opens a socket or draws a random number: time, chance and what was
//! observed come in as arguments, and what to do comes back as a value. So every rule that keeps two
//! nodes from writing at once can be read, tested and simulated without a machine.

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
pub mod wal;

pub use epoch::Epoch;
pub use host_instant::HostInstant;
pub use lsn::{Lsn, Timeline};
pub use node::{NodeId, Region};
