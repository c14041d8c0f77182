//! HTTP tests: the real program as a process, with real PostgreSQL servers.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test that cannot go on ends where it is, and shows what it saw"
)]

mod about;
mod balancer;
mod beers;
mod cache;
mod commands;
mod configuration;
mod connections;
mod contract;
mod failover;
mod fuzz;
mod health;
mod hello;
mod idempotency;
mod isolation;
mod lanes;
mod limits;
mod lists;
mod logs;
mod members;
mod memory;
mod notebook;
mod pooler;
mod postgres;
mod primaries;
mod problems;
mod program;
mod proxies;
mod python;
mod redis;
mod roles;
mod rolling_restart;
mod schema;
mod slow;
mod stopping;
mod surfaces;
mod tcp_proxy;
mod tls;
mod tracing;
mod unparseable;
mod users;
mod writes;
