//! Settings file: parsing, validation, defaults.

mod error;
mod host;
mod settings;
mod validation;

pub(crate) use self::error::SettingsError;
#[cfg(test)]
pub(crate) use self::host::{AgentSettings, GuardSettings};
pub(crate) use self::host::{HostSettings, NodeSettings, PostgresSettings};
pub(crate) use self::settings::{DEFAULT_PATH, DnsSettings, RejoinPolicy, Settings};
pub(crate) use self::validation::reference;
