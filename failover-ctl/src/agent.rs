//! Agent: the daemon on each node.

mod ancestry;
mod certificates;
mod command_execution;
pub(crate) mod daemon;
mod dns_check;
mod dns_records;
pub(crate) mod event_loop;
mod host_id;
pub(crate) mod http;
pub(crate) mod http_server;
pub(crate) mod key_exposure;
mod local_state;
mod measurements;
pub(crate) mod metrics;
mod node_status;
mod old_lease;
mod peer_polling;
pub(crate) mod preconditions;
mod problem_log;
mod standby;
pub(crate) mod standby_setup;
mod status_publisher;
pub(crate) mod status_snapshot;
