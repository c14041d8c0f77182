//! A slow or blocked resource delays only the requests that need it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};

use crate::postgres::{PATIENT, Server, eventually};
use crate::program::Program;
use crate::writes::{DATES, Stop, backend};

#[test]
fn shared_backend_frozen_then_reads_use_another() {
    for (shared, readers) in [("4", 8), ("1", 8)] {
        let server = Server::primary();
        let settings = [&PATIENT[..], &[("DB_SHARED_CONNECTIONS", shared)]].concat();
        let program = Program::before(&[&server], &settings);
        assert_eq!(program.put_date("John", DATES[0]).status, 204);
        assert_eq!(program.get("/hello/John").status, 200);
        let frozen = backend(&server, "hello_get");

        kill(frozen, Signal::SIGSTOP).unwrap();
        thread::scope(|scope| {
            for _ in 0..readers {
                scope.spawn(|| {
                    for _ in 0..20 {
                        assert_eq!(program.get("/hello/John").status, 200);
                        assert_eq!(program.get("/users/1").status, 404);
                    }
                });
            }
        });
        kill(frozen, Signal::SIGCONT).unwrap();
    }
}

#[test]
fn row_locked_then_only_its_writes_wait() {
    let server = Server::primary();
    // A batch that waited for the lock until its timeout would be too late for all.
    let program = Program::before(&[&server], &[("REQUEST_TIMEOUT", "1900ms")]);
    for name in ["Locked", "Other"] {
        assert_eq!(program.put_date(name, DATES[0]).status, 204);
    }
    let stop = AtomicBool::new(false);

    thread::scope(|scope| {
        let locked = scope.spawn(|| {
            server.try_sql("BEGIN; UPDATE hello_users SET updated_at = now() WHERE username = 'Locked'; SELECT pg_sleep(600)")
        });
        let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        eventually("the row is locked", || server.sql(sleeping) == "1");
        let (stop, program, ending) = (&stop, &program, Stop(&stop));
        let waiting: Vec<_> = (0..16)
            .map(|turn| {
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let date = DATES[1 + turn % 2];
                        assert_eq!(program.put_date("Locked", date).status, 503);
                    }
                })
            })
            .collect();
        let others: Vec<_> = ["Ann", "Bob", "Cem", "Dan", "Eve", "Fay", "Gus", "Hal"]
            .map(|name| {
                scope.spawn(move || {
                    let dates = DATES.iter().cycle().take(30);
                    dates
                        .filter(|date| program.put_date(name, date).status != 204)
                        .count()
                })
            })
            .into();
        let refused: usize = others
            .into_iter()
            .map(|client| client.join().unwrap())
            .sum();
        drop(ending);
        for client in waiting {
            client.join().unwrap();
        }
        server.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'",
        );
        locked.join().unwrap().unwrap_err();
        assert_eq!(refused, 0, "of the writes of other names");
    });
    assert_eq!(program.put_date("Locked", DATES[2]).status, 204);
}

#[test]
fn one_request_kind_waits_then_others_served() {
    let server = Server::primary();
    let settings = [("DB_POOL_MAX", "5"), ("REQUEST_TIMEOUT", "1900ms")];
    let program = Program::before(&[&server], &settings);
    let user = r#"{"name":"Ann","email":"ann@example.com"}"#;

    thread::scope(|scope| {
        let held = scope.spawn(|| {
            server.try_sql("BEGIN; INSERT INTO users (name, email) VALUES ('Ann', 'ann@example.com'); SELECT pg_sleep(600)")
        });
        let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        eventually("the email is held", || server.sql(sleeping) == "1");
        let makers = [(); 12].map(|()| scope.spawn(|| program.post("/users", user).status));
        eventually("they wait", || {
            server.sql("SELECT count(*) FROM pg_locks WHERE NOT granted") != "0"
        });
        assert_eq!(program.put_date("John", DATES[0]).status, 204);
        assert_eq!(program.get("/members").status, 200);
        for maker in makers {
            assert_eq!(maker.join().unwrap(), 503);
        }
        assert_eq!(program.put_date("John", DATES[1]).status, 204);
        server.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'",
        );
        held.join().unwrap().unwrap_err();
    });
    // A rejected write may have been stored since.
    assert!([200, 409].contains(&program.post("/users", user).status));
}

/// Table that is locked until this value is dropped.
struct Unlock<'a>(&'a Server);

impl Drop for Unlock<'_> {
    fn drop(&mut self) {
        let asleep = "FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        self.0
            .sql(&format!("SELECT pg_terminate_backend(pid) {asleep}"));
    }
}

