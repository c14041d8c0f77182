//! The OpenAPI 3.1 document of this instance.
//!
//! `api/openapi.json` is written by hand, without repetition. Parts that depend on settings, or belong to every
//! answer, are marked in it, and evaluated here:
//!
//! - `x-when` lists settings; without any of them the value is left out, or is the value of `x-else`.
//! - `x-on-every-answer` is a header that the middleware adds to every answer.
//! - `x-on-every-operation` is a response of the middleware to every request, `but` to those of one tag,
//!   unless the operation has its own of that `status`.
//! - `x-problem` has the particular properties of the problem in a response.

#![expect(
    clippy::indexing_slicing,
    reason = "indexing a `Value` creates a missing member; the tests evaluate every document"
)]

use std::collections::BTreeSet;

use anyhow::Context as _;
use jiff::civil::Date;
use serde_json::{Map, Value, json};

use crate::config::{Config, option_name};
use crate::problem::Kind;

const SOURCE: &str = include_str!("../openapi.json");

/// Returns the document of an instance with these settings that starts on `today`.
pub(crate) fn document(config: &Config, today: Date) -> anyhow::Result<Value> {
    let company = serde_json::to_string(&config.services.company.name)?;
    let company = company
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    let source = SOURCE
        .replace("{a day before today}", &before(today))
        .replace("{version}", env!("CARGO_PKG_VERSION"))
        .replace("{company}", company.unwrap_or("the service"));
    let source: Value = serde_json::from_str(&source)?;
    let document = chosen(source, &settings(config));
    let mut document = document.context("the settings switch the whole document off")?;
    if let Some(types) = document.pointer_mut("/components/schemas/ProblemType") {
        types["enum"] = Kind::ALL.iter().map(|kind| kind.path()).collect();
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

/// Returns the pattern of the dates before this one. Dates sort as their digits do: a date is earlier if it is
/// equal up to a digit, and that digit is lower. The format ensures that it is a day of the calendar.
fn before(today: Date) -> String {
    let text = today.to_string();
    let earlier = text.char_indices().filter_map(|(place, digit)| {
        let lower = digit.to_digit(10)?.checked_sub(1)?;
        let (same, rest) = text.split_at_checked(place)?;
        let any: String = rest
            .chars()
            .skip(1)
            .map(|char| if char == '-' { "-" } else { "[0-9]" })
            .collect();
        Some(format!("{same}[0-{lower}]{any}"))
    });
    let earlier: Vec<String> = earlier.collect();
    format!("^(?!0000)(?:{})$", earlier.join("|"))
}

/// Returns the settings that the marks refer to.
fn settings(config: &Config) -> BTreeSet<String> {
    let services = &config.services;
    let mut settings = BTreeSet::from([
        format!("MEMBERS_KEYS={}", option_name(&services.members_keys)),
        format!("VALIDATION_STATUS={}", services.validation_status.as_u16()),
    ]);
    for surface in &services.surfaces {
        settings.insert(format!("API_SURFACES={}", option_name(surface)));
    }
    if config.http.metrics_listen.is_none() {
        settings.insert("METRICS_LISTEN=none".to_owned());
    }
    settings
}

/// Removes the parts that these settings switch off.
fn chosen(value: Value, settings: &BTreeSet<String>) -> Option<Value> {
    match value {
        Value::Object(mut object) => {
            let when = object.remove("x-when");
            let otherwise = object.remove("x-else");
            let is_on =
                |setting: &Value| setting.as_str().is_some_and(|name| settings.contains(name));
            if let Some(Value::Array(when)) = when
                && !when.iter().any(is_on)
            {
                return otherwise.and_then(|value| chosen(value, settings));
            }
            let kept = object
                .into_iter()
                .filter_map(|(key, value)| Some((key, chosen(value, settings)?)));
            Some(Value::Object(kept.collect()))
        }
        Value::Array(values) => {
            let kept = values
                .into_iter()
                .filter_map(|value| chosen(value, settings));
            Some(Value::Array(kept.collect()))
        }
        plain @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => Some(plain),
    }
}

/// Removes the mark from the components that have it, and returns both.
fn marked(document: &mut Value, kind: &str, mark: &str) -> Vec<(String, Value)> {
    let components = document["components"][kind].as_object_mut();
    let each = components.into_iter().flatten();
    each.filter_map(|(name, component)| {
        Some((name.clone(), component.as_object_mut()?.remove(mark)?))
    })
    .collect()
}

fn operations(document: &mut Value) -> impl Iterator<Item = &mut Value> {
    let paths = document["paths"].as_object_mut().into_iter().flatten();
    let members = paths.flat_map(|(_path, item)| item.as_object_mut().into_iter().flatten());
    members
        .map(|(_method, operation)| operation)
        .filter(|operation| operation.get("operationId").is_some())
}

/// Completes each response that is described here, and not only referred to.
fn complete(responses: &mut Value, headers: &[(String, Value)]) {
    let each = responses.as_object_mut().into_iter().flatten();
    for (_name, response) in each.filter(|(_name, response)| response.get("$ref").is_none()) {
        for (name, _true) in headers {
            response["headers"][name] = reference("headers", name);
        }
        let particular = response
            .as_object_mut()
            .and_then(|response| response.remove("x-problem"));
        if let Some(Value::Object(particular)) = particular {
            response["content"] = json!({ "application/problem+json": problem(&particular) });
        }
    }
}

/// Describes the body of a problem: the schema of all problems, and the particular properties of this one.
fn problem(particular: &Map<String, Value>) -> Value {
    json!({ "schema": { "allOf": [reference("schemas", "Problem")], "properties": particular } })
}

fn reference(kind: &str, name: &str) -> Value {
    json!({ "$ref": format!("#/components/{kind}/{name}") })
}
