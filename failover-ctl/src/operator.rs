//! Commands of an operator.

pub(crate) mod abandon;
mod cluster_view;
mod consent;
pub(crate) mod history;
pub(crate) mod init;
mod journal;
mod operation_lock;
mod plan_executor;
mod plan_steps;
pub(crate) mod promote;
pub(crate) mod rejoin;
pub(crate) mod replace_lease;
pub(crate) mod resume;
pub(crate) mod status;
mod survey;
mod write_verification;
