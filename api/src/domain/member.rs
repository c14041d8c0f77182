//! Members: people with a name and an age.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{Invalid, field};

/// Maximum age, in years.
const MAX_AGE: i32 = 150;

/// A member to store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMember {
    /// The name, 1 to 255 characters.
    pub name: String,
    /// The age in years, 0 to 150.
    pub age: i32,
}

/// A stored member.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Member {
    /// The identifier.
    pub id: Uuid,
    /// The name.
    pub name: String,
    /// The age in years.
    pub age: i32,
}

/// A stored member with its times, as lists have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMember {
    /// The member.
    pub member: Member,
    /// Time at which it was stored.
    pub created_at: Timestamp,
    /// Time of its last change.
    pub updated_at: Timestamp,
}

impl NewMember {
    /// Parses a member. Keys are case-insensitive, as in the earlier service; of several spellings in one
    /// object, the last in byte order counts.
    ///
    /// # Errors
    ///
    /// All rules that it breaks.
    pub fn read(body: &Map<String, Value>) -> Result<Self, Vec<Invalid>> {
        let name = field::text("name", in_any_case(body, "name"), field::MAX_NAME_CHARS);
        let age = age(in_any_case(body, "age"));
        match (name, age) {
            (Ok(name), Ok(age)) => Ok(Self { name, age }),
            (name, age) => Err(name.err().into_iter().chain(age.err()).collect()),
        }
    }
}

fn in_any_case<'a>(body: &'a Map<String, Value>, field: &str) -> Option<&'a Value> {
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
