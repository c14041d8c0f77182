//! The rules of the service, without HTTP and SQL.

mod beer;
mod birthday;
mod field;
mod member;
mod user;

use serde::Serialize;

pub(crate) use self::beer::{Beer, NewBeer, SEED};
pub use self::birthday::{LeapDay, day_in, days_to_birthday, parse_date};
pub(crate) use self::birthday::{Username, greeting, parse_date_of_birth};
pub(crate) use self::member::{Member, NewMember};
pub(crate) use self::user::{NewUser, User, parse_user_id};

/// A value that breaks a rule.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Invalid {
    /// The field, as clients name it.
    pub(crate) field: &'static str,
    /// The rule, for programs.
    pub(crate) code: &'static str,
    /// The rule, for people.
    pub(crate) message: String,
}

impl Invalid {
    /// Names the rule that a field breaks. The message is a sentence that names the field.
    pub(crate) fn new(field: &'static str, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            field,
            code,
            message: message.into(),
        }
    }
}
