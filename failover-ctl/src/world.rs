//! Everything outside of the process, each thing behind its own door.

pub(crate) mod agents;
pub(crate) mod fencing;
pub(crate) mod guard_link;
pub(crate) mod lease_store;
pub(crate) mod orders;
pub(crate) mod postgres;
mod rates;
pub(crate) mod resolver;
pub(crate) mod route53;
