//! Commands for an agent, signed with the key that operator and agent share.
//!
//! The signature covers the body. The body contains the node, the epoch of the plan and a random id, so a command
//! cannot be altered, sent to another node, or replayed: an agent stores the ids of the present epoch, and rejects
//! every other epoch. The key itself is never sent.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use anyhow::Context as _;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use causeway_core::agent::FencingProof;
use causeway_core::{Epoch, NodeId, Timeline};
use causeway_runtime::secret::Secret;
use serde::{Deserialize, Serialize};

use crate::config::SettingsError;

/// Header of the signature: HMAC-SHA-256 of the body, in hexadecimal.
pub(crate) const SIGNATURE_HEADER: &str = "causeway-signature";

/// Minimum length of a key: the length of the hash (RFC 2104, section 3).
const MIN_KEY_BYTES: usize = 32;

/// Maximum length of a key on standard input.
const MAX_KEY_BYTES: u64 = 4096;

/// Command for an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SignedCommand {
    /// Random id.
    pub(crate) id: String,
    /// Cluster of the node.
    pub(crate) cluster: String,
    /// Node that executes it.
    pub(crate) node: NodeId,
    /// Epoch of the lease for which it was planned.
    pub(crate) planned_epoch: Epoch,
    /// Kind of command.
    pub(crate) command: CommandKind,
}

impl SignedCommand {
    /// Returns a command with a new id.
    pub(crate) fn new(
        cluster: &str,
        node: &NodeId,
        planned_epoch: Epoch,
        command: CommandKind,
    ) -> Self {
        let id = format!("{:032x}", rand::random::<u128>());
        Self {
            id,
            cluster: cluster.to_owned(),
            node: node.clone(),
            planned_epoch,
            command,
        }
    }
}

/// Kind of command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CommandKind {
    /// Take the lease.
    TakeLease {
        /// Proof that the old primary is fenced.
        fencing_proof: FencingProof,
        /// Timeline of the node, if the operator accepted it although the last primary wrote on another.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timeline: Option<Timeline>,
    },
    /// Rejoin as a standby, by a rewind or a copy of the primary.
    Rejoin {
        /// Copy the primary even where a rewind would do.
        rebuild: bool,
    },
}

/// Key that signs commands.
pub(crate) struct CommandSigningKey(hmac::Key);

impl std::fmt::Debug for CommandSigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CommandSigningKey(…)")
    }
}

impl CommandSigningKey {
    /// Reads the key from its file.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or the key is shorter than 32 bytes.
    pub(crate) fn read(path: &Path) -> Result<Self, SettingsError> {
        let secret = Secret::from_file(path).map_err(|source| SettingsError::Secret {
            setting: "command-signing-key-file",
            source,
        })?;
        Self::of(&secret)
    }

    /// Reads the key from standard input, and closes it, so that no later child process inherits it.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or the key is shorter than 32 bytes.
    pub(crate) fn read_stdin() -> Result<Self, SettingsError> {
        let unreadable = |error: io::Error| {
            let why =
                format!("cannot be read from standard input ({error}): see `--key-from-stdin`");
            SettingsError::setting("command-signing-key-file", why)
        };
        let mut text = String::new();
        let mut input = io::stdin().lock().take(MAX_KEY_BYTES);
        input.read_to_string(&mut text).map_err(unreadable)?;
        let nothing = File::open("/dev/null").map_err(unreadable)?;
        nix::unistd::dup2_stdin(nothing).map_err(|error| unreadable(error.into()))?;
        Self::of(&Secret::new(text.trim_end_matches(['\n', '\r'])))
    }

    fn of(secret: &Secret) -> Result<Self, SettingsError> {
        if secret.reveal().len() < MIN_KEY_BYTES {
            let why = "holds a key of less than 32 bytes: generate one with `openssl rand -hex 32`";
            return Err(SettingsError::setting("command-signing-key-file", why));
        }
        Ok(Self(hmac::Key::new(
            hmac::HMAC_SHA256,
            secret.reveal().as_bytes(),
        )))
    }

