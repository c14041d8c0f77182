//! The routes of the service, and the state that their handlers share.

pub mod route_table;
pub(crate) mod router;
pub(crate) mod state;
