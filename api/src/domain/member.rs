//! Members: people with a name and an age.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{Invalid, field};

/// The oldest that anybody is, in years.
const AGE_MAX: i32 = 150;

/// A member that is to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMember {
    /// The name, 1 to 255 characters.
    pub name: String,
    /// The age in years, 0 to 150.
    pub age: i32,
}

/// A member as it was stored.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Member {
    /// The identifier.
    pub id: Uuid,
    /// The name.
    pub name: String,
    /// The age in years.
    pub age: i32,
}

/// A member of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMember {
    /// The member.
    pub member: Member,
    /// When it was stored.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
}

impl NewMember {
    /// Reads a member. Keys count in any case, as the earlier service read them; of several spellings
    /// in one object, the one with the most lower case counts.
    ///
    /// # Errors
    ///
    /// Every rule that is broken.
    pub fn read(body: &Map<String, Value>) -> Result<Self, Vec<Invalid>> {
        let name = field::text("name", in_any_case(body, "name"), field::NAME_MAX);
        let age = age(in_any_case(body, "age"));
        match (name, age) {
            (Ok(name), Ok(age)) => Ok(Self { name, age }),
            (name, age) => Err(name.err().into_iter().chain(age.err()).collect()),
        }
    }
}

fn in_any_case<'a>(body: &'a Map<String, Value>, field: &str) -> Option<&'a Value> {
    // Keys are in the order of their bytes, and capitals come first.
    let mut spellings = body.iter().rev();
    let (_key, value) = spellings.find(|(key, _)| key.eq_ignore_ascii_case(field))?;
    Some(value)
}

/// Reads an age. `25.0` is an integer, as JSON Schema has it: how a number is written is its writer's.
fn age(value: Option<&Value>) -> Result<i32, Invalid> {
    let invalid = |code| {
        let message = format!("age must be an integer from 0 to {AGE_MAX}");
        Invalid::new("age", code, message)
    };
    let number = field::required("age", value)?
        .as_f64()
        .filter(|it| it.fract() == 0.0)
        .ok_or_else(|| invalid("not-an-integer"))?;
    // Both are whole, so they are equal or differ by more.
    (0..=AGE_MAX)
        .find(|age| (f64::from(*age) - number).abs() < 0.5)
        .ok_or_else(|| invalid("out-of-range"))
}
