//! Settings that are a TOML file. The type that parses it gives keys, types, defaults and texts, by its JSON
//! schema.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use crate::markdown::{page_head, table};

/// Returns the reference of a settings file, with a section for each table. The texts are the doc comments.
pub fn settings_file_page<T: JsonSchema>(program: &str, source: &str) -> String {
    let settings = SchemaSettings::default().with(|settings| settings.inline_subschemas = true);
    let schema = settings.into_generator().into_root_schema_for::<T>();
    let mut page = page_head(&format!("Settings of {program}"), source);
    write_table(schema.as_value(), "", &mut page);
    page
}

fn write_table(schema: &Value, path: &str, page: &mut String) {
    let none = Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&none);
    let is_required = |key: &str| {
        let required = schema["required"].as_array();
        required.is_some_and(|keys| keys.iter().any(|required| required == key))
    };
    if let Some(text) = schema["description"].as_str() {
        page.extend(["\n", text, "\n"]);
    }
    let rows = properties.iter().filter_map(|(key, value)| {
        let is_table = nested_table(value).is_some();
        (!is_table).then(|| row(key, value, is_required(key)))
    });
    let rows: Vec<_> = rows.collect();
    if !rows.is_empty() {
        page.extend(["\n", &table(["key", "type", "default", "meaning"], rows)]);
    }
    for (key, value) in properties {
        let Some(nested) = nested_table(value) else {
            continue;
        };
        let path = format!("{path}{key}");
        let heading = if value["type"] == "array" {
            format!("[[{path}]]")
        } else {
            format!("[{path}]")
        };
        page.extend(["\n## `", &heading, "`\n"]);
        let presence = if is_required(key) {
            "Required"
        } else {
            "Optional"
        };
        page.extend(["\n", presence, " section.\n"]);
        write_table(nested, &format!("{path}."), page);
    }
}

/// Returns the schema of a table, or of the elements of a list of tables, which may be optional.
fn nested_table(value: &Value) -> Option<&Value> {
    if value["properties"].is_object() {
        return Some(value);
    }
    let alternatives = value["anyOf"].as_array().into_iter().flatten();
    alternatives
        .chain([&value["items"]])
        .find(|schema| schema["properties"].is_object())
}

fn row(key: &str, value: &Value, is_required: bool) -> [String; 4] {
    let default = match &value["default"] {
        Value::Null if is_required => "required".to_owned(),
        Value::Null => "none".to_owned(),
        Value::String(text) => format!("`{text}`"),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            format!("`{}`", value["default"])
        }
    };
    let text = value["description"].as_str().unwrap_or("");
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let meaning = lines.join(" ").trim_end_matches('.').to_owned();
    [format!("`{key}`"), kind(key, value), default, meaning]
}

/// Returns the type of a value. The end of a key names its kind and unit.
fn kind(key: &str, value: &Value) -> String {
    let variants = value["oneOf"].as_array().into_iter().flatten();
    let variants: Vec<String> = variants
        .filter_map(|variant| variant["const"].as_str())
        .map(|variant| format!("`{variant}`"))
        .collect();
    if !variants.is_empty() {
        return variants.join(", ");
    }
    let ends_with = |endings: &[&str]| endings.iter().any(|ending| key.ends_with(ending));
    let types = value["type"].as_array();
    let name = types.map_or(&value["type"], |types| {
        types.iter().find(|name| *name != "null").expect("a type")
    });
    match name.as_str() {
        Some("integer" | "number") if ends_with(&["-secs"]) => "seconds".to_owned() + &range(value),
        Some("integer" | "number") if ends_with(&["-bytes"]) => "bytes".to_owned() + &range(value),
        Some("integer" | "number") if ends_with(&["-mib"]) => "MiB".to_owned() + &range(value),
        Some("integer" | "number") => "number".to_owned() + &range(value),
        Some("array") => format!("list of {}", kind(key, &value["items"])),
        Some("object") => format!("table of {}", kind(key, &value["additionalProperties"])),
        Some("string") => match value["format"].as_str() {
            Some(format) => format.to_owned(),
            None if ends_with(&["-file", "-directory", "-device"]) => "path".to_owned(),
            None => "text".to_owned(),
        },
        other => unreachable!("`{key}` has the type {other:?}"),
    }
}

fn range(value: &Value) -> String {
    match (&value["minimum"], &value["maximum"]) {
        (Value::Number(least), Value::Number(most)) => format!(", {least} to {most}"),
        (Value::Number(least), _) if least.as_u64() != Some(0) => format!(", at least {least}"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    /// Introduction.
    #[derive(Deserialize, JsonSchema)]
    #[serde(rename_all = "kebab-case")]
    #[expect(dead_code, reason = "only its schema is used")]
    struct PlantedFile {
        /// Public keys,
        /// with `a|b`.
        recipients: Vec<String>,
        key_file: Option<String>,
        /// Timeout.
        #[serde(default = "ten")]
        #[schemars(range(min = 1, max = 60))]
        timeout_secs: u64,
        nodes: Vec<PlantedNode>,
        mode: Option<PlantedMode>,
    }

    /// One node.
    #[derive(Deserialize, JsonSchema)]
    #[expect(dead_code, reason = "only its schema is used")]
    struct PlantedNode {
        /// Name.
        name: String,
    }

    /// Mode.
    #[derive(Deserialize, JsonSchema)]
    #[serde(rename_all = "kebab-case")]
    #[expect(dead_code, reason = "only its schema is used")]
    struct PlantedMode {
        /// Speed.
        #[serde(default)]
        speed: PlantedSpeed,
    }

    #[derive(Default, Deserialize, serde::Serialize, JsonSchema)]
    #[serde(rename_all = "kebab-case")]
    enum PlantedSpeed {
        /// Fast.
        #[default]
        Fast,
        /// Very fast.
        VeryFast,
    }

    fn ten() -> u64 {
        10
    }

    #[test]
    fn declared_file_then_page_with_every_key() {
        let page = settings_file_page::<PlantedFile>("planted", "a test");
        let expected = "\
<!-- Generated by `cargo xtask gen` from a test. Do not edit. -->

# Settings of planted

Introduction.

| key | type | default | meaning |
|---|---|---|---|
| `key-file` | path | none |  |
| `recipients` | list of text | required | Public keys, with `a\\|b` |
| `timeout-secs` | seconds, 1 to 60 | `10` | Timeout |

## `[mode]`

Optional section.

Mode.

| key | type | default | meaning |
|---|---|---|---|
| `speed` | `fast`, `very-fast` | `fast` | Speed |

## `[[nodes]]`

Required section.

One node.

| key | type | default | meaning |
|---|---|---|---|
| `name` | text | required | Name |
";
        assert_eq!(page, expected);
    }
}
