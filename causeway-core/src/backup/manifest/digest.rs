//! Checksums of blobs.

use std::fmt;

use serde::{Deserialize, Serialize};

/// SHA-256 of a blob, as 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

/// A text that is not a digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a SHA-256 in hexadecimal")]
pub struct InvalidDigest(String);

impl Digest {
    /// Wraps the 32 bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the 32 bytes.
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl TryFrom<String> for Digest {
    type Error = InvalidDigest;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let mut bytes = [0; 32];
        match hex::decode_to_slice(&text, &mut bytes) {
            Ok(()) => Ok(Self(bytes)),
            Err(_) => Err(InvalidDigest(text)),
        }
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::Digest;

    #[test]
    fn hexadecimal_digits_then_same_text() {
        let text = "0f".repeat(32);
        let digest = Digest::try_from(text.clone());
        assert_eq!(digest.map(String::from), Ok(text));
    }

    #[test]
    fn sign_length_or_other_letter_then_rejected() {
        for text in [
            "+f".repeat(32),
            "0f".repeat(31),
            "0g".repeat(32),
            "é".repeat(32),
        ] {
            assert!(Digest::try_from(text.clone()).is_err(), "{text}");
        }
    }
}
