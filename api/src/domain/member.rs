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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<NewMember, Vec<(&'static str, &'static str)>> {
        let body = serde_json::from_str(json).unwrap();
        NewMember::read(&body).map_err(|broken| {
            let each = broken.iter().map(|it| (it.field, it.code));
            each.collect()
        })
    }

    #[test]
    fn keys_count_in_any_case_and_others_not_at_all() {
        let ann = NewMember {
            name: "Ann".to_owned(),
            age: 30,
        };
        for json in [
            r#"{"name":"Ann","age":30}"#,
            r#"{"Name":"Ann","Age":30,"city":"Ulm"}"#,
            r#"{"AGE":30,"nAmE":"Ann"}"#,
            r#"{"NAME":"Bob","Name":"Cyd","name":"Ann","age":30}"#,
        ] {
            assert_eq!(read(json).as_ref(), Ok(&ann), "{json}");
        }
    }

    #[test]
    fn a_name_shows_something_and_its_length_counts_characters() {
        let code = |name: &str| {
            let json = serde_json::json!({"name": name, "age": 1}).to_string();
            read(&json).map_err(|broken| broken[0].1).err()
        };
        assert_eq!(code(&"ß".repeat(255)), None);
        assert_eq!(code("'; DROP TABLE members; --<script>"), None);
        assert_eq!(code(&"ß".repeat(256)), Some("too-long"));
        assert_eq!(code("a\0b"), Some("nul"));
        for blank in ["", " ", "\t\n", "\u{2003}"] {
            assert_eq!(code(blank), Some("blank"), "{blank:?}");
        }
    }

    #[test]
    fn an_age_is_an_integer_from_0_to_150() {
        let code = |age: &str| {
            let json = format!("{{\"name\":\"Ann\",\"age\":{age}}}");
            read(&json).map_err(|broken| broken[0].1).err()
        };
        assert_eq!((code("0"), code("150")), (None, None));
        for outside in [
            "-1",
            "151",
            "2147483648",
            "-9223372036854775809e0",
            "150.0e1",
            "18446744073709551615",
        ] {
            assert_eq!(code(outside), Some("out-of-range"), "{outside}");
        }
        let whole =
            ["25.0", "1e1", "-0.0"].map(|age| read(&format!(r#"{{"name":"a","age":{age}}}"#)));
        assert_eq!(whole.map(|it| it.unwrap().age), [25, 10, 0]);
        for other in [
            "2.5", "149.999", "1e-1", "true", "\"25\"", "null", "[25]", "{}",
        ] {
            assert_eq!(code(other), Some("not-an-integer"), "{other}");
        }
    }

    #[test]
    fn every_broken_rule_is_told() {
        let both = Err(vec![("name", "required"), ("age", "required")]);
        assert_eq!(read("{}"), both);
        let both = Err(vec![("name", "not-a-string"), ("age", "not-an-integer")]);
        assert_eq!(read(r#"{"name":null,"age":null}"#), both);
    }
}
