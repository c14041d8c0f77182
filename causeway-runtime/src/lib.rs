//! What every program of the platform needs to run, done once: clocks, settings, logs, health,
//! shutdown, retries, and the ways to PostgreSQL and AWS.

#[cfg(feature = "aws")]
pub mod aws;
pub mod clock;
pub mod config;
pub mod health;
pub mod postgres;
pub mod reference;
pub mod retry;
pub mod secret;
pub mod shutdown;
pub mod telemetry;
