//! What this instance can do, in the words of OpenAPI 3.1.
//!
//! `api/openapi.json` is written by hand and says each thing once. What depends on settings, or is
//! true of every answer, is marked in it, and worked out here:
//!
//! - `x-when` lists settings; without any of them the value is left out, or is what `x-else` says.
//! - `x-on-every-answer` is a header that the edge writes on every answer.
//! - `x-on-every-operation` is a response that the edge may give to every request, `but` to those of
//!   one tag, unless the operation has its own of that `status`.
//! - `x-problem` has what is particular to the problem in a response.

#![expect(
    clippy::indexing_slicing,
    reason = "a member of a `Value` that is missing is made; the tests work out every document"
)]

use std::collections::BTreeSet;

use jiff::civil::Date;
use serde_json::{Map, Value, json};

use crate::config::{Config, option_name};
use crate::problem::Kind;

const SOURCE: &str = include_str!("../openapi.json");

/// Returns the document of an instance with these settings that starts on `today`.
///
/// # Errors
///
/// When the source is not JSON.
pub(crate) fn document(config: &Config, today: Date) -> Result<Value, serde_json::Error> {
    let company = serde_json::to_string(&config.company.name)?;
    let company = company
        .strip_prefix('"')
        .and_then(|it| it.strip_suffix('"'));
    let source = SOURCE
        .replace("{a day before today}", &before(today))
        .replace("{version}", env!("CARGO_PKG_VERSION"))
        .replace("{company}", company.unwrap_or("the service"));
    let source: Value = serde_json::from_str(&source)?;
    let mut document = chosen(source, &settings(config)).unwrap_or_default();
    if let Some(types) = document.pointer_mut("/components/schemas/ProblemType") {
        types["enum"] = Kind::ALL.iter().map(|it| it.path()).collect();
    }
    let headers = marked(&mut document, "headers", "x-on-every-answer");
    let shared = marked(&mut document, "responses", "x-on-every-operation");
    for operation in operations(&mut document) {
        for (name, mark) in &shared {
            let is_exempt = operation["tags"][0] == mark["but"];
            if let (Some(status), false) = (mark["status"].as_str(), is_exempt)
                && let Value::Object(responses) = &mut operation["responses"]
            {
                let response = || reference("responses", name);
                responses.entry(status).or_insert_with(response);
            }
        }
        complete(&mut operation["responses"], &headers);
    }
    complete(&mut document["components"]["responses"], &headers);
    Ok(document)
}

/// Returns the pattern of the dates before this one. Dates are in the order of their digits, so one is
/// earlier if it is the same up to a digit, and that digit is lower. That it is a day of the calendar
/// is left to the format.
fn before(today: Date) -> String {
    let text = today.to_string();
    let earlier = text.char_indices().filter_map(|(place, digit)| {
        let lower = digit.to_digit(10)?.checked_sub(1)?;
        let (same, rest) = text.split_at_checked(place)?;
        let any: String = rest
            .chars()
            .skip(1)
            .map(|it| if it == '-' { "-" } else { "[0-9]" })
            .collect();
        Some(format!("{same}[0-{lower}]{any}"))
    });
    let earlier: Vec<String> = earlier.collect();
    format!("^(?!0000)(?:{})$", earlier.join("|"))
}

/// Returns the settings that the source may ask for.
fn settings(config: &Config) -> BTreeSet<String> {
    let mut settings = BTreeSet::from([
        format!("MEMBERS_KEYS={}", option_name(&config.members_keys)),
        format!("VALIDATION_STATUS={}", config.validation_status.as_u16()),
    ]);
    for surface in &config.surfaces {
        settings.insert(format!("API_SURFACES={}", option_name(surface)));
    }
    if config.metrics_listen.is_none() {
        settings.insert("METRICS_LISTEN=none".to_owned());
    }
    settings
}

/// Leaves out what these settings have switched off.
fn chosen(value: Value, settings: &BTreeSet<String>) -> Option<Value> {
    match value {
        Value::Object(mut object) => {
            let when = object.remove("x-when");
            let otherwise = object.remove("x-else");
            let is_on = |it: &Value| it.as_str().is_some_and(|it| settings.contains(it));
            if let Some(Value::Array(when)) = when
                && !when.iter().any(is_on)
            {
                return otherwise.and_then(|it| chosen(it, settings));
            }
            let kept = object
                .into_iter()
                .filter_map(|(key, it)| Some((key, chosen(it, settings)?)));
            Some(Value::Object(kept.collect()))
        }
        Value::Array(values) => {
            let kept = values.into_iter().filter_map(|it| chosen(it, settings));
            Some(Value::Array(kept.collect()))
        }
        plain @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => Some(plain),
    }
}

/// Returns the components with this mark, and what it says, and takes it away.
fn marked(document: &mut Value, kind: &str, mark: &str) -> Vec<(String, Value)> {
    let components = document["components"][kind].as_object_mut();
    let each = components.into_iter().flatten();
    each.filter_map(|(name, it)| Some((name.clone(), it.as_object_mut()?.remove(mark)?)))
        .collect()
}

fn operations(document: &mut Value) -> impl Iterator<Item = &mut Value> {
    let paths = document["paths"].as_object_mut().into_iter().flatten();
    let members = paths.flat_map(|(_path, item)| item.as_object_mut().into_iter().flatten());
    members
        .map(|(_method, it)| it)
        .filter(|it| it.get("operationId").is_some())
}

/// Adds to each response that is described here, and not only referred to, what the source leaves
/// out.
fn complete(responses: &mut Value, headers: &[(String, Value)]) {
    let each = responses.as_object_mut().into_iter().flatten();
    for (_name, response) in each.filter(|(_name, it)| it.get("$ref").is_none()) {
        for (name, _true) in headers {
            response["headers"][name] = reference("headers", name);
        }
        let particular = response
            .as_object_mut()
            .and_then(|it| it.remove("x-problem"));
        if let Some(Value::Object(particular)) = particular {
            response["content"] = json!({ "application/problem+json": problem(&particular) });
        }
    }
}

/// Describes the body of a problem: the schema of all of them, and what is particular to this one.
fn problem(particular: &Map<String, Value>) -> Value {
    json!({ "schema": { "allOf": [reference("schemas", "Problem")], "properties": particular } })
}

fn reference(kind: &str, name: &str) -> Value {
    json!({ "$ref": format!("#/components/{kind}/{name}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn date_of_birth_then_before_today_in_the_document_too() {
        let expected = "^(?!0000)(?:[0-1][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]\
                        |20[0-1][0-9]-[0-9][0-9]-[0-9][0-9]\
                        |202[0-5]-[0-9][0-9]-[0-9][0-9]\
                        |2026-0[0-2]-[0-9][0-9]\
                        |2026-03-0[0-0])$";
        assert_eq!(before(jiff::civil::date(2026, 3, 1)), expected);
    }
}
