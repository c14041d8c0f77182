//! Damaged input for the tests of parsers: causeway-core's.

#[path = "../../causeway-core/tests/damage/mod.rs"]
mod shared;

pub(crate) use self::shared::{damaged, damaged_text};
