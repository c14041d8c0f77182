//! Reads share connections, writes share commits, and neither blocks the other.

use std::collections::BTreeSet;
use std::sync::Barrier;
use std::thread;

use crate::postgres::{PATIENT, SERVICE, Server, eventually};
use crate::program::Program;

/// Makes every commit of a request wait for a standby that does not exist.
fn commits_wait(server: &Server) {
    server.forbid_expiry();
    server.commits_wait_for("nobody");
}

fn commits_go_on(server: &Server) {
    server.sql("ALTER SYSTEM RESET synchronous_standby_names");
    server.sql("SELECT pg_reload_conf()");
}

/// Waits until a write of a birthday waits for a standby, and returns its session.
fn wait_for_a_write(server: &Server) -> String {
    let mut waiting = BTreeSet::new();
    eventually("a write waits", || {
        waiting = server.waiting_commits("hello_put");
        match waiting.len() {
            1 => Ok(()),
            _ => Err(format!("{waiting:?}")),
        }
    });
    waiting.pop_first().unwrap()
}

/// Encodes a number in letters.
fn name(number: u32) -> String {
    let letter = |number: u32| char::from(b'a' + u8::try_from(number % 26).unwrap());
    ['N', letter(number / 26), letter(number)].iter().collect()
}

#[test]
fn metrics_scraped_under_load_then_all_answered() {
    let server = Server::primary();
    let program = Program::before(&[&server], &[("DB_SHARED_CONNECTIONS", "8")]);
    assert_eq!(program.put_date("John", "1990-01-01").status, 204);
    // Each request tries the free slots.
    server.sql(&format!("ALTER ROLE {SERVICE} CONNECTION LIMIT 0"));
    server.sql(
        "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity
        WHERE query LIKE '%hello_get%' AND pid <> pg_backend_pid() OFFSET 1) AS others",
    );

    thread::scope(|scope| {
        for path in ["/hello/John", "/metrics"].into_iter().cycle().take(8) {
            let program = &program;
            scope.spawn(move || {
                for _ in 0..300 {
                    assert_eq!(program.get(path).status, 200, "{path}");
                }
            });
        }
    });
}

#[test]
fn concurrent_writes_then_one_commit_and_each_stored() {
    const WRITERS: u32 = 64;
    let server = Server::primary();
    let program = Program::before(&[&server], &PATIENT);
    commits_wait(&server);
    let all_sent = || program.metric("http_requests_in_flight") >= Some(f64::from(WRITERS));

    thread::scope(|scope| {
        let program = &program;
        let writers: Vec<_> = (0..WRITERS)
            .map(|number| scope.spawn(move || program.put_date(&name(number), "1990-01-01").status))
            .collect();
        eventually("all of them wait", all_sent);
        commits_go_on(&server);
        for writer in writers {
            assert_eq!(writer.join().unwrap(), 204);
        }
    });

    let stored = server.sql("SELECT count(*) FROM hello_users WHERE date_of_birth = '1990-01-01'");
    assert_eq!(stored, WRITERS.to_string());
    let statements = program
        .metric("db_query_duration_seconds_count{stmt=\"hello_put\"}")
        .unwrap();
    assert!(statements < 10.0, "{statements} statements");
}

#[test]
fn concurrent_writes_of_one_name_then_all_succeed() {
    let server = Server::primary();
    let program = Program::before(&[&server], &[]);
    let together = Barrier::new(16);

    thread::scope(|scope| {
        for day in 1..=16 {
            let (program, together) = (&program, &together);
            scope.spawn(move || {
                together.wait();
                let date = format!("1990-01-{day:02}");
                assert_eq!(program.put_date("John", &date).status, 204);
            });
        }
    });

    let rows = server.sql("SELECT count(*) FROM hello_users WHERE username = 'John'");
    assert_eq!(rows, "1");
}

#[test]
fn every_write_waits_then_reads_continue() {
    let server = Server::primary();
    let settings = [&PATIENT[..], &[("DB_POOL_MAX", "1")]].concat();
    let program = Program::before(&[&server], &settings);
    assert_eq!(program.put_date("John", "1990-01-01").status, 204);
    commits_wait(&server);
    let long_waits = || {
        let of_all = program.metric("db_pool_wait_seconds_count").unwrap();
        of_all
            - program
                .metric("db_pool_wait_seconds_bucket{le=\"1\"}")
                .unwrap()
    };
    assert!(long_waits() < 1.0);

    thread::scope(|scope| {
        let first = scope.spawn(|| program.put_date("Ann", "1990-01-01"));
        wait_for_a_write(&server);
        // The only write connection is in use, and a waiting write is rejected.
        let second = program.put_date("Bob", "1990-01-01");
        assert_eq!(
            (second.status, second.json()["type"].as_str()),
            (503, Some("/problems/overloaded"))
        );
        assert!((long_waits() - 1.0).abs() < 0.5, "{}", long_waits());
        assert_eq!(program.get("/hello/John").status, 200);
        commits_go_on(&server);
        assert_eq!(first.join().unwrap().status, 204);
    });
}

