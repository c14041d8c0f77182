//! Clients of everything outside the process.

pub(crate) mod agents;
pub(crate) mod dns_resolver;
#[cfg_attr(not(feature = "ec2"), path = "clients/without_ec2.rs")]
pub(crate) mod ec2;
pub(crate) mod guard_client;
pub(crate) mod lease_store;
pub(crate) mod postgres;
pub(crate) mod route53;
mod write_rates;
