//! Passwords and keys of a lab.

use std::path::PathBuf;

use causeway_runtime::secret::Secret;

use crate::cluster::files::{give_to_postgres, restrict, write};
use crate::cluster::topology::Topology;

/// The passwords and keys of one lab.
#[derive(Clone, Debug)]
pub struct LabSecrets {
    /// The password of the role that standbys stream as.
    pub replicator: Secret,
    /// The password of the role that `pg_rewind` reads as.
    pub rewinder: Secret,
    /// The password of the application.
    pub app: Secret,
    /// The key by which orders to agents are signed.
    pub orders: Secret,
}

/// Who can read a backup: the public key that every host has, and the file of the private key that
/// only those have who restore.
#[derive(Clone, Debug)]
pub struct BackupKeys {
    /// The public key.
    pub recipient: String,
    /// The private key's file.
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

    /// Writes each secret to its own file: the key that signs orders for whoever started the lab, and the
    /// others for PostgreSQL's user.
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

/// Returns the file of the key that signs orders, which PostgreSQL's user cannot read.
pub fn command_signing_key(topology: &Topology) -> PathBuf {
    topology.directory().join("command-signing.key")
}
