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
