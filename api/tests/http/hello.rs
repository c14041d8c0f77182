//! `/hello/{username}`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::postgres::Server;
use crate::program::Program;

/// Day of the tests.
const TODAY: [(&str, &str); 2] = [("API_TEST_CLOCK", "1"), ("API_FAKE_TODAY", "2025-06-15")];

fn message(program: &Program, name: &str) -> String {
    let answer = program.get(&format!("/hello/{name}"));
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/json");
    answer.json()["message"].as_str().unwrap().to_owned()
}

#[test]
fn user_stored_then_greeted() {
    let server = Server::primary();
    let program = Program::before(&[&server], &TODAY);

    let stored = program.put_date("John", "1990-06-16");
    assert_eq!((stored.status, stored.body.as_str()), (204, ""));
    assert_eq!(
        message(&program, "John"),
        "Hello, John! Your birthday is in 1 day(s)"
    );

    // The same date changes nothing, and another date does.
    assert_eq!(program.put_date("John", "1990-06-16").status, 204);
    assert_eq!(program.put_date("John", "1990-06-15").status, 204);
    assert_eq!(message(&program, "John"), "Hello, John! Happy birthday!");
    assert_eq!(program.put_date("John", "1990-06-14").status, 204);
    assert_eq!(
        message(&program, "%4aohn"),
        "Hello, John! Your birthday is in 364 day(s)"
    );

    let head = program.request("HEAD", "/hello/John", &[], "");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_ne!(head.header("content-length"), "");

    // Two spellings are two people, and an unknown name is 404.
    let stranger = program.get("/hello/john");
    assert_eq!(stranger.status, 404);
    assert_eq!(stranger.json()["detail"], "User john not found");

    let stored = server.sql("SELECT username, date_of_birth FROM hello_users");
    assert_eq!(stored, "John|1990-06-14");
}

#[test]
fn date_out_of_range_then_rejected_and_primary_kept() {
    let server = Server::primary();
    let program = Program::before(&[&server], &[]);
    server.sql("INSERT INTO hello_users (username, date_of_birth) VALUES ('Far', 'infinity')");

    assert_eq!(program.get("/hello/Far").status, 500);
    assert!(
        program.log().contains("statement rejected"),
        "{}",
        program.log()
    );
    assert_eq!(program.put_date("Far", "1990-01-01").status, 204);
    assert_eq!(program.get("/hello/Far").status, 200);
}

#[test]
fn name_equals_probe_path_then_both_served() {
    let server = Server::primary();
    let program = Program::before(&[&server], &TODAY);

    let probe = program.get("/hello/health");
    assert_eq!((probe.status, probe.body.as_str()), (200, "OK"));
    assert_eq!(program.put_date("health", "2000-06-15").status, 204);
    assert_eq!(
        message(&program, "health"),
        "Hello, health! Happy birthday!"
    );

    let cut_off = Program::without_database(&[]);
    let probe = cut_off.get("/hello/health");
    assert_eq!((probe.status, probe.body.as_str()), (200, "OK"));
}

#[test]
fn probe_name_under_load_then_person_greeted() {
    let server = Server::primary();
    let program = Program::before(&[&server], &TODAY);
    assert_eq!(program.put_date("health", "2000-06-15").status, 204);

    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    program.get("/hello/Nobody");
                }
            });
        }
        let probes: Vec<_> = (0..100)
            .map(|_| program.get("/hello/health").body)
            .collect();
        stop.store(true, Ordering::Relaxed);
        let unknown = probes.iter().filter(|probe| *probe == "OK").count();
        assert_eq!(unknown, 0, "of 100 probes");
    });
}

#[test]
fn names_case_insensitive_then_one_person() {
    let server = Server::primary();
    let sensitive = Program::before(&[&server], &TODAY);
    assert_eq!(sensitive.put_date("MARY", "1990-06-17").status, 204);

    let mut settings = TODAY.to_vec();
    settings.push(("HELLO_CASE_INSENSITIVE", "true"));
    let insensitive = Program::before(&[&server], &settings);
    assert_eq!(
        message(&insensitive, "mary"),
        "Hello, mary! Your birthday is in 2 day(s)"
    );
    assert_eq!(insensitive.put_date("Mary", "1990-06-18").status, 204);
    assert_eq!(
        message(&insensitive, "MaRy"),
        "Hello, MaRy! Your birthday is in 3 day(s)"
    );
}

#[test]
fn date_unchanged_then_no_wal_written() {
    let server = Server::primary();
    let program = Program::before(&[&server], &TODAY);
    assert_eq!(program.put_date("John", "1990-06-16").status, 204);

    let row = "SELECT xmin, updated_at FROM hello_users";
    let before = server.sql(row);
    assert_eq!(program.put_date("John", "1990-06-16").status, 204);
    assert_eq!(server.sql(row), before);
}

