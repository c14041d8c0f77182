//! Users: people with a name, and an email address that nobody else has.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Invalid, field};

/// The longest address, in characters: 64 before the `@`, and 255 after it.
const EMAIL_MAX: usize = 320;

/// A user that is to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewUser {
    /// The name, 1 to 255 characters.
    pub name: String,
    /// The address, at most 320 characters.
    pub email: String,
}

/// A user as it was stored, and as clients see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The identifier, from 1.
    pub id: i64,
    /// The name.
    pub name: String,
    /// The address.
    pub email: String,
}

impl NewUser {
    /// Reads a user.
    ///
    /// # Errors
    ///
    /// Every rule that is broken.
    pub fn read(body: &Map<String, Value>) -> Result<Self, Vec<Invalid>> {
        let name = field::text("name", body.get("name"), field::NAME_MAX);
        let email = email(body.get("email"));
        match (name, email) {
            (Ok(name), Ok(email)) => Ok(Self { name, email }),
            (name, email) => Err(name.err().into_iter().chain(email.err()).collect()),
        }
    }
}

/// Reads the id of a user, or `None` for an integer that is no user's.
///
/// # Errors
///
/// [`Invalid`] when it is not an integer.
pub fn parse_user_id(text: &str) -> Result<Option<i64>, Invalid> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|it| it.is_ascii_digit()) {
        return Err(Invalid::new(
            "id",
            "not-an-integer",
            "id must be an integer",
        ));
    }
    Ok(text.parse().ok().filter(|it| *it > 0))
}

/// Reads an address: something, one `@`, and something, without spaces. Whether mail arrives there is
/// only shown by sending some.
fn email(value: Option<&Value>) -> Result<String, Invalid> {
    let text = field::text("email", value, EMAIL_MAX)?;
    let is_spaced = text.contains(|it: char| it.is_whitespace() || it.is_control());
    let is_address = text.split_once('@').is_some_and(|(mailbox, host)| {
        !mailbox.is_empty() && !host.is_empty() && !host.contains('@')
    });
    if is_spaced || !is_address {
        let message = "email must be an address with one @ and no spaces, such as ann@example.com";
        return Err(Invalid::new("email", "not-an-address", message));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_an_integer_and_a_users_is_above_zero() {
        for (text, id) in [
            ("1", 1),
            ("+7", 7),
            ("007", 7),
            ("9223372036854775807", i64::MAX),
        ] {
            assert_eq!(parse_user_id(text), Ok(Some(id)), "{text}");
        }
        for nobody in [
            "0",
            "-0",
            "-1",
            "9223372036854775808",
            "-99999999999999999999",
        ] {
            assert_eq!(parse_user_id(nobody), Ok(None), "{nobody}");
        }
        for other in [
            "",
            "-",
            "abc",
            "1.0",
            "1e3",
            " 1",
            "1_000",
            "٣",
            "1;DROP TABLE users",
        ] {
            assert!(parse_user_id(other).is_err(), "{other}");
        }
    }

    #[test]
    fn an_address_has_one_at_sign_and_no_spaces() {
        let code = |text: &str| email(Some(&Value::from(text))).map_err(|it| it.code).err();

        let longest = format!("{}@b", "ü".repeat(EMAIL_MAX - 2));
        for fine in ["ann@example.com", "a@b", "'--<b>@x", longest.as_str()] {
            assert_eq!(code(fine), None, "{fine}");
        }
        assert_eq!(code(&format!("a{longest}")), Some("too-long"));
        assert_eq!(code("a\0@b"), Some("nul"));
        for bad in ["ann", "@", "a@", "@b", "a@b@c", "a b@c", "a@b\n", "a@@b"] {
            assert_eq!(code(bad), Some("not-an-address"), "{bad:?}");
        }
    }
}
