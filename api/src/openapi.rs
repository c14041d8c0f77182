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
//!
//! What is true for a day only is filled in when somebody asks.

#![expect(
    clippy::indexing_slicing,
    reason = "a member of a `Value` that is missing is made; the tests work out every document"
)]

use std::collections::BTreeSet;

use jiff::civil::Date;
use serde_json::{Map, Value, json};

use crate::config::Config;
use crate::problem::Kind;

const SOURCE: &str = include_str!("../openapi.json");
/// Stands in the document where [`before`] belongs.
const A_DAY_BEFORE_TODAY: &str = "{a day before today}";

/// Returns the document of an instance with these settings.
///
/// # Errors
///
/// When the source is not JSON.
pub(crate) fn document(config: &Config) -> Result<Value, serde_json::Error> {
    let source: Value = serde_json::from_str(SOURCE)?;
    let mut document = chosen(source, &settings(config)).unwrap_or_default();
    if let Some(info) = document.get_mut("info") {
        name(info, &config.company.name);
    }
    if let Some(types) = document.pointer_mut("/components/schemas/ProblemType") {
        types["enum"] = Kind::ALL.iter().map(|it| it.describe().0).collect();
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
    while leave_out_unused(&mut document) {}
    Ok(document)
}

/// Fills in what is true today only. `text` is the document, or a page that was made of it.
pub(crate) fn on(today: Date, text: &str) -> String {
    text.replace(A_DAY_BEFORE_TODAY, &before(today))
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
        format!("MEMBERS_KEYS={}", config.members_keys.name()),
        format!("VALIDATION_STATUS={}", config.validation_status.as_u16()),
    ]);
    for surface in &config.surfaces {
        settings.insert(format!("API_SURFACES={}", surface.name()));
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

/// Writes the company and the version where they belong.
fn name(value: &mut Value, company: &str) {
    match value {
        Value::String(text) => {
            let version = env!("CARGO_PKG_VERSION");
            *text = text
                .replace("{version}", version)
                .replace("{company}", company);
        }
        Value::Object(object) => object.values_mut().for_each(|it| name(it, company)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => {}
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
            response["content"] = json!({ "application/problem+json": problem(particular) });
        }
    }
}

/// Describes the body of a problem: the schema of all of them, and what is particular to this one.
fn problem(mut particular: Map<String, Value>) -> Value {
    let types = particular.get("type");
    let first = types.and_then(|it| it.get("const").or_else(|| it.pointer("/enum/0")));
    let kind = Kind::ALL
        .into_iter()
        .find(|it| first.is_some_and(|first| first == it.describe().0));
    let Some((path, status, title)) = kind.map(Kind::describe) else {
        return Value::Null;
    };
    let status = json!({ "const": status.as_u16() });
    let status = particular.entry("status").or_insert(status)["const"].clone();
    let detail = particular.get("detail").and_then(|it| it.get("const"));
    let mut example = json!({
        "type": path,
        "title": title,
        "status": status,
        "detail": detail.map_or_else(|| json!(title), Value::clone),
        "instance": "/path/of/the/request",
        "request_id": "0198c2a4-6f0e-7c1f-b6a1-2f6c9b1d7e55",
    });
    if kind == Some(Kind::Validation) {
        let error = json!({ "field": "name", "code": "required", "message": "name is required" });
        example["detail"] = json!("name is required");
        example["errors"] = json!([error]);
    }
    let schema = json!({ "allOf": [reference("schemas", "Problem")], "properties": particular });
    json!({ "schema": schema, "example": example })
}

fn reference(kind: &str, name: &str) -> Value {
    json!({ "$ref": format!("#/components/{kind}/{name}") })
}

/// Leaves out components that nothing refers to, and returns whether there were any.
fn leave_out_unused(document: &mut Value) -> bool {
    let mut used = BTreeSet::new();
    collect_references(document, &mut used);
    let mut any = false;
    let kinds = document["components"].as_object_mut().into_iter().flatten();
    for (kind, components) in kinds {
        if let Value::Object(components) = components {
            let before = components.len();
            components.retain(|name, _| used.contains(&format!("#/components/{kind}/{name}")));
            any |= components.len() < before;
        }
    }
    any
}

fn collect_references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            found.extend(
                object
                    .get("$ref")
                    .and_then(Value::as_str)
                    .map(str::to_owned),
            );
            object.values().for_each(|it| collect_references(it, found));
        }
        Value::Array(values) => values.iter().for_each(|it| collect_references(it, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Surface;
    use crate::routes::{METRICS, Method, TABLE};

    fn with(settings: &[(&str, &str)]) -> Config {
        let owned = settings
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()));
        Config::from_environment(owned).unwrap()
    }

    /// Every choice of surfaces but none.
    fn choices() -> impl Iterator<Item = Vec<Surface>> {
        let all = [
            Surface::Hello,
            Surface::Members,
            Surface::Users,
            Surface::Beers,
        ];
        (1..16).map(move |bits| {
            let is_chosen = |index: &usize| bits & (1 << index) != 0;
            (0..4).filter(is_chosen).map(|it| all[it]).collect()
        })
    }

    fn described(document: &Value) -> BTreeSet<(String, String)> {
        let mut found = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            let methods = item.as_object().unwrap().iter();
            for (method, _) in methods.filter(|(_, it)| it.get("operationId").is_some()) {
                found.insert((path.clone(), method.clone()));
            }
        }
        found
    }

    #[test]
    fn what_is_served_is_described_and_nothing_else() {
        for chosen in choices() {
            for metrics_listen in [None, Some("127.0.0.1:9090")] {
                let names: Vec<&str> = chosen.iter().map(|it| it.name()).collect();
                let names = names.join(",");
                let mut settings = vec![("API_SURFACES", names.as_str())];
                settings.extend(metrics_listen.map(|it| ("METRICS_LISTEN", it)));

                let mut described = described(&document(&with(&settings)).unwrap());
                // Whatever answers GET answers HEAD.
                let heads: Vec<_> = described.extract_if(.., |it| it.1 == "head").collect();
                for (path, _head) in heads {
                    assert!(described.contains(&(path, "get".into())));
                }
                let served = TABLE.iter().filter(|it| {
                    let is_on = it.surface.is_none_or(|it| chosen.contains(&it));
                    is_on && (it.path != METRICS || metrics_listen.is_none())
                });
                let served = served.map(|it| {
                    let method = match it.method {
                        Method::Get => "get",
                        Method::Post => "post",
                        Method::Put => "put",
                    };
                    (it.path.to_owned(), method.to_owned())
                });
                assert_eq!(described, served.collect(), "{names} {metrics_listen:?}");
            }
        }
    }

    #[test]
    fn nothing_of_a_surface_that_is_off_is_left() {
        let users_only = document(&with(&[("API_SURFACES", "users")]))
            .unwrap()
            .to_string();
        for word in ["Member", "Beer", "Greeting", "hello/{", "seed"] {
            assert!(!users_only.contains(word), "{word}");
        }
        assert!(users_only.contains("\"NewUser\""));
    }

    #[test]
    fn every_mark_is_understood_and_worked_out() {
        let mut known = BTreeSet::new();
        for keys in ["both", "original", "lower"] {
            for status in ["400", "422"] {
                let config = with(&[("MEMBERS_KEYS", keys), ("VALIDATION_STATUS", status)]);
                known.extend(settings(&config));

                let document = document(&config).unwrap();
                let text = document.to_string();
                assert!(!text.contains("\"x-"), "{text}");
                let mut references = BTreeSet::new();
                collect_references(&document, &mut references);
                for it in references {
                    assert!(document.pointer(&it[1..]).is_some(), "{it} leads nowhere");
                }
            }
        }
        let source: Value = serde_json::from_str(SOURCE).unwrap();
        let mut asked = BTreeSet::new();
        collect_asked(&source, &mut asked);
        assert_eq!(asked.difference(&known).collect::<Vec<_>>(), [""; 0]);
        assert!(asked.len() > 8, "{asked:?}");
    }

    fn collect_asked(value: &Value, found: &mut BTreeSet<String>) {
        if let Some(when) = value.get("x-when") {
            let each = when.as_array().unwrap().iter();
            found.extend(each.map(|it| it.as_str().unwrap().to_owned()));
        }
        let members = value.as_object().into_iter().flat_map(Map::values);
        let items = value.as_array().into_iter().flatten();
        members.chain(items).for_each(|it| collect_asked(it, found));
    }

    #[test]
    fn every_problem_is_the_answer_of_an_operation() {
        let document = document(&with(&[])).unwrap();
        let mut examples = BTreeSet::new();
        let mut described = BTreeSet::new();
        for response in document["components"]["responses"]
            .as_object()
            .unwrap()
            .values()
        {
            let Some(problem) = response["content"].get("application/problem+json") else {
                continue;
            };
            let types = &problem["schema"]["properties"]["type"];
            let several = types["enum"].as_array().into_iter().flatten();
            for path in several.chain(types.get("const")) {
                described.insert(path.as_str().unwrap().to_owned());
            }
            examples.insert(problem["example"]["title"].as_str().unwrap().to_owned());
        }
        // Which no operation answers: it is for methods that are none.
        described.insert(Kind::MethodNotAllowed.describe().0.to_owned());
        let kinds = Kind::ALL.iter().map(|it| it.describe().0.to_owned());
        assert_eq!(described, kinds.collect());
        assert!(
            examples.contains(Kind::EmailTaken.describe().2),
            "{examples:?}"
        );
    }

    #[test]
    fn a_date_of_birth_is_before_today_in_the_document_too() {
        let today = jiff::civil::date(2026, 3, 1);
        let text = document(&with(&[])).unwrap().to_string();
        let document: Value = serde_json::from_str(&on(today, &text)).unwrap();
        let born = &document["components"]["schemas"]["Birth"]["properties"]["dateOfBirth"];
        assert_eq!(born["format"], "date");
        assert_eq!(
            born["pattern"],
            "^(?!0000)(?:[0-1][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]\
             |20[0-1][0-9]-[0-9][0-9]-[0-9][0-9]\
             |202[0-5]-[0-9][0-9]-[0-9][0-9]\
             |2026-0[0-2]-[0-9][0-9]\
             |2026-03-0[0-0])$"
        );
    }

    #[test]
    fn the_company_stands_in_the_title_and_the_description() {
        let document = document(&with(&[("COMPANY_NAME", "Ärger & <b>")])).unwrap();
        assert_eq!(document["info"]["title"], "Ärger & <b> API");
        let description = document["info"]["description"].as_str().unwrap();
        assert!(description.starts_with("The HTTP service of Ärger & <b>."));
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    }
}
