//! Agent: the daemon on each node.

mod ancestry;
pub(crate) mod daemon;
mod dns_records;
mod event_loop;
mod host_id;
pub(crate) mod http;
pub(crate) mod http_server;
mod key_exposure;
mod local_state;
mod metrics;
mod old_lease;
mod problem_log;
mod standby;
pub(crate) mod standby_setup;
mod status_publisher;
mod status_snapshot;
