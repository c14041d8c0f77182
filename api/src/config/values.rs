//! Parsers of values. The error of each is the text that follows "which is not".

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use causeway_runtime::secret::Secret;
use clap::builder::{StringValueParser, TypedValueParser};

/// Returns a parser that accepts what `parse` does, and otherwise names what it expected.
pub(super) fn expected<T>(
    expected: &'static str,
    parse: impl Fn(&str) -> Option<T> + Clone + Send + Sync,
) -> impl Fn(&str) -> Result<T, &'static str> + Clone + Send + Sync {
    move |text| parse(text.trim()).ok_or(expected)
}

/// Returns a parser of numbers in this range.
pub(super) fn within<T>(
    range: RangeInclusive<T>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync
where
    T: FromStr + PartialOrd + Display + Clone + Send + Sync,
{
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| format!("a number from {} to {}", range.start(), range.end()))
    }
}

/// Parses a time that must not be zero.
pub(super) fn timeout(text: &str) -> Result<Duration, &'static str> {
    let time = duration(text).filter(|time| !time.is_zero());
    time.ok_or("a time above zero, such as `5`, `5s` or `500ms`")
}

/// Parses a time that may be zero.
pub(super) fn delay(text: &str) -> Result<Duration, &'static str> {
    duration(text).ok_or("a time, such as `0`, `5`, `5s` or `500ms`")
}

/// Parses a switch.
pub(super) fn flag(text: &str) -> Result<bool, &'static str> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => Err("`true`, `on`, `false` or `off`"),
    }
}

/// Parses seconds (`5`, `0.5`, `5s`), milliseconds (`500ms`) or minutes (`1m`), at most a day.
fn duration(text: &str) -> Option<Duration> {
    const DAY: f64 = 86_400.0;
    let units = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("", 1.0)];
    let with_unit = |(suffix, unit)| Some((text.strip_suffix(suffix)?, unit));
    let (digits, unit) = units.into_iter().find_map(with_unit)?;
    let seconds = digits.trim().parse::<f64>().ok()? * unit;
    let is_right = (0.0..=DAY).contains(&seconds);
    is_right.then(|| Duration::from_secs_f64(seconds))
}

/// Returns a parser that accepts any text as a secret.
pub(super) fn secret() -> impl TypedValueParser<Value = Secret> {
    StringValueParser::new().map(|text: String| Secret::new(text))
}
