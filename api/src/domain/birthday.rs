//! Usernames, dates of birth, and days to the next birthday.

use std::fmt;
use std::time::Duration;

use clap::ValueEnum;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::Value;

use super::{Invalid, field};

const MAX_USERNAME_CHARS: usize = 100;

/// The Gregorian calendar repeats after this many years, weekdays included.
const CALENDAR_CYCLE_YEARS: i16 = 400;

/// A name of one to [`MAX_USERNAME_CHARS`] ASCII letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Username(String);

impl Username {
    /// Parses a percent-decoded name.
    pub(crate) fn parse(text: &str) -> Result<Self, Invalid> {
        let invalid = |code, message: &str| Invalid::new("username", code, message);
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_alphabetic()) {
            return Err(invalid(
                "letters-only",
                "username must consist of the letters A to Z and a to z only",
            ));
        }
        if text.len() > MAX_USERNAME_CHARS {
            return Err(invalid(
                "too-long",
                "username must not be longer than 100 letters",
            ));
        }
        Ok(Self(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the name in lower case, which is the same for all its spellings.
    pub(crate) fn folded(&self) -> Self {
        Self(self.0.to_ascii_lowercase())
    }
}

impl fmt::Display for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Parses a date of birth: exactly `YYYY-MM-DD`, a day of the Gregorian calendar in the years 0001 to
/// 9999, and before `today`.
pub(crate) fn parse_date_of_birth(value: Option<&Value>, today: Date) -> Result<Date, Invalid> {
    let invalid = |code, message: &str| Invalid::new("dateOfBirth", code, message);
    let text = field::required("dateOfBirth", value)?;
    let text = text.as_str().ok_or_else(|| {
        invalid(
            "not-a-string",
            "dateOfBirth must be a string, written YYYY-MM-DD",
        )
    })?;
    let date = parse_date(text).ok_or_else(|| {
        invalid(
            "not-a-date",
            "dateOfBirth must be a day of the calendar, written YYYY-MM-DD",
        )
    })?;
    if date >= today {
        return Err(invalid(
            "not-in-the-past",
            "dateOfBirth must be a date before today",
        ));
    }
    Ok(date)
}

/// Parses exactly ten ASCII characters `YYYY-MM-DD` as a day of the years 0001 to 9999.
pub fn parse_date(text: &str) -> Option<Date> {
    let date: Date = text.parse().ok()?;
    // `jiff` parses other forms too, and prints this one.
    (date.year() > 0 && date.to_string() == text).then_some(date)
}

/// Birthday, in a common year, of a person born on 29 February.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LeapDay {
    /// 28 February, as in PostgreSQL's `date + interval '1 year'`.
    #[value(name = "feb28")]
    February28,
    /// 1 March.
    #[value(name = "mar1")]
    March1,
}

/// Returns the whole calendar days from `today` to the next birthday, 0 to 366.
pub fn days_to_birthday(born: Date, today: Date, leap_day: LeapDay) -> i16 {
    let this_year = birthday_in(today.year(), born, leap_day);
    let day = today.day_of_year();
    if day <= this_year {
        return this_year - day;
    }
    // `jiff` has no dates after 9999, but the year 400 years earlier has the same days.
    let next_year = today.year() + 1 - CALENDAR_CYCLE_YEARS;
    today.days_in_year() - day + birthday_in(next_year, born, leap_day)
}

/// Returns the day of the year of a birthday, counted from 1.
fn birthday_in(year: i16, born: Date, leap_day: LeapDay) -> i16 {
    let (month, day) = match Date::new(year, born.month(), born.day()) {
        Ok(date) => return date.day_of_year(),
        Err(_no_29_february) => match leap_day {
            LeapDay::February28 => (2, 28),
            LeapDay::March1 => (3, 1),
        },
    };
    jiff::civil::date(year, month, day).day_of_year()
}

/// Returns the greeting of a person, `days` before their birthday.
pub(crate) fn greeting(username: &Username, days: i16) -> String {
    if days == 0 {
        return format!("Hello, {username}! Happy birthday!");
    }
    // The requirements of both services specify "day(s)", also for one day.
    format!("Hello, {username}! Your birthday is in {days} day(s)")
}

/// Returns the day in a time zone when the wall clock shows `wall` since 1970.
pub fn day_in(zone: &TimeZone, wall: Duration) -> Date {
    let now = Timestamp::UNIX_EPOCH.checked_add(wall);
    zone.to_datetime(now.unwrap_or(Timestamp::MAX)).date()
}
