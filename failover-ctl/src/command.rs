//! What each command does.

pub(crate) mod agent;
pub(crate) mod history;
pub(crate) mod init;
pub(crate) mod promote;
pub(crate) mod rejoin;
pub(crate) mod replace_lease;
pub(crate) mod status;