    /// Returns the body of a command and its signature.
    pub(crate) fn sign(&self, command: &SignedCommand) -> anyhow::Result<(Vec<u8>, String)> {
        let body = serde_json::to_vec(command).context("could not serialize the command")?;
        let signature = self.signature(&body);
        Ok((body, signature))
    }

    /// Returns the command if its signature is valid.
    pub(crate) fn verify(&self, body: &[u8], signature: &str) -> Option<SignedCommand> {
        // Compared as text, so that every signature has one form.
        let expected = self.signature(body);
        verify_slices_are_equal(expected.as_bytes(), signature.as_bytes()).ok()?;
        serde_json::from_slice(body).ok()
    }

    fn signature(&self, body: &[u8]) -> String {
        hex::encode(hmac::sign(&self.0, body))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::damage::{damaged, damaged_text};

    const COMMAND: &str = r#"{"id":"0af7","cluster":"main","node":"c","planned_epoch":7,"command":{"take-lease":{"fencing_proof":"lease-expired","timeline":3}}}"#;

    proptest! {
        /// Any change of a signed command or of its signature is rejected.
        #[test]
        fn damaged_signed_command_then_no_panic(body in damaged(COMMAND.as_bytes()), signature in damaged_text(&signed().1)) {
            let (whole, right) = signed();
            prop_assert!(key('k').verify(&whole, &right).is_some());
            if body != whole {
                prop_assert_eq!(key('k').verify(&body, &right), None);
            }
            if signature != right {
                prop_assert_eq!(key('k').verify(&whole, &signature), None);
            }
        }

        /// A holder of the key may run another release.
        #[test]
        fn damaged_command_of_a_key_holder_then_no_panic(body in damaged(COMMAND.as_bytes())) {
            let signature = key('k').signature(&body);
            if let Some(command) = key('k').verify(&body, &signature) {
                let (body, signature) = key('k').sign(&command).unwrap();
                prop_assert_eq!(key('k').verify(&body, &signature), Some(command));
            }
        }
    }

    fn signed() -> (Vec<u8>, String) {
        key('k')
            .sign(&serde_json::from_str(COMMAND).unwrap())
            .unwrap()
    }

    #[test]
    fn signature_written_differently_then_rejected() {
        let (body, signature) = signed();
        let zero = signature.replacen('0', "+", 1);
        for wrong in [signature.to_uppercase(), zero] {
            assert_ne!(wrong, signature, "the signature has a letter and a 0");
            assert_eq!(key('k').verify(&body, &wrong), None, "{wrong}");
        }
    }

    fn key(byte: char) -> CommandSigningKey {
        let text = byte.to_string().repeat(32);
        CommandSigningKey(hmac::Key::new(hmac::HMAC_SHA256, text.as_bytes()))
    }

    fn command() -> SignedCommand {
        let node = "c".parse().unwrap();
        let id = "1".to_owned();
        let command = CommandKind::TakeLease {
            fencing_proof: FencingProof::LeaseExpired,
            timeline: None,
        };
        SignedCommand {
            id,
            cluster: "main".into(),
            node,
            planned_epoch: Epoch::new(7),
            command,
        }
    }

    #[test]
    fn body_or_key_changed_then_signature_rejected() {
        let (body, signature) = key('k').sign(&command()).unwrap();

        assert_eq!(key('k').verify(&body, &signature), Some(command()));
        assert_eq!(key('x').verify(&body, &signature), None);
        let altered = String::from_utf8(body.clone()).unwrap().replace('7', "8");
        assert_eq!(key('k').verify(altered.as_bytes(), &signature), None);
        for wrong in ["", "zz", "é", &signature[2..]] {
            assert_eq!(key('k').verify(&body, wrong), None, "{wrong}");
        }
    }
}
