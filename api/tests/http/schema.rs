//! Migration of the schema.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::postgres::{DATABASE, OWNER, SUPERUSER, Server, eventually, free_address};
use crate::program::{Program, borrowed, way_to};

#[test]
fn schema_up_to_date_then_logged() {
    let server = Server::primary();
    let first = Program::before(&[&server], &[]);
    let second = Program::before(&[&server], &[]);

    for program in [&first, &second] {
        assert!(
            program.log().contains(" level=info msg=SchemaUpToDate\n"),
            "{}",
            program.log()
        );
    }
    let applied =
        server.sql("SELECT version, name, length(checksum) FROM schema_migrations ORDER BY 1");
    assert_eq!(applied, "1|initial|64\n2|members_users_beers|64");
}

#[test]
fn database_absent_then_exits() {
    let port = free_address().port().to_string();
    let settings = [
        ("PGHOST", "127.0.0.1"),
        ("PGPORT", &port),
        ("DB_STARTUP_TIMEOUT", "500ms"),
    ];
    let mut program = Program::spawn(&settings);

    assert_eq!(program.wait().code(), Some(1));
    assert!(
        program
            .log()
            .contains(" level=error msg=FailedToConnectToDatabase "),
        "{}",
        program.log()
    );
}

#[test]
fn password_wrong_then_exits_without_showing_it() {
    let server = Server::primary();
    let settings = [("PGPASSWORD", "hunter2"), ("DB_STARTUP_TIMEOUT", "1")];
    let port = server.address.port().to_string();
    let mut program = Program::spawn(&[
        settings[0],
        settings[1],
        ("PGHOST", "127.0.0.1"),
        ("PGPORT", &port),
    ]);

    assert_eq!(program.wait().code(), Some(1));
    assert!(
        program.log().contains("password authentication failed"),
        "{}",
        program.log()
    );
    assert!(!program.log().contains("hunter2"), "{}", program.log());
}

#[test]
fn encoding_latin1_then_rejected_and_unchanged() {
    let server = Server::primary();
    server.sql(&format!(
        "CREATE DATABASE narrow OWNER {OWNER} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0"
    ));
    let way = way_to(&[&server], OWNER);
    let mut settings = borrowed(&way);
    settings.push(("PGDATABASE", "narrow"));
    let mut program = Program::run(&["migrate"], &settings);

    assert_eq!(program.wait().code(), Some(1));
    let log = program.log();
    assert!(log.contains("LATIN1"), "{log}");
    assert!(log.contains("ENCODING 'UTF8'"), "{log}");
    let count = "SELECT count(*) FROM pg_stat_user_tables";
    let tables = server.psql(SUPERUSER, &["-c", "\\connect narrow", "-c", count]);
    assert_eq!(tables.unwrap(), "0");
}