#[test]
fn table_locked_then_reads_of_others_not_delayed() {
    let server = Server::primary();
    // Long enough that the read is observed waiting, while another is answered.
    let settings = [("DB_SHARED_CONNECTIONS", "1"), ("REQUEST_TIMEOUT", "6s")];
    let program = Program::before(&[&server], &settings);

    thread::scope(|scope| {
        let locked =
            scope.spawn(|| server.try_sql("BEGIN; LOCK TABLE hello_users; SELECT pg_sleep(600)"));
        let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted";
        eventually("the table is locked", || {
            server.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'") == "1"
        });
        let greeted = scope.spawn(|| program.get("/hello/John").status);
        eventually("a read waits for it", || server.sql(waiting) != "0");

        assert_eq!(program.get("/users/1").status, 404);
        assert!(!greeted.is_finished());
        assert_eq!(greeted.join().unwrap(), 503);
        server.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'",
        );
        locked.join().unwrap().unwrap_err();
    });
    assert_eq!(program.get("/hello/John").status, 404);
}

#[test]
fn concurrent_reads_then_connections_shared() {
    let server = Server::primary();
    let program = Program::before(&[&server], &[("DB_SHARED_CONNECTIONS", "2")]);
    assert_eq!(program.put_date("John", "1990-01-01").status, 204);

    let together = Barrier::new(32);
    thread::scope(|scope| {
        for _reader in 0..32 {
            scope.spawn(|| {
                together.wait();
                for _ in 0..20 {
                    assert_eq!(program.get("/hello/John").status, 200);
                }
            });
        }
    });

    let readers = server
        .sql("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '-- hello_get%'")
        .parse::<u32>()
        .unwrap();
    assert!((1..=2).contains(&readers), "{readers}");
}

#[test]
fn shared_connection_lost_then_reads_use_another() {
    let server = Server::primary();
    let settings = [&PATIENT[..], &[("DB_SHARED_CONNECTIONS", "1")]].concat();
    let program = Program::before(&[&server], &settings);
    assert_eq!(program.put_date("John", "1990-01-01").status, 204);

    let statuses: BTreeSet<u16> = thread::scope(|scope| {
        let readers = [(); 8].map(|()| {
            scope.spawn(|| {
                let read = |_| program.get("/hello/John").status;
                (0..100).map(read).collect::<BTreeSet<u16>>()
            })
        });
        let reads =
            "http_requests_total{method=\"GET\",route=\"/hello/{username}\",status=\"200\"}";
        for share in [100.0, 300.0, 500.0] {
            eventually("reads run", || program.metric(reads) > Some(share));
            server.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                 WHERE application_name LIKE 'api/%'",
            );
        }
        readers
            .into_iter()
            .flat_map(|client| client.join().unwrap())
            .collect()
    });

    assert_eq!(statuses, BTreeSet::from([200]));
}

#[test]
fn commit_stops_waiting_for_standby_then_not_acknowledged() {
    let server = Server::primary();
    let program = Program::before(&[&server], &PATIENT);
    commits_wait(&server);

    thread::scope(|scope| {
        let write = scope.spawn(|| program.put_date("John", "1990-01-01"));
        let waiting = wait_for_a_write(&server);
        // PostgreSQL reports a success with the warning 01000.
        server.sql(&format!("SELECT pg_cancel_backend({waiting})"));
        let answer = write.join().unwrap();
        assert_eq!(
            (answer.status, answer.header("retry-after")),
            (503, "1"),
            "{answer:?}"
        );
    });

    assert_eq!(program.metric("db_commit_unknown_total"), Some(1.0));
}

#[test]
fn write_found_after_connection_loss_then_waits_for_standby() {
    let server = Server::primary();
    let program = Program::before(&[&server], &PATIENT);
    commits_wait(&server);

    thread::scope(|scope| {
        let write = scope.spawn(|| program.put_date("John", "1990-01-01"));
        let waiting = wait_for_a_write(&server);
        // The row is committed on this server, and its standby lacks it.
        server.sql(&format!("SELECT pg_terminate_backend({waiting})"));
        eventually("the row is there", || {
            server.sql("SELECT count(*) FROM hello_users") == "1"
        });
        assert_ne!(wait_for_a_write(&server), waiting);
        assert!(!write.is_finished());
        commits_go_on(&server);
        assert_eq!(write.join().unwrap().status, 204);
    });

    assert_eq!(program.metric("db_commit_unknown_total"), Some(1.0));
}

#[test]
fn many_timeouts_then_connections_and_primary_kept() {
    let server = Server::primary();
    // Long enough to open four connections, the limit for writes that create rows.
    let settings = [("DB_POOL_MAX", "8"), ("REQUEST_TIMEOUT", "4")];
    let program = Program::before(&[&server], &settings);
    let make = |number: u32| {
        program.post(
            "/members",
            &format!(r#"{{"Name":"{}","Age":7}}"#, name(number)),
        )
    };
    let waiting = || server.waiting_commits("member_create");
    commits_wait(&server);

    let held = thread::scope(|scope| {
        let crowd: Vec<_> = (0..12)
            .map(|number| scope.spawn(move || make(number)))
            .collect();
        eventually("every connection waits", || waiting().len() == 4);
        let held = waiting();
        for late in crowd {
            let answer = late.join().unwrap();
            assert_eq!((answer.status, answer.header("retry-after")), (503, "1"));
        }
        held
    });
    // Late statements are still awaited, on the same connections, and reads are served.
    assert_eq!(waiting(), held);
    assert_eq!(program.get("/hello/Nobody").status, 404);

    commits_go_on(&server);
    eventually("the commits have ended", || waiting().is_empty());
    for number in 100..104 {
        assert_eq!(make(number).status, 200);
    }
    let used = server.sql("SELECT pid FROM pg_stat_activity WHERE query LIKE '-- member_create%'");
    assert!(
        used.lines().all(|pid| held.contains(pid)),
        "{used} of {held:?}"
    );
    assert!(
        !program.log().contains("does not answer"),
        "{}",
        program.log()
    );
}
