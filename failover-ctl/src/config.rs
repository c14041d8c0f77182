//! Settings: what a person writes, and what it means once it has been checked.

mod error;
mod host;
mod settings;
mod validation;

pub(crate) use self::error::SettingsError;
#[cfg(test)]
pub(crate) use self::host::{AgentSettings, GuardSettings};
pub(crate) use self::host::{HostSettings, NodeSettings, PostgresSettings};
pub(crate) use self::settings::{DEFAULT_PATH, DnsSettings, RejoinPolicy, Settings};
