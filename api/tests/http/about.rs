//! Pages about the service: `/openapi.json`, `/docs`, `/info` and `/`.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use api::app::route_table::{Route, TABLE};
use api::config::{Surface, option_name};
use axum::routing::MethodFilter;

use crate::program::{Answer, Program};
use crate::python;

const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

fn get(program: &Program, path: &str, accept: &str) -> Answer {
    program.request("GET", path, &[("Accept", accept)], "")
}

/// Returns the text between the only two of these markers, of which the first does not occur again.
fn only<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    let (_, rest) = text.split_once(before).unwrap();
    let (found, rest) = rest.split_once(after).unwrap();
    assert!(!rest.contains(before), "{before} stands twice");
    found
}

/// Returns the operations of the document. HEAD is answered wherever GET is.
fn described(document: &Answer) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (path, item) in document.json()["paths"].as_object().unwrap() {
        for (method, filter) in [
            ("get", MethodFilter::GET),
            ("post", MethodFilter::POST),
            ("put", MethodFilter::PUT),
        ] {
            if item.get(method).is_some() {
                found.insert(format!("{filter:?} {path}"));
            }
        }
    }
    found
}

#[test]
fn problem_type_in_code_then_in_openapi() {
    let program = Program::without_database(&[]);
    let responses = program.get("/openapi.json").json()["components"]["responses"].to_string();
    for kind in program.get("/problems").json().as_array().unwrap() {
        // No operation of the document responds 405.
        let path = kind["type"].as_str().unwrap();
        let is_described = responses.contains(&format!("\"{path}\""));
        assert_eq!(
            is_described,
            path != "/problems/method-not-allowed",
            "{path}"
        );
    }
}

#[test]
fn settings_vary_then_openapi_document_valid() {
    let dir = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for (index, settings) in [
        &[][..],
        &[("API_SURFACES", "hello"), ("VALIDATION_STATUS", "422")],
        &[("API_SURFACES", "members"), ("MEMBERS_KEYS", "lower")],
        &[
            ("API_SURFACES", "users,beers"),
            ("COMPANY_NAME", "\"\\\n{}"),
            ("METRICS_LISTEN", "127.0.0.1:0"),
        ],
    ]
    .into_iter()
    .enumerate()
    {
        let program = Program::without_database(settings);
        let answer = program.get("/openapi.json");
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(answer.json()["openapi"], "3.1.1");
        assert!(!answer.body.contains("\"x-"), "a mark is left");
        let surfaces = settings.iter().find(|setting| setting.0 == "API_SURFACES");
        let has_metrics = settings.iter().all(|setting| setting.0 != "METRICS_LISTEN");
        let is_served = |route: &&Route| {
            let is_on =
                |of: Surface| surfaces.is_none_or(|setting| setting.1.contains(&option_name(&of)));
            route.surface.is_none_or(is_on) && (route.path != "/metrics" || has_metrics)
        };
        let served = TABLE.iter().filter(is_served);
        let served = served.map(|route| format!("{:?} {}", route.method, route.path));
        assert_eq!(described(&answer), served.collect(), "{settings:?}");
        let file = dir.path().join(format!("{index}.json"));
        fs::write(&file, &answer.body).unwrap();
        files.push(file);
    }
    let validated = Command::new(python::program("openapi-spec-validator"))
        .args(["--schema", "3.1"])
        .args(&files)
        .output()
        .unwrap();
    assert!(validated.status.success(), "{validated:?}");
    let said = String::from_utf8(validated.stdout).unwrap();
    assert_eq!(said.matches(": OK").count(), files.len(), "{said}");
}

#[test]
fn date_of_birth_today_then_rejected_as_in_openapi() {
    let today = [("API_FAKE_TODAY", "2026-03-01"), ("API_TEST_CLOCK", "1")];
    let program = Program::without_database(&today);
    let expected = "^(?!0000)(?:[0-1][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]\
                    |20[0-1][0-9]-[0-9][0-9]-[0-9][0-9]\
                    |202[0-5]-[0-9][0-9]-[0-9][0-9]\
                    |2026-0[0-2]-[0-9][0-9]\
                    |2026-03-0[0-0])$";
    let document = program.get("/openapi.json").body;
    assert!(document.contains(expected), "{document}");
}

#[test]
fn company_name_set_then_in_header_pages_and_openapi() {
    let name = "<script>alert(1)</script> & \"Söhne\"";
    let escaped = "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;Söhne&quot;";
    let program = Program::without_database(&[("COMPANY_NAME", name)]);

    let document = program.get("/openapi.json").json();
    assert_eq!(document["info"]["title"], format!("{name} API"));
    assert!(
        document["info"]["description"]
            .as_str()
            .unwrap()
            .contains(name)
    );
    assert_eq!(program.get("/info").json()["company"], name);

    let docs = program.get("/docs").body;
    assert!(
        docs.contains(&format!("<title>{escaped} API</title>")),
        "{docs}"
    );
    assert!(docs.contains(&format!("<h1>{escaped} API</h1>")));
    let home = get(&program, "/", BROWSER).body;
    assert!(home.contains(&format!("<h1>{escaped}</h1>")), "{home}");
    for page in [docs, home] {
        assert!(!page.contains("<script>alert"));
    }
}

