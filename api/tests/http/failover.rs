//! Failover during writes: each is answered, and acknowledged ones are stored.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use nix::sys::signal::Signal;

use crate::postgres::{PATIENT, Server, eventually};
use crate::program::Program;

/// Responses to a writer, each with its time and the written day.
struct Answered {
    at: Instant,
    status: u16,
    retry_after: String,
    written: String,
}

/// Writes one day after another until stopped, and records each response.
fn write(program: &Program, name: &str, stop: &AtomicBool) -> Vec<Answered> {
    let mut answers = Vec::new();
    let mut days =
        (1000..2000).flat_map(|year| (1..=28).map(move |day| format!("{year}-01-{day:02}")));
    while !stop.load(Ordering::Relaxed) {
        let day = days.next().unwrap();
        let answer = program.put_date(name, &day);
        answers.push(Answered {
            at: Instant::now(),
            status: answer.status,
            retry_after: answer.header("retry-after").to_owned(),
            written: day,
        });
    }
    answers
}

/// Runs writers during `break_it` and for a while after it. Returns their responses, and prints the
/// time from the return of `break_it` to the first acknowledged write.
fn while_writing(program: &Program, break_it: impl FnOnce() -> Instant) -> Vec<Vec<Answered>> {
    const WRITERS: [&str; 4] = ["Ann", "Bob", "Cem", "Dan"];
    let stop = AtomicBool::new(false);
    let acknowledged =
        "http_requests_total{method=\"PUT\",route=\"/hello/{username}\",status=\"204\"}";
    thread::scope(|scope| {
        let stop = &stop;
        let writers = WRITERS.map(|writer| scope.spawn(move || write(program, writer, stop)));
        eventually("writes run", || program.metric(acknowledged) > Some(20.0));
        let mended = break_it();
        let before = program.metric(acknowledged).unwrap();
        eventually("writes run again", || {
            program.metric(acknowledged).unwrap() > before + 20.0
        });
        stop.store(true, Ordering::Relaxed);
        let answers: Vec<Vec<Answered>> = writers
            .into_iter()
            .map(|writer| writer.join().unwrap())
            .collect();
        let again = answers
            .iter()
            .flatten()
            .filter(|answer| answer.status == 204 && answer.at > mended)
            .map(|answer| answer.at.duration_since(mended))
            .min();
        eprintln!("measured: written again after {:?}", again.unwrap());
        answers
    })
}

/// Returns the number of writes that were not acknowledged.
fn refused(answers: &[Vec<Answered>]) -> usize {
    let all = answers.iter().flatten();
    all.filter(|answer| answer.status != 204).count()
}

/// Checks that all responses are 204 or 503, and that the server has the last acknowledged day of
/// each writer, or one sent later.
fn judge(answers: &[Vec<Answered>], names_and_days: &str) {
    for (of_writer, name) in answers.iter().zip(["Ann", "Bob", "Cem", "Dan"]) {
        for answer in of_writer {
            let honest =
                answer.status == 204 || (answer.status == 503 && answer.retry_after == "1");
            assert!(honest, "{} answered for {}", answer.status, answer.written);
        }
        let last = of_writer
            .iter()
            .rfind(|answer| answer.status == 204)
            .unwrap();
        let stored = names_and_days
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name}|")))
            .unwrap();
        assert!(
            stored >= last.written.as_str(),
            "{name}: {stored} < {}",
            last.written
        );
    }
}

fn stored(server: &Server) -> String {
    server.sql("SELECT username, date_of_birth FROM hello_users ORDER BY 1")
}

/// Makes commits wait for the standby, so that an acknowledged write is on both.
fn synchronous(primary: &Server) {
    primary.commits_wait_for("*");
    eventually("the standby is synchronous", || {
        primary.sql("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") == "1"
    });
}

