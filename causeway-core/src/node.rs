//! Names of nodes and regions.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Name of a database node, such as `a` or `eu-west-1a-1`.
///
/// Lower-case letters, digits and hyphens, at most 63 of them, so that it is a valid
/// `application_name`, DNS label and part of an S3 key without quoting.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeId(String);

/// Name of an AWS region, such as `eu-west-1`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Region(String);

/// An invalid name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a name: use 1 to 63 lower-case letters, digits and hyphens, beginning with a letter"
)]
pub struct InvalidName(pub String);

fn check_name(name: &str) -> Result<String, InvalidName> {
    let starts_well = name.starts_with(|letter: char| letter.is_ascii_lowercase());
    let rest_is_fine = name
        .chars()
        .all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-');
    if starts_well && rest_is_fine && name.len() <= 63 {
        return Ok(name.to_owned());
    }
    Err(InvalidName(name.to_owned()))
}

macro_rules! name {
    ($type:ident) => {
        impl $type {
            /// Returns the name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                check_name(text).map(Self)
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                check_name(&text).map(Self)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name!(NodeId);
name!(Region);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_that_needs_quoting_then_rejected() {
        assert!("eu-west-1a-1".parse::<NodeId>().is_ok());
        for wrong in ["", "A", "1a", "a b", "a'b", "a_b", &"a".repeat(64)] {
            assert!(wrong.parse::<NodeId>().is_err(), "{wrong}");
        }
    }
}