#[test]
fn page_requested_then_self_contained_under_csp() {
    let program = Program::without_database(&[]);
    for page in [get(&program, "/docs", "*/*"), get(&program, "/", BROWSER)] {
        assert_eq!(page.status, 200);
        assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
        assert_eq!(page.header("x-content-type-options"), "nosniff");
        let policy = page.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; "), "{policy}");
        assert!(policy.contains("connect-src 'self'"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");

        let style = only(&page.body, "<style>", "</style>");
        assert!(
            policy.contains(&format!("style-src '{}'", sha256(style))),
            "{policy}"
        );
        assert!(policy.contains("script-src 'none'"), "{policy}");
        assert!(!page.body.contains("<script"));
        for outside in [
            "src=",
            "href=\"http",
            "href=\"//",
            "url(",
            "@import",
            " style=",
            " onclick=",
        ] {
            assert!(!page.body.contains(outside), "{outside}");
        }
    }
    let data = program.get("/livez");
    assert_eq!(
        data.header("content-security-policy"),
        "default-src 'none'; frame-ancestors 'none'"
    );
}

/// Returns the CSP hash of a text, calculated by another program.
fn sha256(text: &str) -> String {
    let code = "import sys,hashlib,base64;\
                print(base64.b64encode(hashlib.sha256(sys.argv[1].encode()).digest()).decode())";
    let digest = Command::new(python::program("python3"))
        .args(["-c", code, text])
        .output()
        .unwrap();
    assert!(digest.status.success(), "{digest:?}");
    format!(
        "sha256-{}",
        String::from_utf8(digest.stdout).unwrap().trim()
    )
}

#[test]
fn docs_page_requested_then_every_operation_shown() {
    let program = Program::without_database(&[]);
    let document = program.get("/openapi.json").json();
    let docs = program.get("/docs").body;

    let mut shown = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let Some(id) = operation.get("operationId").and_then(|id| id.as_str()) else {
                continue;
            };
            let section = only(&docs, &format!("<details id=\"{id}\">"), "</details>");
            let name = format!("<b>{}</b> <code>{path}</code>", method.to_uppercase());
            assert!(section.contains(&name), "{method} {path}: {section}");
            shown += 1;
        }
    }
    assert_eq!(docs.matches("<details ").count(), shown);
    assert!(shown > 20);
    assert!(!only_users().get("/docs").body.contains("/beers"));
}

fn only_users() -> Program {
    Program::without_database(&[("API_SURFACES", "users")])
}

#[test]
fn root_requested_then_html_only_for_browsers() {
    let with_members = Program::without_database(&[]);
    let without = only_users();

    for program in [&with_members, &without] {
        for accept in [
            BROWSER,
            "Text/HTML; charset=utf-8",
            "text/html, */*",
            "application/json;q=0.8, text/html;level=1; q=0.9",
        ] {
            let page = get(program, "/", accept);
            let kind = page.header("content-type");
            assert_eq!(kind, "text/html; charset=utf-8", "{accept}");
        }
        let page = get(program, "/", BROWSER);
        assert_eq!((page.status, page.header("vary")), (200, "accept"));
        for link in ["/docs", "/openapi.json", "/info"] {
            assert!(
                page.body.contains(&format!("<a href=\"{link}\">")),
                "{link}"
            );
        }
    }
    for accept in [
        "*/*",
        "",
        "text/*",
        "application/json",
        "application/json, text/plain, */*",
        "text/html, application/json",
        "text/html;q=0.5,application/json",
        "text/html;q=0.5, application/*;q=0.6",
        "text/html;q=0",
        "text/htmlx",
    ] {
        // Members need a database.
        let list = get(&with_members, "/", accept);
        assert_eq!(
            (list.status, list.header("vary")),
            (503, "accept"),
            "{accept}"
        );

        let company = get(&without, "/", accept);
        assert_eq!(company.header("vary"), "accept");
        let running = serde_json::json!({"company": "My Company", "status": "running"});
        assert_eq!(company.json(), running, "{accept}");
    }
}

#[test]
fn info_requested_then_no_secret_in_it() {
    let program = Program::without_database(&[
        ("API_SURFACES", "users,hello"),
        ("API_TEST_CLOCK", "1"),
        ("API_FAKE_TODAY", "2024-02-29"),
        ("HELLO_LEAP_DAY", "mar1"),
        ("LIST_MAX", "7"),
        ("MEMBERS_KEYS", "lower"),
        ("PGPASSWORD", "hunter2"),
        ("PGUSER", "john"),
    ]);
    let answer = program.get("/info");
    let expected = serde_json::json!({
        "company": "My Company",
        "name": "api",
        "version": env!("CARGO_PKG_VERSION"),
        "surfaces": ["hello", "users"],
        "today": "2024-02-29",
        "settings": {
            "hello_case_insensitive": false,
            "hello_leap_day": "mar1",
            "list_max": 7,
            "members_keys": "lower",
            "validation_status": 400,
        },
    });
    assert_eq!(answer.json(), expected);
}
