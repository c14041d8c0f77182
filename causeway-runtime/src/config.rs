//! Settings files: read once, and rejected if they contain an unknown key.

use std::fs;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// A settings file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigFileError {
    /// The file cannot be read.
    #[error("could not read the settings in `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// The file is not TOML, or has an unknown key or an invalid value.
    #[error("invalid settings in `{}`: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Line, key and expected value.
        reason: String,
    },
}

/// Reads a TOML file into unvalidated settings.
///
/// # Errors
///
/// [`ConfigFileError`], with the line and the key. Types derive `deny_unknown_fields`, so a misspelt key is an
/// error and not a default.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigFileError> {
    let io = |source| ConfigFileError::Io {
        path: path.to_owned(),
        source,
    };
    let text = fs::read_to_string(path).map_err(io)?;
    let malformed = |error: toml::de::Error| ConfigFileError::Malformed {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    toml::from_str(&text).map_err(malformed)
}
