//! Users: people with a name and a unique email address.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Invalid, field};

/// Maximum length of an address, in characters: 64 before the `@`, and 255 after it.
const MAX_EMAIL_CHARS: usize = 320;

/// A user to store.
#[derive(Debug)]
pub(crate) struct NewUser {
    /// 1 to 255 characters.
    pub(crate) name: String,
    /// At most 320 characters.
    pub(crate) email: String,
}

/// A stored user, as clients see it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct User {
    /// From 1.
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) email: String,
}

impl NewUser {
    /// Parses a user, or returns every rule that it breaks.
    pub(crate) fn read(body: &Map<String, Value>) -> Result<Self, Vec<Invalid>> {
        let name = field::text("name", body.get("name"), field::MAX_NAME_CHARS);
        let email = email(body.get("email"));
        match (name, email) {
            (Ok(name), Ok(email)) => Ok(Self { name, email }),
            (name, email) => Err(name.err().into_iter().chain(email.err()).collect()),
        }
    }
}

/// Parses the id of a user; `None` is an integer that no user has.
pub(crate) fn parse_user_id(text: &str) -> Result<Option<i64>, Invalid> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Invalid::new(
            "id",
            "not-an-integer",
            "id must be an integer",
        ));
    }
    Ok(text.parse().ok().filter(|id| *id > 0))
}

/// Parses an address: text, one `@`, and text, without spaces. Only sending mail shows whether it exists.
fn email(value: Option<&Value>) -> Result<String, Invalid> {
    let text = field::text("email", value, MAX_EMAIL_CHARS)?;
    let is_spaced = text.contains(|char: char| char.is_whitespace() || char.is_control());
    let is_address = text.split_once('@').is_some_and(|(mailbox, host)| {
        !mailbox.is_empty() && !host.is_empty() && !host.contains('@')
    });
    if is_spaced || !is_address {
        let message = "email must be an address with one @ and no spaces, such as ann@example.com";
        return Err(Invalid::new("email", "not-an-address", message));
    }
    Ok(text)
}
