//! Requests are executed once, however often they are sent and whatever fails.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::json;

use crate::postgres::{PATIENT, Server, eventually};
use crate::program::{Answer, Program};

const KEY: &str = "7d3c1a52-0f5e-4c8e-9d2b-5a4f0e6b1c3d";
const ANN: &str = r#"{"name":"Ann","age":30,"email":"ann@example.com"}"#;
const BOB: &str = r#"{"name":"Bob","age":30,"email":"ann@example.com"}"#;

/// Path, table, and status of a stored row.
const STORING: [(&str, &str, u16); 3] = [
    ("/members", "members", 200),
    ("/users", "users", 200),
    ("/beers", "beers", 201),
];
/// Statement that stores into each of these tables.
const STATEMENTS: [&str; 3] = ["member_create", "user_create", "beer_create"];

fn post(program: &Program, path: &str, key: &str, body: &str) -> Answer {
    program.request("POST", path, &[("Idempotency-Key", key)], body)
}

fn count(server: &Server, table: &str) -> String {
    server.sql(&format!("SELECT count(*) FROM {table}"))
}

#[test]
fn key_repeated_then_first_response() {
    let server = Server::primary();
    let program = Program::before(&[&server], &[]);
    let replica = Program::before(&[&server], &[]);

    for (number, (path, table, status)) in STORING.into_iter().enumerate() {
        let key = format!("7d3c1a52-0f5e-4c8e-9d2b-00000000000{number}");
        let first = post(&program, path, &key, ANN);
        assert_eq!(first.status, status, "{first:?}");
        // The same values in another order and notation are the same request.
        let respelled = r#" {"email": "ann@example.com", "age": 30, "x": 1, "name": "\u0041nn"} "#;
        for body in [ANN, respelled] {
            for asked in [&program, &replica] {
                for key in [
                    key.clone(),
                    key.to_uppercase(),
                    key.replace('-', ""),
                    format!("\"{key}\""),
                ] {
                    let again = post(asked, path, &key, body);
                    assert_eq!((again.status, again.body), (status, first.body.clone()));
                }
            }
        }
        assert_eq!(count(&server, table), "1");

        let other = post(&program, path, &key, BOB);
        assert_eq!(other.status, 409, "{other:?}");
        assert_eq!(other.json()["type"], "/problems/idempotency-key-reused");
        for (elsewhere, _table, _status) in STORING {
            if elsewhere != path {
                let other = post(&program, elsewhere, &key, ANN);
                let kind = other.json()["type"].clone();
                assert_eq!(
                    kind, "/problems/idempotency-key-reused",
                    "{path} {elsewhere}"
                );
            }
        }
        assert_eq!(count(&server, table), "1");
    }
    // Two paths of one service are the same.
    let root = post(&program, "/", "7d3c1a52-0f5e-4c8e-9d2b-000000000000", ANN);
    assert_eq!(root.status, 200, "{root:?}");
    assert_eq!(count(&server, "members"), "1");
}

#[test]
fn no_key_then_each_request_executed() {
    let server = Server::primary();
    let program = Program::before(&[&server], &[]);

    for _ in 0..3 {
        assert_eq!(program.post("/", ANN).status, 200);
        assert_eq!(program.post("/beers", ANN).status, 201);
    }

    assert_eq!(
        (count(&server, "members"), count(&server, "beers")),
        ("3".into(), "3".into())
    );
    assert_eq!(program.post("/users", ANN).status, 200);
    assert_eq!(
        program.post("/users", ANN).json()["type"],
        "/problems/email-taken"
    );
}

#[test]
fn email_conflict_then_same_conflict_under_same_key() {
    let server = Server::primary();
    let program = Program::before(&[&server], &[]);
    assert_eq!(program.post("/users", ANN).status, 200);

    for _ in 0..2 {
        let refused = post(&program, "/users", KEY, BOB);
        assert_eq!(
            (refused.status, &refused.json()["detail"]),
            (409, &json!("Email already exists"))
        );
    }
    assert_eq!(count(&server, "api_requests"), "1");
}

#[test]
fn latin_1_keys_differ_then_separate_requests() {
    let server = Server::primary();
    let program = Program::before(&[&server], &[]);
    let status = |key: &[u8], body: &str| {
        let length = body.len();
        let head = format!("POST /members HTTP/1.1\r\nHost: api\r\nContent-Length: {length}");
        let key = [b"\r\nIdempotency-Key: ", key].concat();
        let end = format!("\r\nConnection: close\r\n\r\n{body}");
        program
            .raw(&[head.as_bytes(), &key, end.as_bytes()].concat())
            .status
    };

    assert_eq!(status(b"cl\xe9", ANN), 200);
    assert_eq!(status(b"cl\xe8", BOB), 200);
    // The same key in UTF-8.
    assert_eq!(status("cl\u{e9}".as_bytes(), BOB), 409);
}

