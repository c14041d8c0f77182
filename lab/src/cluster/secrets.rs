//! Passwords and keys of a lab.

use std::path::PathBuf;

use causeway_runtime::secret::Secret;

use crate::cluster::files::{give_to_postgres, restrict, write};
use crate::cluster::topology::Topology;

/// Passwords and keys of a lab.
#[derive(Clone, Debug)]
pub struct LabSecrets {
    /// Password of the replication role.
    pub replicator: Secret,
    /// Password of the `pg_rewind` role.
    pub rewinder: Secret,
    /// Password of the application's role.
    pub app: Secret,
    /// Command signing key.
    pub orders: Secret,
}

/// Recipient of backups, which every host has, and the file of its identity, which only restoring
/// hosts have.
#[derive(Clone, Debug)]
pub struct BackupKeys {
    /// Recipient (public key).
    pub recipient: String,
    /// File of the identity (private key).
    pub identity: PathBuf,
}

impl LabSecrets {
    /// Generates new secrets.
    pub fn generate() -> Self {
        let generate = || {
            let (one, other) = rand::random::<(u128, u128)>();
            Secret::new(format!("{one:032x}{other:032x}"))
        };
        Self {
            replicator: generate(),
            rewinder: generate(),
            app: generate(),
            orders: generate(),
        }
    }

    /// Writes each secret to a file of its own: the command signing key for the user that started
    /// the lab, and the others for PostgreSQL's user.
    ///
    /// # Errors
    ///
    /// When they cannot be written.
    pub fn write(&self, topology: &Topology) -> anyhow::Result<()> {
        let key = command_signing_key(topology);
        std::fs::write(&key, self.orders.reveal())?;
        restrict(&key, 0o600)?;
        let directory = &topology.secrets();
        std::fs::create_dir_all(directory)?;
        give_to_postgres(directory)?;
        restrict(directory, 0o700)?;
        for (name, secret) in [
            ("replicator.password", &self.replicator),
            ("rewinder.password", &self.rewinder),
            ("app.password", &self.app),
        ] {
            let path = directory.join(name);
            write(&path, secret.reveal())?;
            restrict(&path, 0o600)?;
        }
        Ok(())
    }
}

/// Returns the file of the command signing key, which PostgreSQL's user cannot read.
pub fn command_signing_key(topology: &Topology) -> PathBuf {
    topology.directory().join("command-signing.key")
}