#[test]
fn sql_ascii_database_then_served() {
    let server = Server::primary();
    server.sql(&format!(
        "CREATE DATABASE bytes OWNER {OWNER} ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0"
    ));
    let program = Program::start_before(&[&server], &[("PGDATABASE", "bytes")]);

    let made = program.post("/members", r#"{"Name":"Zoë 東京 🎂","Age":30}"#);
    assert_eq!(made.status, 200, "{made:?}");
    assert_eq!(program.get("/members").json()[0]["Name"], "Zoë 東京 🎂");
}

#[test]
fn server_read_only_at_start_then_waits() {
    let primary = Server::primary();
    let standby = Server::standby_of(&primary);
    let program = Program::start_before(&[&standby], &[("DB_STARTUP_TIMEOUT", "2")]);

    // Longer than its wait for a server that is down.
    eventually("it waits, and goes on waiting", || {
        program.metric("db_read_only_seconds_total") > Some(4.0)
    });
    let log = program.log();
    assert!(
        log.contains("level=warn msg=\"no server accepts writes\""),
        "{log}"
    );
    assert_eq!(program.get("/readyz").json()["database"]["role"], "standby");
    standby.promote();
    eventually("it goes on", || {
        program.log().contains("msg=SchemaUpToDate")
    });
    assert_eq!(program.put_date("John", "1990-06-15").status, 204);
}

#[test]
fn migrations_disabled_then_schema_unchanged() {
    let server = Server::primary();
    let idle = Program::start_before(
        &[&server],
        &[("MIGRATE", "off"), ("DB_STARTUP_TIMEOUT", "10m")],
    );
    eventually("it sees the server", || {
        idle.get("/readyz").json()["database"]["writable"] == true
    });
    assert_eq!(idle.get("/readyz").status, 503);
    assert_eq!(server.sql("SELECT to_regclass('hello_users')"), "");

    let _other = Program::before(&[&server], &[]);
    eventually("it is ready", || idle.get("/readyz").status == 200);
}

#[test]
fn foreign_migrations_then_rejected_newer_then_accepted() {
    let server = Server::primary();
    drop(Program::before(&[&server], &[]));

    server.sql("INSERT INTO schema_migrations (version, name, checksum) VALUES (99, 'later', 'x')");
    let beside = Program::before(&[&server], &[]);
    assert!(beside.log().contains("schema newer than this program"));

    server.sql("UPDATE schema_migrations SET checksum = 'x' WHERE version = 1");
    let mut refused = Program::start_before(&[&server], &[]);
    assert_eq!(refused.wait().code(), Some(1));
    assert!(
        refused
            .log()
            .contains("migration 1 in the database is not the one in this program")
    );
}

#[test]
fn search_path_set_then_tables_in_first_schema() {
    let server = Server::primary();
    server.sql(&format!(
        "CREATE SCHEMA apart AUTHORIZATION {OWNER};
         ALTER ROLE {OWNER} IN DATABASE {DATABASE} SET search_path = apart"
    ));
    let program = Program::start_before(&[&server], &[]);
    eventually("the program is ready", || {
        program.get("/readyz").status == 200
    });

    let beer = "{\"name\":\"Yebisu\"}";
    assert_eq!(program.post("/beers", beer).status, 201);
    assert_eq!(server.sql("SELECT name FROM apart.beers"), "Yebisu");
    server.sql("UPDATE apart.api_requests SET at = now() - interval '2 days'");
    server.sql("SELECT FROM apart.expire_requests(10)");
    let left = server.sql("SELECT count(*) FROM apart.api_requests");
    assert_eq!(left, "0");
}

#[test]
fn concurrent_starts_then_one_migration() {
    let server = Server::primary();
    let way = way_to(&[&server], OWNER);
    let mut programs = [(); 5].map(|()| Program::run(&["migrate"], &borrowed(&way)));

    let mut applied = 0;
    for program in &mut programs {
        assert_eq!(program.wait().code(), Some(0), "{}", program.log());
        applied += program.log().matches("migration applied").count();
    }
    let recorded = server.sql("SELECT count(*) FROM schema_migrations");
    assert_eq!(applied.to_string(), recorded);
}

#[test]
fn migration_lock_held_then_waits_and_retries() {
    let server = Server::primary();
    let lock = format!("pg_advisory_lock({})", 0x6361_7573_6577_6179_i64);
    let way = way_to(&[&server], OWNER);

    thread::scope(|scope| {
        let held = scope.spawn(|| server.try_sql(&format!("SELECT {lock}; SELECT pg_sleep(600)")));
        eventually("another holds the lock", || {
            server.sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == "1"
        });
        let mut program = Program::run(&["migrate"], &borrowed(&way));
        eventually("it has waited for long enough", || {
            let log = program.log();
            log.contains("canceling statement due to lock timeout")
        });
        server.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'",
        );
        held.join().unwrap().unwrap_err();
        assert_eq!(program.wait().code(), Some(0), "{}", program.log());
    });
}

/// Runs `api migrate` on a database with the tables of an earlier service.
fn migrate_earlier(server: &Server, made: &str) -> (Option<i32>, String) {
    server.sql_as(OWNER, made).unwrap();
    let way = way_to(&[server], OWNER);
    let mut migration = Program::run(&["migrate"], &borrowed(&way));
    (migration.wait().code(), migration.log())
}

