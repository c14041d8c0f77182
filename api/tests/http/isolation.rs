//! What is slow or stuck slows the requests that need it, and no others.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::sys::signal::{Signal, kill};

use crate::postgres::{PATIENT, Server, eventually};
use crate::program::Program;
use crate::writes::{DATES, Stop, backend};

#[test]
fn shared_backend_frozen_then_reads_are_answered_elsewhere() {
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
fn row_locked_then_only_its_own_writes_wait() {
    let server = Server::primary();
    // A batch that waited for the lock, for as long as it may, would be too late for all.
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
                        .filter(|it| program.put_date(name, it).status != 204)
                        .count()
                })
            })
            .into();
        let refused: usize = others.into_iter().map(|it| it.join().unwrap()).sum();
        drop(ending);
        for it in waiting {
            it.join().unwrap();
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
fn one_kind_waits_then_others_are_served() {
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
    // One that was refused may have been stored since.
    assert!([200, 409].contains(&program.post("/users", user).status));
}
