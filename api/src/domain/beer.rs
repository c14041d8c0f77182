//! Beers: a name, and optionally a style and the alcohol by volume.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Invalid, field};

/// A beer to store.
#[derive(Debug)]
pub(crate) struct NewBeer {
    /// 1 to 255 characters.
    pub(crate) name: String,
    /// Such as `Lager`.
    pub(crate) style: Option<String>,
    /// Alcohol by volume in per cent, 0 to 100.
    pub(crate) abv: Option<f64>,
}

/// A stored beer, as clients see it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Beer {
    /// From 1.
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) style: Option<String>,
    /// In per cent, to two places.
    pub(crate) abv: Option<f64>,
}

/// The beers that the earlier service seeded: name, style and alcohol by volume.
pub(crate) const SEED: [(&str, &str, f64); 4] = [
    ("Sapporo Premium", "Lager", 5.0),
    ("Kirin Ichiban", "Pale Lager", 5.0),
    ("Yebisu", "Premium Lager", 5.5),
    ("Asahi Super Dry", "Dry Lager", 5.2),
];

impl NewBeer {
    /// Parses a beer, or returns every rule that it breaks.
    pub(crate) fn read(body: &Map<String, Value>) -> Result<Self, Vec<Invalid>> {
        let name = field::text("name", body.get("name"), field::MAX_NAME_CHARS);
        let style = field::optional_text("style", body.get("style"), field::MAX_NAME_CHARS);
        let abv = abv(body.get("abv"));
        match (name, style, abv) {
            (Ok(name), Ok(style), Ok(abv)) => Ok(Self { name, style, abv }),
            (name, style, abv) => {
                let broken = [name.err(), style.err(), abv.err()];
                Err(broken.into_iter().flatten().collect())
            }
        }
    }
}

/// Parses the alcohol by volume: a number, or text such as `5.0` or the earlier service's `5.0%`.
fn abv(value: Option<&Value>) -> Result<Option<f64>, Invalid> {
    let invalid = |code| {
        let message = "abv must be a number from 0 to 100, or a text such as 5.0 or 5.0%";
        Invalid::new("abv", code, message)
    };
    let number = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => percentage(text),
        Some(Value::Bool(_) | Value::Array(_) | Value::Object(_)) => None,
    };
    let number = number.ok_or_else(|| invalid("not-a-number"))?;
    if !(0.0..=100.0).contains(&number) {
        return Err(invalid("out-of-range"));
    }
    Ok(Some(number))
}

/// Parses digits with an optional sign, decimal point and per-cent sign.
fn percentage(text: &str) -> Option<f64> {
    let text = text.trim();
    let digits = text.strip_suffix('%').unwrap_or(text).trim_end();
    let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_number = is_digits(whole.strip_prefix('-').unwrap_or(whole)) && is_digits(part);
    is_number.then(|| digits.parse().ok()).flatten()
}
