//! `/docs`: the OpenAPI document as a person reads it, with a form to try each operation.

use maud::{Markup, html};
use serde_json::{Map, Value};

use super::Page;
use super::shape::{Document, prose, values};

const SCRIPT: &str = include_str!("try.js");
/// Where the service is in the examples; the script puts the page's own origin in its place.
const ORIGIN: &str = "http://localhost:8080";
/// What every error is. It has the same shape everywhere, and only its type tells something.
const PROBLEM: &str = "application/problem+json";
/// The methods of an operation, in the order of the page.
const METHODS: [&str; 4] = ["get", "head", "put", "post"];

/// One method of one path.
struct Operation<'a> {
    document: Document<'a>,
    method: &'static str,
    path: &'a str,
    id: &'a str,
    spec: &'a Value,
    parameters: Vec<&'a Value>,
}

/// Returns the page about what the document describes.
pub(crate) fn docs(document: &Value) -> Page {
    let title = string(&document["info"], "title");
    let operations = operations(Document(document));
    let of = |tag: &str| {
        let has_it = |it: &&Operation<'_>| values(it.spec, "tags").any(|it| it == tag);
        operations.iter().filter(has_it).collect::<Vec<_>>()
    };
    let body = html! {
        header {
            h1 { (title) }
            p.quiet { "Version " (string(&document["info"], "version")) }
            @for paragraph in string(&document["info"], "description").split("\n\n") {
                p { (prose(paragraph)) }
            }
            nav aria-label="Contents" {
                ul {
                    @for tag in values(document, "tags") {
                        @let name = string(tag, "name");
                        li { a href={ "#" (name) } { (name) } }
                    }
                    li { a href="/openapi.json" { "openapi.json" } }
                    li { a href="/problems" { "problems" } }
                }
            }
        }
        main {
            @for tag in values(document, "tags") {
                @let name = string(tag, "name");
                section aria-labelledby=(name) {
                    h2 id=(name) { (name) }
                    p.quiet { (prose(string(tag, "description"))) }
                    @for operation in of(name) { (operation.section()) }
                }
            }
        }
    };
    Page::new(title, &body, SCRIPT)
}

