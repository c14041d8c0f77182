//! Members: people with a name and an age.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{Invalid, field};

const MAX_AGE: i32 = 150;

/// A member to store.
#[derive(Debug)]
pub(crate) struct NewMember {
    /// 1 to 255 characters.
    pub(crate) name: String,
    /// In years, 0 to 150.
    pub(crate) age: i32,
}

/// A stored member.
#[derive(Debug, Deserialize)]
pub(crate) struct Member {
    pub(crate) id: Uuid,
    pub(crate) name: String,
    pub(crate) age: i32,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
}

impl NewMember {
    /// Parses a member, or returns every rule that it breaks. Keys are case-insensitive, as in the earlier
    /// service; of several spellings in one object, the last in byte order counts.
    pub(crate) fn read(body: &Map<String, Value>) -> Result<Self, Vec<Invalid>> {
        let name = field::text(
            "name",
            get_ignoring_case(body, "name"),
            field::MAX_NAME_CHARS,
        );
        let age = age(get_ignoring_case(body, "age"));
        match (name, age) {
            (Ok(name), Ok(age)) => Ok(Self { name, age }),
            (name, age) => Err(name.err().into_iter().chain(age.err()).collect()),
        }
    }
}

fn get_ignoring_case<'a>(body: &'a Map<String, Value>, field: &str) -> Option<&'a Value> {
    // Keys are in byte order, capitals first.
    let mut spellings = body.iter().rev();
    let (_key, value) = spellings.find(|(key, _)| key.eq_ignore_ascii_case(field))?;
    Some(value)
}

/// Parses an age. `25.0` is an integer, as in JSON Schema.
fn age(value: Option<&Value>) -> Result<i32, Invalid> {
    let invalid = |code| {
        let message = format!("age must be an integer from 0 to {MAX_AGE}");
        Invalid::new("age", code, message)
    };
    let number = field::required("age", value)?
        .as_f64()
        .filter(|number| number.fract() == 0.0)
        .ok_or_else(|| invalid("not-an-integer"))?;
    // Both are whole, so they are equal or differ by more.
    (0..=MAX_AGE)
        .find(|age| (f64::from(*age) - number).abs() < 0.5)
        .ok_or_else(|| invalid("out-of-range"))
}