#[test]
fn any_text_as_key_then_accepted() {
    let server = Server::primary();
    let program = Program::before(&[&server], &[]);
    let long = "x".repeat(255);

    for (number, key) in ["order-123", "1", "'; --", "\u{e4}", &long]
        .into_iter()
        .enumerate()
    {
        let body = format!("{{\"name\":\"Ann\",\"age\":{number}}}");
        let first = post(&program, "/members", key, &body);
        assert_eq!(first.status, 200, "{key}: {first:?}");
        for key in [key.to_owned(), format!("\"{key}\"")] {
            let again = post(&program, "/members", &key, &body);
            assert_eq!((again.status, &again.body), (200, &first.body), "{key}");
        }
        assert_eq!(post(&program, "/members", key, BOB).status, 409, "{key}");
    }
    assert_eq!(count(&server, "members"), "5");
    // Later versions must find the responses stored under a key.
    let hashed = "SELECT key FROM api_requests WHERE answer @> '{\"age\": 0}'";
    assert_eq!(server.sql(hashed), "093fbeae-e098-5a3f-bfb9-f9d6b06ac667");
}

#[test]
fn key_empty_long_nil_or_repeated_then_rejected() {
    let program = Program::without_database(&[]);
    let long = "x".repeat(256);

    for (path, _table, _status) in STORING {
        for (key, rule) in [
            ("", "length"),
            ("\"\"", "length"),
            (long.as_str(), "length"),
            ("00000000-0000-0000-0000-000000000000", "nil"),
        ] {
            let refused = post(&program, path, key, ANN);
            assert_eq!(refused.status, 400, "{path} {key}: {refused:?}");
            assert_eq!(refused.broken(), format!("Idempotency-Key: {rule}"));
        }
        let two = [("Idempotency-Key", KEY), ("Idempotency-Key", KEY)];
        assert_eq!(program.request("POST", path, &two, ANN).status, 400);
    }
}

#[test]
fn concurrent_requests_with_one_key_then_one_executed() {
    let server = Server::primary();
    let program = Program::before(&[&server], &[]);

    for (number, (path, table, status)) in STORING.into_iter().enumerate() {
        for round in 0..5 {
            let key = format!("7d3c1a52-0f5e-4c8e-9d2b-0000000000{round}{number}");
            let body = json!({"name": "Ann", "age": 30, "email": format!("ann@{round}")});
            let body = body.to_string();
            let answers: Vec<Answer> = thread::scope(|scope| {
                let ask = |_| scope.spawn(|| post(&program, path, &key, &body));
                let asking: Vec<_> = (0..8).map(ask).collect();
                asking
                    .into_iter()
                    .map(|client| client.join().unwrap())
                    .collect()
            });
            for answer in &answers {
                assert_eq!((answer.status, &answer.body), (status, &answers[0].body));
            }
            assert_eq!(count(&server, table), (round + 1).to_string());
        }
    }
}

#[test]
fn connection_lost_before_commit_then_one_row() {
    let server = Server::primary();
    let program = Program::before(&[&server], &PATIENT);
    // Delays the commit once.
    server.sql("CREATE TABLE hold (once integer)");
    server.sql(
        "CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN \
         IF EXISTS (SELECT FROM hold) THEN PERFORM pg_sleep(600); END IF; RETURN NULL; END $$",
    );
    for (_path, table, _status) in STORING {
        server.sql(&format!(
            "CREATE CONSTRAINT TRIGGER hold AFTER INSERT ON {table} \
             DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION hold()"
        ));
    }

    for (path, table, status) in STORING {
        server.sql("INSERT INTO hold VALUES (1)");
        let answer = thread::scope(|scope| {
            let asking = scope.spawn(|| program.post(path, ANN));
            let sleeping = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
            let mut held = String::new();
            eventually("the commit takes a while", || {
                held = server.sql(sleeping);
                !held.is_empty()
            });
            server.sql("DELETE FROM hold");
            terminate(&server, &held);
            asking.join().unwrap()
        });
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(count(&server, table), "1");
    }
}

