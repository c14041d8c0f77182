//! Network of a lab: proxies between nodes, and a DNS server.

pub mod dns;
pub mod dns_name;
pub mod proxies;
pub mod proxy;