#[test]
fn field_invalid_then_rejected() {
    let program = Program::without_database(&TODAY);
    let refused = |name: &str, body: &str| {
        let answer = program.put(&format!("/hello/{name}"), body);
        assert_eq!(answer.status, 400, "{name} {body}: {answer:?}");
        assert_eq!(answer.header("content-type"), "application/problem+json");
        answer.json()
    };
    let code = |name: &str, body: &str| {
        let problem = refused(name, body);
        assert_eq!(problem["type"], "/problems/validation");
        problem["errors"][0]["code"].as_str().unwrap().to_owned()
    };
    let fine = "{\"dateOfBirth\":\"1990-06-15\"}";
    let date = |text: &str| format!("{{\"dateOfBirth\":\"{text}\"}}");

    for name in [
        "j1",
        "j%20",
        "j%C3%B6rg",
        "%FF",
        "a%2Fb",
        "%00",
        "a-b",
        "%zz",
    ] {
        assert_eq!(code(name, fine), "letters-only", "{name}");
    }
    assert_eq!(code(&"a".repeat(101), fine), "too-long");
    for text in [
        "2025-02-29",
        "1900-02-29",
        "0000-01-01",
        "1990-13-01",
        "1990-00-10",
        "1990-6-15",
        "1990/06/15",
        " 1990-06-15",
        "19900615",
        "٢٠٢٥-01-01",
        "1990-06-15T00:00:00Z",
        "+990-06-15",
        "",
    ] {
        assert_eq!(code("John", &date(text)), "not-a-date", "{text}");
    }
    for text in ["2025-06-15", "2025-06-16", "9999-12-31"] {
        assert_eq!(code("John", &date(text)), "not-in-the-past", "{text}");
    }
    // Valid requests need the database.
    for text in ["0001-01-01", "2000-02-29", "2025-06-14"] {
        let longest = "a".repeat(100);
        assert_eq!(program.put_date(&longest, text).status, 503, "{text}");
    }
    assert_eq!(code("John", "{}"), "required");
    assert_eq!(code("John", "{\"dateOfBirth\":null}"), "not-a-string");
    assert_eq!(code("John", "{\"dateOfBirth\":19900615}"), "not-a-string");
    let both = refused("j1", "{}");
    assert_eq!(both["errors"].as_array().unwrap().len(), 2, "{both}");

    let deep = format!("{{\"x\":{}1{}}}", "[".repeat(20_000), "]".repeat(20_000));
    for body in ["[]", "1", "\"x\"", "null"] {
        assert_eq!(code("John", body), "not-an-object", "{body}");
    }
    for body in ["{", "{\"dateOfBirth\":\"1990-06-15\"} x", "\u{1}", &deep] {
        assert_eq!(
            refused("John", body)["type"],
            "/problems/malformed-json",
            "{body:.20}"
        );
    }
    assert_eq!(program.request("PUT", "/hello/John", &[], "").status, 400);
    assert_eq!(program.get("/hello/j1").status, 400);
}

#[test]
fn unknown_fields_or_json_media_types_then_accepted() {
    let server = Server::primary();
    let program = Program::before(&[&server], &TODAY);
    let body = "{\"name\":{\"x\":[1]},\"dateOfBirth\":\"1990-06-15\"}";
    let status = |content_type: &str| {
        let headers = [("Content-Type", content_type)];
        program.request("PUT", "/hello/John", &headers, body).status
    };

    for accepted in [
        "application/json",
        "Application/JSON; charset=UTF-8",
        "application/merge-patch+json",
        "text/plain",
        "application/x-www-form-urlencoded",
    ] {
        assert_eq!(status(accepted), 204, "{accepted}");
    }
    for refused in [
        "application/xml",
        "text/json",
        "multipart/form-data; boundary=x",
        "text/plain; charset=latin1",
    ] {
        assert_eq!(status(refused), 415, "{refused}");
    }
    assert_eq!(program.request("PUT", "/hello/John", &[], body).status, 204);
}

#[test]
fn validation_status_configured_then_used() {
    let program = Program::without_database(&[("VALIDATION_STATUS", "422")]);

    let broken = program.put_date("John", "not a date");
    assert_eq!(
        (broken.status, broken.json()["status"].as_u64()),
        (422, Some(422))
    );
    assert_eq!(program.put("/hello/John", "{").status, 400);
}

#[test]
fn leap_day_birthday_then_as_configured() {
    let server = Server::primary();
    let on = |leap_day| {
        let clock = [("API_TEST_CLOCK", "1"), ("API_FAKE_TODAY", "2025-02-28")];
        let settings = [clock[0], clock[1], ("HELLO_LEAP_DAY", leap_day)];
        Program::before(&[&server], &settings)
    };
    let feb28 = on("feb28");
    assert_eq!(feb28.put_date("Leap", "2000-02-29").status, 204);

    assert_eq!(message(&feb28, "Leap"), "Hello, Leap! Happy birthday!");
    assert_eq!(
        message(&on("mar1"), "Leap"),
        "Hello, Leap! Your birthday is in 1 day(s)"
    );
}
