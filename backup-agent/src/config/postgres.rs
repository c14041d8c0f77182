//! How the server is reached, and where its files are.

use std::path::PathBuf;

use serde::Deserialize;

use crate::config::error::BackupConfigError;

/// The section `[postgres]`, as it is written.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct WrittenPostgres {
    bin_directory: Option<PathBuf>,
    data_directory: PathBuf,
    socket_directory: Option<PathBuf>,
    host: Option<String>,
    #[serde(default = "default_port")]
    port: u16,
    #[serde(default = "default_user")]
    user: String,
    #[serde(default = "default_user")]
    database: String,
    password_file: Option<PathBuf>,
    primary: Option<WrittenPrimary>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct WrittenPrimary {
    host: String,
    #[serde(default = "default_port")]
    port: u16,
    #[serde(default = "default_user")]
    user: String,
    #[serde(default = "default_user")]
    database: String,
    password_file: Option<PathBuf>,
}

fn default_port() -> u16 {
    5432
}

fn default_user() -> String {
    "postgres".to_owned()
}

/// The server that is backed up.
#[derive(Clone, Debug)]
pub(crate) struct PostgresConfig {
    /// Where its programs are.
    pub(crate) bin_directory: Option<PathBuf>,
    /// Where its files are.
    pub(crate) data_directory: PathBuf,
    /// How it is reached.
    pub(crate) server: ServerAddress,
    /// How its primary is reached while it is a standby: a name or an address that follows the primary.
    pub(crate) primary: Option<ServerAddress>,
}

/// How a server is reached, and as whom.
#[derive(Clone, Debug)]
pub(crate) struct ServerAddress {
    /// Where it listens: a directory or a host.
    pub(crate) host: Host,
    /// On which port.
    pub(crate) port: u16,
    /// As whom to connect.
    pub(crate) user: String,
    /// To which database.
    pub(crate) database: String,
    /// Where the password is, if one is asked for.
    pub(crate) password_file: Option<PathBuf>,
}

/// Where the server listens.
#[derive(Clone, Debug)]
pub(crate) enum Host {
    /// In this directory.
    Socket(PathBuf),
    /// At this address.
    Address(String),
}

impl WrittenPostgres {
    /// Returns what is meant.
    pub(super) fn meant(self) -> Result<PostgresConfig, BackupConfigError> {
        let host = match (self.socket_directory, self.host) {
            (Some(directory), None) => Host::Socket(directory),
            (None, Some(address)) => Host::Address(address),
            (None, None) | (Some(_), Some(_)) => return Err(BackupConfigError::WhereIsPostgres),
        };
        Ok(PostgresConfig {
            bin_directory: self.bin_directory,
            data_directory: self.data_directory,
            server: ServerAddress {
                host,
                port: self.port,
                user: self.user,
                database: self.database,
                password_file: self.password_file,
            },
            primary: self.primary.map(WrittenPrimary::meant),
        })
    }
}

impl WrittenPrimary {
    fn meant(self) -> ServerAddress {
        // A path is what libpq takes for a directory with a socket.
        let host = if self.host.starts_with('/') {
            Host::Socket(PathBuf::from(self.host))
        } else {
            Host::Address(self.host)
        };
        ServerAddress {
            host,
            port: self.port,
            user: self.user,
            database: self.database,
            password_file: self.password_file,
        }
    }
}
