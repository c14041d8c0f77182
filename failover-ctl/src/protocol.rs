//! Messages between agent, guard and operator.

pub(crate) mod guard;
pub(crate) mod node_status;
pub(crate) mod signed_command;
