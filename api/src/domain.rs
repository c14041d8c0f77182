//! The rules of the service, with no HTTP and no SQL.

mod beer;
mod birthday;
mod field;
mod member;
mod user;

use serde::Serialize;

pub use self::beer::{Beer, NewBeer, SEED};
pub use self::birthday::{
    Calendar, LeapDay, USERNAME_MAX, Username, days_to_birthday, greeting, parse_date,
    parse_date_of_birth,
};
pub use self::member::{Member, NewMember, StoredMember};
pub use self::user::{NewUser, User, parse_user_id};

/// A value that breaks a rule: which field, which rule, and the rule in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Invalid {
    /// The field, as the caller names it.
    pub field: &'static str,
    /// The rule, for programs.
    pub code: &'static str,
    /// The rule, for people.
    pub message: String,
}

impl Invalid {
    /// Returns which rule a field breaks. The message is a sentence that names the field.
    pub fn new(field: &'static str, code: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            field,
            code,
            message,
        }
    }
}
