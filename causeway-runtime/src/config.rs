//! Settings: read once, from one file, and refused whole if anything in them is unknown.

use std::fs;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// A settings file that cannot be used. Nothing has been touched when this is returned.
#[derive(Debug, thiserror::Error)]
pub enum ConfigFileError {
    /// The file cannot be read.
    #[error("could not read the settings in `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML, or has a key or a value that is not a setting's.
    #[error("invalid settings in `{}`: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Which line and key, and what was expected there.
        reason: String,
    },
}

/// Reads a TOML file into settings as a person writes them.
///
/// # Errors
///
/// [`ConfigFileError`], with the line and the key. Types derive `deny_unknown_fields`, so that a misspelt
/// key is an error and not a default.
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
