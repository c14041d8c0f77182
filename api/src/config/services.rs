//! Settings of the five services that this program replaces.

use axum::http::{HeaderValue, StatusCode};
use clap::{Args, ValueEnum};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::values::{expected, flag, within};
use crate::domain::{LeapDay, day_in, parse_date};

/// Settings of all services.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Services")]
pub struct Services {
    /// Company, in the header `X-Company-Name` and on the pages. The header is percent-encoded UTF-8:
    /// everything but printable ASCII, and `%`, `+`, `<`, `>` and `"`. Spaces stay, since decoders of
    /// URLs and of forms both leave them.
    #[arg(long = "COMPANY_NAME", default_value = "My Company", value_parser = expected("a name", company))]
    pub company: Company,
    /// Services that are served, with commas. The paths of the others are not found.
    #[arg(
        long = "API_SURFACES",
        default_value = "hello,members,users,beers",
        value_delimiter = ',',
        value_parser = expected(
            "a list of `hello`, `members`, `users` and `beers`, with commas",
            |name| Surface::from_str(name, true).ok()
        )
    )]
    pub surfaces: Vec<Surface>,
    /// Status for values that break a rule, `400` or `422`. On `/users` it is always 422.
    #[arg(
        long = "VALIDATION_STATUS",
        default_value = "400",
        value_parser = expected("`400` or `422`", |text| match text {
            "400" => Some(StatusCode::BAD_REQUEST),
            "422" => Some(StatusCode::UNPROCESSABLE_ENTITY),
            _ => None,
        })
    )]
    pub validation_status: StatusCode,
    /// Maximum number of rows of a list without `limit`, 1 to 100000. A `Link` leads to the others.
    #[arg(long = "LIST_MAX", default_value = "10000", value_parser = within(1..=100_000_usize))]
    pub list_max: usize,
    /// Spelling of the keys in answers about members: `original` (`Name`), `lower` (`name`) or `both`.
    #[arg(long = "MEMBERS_KEYS", default_value = "both", ignore_case = true)]
    pub members_keys: MembersKeys,
}

/// Settings of `/hello`.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "/hello")]
pub struct Hello {
    /// Time zone in which a day begins, such as `Europe/Berlin`.
    #[arg(
        long = "HELLO_TZ",
        default_value = "UTC",
        value_parser = expected("a time zone that this host knows, such as `Europe/Berlin`", |name| {
            TimeZone::get(name).ok()
        })
    )]
    zone: TimeZone,
    /// Birthday, in a common year, of a person born on 29 February: `feb28` or `mar1`.
    #[arg(long = "HELLO_LEAP_DAY", default_value = "feb28", ignore_case = true)]
    pub leap_day: LeapDay,
    /// Whether `John` and `john` are one person.
    #[arg(
        long = "HELLO_CASE_INSENSITIVE",
        default_value = "false",
        value_parser = flag,
        action = clap::ArgAction::Set
    )]
    pub case_insensitive: bool,
    /// Fixed day, for tests. Ignored with a warning unless `API_TEST_CLOCK` is `1`.
    #[arg(
        long = "API_FAKE_TODAY",
        hide = true,
        value_parser = expected("a date, such as `2025-02-28`", parse_date)
    )]
    pub(super) fake_today: Option<Date>,
    /// `1` lets `API_FAKE_TODAY` count.
    #[arg(long = "API_TEST_CLOCK", hide = true)]
    pub(super) test_clock: Option<String>,
}

/// One of the services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Surface {
    /// `/hello`.
    Hello,
    /// `/` and `/members`.
    Members,
    /// `/users`.
    Users,
    /// `/beers` and `/seed`.
    Beers,
}

/// Spellings of the keys in answers about members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MembersKeys {
    /// `Name` and `name`.
    Both,
    /// `Name`: exactly the keys of the earlier service.
    Original,
    /// `name`.
    Lower,
}

/// The company whose service this is.
#[derive(Clone, Debug)]
pub struct Company {
    /// Its name.
    pub name: String,
    /// Its name as the `X-Company-Name` header carries it.
    pub header: HeaderValue,
}

impl Hello {
    /// Returns the current day. Everything that is stored or read goes by this.
    pub fn today(&self) -> Date {
        let wall = causeway_runtime::clock::wall();
        self.fake_today.unwrap_or_else(|| day_in(&self.zone, wall))
    }
}

fn company(name: &str) -> Option<Company> {
    // Encoded is what a header cannot carry, what a page could take for markup, and the plus, which
    // some decoders take for a space. A space itself is not: it means the same to all of them, and a
    // person reads the name.
    const ENCODED: &AsciiSet = &CONTROLS.add(b'%').add(b'+').add(b'<').add(b'>').add(b'"');
    let encoded = utf8_percent_encode(name, ENCODED).to_string();
    Some(Company {
        name: name.to_owned(),
        header: HeaderValue::try_from(encoded).ok()?,
    })
}
