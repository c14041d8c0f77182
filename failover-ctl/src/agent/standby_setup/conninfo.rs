//! libpq connection string and password file, with which PostgreSQL's programs connect to the primary.

use std::path::{Path, PathBuf};

use anyhow::bail;
use causeway_runtime::postgres::SslMode;
use causeway_runtime::secret::Secret;

use crate::agent::standby_setup::StandbySetup;
use crate::config::PostgresSettings;
use crate::durable_file::write_private;

/// Bundles of public CA certificates, by distribution.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

impl StandbySetup {
    /// Returns a libpq connection string, which names the password file.
    pub(super) fn conninfo(&self, user: &str, database: Option<&str>) -> anyhow::Result<String> {
        let postgres = &self.host.postgres;
        let mut text = format!(
            "host={} port={} user={user} passfile={} application_name={} sslmode={} connect_timeout=3 \
             keepalives_idle=5 keepalives_interval=2 keepalives_count=3",
            value(&self.primary.address),
            self.primary.port,
            value(&self.password_file().to_string_lossy()),
            self.host.node.name,
            sslmode(postgres.sslmode),
        );
        let bundles = BUNDLES.map(Path::new);
        if let Some(certificates) = root_certificates(postgres, &bundles)? {
            text.extend([" sslrootcert=", &value(&certificates.to_string_lossy())]);
        }
        if let Some(database) = database {
            text.extend([" dbname=", &value(database)]);
        }
        Ok(text)
    }

    fn password_file(&self) -> PathBuf {
        self.host.agent.state_directory.join("pgpass")
    }

    /// Writes libpq's password file, which keeps the password out of command lines and settings.
    pub(super) fn write_password_file(&self) -> anyhow::Result<()> {
        let postgres = &self.host.postgres;
        let mut text = String::new();
        for (user, file) in [
            (
                &postgres.replication_user,
                &postgres.replication_password_file,
            ),
            (&postgres.rewind_user, &postgres.rewind_password_file),
        ] {
            let password = Secret::from_file(file)?;
            let escaped = password.reveal().replace('\\', "\\\\").replace(':', "\\:");
            text.extend(["*:*:*:", user, ":", &escaped, "\n"]);
        }
        let path = self.password_file();
        if std::fs::read_to_string(&path).is_ok_and(|stored| stored == text) {
            return Ok(());
        }
        write_private(&path, &text)
    }
}

/// Returns the CA certificates by which libpq verifies a server, if `sslmode` requires it.
///
/// libpq before release 16 does not know `sslrootcert=system` and would read it as a file name, so the system's bundle is
/// named, which every release reads.
fn root_certificates(
    postgres: &PostgresSettings,
    bundles: &[&Path],
) -> anyhow::Result<Option<PathBuf>> {
    if let Some(file) = &postgres.sslrootcert {
        return Ok(Some(file.clone()));
    }
    if !matches!(postgres.sslmode, SslMode::VerifyCa | SslMode::VerifyFull) {
        return Ok(None);
    }
    match bundles.iter().find(|bundle| bundle.is_file()) {
        Some(bundle) => Ok(Some(bundle.to_path_buf())),
        None => bail!(
            "`postgres.sslmode` is `{}`, and this host has no bundle of CA certificates (looked for {}): \
             set `postgres.sslrootcert`, or install `ca-certificates`",
            sslmode(postgres.sslmode),
            BUNDLES.join(", ")
        ),
    }
}

/// Quotes one value of a connection string.
fn value(text: &str) -> String {
    let is_plain =
        |character: char| character.is_ascii_alphanumeric() || "/._-:".contains(character);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\\', r"\\").replace('\'', r"\'"))
}

fn sslmode(mode: SslMode) -> &'static str {
    match mode {
        SslMode::Disable => "disable",
        SslMode::Prefer => "prefer",
        SslMode::Require => "require",
        SslMode::VerifyCa => "verify-ca",
        SslMode::VerifyFull => "verify-full",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(sslmode: &str, more: &str) -> PostgresSettings {
        let text = format!(
            "bin-directory = \"/bin\"\nconfig-file = \"/c\"\ndata-directory = \"/d\"\nsocket-directory = \"/s\"\n\
             replication-user = \"r\"\nreplication-password-file = \"/r\"\nrewind-user = \"w\"\n\
             rewind-password-file = \"/w\"\nsslmode = \"{sslmode}\"\n{more}"
        );
        toml::from_str(&text).unwrap()
    }

    #[test]
    fn verified_without_certificate_then_system_bundle_or_error() {
        let here = tempfile::NamedTempFile::new().unwrap();
        let found = root_certificates(
            &settings("verify-full", ""),
            &[Path::new("/no"), here.path()],
        );
        assert_eq!(found.unwrap().as_deref(), Some(here.path()));

        let none = root_certificates(&settings("verify-ca", ""), &[Path::new("/no")]);
        let said = none.unwrap_err().to_string();
        assert!(said.contains("set `postgres.sslrootcert`"), "{said}");
    }

    #[test]
    fn certificate_is_set_or_unverified_then_bundle_not_used() {
        let named = settings("verify-full", "sslrootcert = \"/mine.pem\"");
        let found = root_certificates(&named, &[]).unwrap();
        assert_eq!(found.as_deref(), Some(Path::new("/mine.pem")));
        assert_eq!(
            root_certificates(&settings("require", ""), &[]).unwrap(),
            None
        );
    }

    #[test]
    fn blank_in_value_then_quoted() {
        assert_eq!(value("/var/lib/pg"), "/var/lib/pg");
        assert_eq!(value("/my it's"), r"'/my it\'s'");
    }
}
