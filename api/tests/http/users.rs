//! `/users` and `/users/{id}`.

use std::thread;

use serde_json::json;

use crate::postgres::Server;
use crate::program::{Answer, Program};

fn create(program: &Program, name: &str, email: &str) -> Answer {
    let body = json!({"name": name, "email": email}).to_string();
    program.post("/users", &body)
}

#[test]
fn users_stored_then_found() {
    let server = Server::primary();
    let program = Program::before(&[&server], &[]);
    assert_eq!(program.get("/users").body, "[]");

    let ann = create(&program, "Ann", "ann@example.com");
    let expected = r#"{"id":1,"name":"Ann","email":"ann@example.com"}"#;
    assert_eq!((ann.status, ann.body.as_str()), (200, expected));
    assert_eq!(ann.header("content-type"), "application/json");
    assert_eq!(create(&program, "Bob", "bob@example.com").status, 200);

    let found = program.get("/users/1");
    assert_eq!((found.status, found.body.as_str()), (200, expected));
    let list = program.get("/users");
    let bob = r#"{"id":2,"name":"Bob","email":"bob@example.com"}"#;
    assert_eq!(list.body, format!("[{expected},{bob}]"));
    assert_eq!(list.header("link"), "");
    for path in ["/users", "/users/1"] {
        let head = program.request("HEAD", path, &[], "");
        assert_eq!((head.status, head.body.as_str()), (200, ""));
        let length = program.get(path).body.len().to_string();
        assert_eq!(head.header("content-length"), length);
    }
}

#[test]
fn user_id_not_integer_then_rejected_unknown_then_404() {
    let server = Server::primary();
    let program = Program::before(&[&server], &[]);

    for id in [
        "1",
        "+7",
        "007",
        "0",
        "-0",
        "-1",
        "9223372036854775807",
        "9223372036854775808",
        "99999999999999999999999",
    ] {
        let answer = program.get(&format!("/users/{id}"));
        assert_eq!(answer.status, 404, "{id}: {answer:?}");
        assert_eq!(answer.json()["detail"], "User not found");
    }
    for id in [
        "abc",
        "-",
        "1_000",
        "1.0",
        "1e3",
        "%20",
        "1%00",
        "%FF",
        "a%2Fb",
        "1%20OR%201=1",
        "%C2%B2",
    ] {
        let answer = program.get(&format!("/users/{id}"));
        assert_eq!(answer.status, 422, "{id}: {answer:?}");
        assert_eq!(answer.broken(), "id: not-an-integer");
    }
    assert_eq!(program.get("/users//").status, 404);
}

#[test]
fn field_invalid_then_rejected() {
    let program = Program::without_database(&[]);
    let broken = |body: &str| {
        let answer = program.post("/users", body);
        assert_eq!(answer.status, 422, "{body}: {answer:?}");
        answer.broken()
    };

    assert_eq!(broken("{}"), "name: required, email: required");
    let both = broken(r#"{"name":1,"email":null}"#);
    assert_eq!(both, "name: not-a-string, email: not-a-string");
    assert_eq!(broken(r#"{"name":"","email":"a@b"}"#), "name: blank");
    assert_eq!(broken(r#"{"name":"a\u0000","email":"a@b"}"#), "name: nul");
    let addressed = |email: &str| json!({"name": "a", "email": email}).to_string();
    for email in ["a", "@", "a@", "@b", "a@b@c", "a b@c", "a@b\n", "a@@b"] {
        let broken = broken(&addressed(email));
        assert_eq!(broken, "email: not-an-address", "{email:?}");
    }
    // Valid requests need the database.
    let longest = format!("{}@b", "ü".repeat(318));
    for email in ["a@b", "'--<b>@x", &longest] {
        let answer = program.post("/users", &addressed(email));
        assert_eq!(answer.status, 503, "{email}");
    }
    let long = json!({"name": "ä".repeat(256), "email": format!("{}@b", "a".repeat(319))});
    assert_eq!(broken(&long.to_string()), "name: too-long, email: too-long");
    for body in [
        "[]",
        "null",
        "1",
        "\"x\"",
        "[{\"name\":\"a\",\"email\":\"a@b\"}]",
    ] {
        assert_eq!(broken(body), "body: not-an-object", "{body}");
    }
    for body in [
        "",
        "{",
        "{'name':'a'}",
        r#"{"name":"\ud800","email":"a@b"}"#,
    ] {
        let answer = program.post("/users", body);
        assert_eq!(answer.status, 400, "{body}: {answer:?}");
        assert_eq!(answer.json()["type"], "/problems/malformed-json");
    }
}

#[test]
fn concurrent_users_with_one_email_then_one_stored() {
    let server = Server::primary();
    let program = Program::before(&[&server], &[]);

    let answers: Vec<Answer> = thread::scope(|scope| {
        let ask = |number| {
            let program = &program;
            scope.spawn(move || create(program, &format!("Ann {number}"), "ann@example.com"))
        };
        let asking: Vec<_> = (0..8).map(ask).collect();
        asking
            .into_iter()
            .map(|client| client.join().unwrap())
            .collect()
    });

    let (stored, refused): (Vec<_>, Vec<_>) =
        answers.iter().partition(|answer| answer.status == 200);
    assert_eq!((stored.len(), refused.len()), (1, 7), "{answers:?}");
    for answer in refused {
        assert_eq!(answer.status, 409);
        assert_eq!(answer.json()["type"], "/problems/email-taken");
        assert_eq!(answer.json()["detail"], "Email already exists");
    }
    assert_eq!(server.sql("SELECT count(*) FROM users"), "1");
}
