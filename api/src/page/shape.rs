//! The shape of a value, as a person reads it, from its schema.

use maud::{Markup, html};
use serde_json::{Map, Value};

/// An OpenAPI document, in which references are looked up.
#[derive(Clone, Copy)]
pub(super) struct Document<'a>(pub(super) &'a Value);

impl<'a> Document<'a> {
    /// Returns what the value refers to, or the value.
    pub(super) fn resolve(self, value: &'a Value) -> &'a Value {
        let target = value.get("$ref").and_then(Value::as_str);
        target
            .and_then(|it| self.0.pointer(it.trim_start_matches('#')))
            .unwrap_or(value)
    }

    /// Describes a schema: what a value may be, and below it the members that it has.
    pub(super) fn shape(self, schema: &'a Value) -> Markup {
        let schema = self.resolve(schema);
        let mut members = Vec::new();
        self.collect_members(schema, &mut members);
        let items = schema.get("items").map(|it| self.shape(it));
        html! {
            (self.kind(schema))
            @if let Some(text) = schema.get("description").and_then(Value::as_str) {
                ". " (prose(text))
            }
            @if let Some(items) = items { " of " (items) }
            @if !members.is_empty() {
                ul.shape {
                    @for member in members {
                        li {
                            code { (member.name) }
                            @if !member.is_required { " (may be missing)" }
                            ": " (self.shape(member.schema))
                        }
                    }
                }
            }
        }
    }

    /// Gathers the members of an object, also those of the objects that it is made of.
    fn collect_members(self, schema: &'a Value, members: &mut Vec<Member<'a>>) {
        for part in values(schema, "allOf") {
            self.collect_members(self.resolve(part), members);
        }
        let required: Vec<&str> = values(schema, "required")
            .filter_map(Value::as_str)
            .collect();
        let own = schema.get("properties").and_then(Value::as_object);
        for (name, schema) in own.into_iter().flat_map(Map::iter) {
            let is_required = required.contains(&name.as_str());
            // What narrows a member of a part says more than the part.
            if let Some(known) = members.iter_mut().find(|it| it.name == name) {
                known.schema = schema;
            } else {
                members.push(Member {
                    name,
                    is_required,
                    schema,
                });
            }
        }
    }

    /// Says in a line what a value may be.
    fn kind(self, schema: &'a Value) -> Markup {
        let choices: Vec<&Value> = values(schema, "anyOf").map(|it| self.resolve(it)).collect();
        html! {
            @for (index, choice) in choices.iter().enumerate() {
                @if index > 0 { " or " }
                (self.kind(choice))
            }
            @if choices.is_empty() {
                (type_of(schema))
                @for (index, value) in constants(schema).iter().enumerate() {
                    @if index > 0 { ", " } @else { " " }
                    code { (value) }
                }
                @for rule in rules(schema) { ", " (rule) }
                @if let Some(pattern) = schema.get("pattern").and_then(Value::as_str) {
                    ", as " code { (pattern) }
                }
            }
        }
    }
}

struct Member<'a> {
    name: &'a str,
    is_required: bool,
    schema: &'a Value,
}

/// Writes a description: what stands between backticks is code, and nothing else is special.
pub(super) fn prose(text: &str) -> Markup {
    html! {
        @for (index, part) in text.split('`').enumerate() {
            @if index % 2 == 0 { (part) } @else { code { (part) } }
        }
    }
}

/// Returns the values of a list; of anything else, none.
pub(super) fn values<'a>(of: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    of.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn type_of(schema: &Value) -> String {
    match schema.get("type") {
        Some(Value::String(one)) => one.clone(),
        Some(Value::Array(several)) => {
            let names: Vec<&str> = several.iter().filter_map(Value::as_str).collect();
            names.join(" or ")
        }
        _ if schema.get("allOf").is_some() => "object".to_owned(),
        _ => String::new(),
    }
}

fn constants(schema: &Value) -> Vec<String> {
    let each = values(schema, "enum").chain(schema.get("const"));
    each.map(|it| it.as_str().map_or_else(|| it.to_string(), str::to_owned))
        .collect()
}

fn rules(schema: &Value) -> Vec<String> {
    let text = |key: &str| schema.get(key).map(ToString::to_string);
    let mut rules = Vec::new();
    rules.extend(
        schema
            .get("format")
            .and_then(Value::as_str)
            .map(str::to_owned),
    );
    for (least, most, unit) in [
        ("minimum", "maximum", ""),
        ("minLength", "maxLength", " characters"),
        ("minItems", "maxItems", " items"),
    ] {
        rules.extend(match (text(least), text(most)) {
            (Some(least), Some(most)) if least == most => Some(format!("{least}{unit}")),
            (Some(least), Some(most)) => Some(format!("{least} to {most}{unit}")),
            (Some(least), None) => Some(format!("at least {least}{unit}")),
            (None, Some(most)) => Some(format!("at most {most}{unit}")),
            (None, None) => None,
        });
    }
    rules
}
