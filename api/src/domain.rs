//! The rules of the service, without HTTP and SQL.

mod beer;
mod birthday;
mod field;
mod member;
mod user;

use serde::Serialize;

pub use self::beer::{Beer, NewBeer, SEED};
pub use self::birthday::{
    LeapDay, MAX_USERNAME_CHARS, Username, day_in, days_to_birthday, greeting, parse_date,
    parse_date_of_birth,
};
pub use self::member::{Member, NewMember, StoredMember};
pub use self::user::{NewUser, User, parse_user_id};

/// A value that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Invalid {
    /// The field, as clients name it.
    pub field: &'static str,
    /// The rule, for programs.
    pub code: &'static str,
    /// The rule, for people.
    pub message: String,
}

impl Invalid {
    /// Names the rule that a field breaks. The message is a sentence that names the field.
    pub fn new(field: &'static str, code: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            field,
            code,
            message,
        }
    }
}
