//! I/O that every program of the platform needs: clocks, settings, logs, health endpoints, shutdown, retries,
//! polling, an HTTP client, connections to PostgreSQL and AWS, and an S3 client.

#[cfg(feature = "aws")]
pub mod aws;
pub mod byte_size;
pub mod clock;
pub mod config;
pub mod exit_codes;
pub mod health;
pub mod http_client;
mod markdown;
pub mod metrics;
pub mod poll;
pub mod postgres;
pub mod reference;
pub mod retry;
#[cfg(feature = "aws")]
pub mod s3;
pub mod secret;
pub mod shutdown;
pub mod telemetry;