fn operations(document: Document<'_>) -> Vec<Operation<'_>> {
    let mut found = Vec::new();
    let paths = document.0["paths"].as_object().into_iter().flatten();
    for (path, item) in paths {
        for method in METHODS {
            let Some(spec) = item.get(method) else {
                continue;
            };
            let parameters = values(item, "parameters").chain(values(spec, "parameters"));
            found.push(Operation {
                document,
                method,
                path,
                id: string(spec, "operationId"),
                spec,
                parameters: parameters.map(|it| document.resolve(it)).collect(),
            });
        }
    }
    found
}

impl Operation<'_> {
    fn section(&self) -> Markup {
        html! {
            details.operation id=(self.id) {
                summary {
                    h3 {
                        span class={ "method " (self.method) } { (self.method.to_uppercase()) }
                        " " code { (self.path) }
                    }
                    " " span.quiet { (string(self.spec, "summary")) }
                }
                div {
                    @if let Some(text) = self.spec.get("description").and_then(Value::as_str) {
                        p { (prose(text)) }
                    }
                    (self.parameters())
                    (self.body())
                    h4 { "From the command line" }
                    pre { code.curl { (self.curl()) } }
                    (self.form())
                    (self.responses())
                }
            }
        }
    }

    fn parameters(&self) -> Markup {
        html! {
            @if !self.parameters.is_empty() {
                h4 { "Parameters" }
                div.scroll { table {
                    thead { tr { th scope="col" { "Name" } th scope="col" { "In" } th scope="col" { "What it is" } } }
                    tbody {
                        @for parameter in &self.parameters {
                            tr {
                                td { code { (string(parameter, "name")) } @if is_required(parameter) { " (required)" } }
                                td { (string(parameter, "in")) }
                                td {
                                    p { (prose(string(parameter, "description"))) }
                                    p.quiet { (self.document.shape(&parameter["schema"])) }
                                }
                            }
                        }
                    }
                } }
            }
        }
    }

    fn body(&self) -> Markup {
        let schema = self.request().and_then(|it| it.get("schema"));
        html! {
            @if let Some(schema) = schema {
                h4 { "Body" }
                div { (self.document.shape(schema)) }
                @for (name, example) in self.examples() {
                    @if let Some(name) = name { p.quiet { (name) } }
                    pre { code { (pretty(example)) } }
                }
            }
        }
    }

    fn responses(&self) -> Markup {
        let responses = self.spec["responses"].as_object();
        let each = responses.into_iter().flat_map(Map::iter);
        html! {
            h4 { "Answers" }
            div.scroll { table {
                thead { tr { th scope="col" { "Status" } th scope="col" { "When, and what" } } }
                tbody {
                    @for (status, response) in each {
                        @let response = self.document.resolve(response);
                        tr {
                            td { (status) }
                            td { p { (prose(string(response, "description"))) } (self.content(response)) }
                        }
                    }
                }
            } }
        }
    }

    /// Describes the headers that not every answer has, and the bodies.
    fn content(&self, response: &Value) -> Markup {
        let own = |name: &str| ["Link", "Retry-After", "Vary", "X-Cache"].contains(&name);
        let headers = response.get("headers").and_then(Value::as_object);
        let headers = headers.into_iter().flatten().filter(|it| own(it.0));
        let bodies = response.get("content").and_then(Value::as_object);
        html! {
            @for (name, header) in headers {
                p.quiet { code { (name) } ": " (prose(string(self.document.resolve(header), "description"))) }
            }
            @for (media_type, body) in bodies.into_iter().flatten() {
                @if media_type == PROBLEM {
                    p { "A problem: " (problems(body)) }
                } @else { details {
                    summary { code { (media_type) } }
                    (self.document.shape(&body["schema"]))
                    @if let Some(example) = body.get("example") {
                        pre { code { (pretty(example)) } }
                    }
                } }
            }
        }
    }

    fn form(&self) -> Markup {
        html! {
            h4 { "Try it" }
            form data-method=(self.method.to_uppercase()) data-path=(self.path) {
                @for parameter in &self.parameters {
                    @let name = string(parameter, "name");
                    label {
                        (name)
                        input name=(name) data-in=(string(parameter, "in")) autocomplete="off"
                            required[is_required(parameter)]
                            value=[is_required(parameter).then(|| example_of(parameter))];
                    }
                }
                @if let Some((_name, example)) = self.examples().first() {
                    label { "Body" textarea name="body" data-in="body" spellcheck="false" { (pretty(example)) } }
                }
                button { "Send" }
                output aria-live="polite" {}
            }
        }
    }

    fn curl(&self) -> String {
        let mut path = self.path.to_owned();
        for parameter in &self.parameters {
            let name = format!("{{{}}}", string(parameter, "name"));
            path = path.replace(&name, &example_of(parameter));
        }
        let examples = self.examples();
        let options = match (self.method, examples.first()) {
            ("head", _) => "-I".to_owned(),
            ("put", Some((_name, body))) => format!("-i -X PUT -d '{body}'"),
            (_, Some((_name, body))) => format!("-i -d '{body}'"),
            ("post", None) => "-i -X POST".to_owned(),
            _ => "-i".to_owned(),
        };
        format!("curl {options} {ORIGIN}{path}")
    }

    fn request(&self) -> Option<&Value> {
        let body = self.document.resolve(self.spec.get("requestBody")?);
        body.get("content")?.get("application/json")
    }

    /// Returns the examples of a body, with their names if they have any.
    fn examples(&self) -> Vec<(Option<&str>, &Value)> {
        let Some(request) = self.request() else {
            return Vec::new();
        };
        if let Some(example) = request.get("example") {
            return vec![(None, example)];
        }
        let several = request.get("examples").and_then(Value::as_object);
        let each = several.into_iter().flat_map(Map::values);
        each.map(|it| (Some(string(it, "summary")), &it["value"]))
            .collect()
    }
}

/// Names the kinds of problem that a body may be, each with its page.
fn problems(body: &Value) -> Markup {
    let kind = body.pointer("/schema/properties/type");
    let kinds = kind.map(|it| values(it, "enum").chain(it.get("const")));
    let paths = kinds.into_iter().flatten().filter_map(Value::as_str);
    html! {
        @for (index, path) in paths.enumerate() {
            @if index > 0 { ", " }
            a href=(path) { (path.trim_start_matches("/problems/")) }
        }
    }
}

fn string<'a>(of: &'a Value, key: &str) -> &'a str {
    of.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn is_required(parameter: &Value) -> bool {
    parameter.get("required").is_some_and(|it| it == true)
}

fn example_of(parameter: &Value) -> String {
    match parameter.get("example") {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

fn pretty(value: &Value) -> String {
    // A value that has been JSON becomes JSON again.
    serde_json::to_string_pretty(value).unwrap_or_default()
}
