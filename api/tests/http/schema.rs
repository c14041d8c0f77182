//! Bringing the schema up to date.

use std::thread;

use crate::postgres::{DATABASE, OWNER, SUPERUSER, Server, eventually, free_address};
use crate::program::{Program, borrowed, way_to};

#[test]
fn says_when_the_schema_is_up_to_date() {
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
fn ends_when_the_database_stays_away() {
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
fn ends_when_the_password_is_wrong_and_does_not_show_it() {
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
fn refuses_a_database_that_cannot_hold_every_name_and_touches_nothing() {
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
fn serves_a_database_that_keeps_bytes_as_they_come() {
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
fn waits_for_a_server_that_accepts_no_writes() {
    let primary = Server::primary();
    let standby = Server::standby_of(&primary);
    let program = Program::start_before(&[&standby], &[("DB_STARTUP_TIMEOUT", "2")]);

    // Each time after as long as it would wait for a server that is away.
    eventually("it waits, and goes on waiting", || {
        program.log().matches("accepts no writes yet").count() > 1
    });
    assert_eq!(program.get("/readyz").json()["database"]["role"], "standby");
    standby.promote();
    eventually("it goes on", || {
        program.log().contains("msg=SchemaUpToDate")
    });
    assert_eq!(program.put_date("John", "1990-06-15").status, 204);
}

#[test]
fn leaves_the_schema_alone_when_told_to() {
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
fn refuses_a_history_that_is_not_its_own_and_works_beside_a_newer_one() {
    let server = Server::primary();
    drop(Program::before(&[&server], &[]));

    server.sql("INSERT INTO schema_migrations (version, name, checksum) VALUES (99, 'later', 'x')");
    let beside = Program::before(&[&server], &[]);
    assert!(
        beside
            .log()
            .contains("the schema is newer than this program")
    );

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
fn makes_its_tables_where_the_owner_looks_first() {
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
fn programs_that_start_at_once_migrate_once() {
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
fn a_migration_waits_for_another_for_a_while_and_then_asks_anew() {
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
