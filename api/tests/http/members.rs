//! `/` and `/members`.

use serde_json::{Value, json};

use crate::postgres::Server;
use crate::program::Program;

/// Returns the keys of an object in their order in the text.
fn keys(object: &str) -> Vec<&str> {
    let parts = object.trim_matches(['{', '}', '[', ']']).split(',');
    parts
        .map(|pair| pair.split_once(':').unwrap().0.trim_matches('"'))
        .collect()
}

#[test]
fn members_stored_then_listed_in_insertion_order() {
    let server = Server::primary();
    let program = Program::before(&[&server], &[]);
    for path in ["/", "/members"] {
        let empty = program.get(path);
        assert_eq!((empty.status, empty.body.as_str()), (200, "[]"));
    }

    let ann = program.post("/", r#"{"name":"Ann","age":30}"#);
    assert_eq!(ann.status, 200, "{ann:?}");
    assert!(
        ann.body.starts_with(r#"{"Name":"Ann","Age":30,"#),
        "{ann:?}"
    );
    assert_eq!(keys(&ann.body), ["Name", "Age", "ID", "id", "name", "age"]);
    // Of several spellings, the one with the most lower-case letters is used.
    let bob = r#"{"AGE":0,"NAME":"Cyd","NaMe":"Dan","Name":"Bob","unknown":[1]}"#;
    let bob = program.post("/members", bob);
    assert_eq!(bob.status, 200, "{bob:?}");

    let list = program.get("/");
    assert_eq!(program.get("/members").body, list.body);
    assert_eq!(list.header("content-type"), "application/json");
    let (first, _rest) = list.body.split_once("},{").unwrap();
    assert_eq!(
        keys(first),
        [
            "UpdatedAt",
            "DeletedAt",
            "ID",
            "Name",
            "Age",
            "CreatedAt",
            "id",
            "name",
            "age"
        ]
    );
    let list = list.json();
    for (listed, stored) in list.as_array().unwrap().iter().zip([&ann, &bob]) {
        let stored = stored.json();
        for key in ["Name", "Age", "ID", "id", "name", "age"] {
            assert_eq!(listed[key], stored[key], "{key}");
        }
        assert_eq!(listed["DeletedAt"], Value::Null);
        assert_eq!(listed["UpdatedAt"], listed["CreatedAt"]);
        let at = listed["CreatedAt"].as_str().unwrap();
        at.parse::<jiff::Timestamp>().unwrap();
        let id: uuid::Uuid = listed["ID"].as_str().unwrap().parse().unwrap();
        assert_eq!(id.get_version_num(), 4);
    }
    assert_eq!(list[1]["Name"], "Bob");
    assert_eq!(list[1]["Age"], 0);
}

#[test]
fn members_deleted_then_not_listed() {
    let server = Server::primary();
    let program = Program::before(&[&server], &[]);
    for name in ["Ann", "Bob"] {
        let member = json!({"name": name, "age": 1}).to_string();
        assert_eq!(program.post("/", &member).status, 200);
    }

    server.sql("UPDATE members SET deleted_at = now() WHERE name = 'Ann'");

    let list = program.get("/").json();
    assert_eq!(list.as_array().unwrap().len(), 1);
    assert_eq!(list[0]["Name"], "Bob");
}

#[test]
fn key_case_configured_then_used() {
    let server = Server::primary();
    let spelled = |keys| Program::before(&[&server], &[("MEMBERS_KEYS", keys)]);
    let member = r#"{"name":"Ann","age":30}"#;

    let original = spelled("original");
    let stored = original.post("/", member);
    assert_eq!(stored.body, r#"{"Name":"Ann","Age":30}"#);
    assert_eq!(
        keys(&original.get("/").body),
        ["UpdatedAt", "DeletedAt", "ID", "Name", "Age", "CreatedAt"]
    );
    let lower = spelled("lower");
    assert_eq!(
        keys(&lower.get("/").body),
        [
            "id",
            "name",
            "age",
            "created_at",
            "updated_at",
            "deleted_at"
        ]
    );
    assert_eq!(keys(&lower.post("/", member).body), ["id", "name", "age"]);
}

#[test]
fn field_invalid_then_rejected() {
    let program = Program::without_database(&[]);
    let broken = |body: &str| {
        let answer = program.post("/", body);
        assert_eq!(answer.status, 400, "{body}: {answer:?}");
        answer.broken()
    };

    assert_eq!(broken("{}"), "name: required, age: required");
    assert_eq!(
        broken(r#"{"name":"\t ","age":151}"#),
        "name: blank, age: out-of-range"
    );
    assert_eq!(
        broken(r#"{"name":7,"age":true}"#),
        "name: not-a-string, age: not-an-integer"
    );
    let aged = |age: &str| format!("{{\"name\":\"a\",\"age\":{age}}}");
    for age in ["25.5", "149.999", "1e-1", "\"25\"", "null", "[25]", "{}"] {
        assert_eq!(broken(&aged(age)), "age: not-an-integer", "{age}");
    }
    for age in ["-1", "2147483648", "-9223372036854775809e0", "150.0e1"] {
        assert_eq!(broken(&aged(age)), "age: out-of-range", "{age}");
    }
    // Valid requests need the database.
    for age in ["0", "150", "25.0", "1e1", "-0.0"] {
        assert_eq!(program.post("/", &aged(age)).status, 503, "{age}");
    }
    assert_eq!(
        broken(r#"{"Name":"a\u0000b","Age":-1}"#),
        "name: nul, age: out-of-range"
    );
    let long = json!({"name": "😀".repeat(256), "age": 1});
    assert_eq!(broken(&long.to_string()), "name: too-long");
    assert_eq!(broken("[]"), "body: not-an-object");
    for body in ["", "name=Ann", "{\"name\":\"Ann\",}"] {
        let answer = program.post("/", body);
        assert_eq!(answer.status, 400, "{body}");
        assert_eq!(answer.json()["type"], "/problems/malformed-json", "{body}");
    }

    let program = Program::without_database(&[("VALIDATION_STATUS", "422")]);
    assert_eq!(program.post("/", "{}").status, 422);
    assert_eq!(program.post("/", "[]").status, 422);
    assert_eq!(program.post("/", "{").status, 400);
}