#[test]
fn tables_of_earlier_services_then_adopted_with_rows() {
    let server = Server::primary();
    server.sql(&format!("CREATE SCHEMA hello AUTHORIZATION {OWNER}"));
    // As 001's `sql/schema.sql`, gorm 1.21 and `SQLAlchemy` create them, and 003 its own.
    let (code, log) = migrate_earlier(
        &server,
        "CREATE TABLE users (id serial PRIMARY KEY, name varchar(255) NOT NULL,
                             email varchar(255) UNIQUE NOT NULL);
         INSERT INTO users (name, email) VALUES ('Ann', 'ann@example.com'), ('Bob', 'bob@example.com');
         CREATE TABLE members (created_at timestamptz, updated_at timestamptz, deleted_at timestamptz,
                               id text PRIMARY KEY, name text, age bigint);
         CREATE INDEX idx_members_deleted_at ON members (deleted_at);
         INSERT INTO members VALUES
             (now(), now(), NULL, '3f333df6-90a4-4fda-8dd3-9485d27cee36', 'Cem', 200),
             (now(), now(), now(), '3f333df6-90a4-4fda-8dd3-9485d27cee37', 'Dan', 30);
         CREATE TABLE beers (id serial PRIMARY KEY, name varchar NOT NULL, style varchar, abv varchar);
         INSERT INTO beers (name, style, abv) VALUES ('Kirin Ichiban', 'Pale Lager', '5.0%'),
                                                     ('Unknown', NULL, NULL);
         CREATE TABLE hello.usernames (id serial, username text UNIQUE, dateofbirth date);
         INSERT INTO hello.usernames (username, dateofbirth) VALUES ('Eve', '1990-06-15'), ('a b', NULL)",
    );
    assert_eq!(code, Some(0), "{log}");
    server.make_roles();
    let program = Program::before(&[&server], &[]);

    let users = program.get("/users").body;
    let ann = r#"[{"id":1,"name":"Ann","email":"ann@example.com"},"#;
    assert!(users.starts_with(ann), "{users}");
    assert_eq!(program.get("/users/2").json()["name"], "Bob");
    let email = format!("{}@example.com", "x".repeat(300));
    let made = program.post(
        "/users",
        &format!("{{\"name\":\"Fay\",\"email\":\"{email}\"}}"),
    );
    assert_eq!(
        (made.status, &made.json()["id"]),
        (200, &3.into()),
        "{made:?}"
    );
    let taken = program.post("/users", r#"{"name":"Eve","email":"ann@example.com"}"#);
    assert_eq!(taken.status, 409, "{taken:?}");

    let members = program.get("/members").json();
    assert_eq!(
        members.as_array().unwrap().len(),
        1,
        "a deleted one is not listed"
    );
    assert_eq!(
        (&members[0]["Name"], &members[0]["Age"]),
        (&"Cem".into(), &200.into())
    );
    assert_eq!(members[0]["ID"], "3f333df6-90a4-4fda-8dd3-9485d27cee36");
    assert_eq!(
        program.post("/members", r#"{"name":"Gus","age":3}"#).status,
        200
    );

    assert_eq!(program.request("POST", "/seed", &[], "").status, 200);
    let beers = program.get("/beers").json();
    assert_eq!(beers.as_array().unwrap().len(), 5, "{beers}");
    assert_eq!(
        (&beers[0]["id"], &beers[0]["abv"]),
        (&1.into(), &5.0.into())
    );
    assert_eq!(program.get("/hello/Eve").status, 200);
}

#[test]
fn table_constraint_violated_then_conflict_names_it() {
    let server = Server::primary();
    let (code, log) = migrate_earlier(
        &server,
        "CREATE TABLE users (id serial PRIMARY KEY, name varchar UNIQUE, email varchar UNIQUE);
         CREATE TABLE beers (id serial PRIMARY KEY, name varchar NOT NULL UNIQUE, style varchar, abv varchar,
                             CONSTRAINT mild CHECK (name <> 'Bock'), CHECK (name <> 'Yebisu'))",
    );
    assert_eq!(code, Some(0), "{log}");
    server.sql("ALTER TABLE beers ALTER style SET NOT NULL");
    server.make_roles();
    let program = Program::before(&[&server], &[]);

    let ann = r#"{"name":"Ann","email":"ann@example.com"}"#;
    assert_eq!(program.post("/users", ann).status, 200);
    for (path, body, rule) in [
        (
            "/users",
            r#"{"name":"Ann","email":"a@b"}"#,
            "users_name_key",
        ),
        ("/beers", r#"{"name":"Bock","style":"x"}"#, "mild"),
        ("/beers", r#"{"name":"Pils"}"#, "style"),
        ("/seed", "", "beers_name_check"),
    ] {
        for _again in 0..2 {
            let refused = program.post(path, body);
            assert_eq!(refused.status, 409, "{path}: {refused:?}");
            let problem = refused.json();
            assert_eq!(problem["type"], "/problems/constraint");
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.contains(&format!("`{rule}`")), "{detail}");
        }
    }
    // Two requests with one key are one, although the second finds the name of the first.
    for n in 0..20 {
        let key = format!("key-{n}");
        let body = format!(r#"{{"name":"Ale {n}","style":"x"}}"#);
        let create = || {
            let headers = [("Idempotency-Key", key.as_str())];
            program.request("POST", "/beers", &headers, &body)
        };
        let (one, other) = thread::scope(|scope| {
            let other = scope.spawn(create);
            (create(), other.join().unwrap())
        });
        assert_eq!((one.status, &one.body), (201, &other.body), "{other:?}");
    }
    assert!(!program.log().contains("statement rejected"));
}

#[test]
fn stored_birthday_invalid_then_others_stored() {
    let server = Server::primary();
    let program = Program::before(&[&server], &[]);
    server
        .sql("ALTER TABLE hello_users ADD CONSTRAINT recent CHECK (date_of_birth > '1900-01-01')");

    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for name in ["Methuselah", "Noah"] {
            let (program, stop) = (&program, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let refused = program.put_date(name, "1850-01-01");
                    assert_eq!(refused.status, 409, "{refused:?}");
                }
            });
        }
        let others = ["Ada", "Bob", "Cy", "Dan", "Eve", "Flo"].map(|name| {
            let program = &program;
            scope.spawn(move || {
                let puts = (0..50).map(|n| format!("19{:02}-06-16", 10 + n));
                puts.map(|date| program.put_date(name, &date).status)
                    .all(|status| status == 204)
            })
        });
        let stored = others.map(|client| client.join().unwrap());
        stop.store(true, Ordering::Relaxed);
        assert_eq!(stored, [true; 6]);
    });
}

