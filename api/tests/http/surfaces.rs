//! Properties of every API surface: switches, methods, and text as data.

use std::collections::BTreeSet;

use api::app::route_table::TABLE;
use axum::routing::MethodFilter;
use serde_json::json;

use crate::postgres::Server;
use crate::program::Program;

#[test]
fn method_not_allowed_then_405_with_allow() {
    let program = Program::without_database(&[]);
    let paths: BTreeSet<&str> = TABLE.iter().map(|route| route.path).collect();

    for path in paths {
        let has = |method| {
            TABLE
                .iter()
                .any(|route| route.path == path && route.method == method)
        };
        let mut allowed = BTreeSet::new();
        for (method, names) in [
            (MethodFilter::GET, &["GET", "HEAD"][..]),
            (MethodFilter::POST, &["POST"]),
            (MethodFilter::PUT, &["PUT"]),
        ] {
            if has(method) {
                allowed.extend(names);
            }
        }
        let url = path.replace("{username}", "John").replace("{id}", "1");
        let url = url.replace("{kind}", "not-found");
        for method in ["DELETE", "PATCH", "TRACE", "BREW", "get", "POST", "PUT"] {
            if allowed.contains(method) {
                continue;
            }
            let answer = program.request(method, &url, &[], "");
            assert_eq!(answer.status, 405, "{method} {url}: {answer:?}");
            let says: BTreeSet<&str> = answer.header("allow").split(',').collect();
            assert_eq!(says, allowed, "{method} {url}");
            assert_eq!(answer.json()["type"], "/problems/method-not-allowed");
        }
        let options = program.request("OPTIONS", &url, &[], "");
        assert_eq!(
            (options.status, options.body.as_str()),
            (204, ""),
            "{url}: {options:?}"
        );
        let says: BTreeSet<&str> = options.header("allow").split(',').collect();
        assert_eq!(says, allowed, "OPTIONS {url}");
        if has(MethodFilter::GET) {
            let (get, head) = (program.get(&url), program.request("HEAD", &url, &[], ""));
            assert_eq!((head.status, head.body.as_str()), (get.status, ""), "{url}");
            let content_type = get.header("content-type");
            assert_eq!(head.header("content-type"), content_type, "{url}");
        }
    }
    let whole = program.raw(b"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_eq!((whole.status, whole.body.as_str()), (204, ""), "{whole:?}");
    assert_eq!(whole.header("allow"), "GET,HEAD,POST,PUT");
    for method in ["GET", "POST", "OPTIONS", "BREW"] {
        for path in [
            "/nowhere",
            "/users//",
            "/users/1/x",
            "//",
            "/seed/x",
            "/Members",
        ] {
            let answer = program.request(method, path, &[], "");
            assert_eq!(answer.status, 404, "{method} {path}: {answer:?}");
            assert_eq!(answer.json()["type"], "/problems/not-found");
        }
    }
}

#[test]
fn trailing_slash_then_redirected() {
    let program = Program::without_database(&[("API_SURFACES", "users,hello,members")]);

    for (path, leads_to) in [
        ("/users/", "/users"),
        (
            "/users/?limit=2&cursor=a%20b",
            "/users?limit=2&cursor=a%20b",
        ),
        ("/users/7/", "/users/7"),
        ("/hello/John/", "/hello/John"),
        ("/hello/J%2Fn/", "/hello/J%2Fn"),
        ("/members/", "/members"),
        ("/docs/", "/docs"),
    ] {
        for method in ["GET", "HEAD", "POST", "PUT"] {
            let answer = program.request(method, path, &[], "");
            assert_eq!(answer.status, 307, "{method} {path}: {answer:?}");
            assert_eq!(answer.header("location"), leads_to);
        }
    }
    for path in [
        "/beers/",
        "/hello/",
        "//",
        "//users/",
        "//evil.example/",
        "/users/7//",
    ] {
        assert_eq!(program.get(path).status, 404, "{path}");
    }
}

#[test]
fn surface_disabled_then_404() {
    let settings = [
        ("API_SURFACES", "hello, users"),
        ("COMPANY_NAME", "Bäckerei & \"Söhne\""),
    ];
    let program = Program::without_database(&settings);

    let root = program.get("/");
    let expected = r#"{"company":"Bäckerei & \"Söhne\"","status":"running"}"#;
    assert_eq!((root.status, root.body.as_str()), (200, expected));
    let post = program.post("/", r#"{"name":"Ann","age":30}"#);
    assert_eq!((post.status, post.header("allow")), (405, "GET,HEAD"));
    for (method, path) in [
        ("GET", "/members"),
        ("POST", "/members"),
        ("GET", "/beers"),
        ("POST", "/seed"),
        ("POST", "/beers/seed"),
    ] {
        let answer = program.request(method, path, &[], "");
        assert_eq!(answer.status, 404, "{method} {path}");
    }
    for path in ["/users", "/users/1", "/hello/John"] {
        assert_eq!(program.get(path).status, 503, "{path}");
    }
}

#[test]
fn sql_and_markup_stored_then_returned_as_data() {
    let server = Server::primary();
    let program = Program::before(&[&server], &[]);
    let texts = [
        "'; DROP TABLE users; --",
        "\\'); DELETE FROM members; /*",
        "<script>alert(\"1\")</script>",
        "${jndi:ldap://x} {{7*7}} %s %n $1",
        "tab\t line\n quote\" slash/ \\ \u{7f} \u{1}",
        "Zoë Ωmega 山田 😀 \u{202e}rtl \u{feff}",
    ];

    for (number, text) in texts.into_iter().enumerate() {
        let member = program.post("/", &json!({"name": text, "age": 1}).to_string());
        assert_eq!((member.status, &member.json()["Name"]), (200, &json!(text)));
        let beer = json!({"name": text, "style": text}).to_string();
        let beer = program.post("/beers", &beer);
        assert_eq!((beer.status, &beer.json()["style"]), (201, &json!(text)));
        let email = format!("'--<b>\"{number}\"</b>;\\$1@example.com");
        let user = program.post("/users", &json!({"name": text, "email": email}).to_string());
        assert_eq!((user.status, &user.json()["email"]), (200, &json!(email)));

        let found = program.get(&format!("/users/{}", user.json()["id"]));
        assert_eq!(found.json(), user.json());
        assert_eq!(found.header("content-type"), "application/json");
        assert_eq!(program.get("/").json()[number]["Name"], text);
        assert_eq!(program.get("/beers").json()[number]["name"], text);
    }
}