#[test]
fn connection_lost_after_commit_then_one_row() {
    let server = Server::primary();
    let program = Program::before(&[&server], &PATIENT);
    server.forbid_expiry();

    for ((path, table, status), statement) in STORING.into_iter().zip(STATEMENTS) {
        // A commit is complete locally and waits for a standby that does not exist.
        server.commits_wait_for("nobody");
        let answer = thread::scope(|scope| {
            let asking = scope.spawn(|| program.post(path, ANN));
            let committed = wait_for(&server, statement);
            terminate(&server, &committed);
            // The retry has found the row, and waits for the standby too.
            assert_ne!(wait_for(&server, statement), committed);
            assert_eq!(count(&server, table), "1");
            assert!(!asking.is_finished());
            server.commits_wait_for("");
            asking.join().unwrap()
        });
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(count(&server, table), "1");
    }
    assert_eq!(program.metric("db_commit_unknown_total"), Some(3.0));
}

#[test]
fn requests_retried_across_failover_then_one_row_each() {
    let mut primary = Server::primary();
    let standby = Server::standby_of(&primary);
    primary.commits_wait_for("*");
    let program = Program::before(&[&primary, &standby], &[("REQUEST_TIMEOUT", "2")]);
    let stored = "http_requests_total{method=\"POST\",route=\"/members\",status=\"200\"}";
    let stored = || program.metric(stored).unwrap_or(0.0);

    let stop = AtomicBool::new(false);
    let acknowledged: Vec<String> = thread::scope(|scope| {
        let (program, stop) = (&program, &stop);
        let writers = [0, 1, 2, 3].map(|number| scope.spawn(move || store(program, number, stop)));
        eventually("requests are answered", || stored() > 50.0);
        primary.kill();
        standby.promote();
        let before = stored();
        eventually("requests are answered again", || stored() > before + 50.0);
        stop.store(true, Ordering::Relaxed);
        writers
            .into_iter()
            .flat_map(|writer| writer.join().unwrap())
            .collect()
    });

    let names = standby.sql("SELECT name FROM members ORDER BY name");
    let names: Vec<&str> = names.lines().collect();
    let once: BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!(names.len(), once.len(), "{names:?}");
    for name in acknowledged {
        assert!(once.contains(name.as_str()), "{name} is lost");
    }
}

/// Stores members with different names until stopped, and returns the acknowledged ones. Every
/// other one is sent with a key, until acknowledged.
fn store(program: &Program, writer: usize, stop: &AtomicBool) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let name = format!("{writer}-{number}");
        let body = json!({"name": name, "age": 1}).to_string();
        let key = uuid::Uuid::new_v4().to_string();
        let status = if number % 2 == 0 {
            let mut answer = post(program, "/members", &key, &body);
            while answer.status == 503 {
                answer = post(program, "/members", &key, &body);
            }
            answer.status
        } else {
            program.post("/members", &body).status
        };
        assert!(status == 200 || status == 503, "{name}: {status}");
        if status == 200 {
            acknowledged.push(name);
        }
    }
    acknowledged
}

#[test]
fn response_older_than_a_day_then_deleted() {
    let server = Server::primary();
    let program = Program::before(&[&server], &[]);
    assert_eq!(post(&program, "/members", KEY, ANN).status, 200);
    server.sql(
        "INSERT INTO api_requests SELECT gen_random_uuid(), route, body_sha256, status, answer, \
         now() - interval '25 hours' FROM api_requests, generate_series(1, 1500)",
    );
    drop(program);

    // Soon after its start, and again at once after a full batch.
    let program = Program::before(&[&server], &[]);

    eventually("the old ones are gone", || {
        count(&server, "api_requests") == "1"
    });
    assert_eq!(post(&program, "/members", KEY, BOB).status, 409);
}

/// Waits until a session has committed `statement` and waits for a standby, and returns its process
/// ID.
fn wait_for(server: &Server, statement: &str) -> String {
    let mut waiting = BTreeSet::new();
    eventually("a commit waits for a standby", || {
        waiting = server.waiting_commits(statement);
        match waiting.len() {
            1 => Ok(()),
            _ => Err(format!("`{statement}` in {waiting:?}")),
        }
    });
    waiting.pop_first().unwrap()
}

/// Terminates a backend, and waits until it has ended.
fn terminate(server: &Server, pid: &str) {
    server.sql(&format!("SELECT pg_terminate_backend({pid})"));
    let still = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}");
    eventually("it is gone", || server.sql(&still) == "0");
}