#[test]
fn primary_killed_and_standby_promoted_then_writes_resume() {
    let mut primary = Server::primary();
    let standby = Server::standby_of(&primary);
    let program = Program::before(&[&primary, &standby], &PATIENT);
    synchronous(&primary);

    let answers = while_writing(&program, || {
        primary.kill();
        standby.promote();
        Instant::now()
    });

    judge(&answers, &stored(&standby));
    assert_eq!(program.metric("db_failovers_total"), Some(1.0));
    assert_eq!(refused(&answers), 0, "a failover is only a slow answer");
}

#[test]
fn primary_frozen_then_responding_server_used() {
    let primary = Server::primary();
    let standby = Server::standby_of(&primary);
    // The statement timeout (5 s) expires long before a request's.
    let program = Program::before(&[&primary, &standby], &[("REQUEST_TIMEOUT", "60")]);
    synchronous(&primary);

    let answers = while_writing(&program, || {
        primary.freeze(Signal::SIGSTOP);
        standby.promote();
        Instant::now()
    });

    judge(&answers, &stored(&standby));
    assert_eq!(
        refused(&answers),
        0,
        "what waited on the frozen server was repeated on the other"
    );
    primary.freeze(Signal::SIGCONT);
}

#[test]
fn primary_restarted_then_unreplicated_row_not_acknowledged() {
    let server = Server::primary();
    let settings = [("DB_POOL_MAX", "1"), ("REQUEST_TIMEOUT", "3")];
    let program = Program::before(&[&server], &settings);
    server.forbid_expiry();
    server.commits_wait_for("nobody");
    // As after a restart: the row is visible, and its commit never waited for a standby.
    server.sql(
        "SET synchronous_commit = local;
        INSERT INTO hello_users (username, date_of_birth) VALUES ('Ann', '1990-01-01')",
    );

    assert_eq!(program.put_date("Ann", "1990-01-01").status, 503);

    server.commits_wait_for("");
    eventually("it is acknowledged once commits go on", || {
        program.put_date("Ann", "1990-01-01").status == 204
    });
    server.commits_wait_for("nobody");
    let pure_read = program.put_date("Ann", "1990-01-01");
    assert_eq!(pure_read.status, 204, "it is on the standby by now");
}

#[test]
fn primary_returns_as_standby_then_not_used() {
    let mut primary = Server::primary();
    let mut standby = Server::standby_of(&primary);
    let program = Program::before(&[&primary, &standby], &[]);
    assert_eq!(program.put_date("Zoe", "1990-01-01").status, 204);

    let answers = while_writing(&program, || {
        primary.stop();
        standby.promote();
        Instant::now()
    });
    judge(&answers, &stored(&standby));

    // The other way round, with the open connections.
    standby.stop();
    standby.configure("default_transaction_read_only = on\n");
    standby.start();
    let refused = program.put_date("Zoe", "1990-01-02");
    assert_eq!(refused.status, 503, "{refused:?}");
    assert_eq!(refused.json()["type"], "/problems/read-only");
    // The old primary accepts writes on an ancestor timeline: they would be lost.
    primary.start();
    assert_eq!(program.put_date("Zoe", "1990-01-03").status, 503);
    standby.sql("ALTER SYSTEM RESET default_transaction_read_only");
    standby.sql("SELECT pg_reload_conf()");
    eventually("writes go on", || {
        program.put_date("Zoe", "1990-01-03").status == 204
    });
    assert!(stored(&standby).contains("Zoe|1990-01-03"));
}

#[test]
fn primary_restarted_then_response_only_delayed() {
    let mut server = Server::primary();
    let program = Program::before(&[&server], &PATIENT);

    let answers = while_writing(&program, || {
        server.stop();
        server.start();
        Instant::now()
    });

    judge(&answers, &stored(&server));
    assert_eq!(refused(&answers), 0);
    assert_eq!(program.metric("db_failovers_total"), Some(0.0));
}

