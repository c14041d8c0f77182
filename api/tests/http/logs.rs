//! Log lines: one per event, with any input of a client or an operator.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::program::{Answer, Program};

/// Parses a logfmt line: `key=value`, with unusual values quoted.
fn logfmt(line: &str) -> BTreeMap<String, String> {
    let mut pairs = BTreeMap::new();
    let mut rest = line;
    while !rest.is_empty() {
        let (key, value) = rest.split_once('=').unwrap_or_else(|| panic!("{line}"));
        let is_plain =
            |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '.';
        assert!(!key.is_empty() && key.chars().all(is_plain), "{line}");
        let length = match value.strip_prefix('"') {
            Some(quoted) => {
                let mut is_escaped = false;
                let end = quoted.find(|letter: char| {
                    let is_end = letter == '"' && !is_escaped;
                    is_escaped = letter == '\\' && !is_escaped;
                    is_end
                });
                end.unwrap() + 2
            }
            None => value.find(' ').unwrap_or(value.len()),
        };
        let (value, after) = value.split_at(length);
        let text = if value.starts_with('"') {
            serde_json::from_str(value).unwrap_or_else(|error| panic!("{error}: {value}"))
        } else {
            value.to_owned()
        };
        assert_eq!(pairs.insert(key.to_owned(), text), None, "{line}");
        rest = after.strip_prefix(' ').unwrap_or(after);
    }
    pairs
}

fn json(line: &str) -> BTreeMap<String, String> {
    let object: BTreeMap<String, Value> = serde_json::from_str(line).unwrap();
    let text = |value: Value| value.as_str().map_or(value.to_string(), str::to_owned);
    let each = object.into_iter().map(|(key, it)| (key, text(it)));
    each.collect()
}

/// Inputs that would forge log lines or fields.
const HOSTILE: &str = "/a\"b\\c=level=error&%0amsg=forged\u{e4}";

#[test]
fn request_with_line_breaks_then_one_log_line() {
    for format in ["logfmt", "json"] {
        let settings = [("LOG_FORMAT", format), ("LOG_LEVEL", "api=debug")];
        let program = Program::without_database(&settings);
        let request = format!("G=T {HOSTILE} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        program.raw(request.replace("G=T", "GET").as_bytes());
        program.raw(request.as_bytes());

        let log = program.log();
        let is_json = format == "json";
        let read = if is_json { json } else { logfmt };
        let lines: Vec<_> = log.lines().map(read).collect();
        assert!(lines.len() >= 3, "{log}");
        let message = if is_json { "message" } else { "msg" };
        for line in &lines {
            assert_ne!(line[message], "forged", "{log}");
            assert!(!line["level"].eq_ignore_ascii_case("error"), "{log}");
        }
        assert!(
            lines
                .iter()
                .any(|entry| entry.get("path").is_some_and(|path| path == HOSTILE)),
            "{log}"
        );
    }
}

#[test]
fn setting_with_line_breaks_then_one_log_line() {
    let forged = "8080\nlevel=error msg=forged \"quoted\" \u{1b}[31m\tred\r\u{7f}\\";
    let mut program = Program::spawn(&[("PORT", forged)]);

    assert_eq!(program.wait().code(), Some(2));
    let log = program.log();
    let lines: Vec<_> = log.lines().map(logfmt).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(lines[0]["error"].contains(forged), "{log}");
    assert!(!log.contains('\u{1b}'), "{log}");
}

#[test]
fn request_with_id_or_error_then_in_log() {
    let program = Program::without_database(&[]);
    let lines_of = |answer: &Answer| {
        let id = format!("request_id={}", answer.header("x-request-id"));
        let log = program.log();
        let lines = log.lines().filter(|line| line.contains(&id)).map(logfmt);
        lines.map(|line| line["level"].clone()).collect::<Vec<_>>()
    };

    let named = program.request("GET", "/info", &[("X-Request-Id", "order-7")], "");
    assert_eq!(lines_of(&named), ["info"]);
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    let traced = program.request("GET", "/info", &[("traceparent", traceparent)], "");
    assert_eq!(lines_of(&traced), ["info"]);
    assert_eq!(lines_of(&program.get("/nowhere")), ["info"]);
    assert_eq!(lines_of(&program.get("/users")), ["warn"]);
    assert!(lines_of(&program.get("/info")).is_empty());
}

#[test]
fn probe_not_ready_then_not_logged_as_failure() {
    let program = Program::without_database(&[]);

    let no = program.get("/readyz");
    assert_eq!((no.status, no.header("retry-after")), (503, "1"));
    assert!(!program.log().contains("level=warn"), "{}", program.log());
}
