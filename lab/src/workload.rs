//! Clients that write continuously, the history of acknowledged writes, and its checkers.

pub mod api_checker;
pub mod api_load;
pub mod api_request;
pub mod checker;
pub mod database_endpoints;
pub mod history;
pub mod rows;
mod write_probe;
pub mod writers;
