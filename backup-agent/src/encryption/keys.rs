//! Recipients (public keys), for which objects are encrypted, and identities (private keys), which
//! decrypt them.

use std::fmt;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use age::secrecy::ExposeSecret as _;
use age::x25519;
use causeway_runtime::secret::{Secret, SecretFileError};

use crate::encryption::decrypt_error::DecryptError;

/// Length of a data key: AES-256.
pub(crate) const DATA_KEY_BYTES: usize = 32;

/// Public keys for which objects are encrypted. A host that only writes needs no private key.
#[derive(Clone, Debug)]
pub(crate) struct Recipients(Vec<x25519::Recipient>);

/// Private keys. Never printed.
pub(crate) struct Identity(Vec<x25519::Identity>);

/// Invalid keys.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    #[error("`recipients` is empty: add at least one public key (`age1…`)")]
    NoRecipient,
    #[error(
        "a private key (`AGE-SECRET-KEY-…`) is in place of a public one: put `age1…` in `recipients`, and treat the private key as disclosed"
    )]
    PrivateKey,
    #[error("recipient {place} is not an age X25519 public key (`age1…`)")]
    NotARecipient { place: usize },
    #[error("no `identity-file` is set")]
    NoIdentity,
    #[error(transparent)]
    SecretFileError(#[from] SecretFileError),
    #[error("`{}` contains no age identity (`AGE-SECRET-KEY-…`)", path.display())]
    NotAnIdentity { path: PathBuf },
}

/// Returns whether `text` contains a private key, so that it can be refused before it is printed.
pub(crate) fn holds_private_key(text: &str) -> bool {
    text.to_ascii_uppercase().contains("AGE-SECRET-KEY-")
}

impl Recipients {
    /// Parses public keys. A private key is refused, and never printed.
    pub(crate) fn parse(written: &[String]) -> Result<Self, KeyError> {
        if written.is_empty() {
            return Err(KeyError::NoRecipient);
        }
        if written.iter().any(|line| holds_private_key(line)) {
            return Err(KeyError::PrivateKey);
        }
        let keys = written.iter().enumerate().map(|(place, text)| {
            let malformed = |_| KeyError::NotARecipient { place: place + 1 };
            text.trim().parse().map_err(malformed)
        });
        keys.collect::<Result<_, _>>().map(Self)
    }

    /// Wraps a data key so that each recipient can unwrap it.
    pub(crate) fn wrap(&self, data_key: &[u8; DATA_KEY_BYTES]) -> std::io::Result<Vec<u8>> {
        let recipients = self
            .0
            .iter()
            .map(|recipient| recipient as &dyn age::Recipient);
        let encryptor =
            age::Encryptor::with_recipients(recipients).map_err(std::io::Error::other)?;
        let mut wrapped = Vec::new();
        let mut writer = encryptor.wrap_output(&mut wrapped)?;
        writer.write_all(data_key)?;
        writer.finish()?;
        Ok(wrapped)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(…)")
    }
}

impl Identity {
    /// Reads an age identity file: one private key per line, `#` begins a comment.
    pub(crate) fn from_file(path: &Path) -> Result<Self, KeyError> {
        let text = Secret::from_file(path)?;
        let malformed = || KeyError::NotAnIdentity {
            path: path.to_owned(),
        };
        let lines = text.reveal().lines().map(str::trim);
        let keys = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let keys: Vec<x25519::Identity> = keys
            .map(|line| line.parse().map_err(|_| malformed()))
            .collect::<Result<_, _>>()?;
        if keys.is_empty() {
            return Err(malformed());
        }
        Ok(Self(keys))
    }

    /// Unwraps a data key.
    pub(crate) fn unwrap(&self, wrapped: &[u8]) -> Result<[u8; DATA_KEY_BYTES], DecryptError> {
        let decryptor = age::Decryptor::new(wrapped).map_err(|_| DecryptError::DataKey)?;
        let identities = self.0.iter().map(|identity| identity as &dyn age::Identity);
        let decrypted = decryptor.decrypt(identities);
        let mut reader = decrypted.map_err(|error| {
            if matches!(error, age::DecryptError::NoMatchingKeys) {
                return DecryptError::NoMatchingIdentity;
            }
            DecryptError::DataKey
        })?;
        let mut data_key = [0; DATA_KEY_BYTES];
        reader
            .read_exact(&mut data_key)
            .map_err(|_| DecryptError::DataKey)?;
        // The age file must end here, where its last chunk is verified.
        match reader.read(&mut [0]) {
            Ok(0) => Ok(data_key),
            _ => Err(DecryptError::DataKey),
        }
    }

    #[cfg(test)]
    pub(crate) fn of(key: x25519::Identity) -> Self {
        Self(vec![key])
    }
}

/// New key pair: the text of the identity file, and the recipient for the settings.
pub(crate) struct KeyPair {
    pub(crate) identity_file: Secret,
    /// Public key.
    pub(crate) recipient: String,
}

/// Generates a key pair.
pub(crate) fn generate_key_pair() -> KeyPair {
    let identity = x25519::Identity::generate();
    let recipient = identity.to_public().to_string();
    let private = identity.to_string();
    let text = format!("# public key: {recipient}\n{}\n", private.expose_secret());
    KeyPair {
        identity_file: Secret::new(text),
        recipient,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::damage::damaged_text;

    proptest! {
        /// A damaged identity file or recipient is rejected, and its text is not in the error.
        #[test]
        fn damaged_key_then_no_panic(
            identity in damaged_text(generate_key_pair().identity_file.reveal()),
            recipient in damaged_text(&generate_key_pair().recipient),
        ) {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), &identity).unwrap();
            if let Err(error) = Identity::from_file(file.path()) {
                let shown = format!("{error} {error:?}");
                let mut keys = identity.lines().filter(|line| line.starts_with("AGE-") && line.len() > 20);
                prop_assert!(keys.all(|key| !shown.contains(key)), "{shown}");
            }
            Recipients::parse(&[recipient]).ok();
        }
    }
}