#[test]
fn primary_paused_then_response_only_delayed() {
    let server = Server::primary();
    let program = Program::before(&[&server], &PATIENT);

    let answers = while_writing(&program, || {
        server.freeze(Signal::SIGSTOP);
        eventually("the pause is noticed", || {
            program.get("/readyz").json()["database"]["writable"] == false
        });
        server.freeze(Signal::SIGCONT);
        Instant::now()
    });

    judge(&answers, &stored(&server));
    assert_eq!(refused(&answers), 0);
}

#[test]
fn write_waits_for_standby_then_not_acknowledged() {
    let server = Server::primary();
    let program = Program::before(
        &[&server],
        &[("REQUEST_TIMEOUT", "2"), ("DB_STATEMENT_TIMEOUT", "500ms")],
    );
    server.commits_wait_for("nobody");

    for _attempt in 0..2 {
        let answer = program.put_date("John", "1990-01-01");
        assert_eq!(
            (answer.status, answer.header("retry-after")),
            (503, "1"),
            "{answer:?}"
        );
    }
    assert_eq!(server.sql("SELECT count(*) FROM hello_users"), "0");
    assert!(program.metric("db_commit_unknown_total") > Some(0.0));
}

#[test]
fn table_locked_for_long_then_error_response() {
    let server = Server::primary();
    let program = Program::before(&[&server], &[("REQUEST_TIMEOUT", "3")]);
    assert_eq!(program.put_date("John", "1990-01-01").status, 204);

    thread::scope(|scope| {
        let locked =
            scope.spawn(|| server.try_sql("BEGIN; LOCK TABLE hello_users; SELECT pg_sleep(600)"));
        eventually("the table is locked", || {
            let locks = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' \
                         AND granted AND relation = 'hello_users'::regclass";
            server.sql(locks) == "1"
        });
        let readers = [(); 2].map(|()| scope.spawn(|| program.get("/hello/John")));
        for reader in readers {
            let answer = reader.join().unwrap();
            assert_eq!(
                (answer.status, answer.header("retry-after")),
                (503, "1"),
                "{answer:?}"
            );
        }
        server.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'",
        );
        locked.join().unwrap().unwrap_err();
    });
    assert_eq!(program.get("/hello/John").status, 200);
}

#[test]
fn one_backend_terminated_then_no_request_fails() {
    let server = Server::primary();
    let program = Program::before(&[&server], &PATIENT);

    let answers = while_writing(&program, || {
        server.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE application_name LIKE 'api/%' LIMIT 3",
        );
        Instant::now()
    });

    judge(&answers, &stored(&server));
    assert!(answers.iter().flatten().all(|answer| answer.status == 204));
}

#[test]
fn host_drops_packets_then_no_delay() {
    let server = Server::primary();
    // The queue of this listener is full, and the kernel drops new connections.
    let deaf = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    deaf.bind(
        &"127.0.0.1:0"
            .parse::<std::net::SocketAddr>()
            .unwrap()
            .into(),
    )
    .unwrap();
    deaf.listen(0).unwrap();
    let address = deaf.local_addr().unwrap().as_socket().unwrap();
    let _fill: Vec<_> = (0..4)
        .map(|_| {
            let socket =
                socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket.connect(&address.into()).ok();
            socket
        })
        .collect();
    let ports = format!("{},{}", address.port(), server.address.port());
    // If the program waited for it, requests would exceed their own timeouts.
    let program = Program::start(&[
        ("PGHOST", "127.0.0.1,127.0.0.1"),
        ("PGPORT", &ports),
        ("PGPASSWORD", crate::postgres::PASSWORD),
        ("DB_CONNECT_TIMEOUT", "10m"),
        ("DB_STARTUP_TIMEOUT", "60"),
        ("REQUEST_TIMEOUT", "60"),
    ]);

    let began = Instant::now();
    assert_eq!(program.put_date("John", "1990-01-01").status, 204);
    eprintln!("measured: answered after {:?}", began.elapsed());
}