/// Locks a table during `meanwhile`.
fn while_locked(server: &Server, table: &str, meanwhile: impl FnOnce(Unlock<'_>)) {
    let lock = format!("BEGIN; LOCK TABLE {table}; SELECT pg_sleep(600)");
    let asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    thread::scope(|scope| {
        let locked = scope.spawn(|| server.try_sql(&lock));
        eventually("the table is locked", || server.sql(asleep) == "1");
        meanwhile(Unlock(server));
        locked.join().unwrap().unwrap_err();
    });
}

/// Sends many requests for a locked table, and others for other tables.
fn ask_beside_a_lock(table: &str, path: &str) {
    let server = Server::primary();
    let settings = [
        ("DB_POOL_MAX", "3"),
        ("DB_SHARED_CONNECTIONS", "2"),
        ("REQUEST_TIMEOUT", "2s"),
    ];
    let program = Program::before(&[&server], &settings);
    assert_eq!(program.put_date("John", DATES[0]).status, 204);
    let stop = AtomicBool::new(false);

    while_locked(&server, table, |_locked| {
        thread::scope(|scope| {
            let (stop, program) = (&stop, &program);
            let ending = Stop(stop);
            for _ in 0..60 {
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        assert_eq!(program.get(path).status, 503);
                    }
                });
            }
            eventually("one waits for the lock", || {
                server.sql("SELECT count(*) FROM pg_locks WHERE NOT granted") != "0"
            });
            for round in 0..20 {
                for other in ["/hello/John", "/beers"] {
                    let answer = program.get(other);
                    assert_eq!(answer.status, 200, "{other}: {answer:?}");
                }
                assert_eq!(program.put_date("John", DATES[round % 3]).status, 204);
            }
            drop(ending);
        });
    });
    assert_ne!(program.get(path).status, 503);
}

#[test]
fn members_locked_then_other_tables_served() {
    ask_beside_a_lock("members", "/members");
}

#[test]
fn users_locked_then_other_tables_served() {
    ask_beside_a_lock("users", "/users/1");
}

#[test]
fn retried_read_fails_then_retried_again() {
    let server = Server::primary();
    let settings = [&PATIENT[..], &[("DB_SHARED_CONNECTIONS", "1")]].concat();
    let program = Program::before(&[&server], &settings);
    assert_eq!(program.put_date("John", DATES[0]).status, 204);
    assert_eq!(program.get("/hello/John").status, 200);
    let frozen = backend(&server, "hello_get");

    kill(frozen, Signal::SIGSTOP).unwrap();
    while_locked(&server, "hello_users", |locked| {
        thread::scope(|scope| {
            let greeted = scope.spawn(|| program.get("/hello/John").status);
            eventually("it is sent again, and once more", || {
                program.metric("db_retries_total{reason=\"hedge\"}") >= Some(2.0)
            });
            drop(locked);
            assert_eq!(greeted.join().unwrap(), 200);
        });
    });
    kill(frozen, Signal::SIGCONT).unwrap();
}

#[test]
fn one_backend_kept_then_other_replaced_at_once() {
    const ROUNDS: usize = 8;
    let server = Server::primary();
    let settings = [
        ("DB_POOL_MAX", "3"),
        ("DB_STATEMENT_TIMEOUT", "500ms"),
        ("REQUEST_TIMEOUT", "3s"),
    ];
    let program = Program::before(&[&server], &settings);
    assert_eq!(program.get("/members").status, 200);
    // Its backend is another one, and the last that was used. A second deletion may have followed the first.
    eventually("old answers are deleted", || {
        server.sql(
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle' \
             AND query ~ '^-- requests_expire\\M'",
        ) == "1"
    });
    let frozen = backend(&server, "members_list");
    kill(frozen, Signal::SIGSTOP).unwrap();
    assert_eq!(program.get("/members").status, 503);

    let mut took = Duration::ZERO;
    for round in 0..ROUNDS {
        assert_eq!(program.put_date("John", DATES[round % 3]).status, 204);
        let backend = backend(&server, "hello_put");
        server.sql(&format!("SELECT pg_terminate_backend({backend}, 60000)"));
        let began = Instant::now();
        assert_eq!(program.put_date("John", DATES[(round + 1) % 3]).status, 204);
        took += began.elapsed();
    }
    kill(frozen, Signal::SIGCONT).unwrap();
    // Requests for a stuck backend would each wait for half a second, if it were used again.
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[test]
fn session_abandoned_then_terminated_unless_it_wrote() {
    let server = Server::primary();
    drop(Program::before(&[&server], &[]));
    let sessions = [
        (
            "wrote",
            "BEGIN; INSERT INTO members (name, age) VALUES ('Ann', 1)",
        ),
        ("read", "BEGIN; SELECT FROM members"),
    ];
    let ask = include_str!("../../src/store/queries/sessions_left.sql");
    let ask = ask.replace("$1::text[]", "'{wrote,read,gone}'::text[]");
    let ask = ask.replace("$2::text[]", "'{wrote,read,gone}'::text[]");
    let asleep = "FROM pg_stat_activity WHERE wait_event = 'PgSleep'";

    thread::scope(|scope| {
        for (name, sql) in sessions {
            let sql = format!("SET application_name = {name}; {sql}; SELECT pg_sleep(600)");
            let server = &server;
            scope.spawn(move || server.try_sql(&sql).unwrap_err());
        }
        eventually("both are there", || {
            server.sql(&format!("SELECT count(*) {asleep}")) == "2"
        });
        let left = server.sql(&ask);
        assert_eq!(left.lines().count(), 2, "{left}");
        assert!(left.contains("read|t"), "{left}");
        eventually("what only read has ended", || {
            server.sql(&format!("SELECT application_name {asleep}")) == "wrote"
        });
        server.sql(&format!("SELECT pg_terminate_backend(pid) {asleep}"));
    });
}