#[test]
fn table_incompatible_then_error_with_remedy() {
    for (made, says, hint) in [
        (
            "CREATE TABLE users (username text, date_of_birth date)",
            "holds the birthdays of an earlier service",
            "ALTER TABLE users RENAME TO birthdays",
        ),
        (
            "CREATE TABLE users (id uuid PRIMARY KEY, name text, email text)",
            "the ids of `users` are uuid",
            "INSERT INTO users",
        ),
        (
            "CREATE TABLE members (id serial PRIMARY KEY, phone text)",
            "the table `members` is of another program",
            "ALTER TABLE members RENAME TO earlier_members",
        ),
        (
            "CREATE TABLE beers (id serial, name text, style text, abv text); \
             INSERT INTO beers (name, abv) VALUES ('Bock', 'strong')",
            "a beer is as strong as `strong`",
            "correct such values",
        ),
        (
            "CREATE TABLE members (created_at timestamptz, updated_at timestamptz, \
                                   deleted_at timestamptz, id text, name text, age bigint); \
             INSERT INTO members VALUES (now(), now(), NULL, gen_random_uuid(), repeat('x', 65537), 1)",
            "a value of `name` in `members` is longer than 64 KiB: `xxxx",
            "shorten such values",
        ),
        (
            "CREATE TABLE hello_users (id int)",
            "relation \\\"hello_users\\\" already exists",
            "",
        ),
    ] {
        let server = Server::primary();
        let began = Instant::now();
        let (code, log) = migrate_earlier(&server, made);
        assert_eq!(code, Some(1), "{log}");
        assert!(log.contains(says) && log.contains(hint), "{log}");
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "{:?}",
            began.elapsed()
        );
    }
}

#[test]
fn any_log_level_then_schema_up_to_date_logged() {
    let server = Server::primary();
    for level in ["warn", "error", "off", "api=debug"] {
        let program = Program::before(&[&server], &[("LOG_LEVEL", level)]);
        let log = program.log();
        assert!(
            log.contains(" level=info msg=SchemaUpToDate\n"),
            "{level}: {log}"
        );
    }
}
