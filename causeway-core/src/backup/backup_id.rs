//! Names of backups.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Name of a backup: its start time, then eight random hexadecimal digits, such as
/// `20261120T201500Z-5f3a9c01`. Names sort by age if the clocks of the hosts were right. An order that must not
/// depend on clocks uses [`BackupSummary::age_order`](super::BackupSummary::age_order).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BackupId(String);

/// A text that is not the name of a backup.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the name of a backup, such as `20261120T201500Z-5f3a9c01`")]
pub struct InvalidBackupId(String);

impl BackupId {
    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BackupId {
    type Err = InvalidBackupId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let shape = |(place, byte): (usize, u8)| match place {
            8 => byte == b'T',
            15 => byte == b'Z',
            16 => byte == b'-',
            17.. => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
            _ => byte.is_ascii_digit(),
        };
        if text.len() == 25 && text.bytes().enumerate().all(shape) {
            return Ok(Self(text.to_owned()));
        }
        Err(InvalidBackupId(text.to_owned()))
    }
}

impl TryFrom<String> for BackupId {
    type Error = InvalidBackupId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<BackupId> for String {
    fn from(id: BackupId) -> Self {
        id.0
    }
}

impl fmt::Display for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_another_form_then_rejected() {
        assert!("20261120T201500Z-5f3a9c01".parse::<BackupId>().is_ok());
        for wrong in ["", "20261120T201500Z-5F3A9C01", "../../../../../../../../x"] {
            assert!(wrong.parse::<BackupId>().is_err(), "{wrong}");
        }
    }
}
