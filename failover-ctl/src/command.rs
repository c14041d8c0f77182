//! What each command does.

pub(crate) mod abandon;
pub(crate) mod agent;
mod consent;
pub(crate) mod history;
pub(crate) mod init;
pub(crate) mod promote;
pub(crate) mod rejoin;
pub(crate) mod replace_lease;
pub(crate) mod resume;
pub(crate) mod status;
