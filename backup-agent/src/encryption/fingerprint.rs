//! Comparison of contents by a host that cannot decrypt an object.

use std::io::{self, Read};

use aws_lc_rs::{hmac, rand};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

/// Bytes of a content that are read at once.
const READ_BYTES: usize = 256 << 10;

/// Keyed hash of an object's content, with a salt generated for this object and stored beside it.
///
/// It confirms a known content, and reveals nothing else: a plain hash would also show that two
/// objects are equal, and could be looked up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Fingerprint {
    salt: String,
    hmac_sha256: String,
}

impl Fingerprint {
    /// Returns the fingerprint, with a new salt, of a content stored under `key`.
    pub(crate) fn of_reader(key: &str, content: impl Read) -> io::Result<Self> {
        let mut salt = [0; 32];
        rand::fill(&mut salt)
            .map_err(|_| io::Error::other("the random number generator failed"))?;
        Ok(Self {
            salt: BASE64_STANDARD.encode(salt),
            hmac_sha256: BASE64_STANDARD.encode(tag(&salt, key, content)?),
        })
    }

    /// Returns whether the object `key` with this fingerprint has this content.
    pub(crate) fn matches(&self, key: &str, content: impl Read) -> io::Result<bool> {
        let Ok(salt) = BASE64_STANDARD.decode(&self.salt) else {
            return Ok(false);
        };
        Ok(BASE64_STANDARD.encode(tag(&salt, key, content)?) == self.hmac_sha256)
    }
}

fn tag(salt: &[u8], key: &str, mut content: impl Read) -> io::Result<hmac::Tag> {
    let mut hash = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, salt));
    hash.update(key.as_bytes());
    hash.update(&[0]);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let read = content.read(&mut buffer)?;
        match buffer.get(..read) {
            Some(bytes) if !bytes.is_empty() => hash.update(bytes),
            _ => return Ok(hash.sign()),
        }
    }
}
