//! Connection to the server, and its directories.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::error::BackupConfigError;

/// Server that is backed up.
///
/// `user` needs `EXECUTE` on `pg_backup_start` and `pg_backup_stop` (releases 13 and 14: `pg_start_backup` and
/// `pg_stop_backup`). With `pg_read_all_settings` it also finds a log directory behind a link, and
/// configuration files below the data directory.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct WrittenPostgres {
    /// Directory of PostgreSQL's programs; only `check` looks there.
    bin_directory: Option<PathBuf>,
    /// Data directory of the server. `wal push` and `wal fetch` use the directory that PostgreSQL starts them
    /// in.
    data_directory: PathBuf,
    /// Directory of the server's Unix socket. Exactly one of this and `host` is required.
    socket_directory: Option<PathBuf>,
    /// Host name or IP address of the server.
    host: Option<String>,
    /// Port of the server.
    #[serde(default = "default_port")]
    port: u16,
    /// Role.
    #[serde(default = "default_user")]
    user: String,
    /// Database.
    #[serde(default = "default_user")]
    database: String,
    /// File with the password, if the server asks for one.
    password_file: Option<PathBuf>,
    primary: Option<WrittenPrimary>,
}

/// Connection to the primary, which is read where the server is a standby: a backup ends its last segment
/// there with `pg_switch_wal()`, which an idle primary would leave open.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct WrittenPrimary {
    /// Host name, IP address or directory of a Unix socket that follows the primary.
    host: String,
    /// Port of the primary.
    #[serde(default = "default_port")]
    port: u16,
    /// Role. It needs `EXECUTE` on `pg_switch_wal`.
    #[serde(default = "default_user")]
    user: String,
    /// Database.
    #[serde(default = "default_user")]
    database: String,
    /// File with the password, if the server asks for one.
    password_file: Option<PathBuf>,
}

fn default_port() -> u16 {
    5432
}

fn default_user() -> String {
    "postgres".to_owned()
}

/// Server that is backed up.
#[derive(Clone, Debug)]
pub(crate) struct PostgresConfig {
    /// Directory of its programs.
    pub(crate) bin_directory: Option<PathBuf>,
    /// Its data directory.
    pub(crate) data_directory: PathBuf,
    /// Its address.
    pub(crate) server: ServerAddress,
    /// Address of its primary while it is a standby: a name or address that follows the primary.
    pub(crate) primary: Option<ServerAddress>,
}

/// Address and login of a server.
#[derive(Clone, Debug)]
pub(crate) struct ServerAddress {
    /// Socket directory or host.
    pub(crate) host: Host,
    /// Port.
    pub(crate) port: u16,
    /// User.
    pub(crate) user: String,
    /// Database.
    pub(crate) database: String,
    /// File with the password, if it needs one.
    pub(crate) password_file: Option<PathBuf>,
}

/// Where the server listens.
#[derive(Clone, Debug)]
pub(crate) enum Host {
    /// Directory of its Unix socket.
    Socket(PathBuf),
    /// Host name or IP address.
    Address(String),
}

impl WrittenPostgres {
    /// Validates the section.
    pub(super) fn validated(self) -> Result<PostgresConfig, BackupConfigError> {
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
            primary: self.primary.map(WrittenPrimary::validated),
        })
    }
}

impl WrittenPrimary {
    fn validated(self) -> ServerAddress {
        // libpq takes a path for the directory of a socket, too.
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
