//! Choice of the primary among servers of which several accept writes, or none.

use std::time::{Duration, Instant};

use crate::postgres::{PASSWORD, SERVICE, Server, eventually};
use crate::program::{Program, borrowed, way_to};

/// Starts the program with these servers as they are, and waits until it is ready.
fn start(servers: &[&Server]) -> Program {
    let way = way_to(servers, SERVICE);
    let mut settings = borrowed(&way);
    settings.push(("MIGRATE", "off"));
    let program = Program::start(&settings);
    eventually("the program is ready", || {
        program.get("/readyz").status == 200
    });
    program
}

fn stored(server: &Server, name: &str) -> String {
    server.sql(&format!(
        "SELECT date_of_birth FROM hello_users WHERE username = '{name}'"
    ))
}

fn split_brains(program: &Program) -> Option<f64> {
    program.metric("db_split_brain_total")
}

#[test]
fn two_writable_servers_then_newest_timeline_used() {
    let old = Server::primary();
    drop(Program::before(&[&old], &[]));
    let new = Server::standby_of(&old);
    new.promote();
    eventually("both accept writes", || {
        new.sql("SELECT pg_is_in_recovery()") == "f"
    });

    for (round, servers) in [[&old, &new], [&new, &old]]
        .iter()
        .cycle()
        .take(6)
        .enumerate()
    {
        let program = start(servers);
        let day = format!("1990-01-0{}", round + 1);
        assert_eq!(program.put_date("Zoe", &day).status, 204);
        assert_eq!(
            (stored(&new, "Zoe"), stored(&old, "Zoe")),
            (day, String::new())
        );
        let log = program.log();
        assert!(
            log.contains("level=warn msg=\"split-brain detected\""),
            "{log}"
        );
        assert_eq!(split_brains(&program), Some(1.0));
    }
}

#[test]
fn old_primary_returns_then_logged_and_never_used() {
    let mut old = Server::primary();
    let mut new = Server::standby_of(&old);
    let program = Program::before(
        &[&old, &new],
        &[("REQUEST_TIMEOUT", "3"), ("DB_STATEMENT_TIMEOUT", "2")],
    );
    assert_eq!(program.put_date("Zoe", "1990-01-01").status, 204);
    eventually("the standby has it", || stored(&new, "Zoe") == "1990-01-01");
    old.stop();
    new.promote();
    eventually("the new primary takes writes", || {
        program.put_date("Zoe", "1990-01-02").status == 204
    });
    assert_eq!(split_brains(&program), Some(0.0));

    old.start();
    eventually("the old one is seen", || {
        split_brains(&program) == Some(1.0)
    });
    assert_eq!(program.put_date("Zoe", "1990-01-03").status, 204);
    new.stop();
    let refused = program.put_date("Zoe", "1990-01-04");
    assert_eq!(refused.status, 503, "{refused:?}");
    eventually("the log says why", || {
        let log = program.log();
        log.contains("it is on timeline 1, and the last primary was on timeline 2")
            .then_some(())
            .ok_or(log)
    });
    assert_eq!(
        stored(&old, "Zoe"),
        "1990-01-01",
        "nothing was written there"
    );
    new.start();
    eventually("writes go on", || {
        program.put_date("Zoe", "1990-01-05").status == 204
    });
}

#[test]
fn newer_primary_found_then_used_although_old_responds() {
    let old = Server::primary();
    let mut new = Server::standby_of(&old);
    let program = Program::before(&[&old, &new], &[]);
    eventually("the standby has the tables", || {
        new.sql("SELECT count(*) FROM schema_migrations") == "2"
    });

    new.promote();

    eventually("writes go to the new one", || {
        assert_eq!(program.put_date("Zoe", "1990-01-01").status, 204);
        stored(&new, "Zoe") == "1990-01-01"
    });
    assert_eq!(split_brains(&program), Some(1.0));
    assert_eq!(program.metric("db_failovers_total"), Some(1.0));

    // The old one still accepts writes, and would lose them.
    new.kill();
    assert_eq!(program.put_date("Zoe", "1990-01-02").status, 503);
    assert_ne!(stored(&old, "Zoe"), "1990-01-02");
    new.start();
    eventually("writes go on", || {
        program.put_date("Zoe", "1990-01-03").status == 204
    });
    assert_eq!(stored(&new, "Zoe"), "1990-01-03");
}

#[test]
fn server_of_another_cluster_then_rejected() {
    let mut ours = Server::primary();
    let other = Server::of_another_cluster();
    drop(Program::before(&[&other], &[]));
    let program = Program::before(
        &[&ours, &other],
        &[("REQUEST_TIMEOUT", "3"), ("DB_STATEMENT_TIMEOUT", "2")],
    );
    assert_eq!(program.put_date("Zoe", "1990-01-01").status, 204);

    ours.stop();

    assert_eq!(program.put_date("Zoe", "1990-01-02").status, 503);
    eventually("the log says why", || {
        program.log().contains("it serves another database")
    });
    assert_eq!(stored(&other, "Zoe"), "");
    ours.start();
    eventually("writes go on", || {
        program.put_date("Zoe", "1990-01-02").status == 204
    });
}

/// Makes a server accept or reject writes, as managed services do when a disk is full.
fn set_read_only(server: &Server, setting: &str) {
    server.sql(&format!(
        "ALTER SYSTEM SET default_transaction_read_only = {setting}"
    ));
    server.sql("SELECT pg_reload_conf()");
    eventually("the setting is in force", || {
        server.sql("SHOW default_transaction_read_only") == setting
    });
}

#[test]
fn primary_read_only_then_reads_served() {
    let server = Server::primary();
    let program = Program::before(&[&server], &[]);
    assert_eq!(program.put_date("Zoe", "1990-01-01").status, 204);

    set_read_only(&server, "on");
    eventually("it is noticed", || {
        program.get("/readyz").json()["database"]["writable"] == false
    });
    for path in ["/hello/Zoe", "/users", "/members", "/beers"] {
        let began = Instant::now();
        let read = program.get(path);
        assert_eq!(read.status, 200, "{read:?}");
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "{path}: {:?}",
            began.elapsed()
        );
    }
    assert_eq!(program.get("/readyz").json()["database"]["role"], "primary");
    let again = start(&[&server]);
    assert_eq!(
        again.get("/hello/Zoe").status,
        200,
        "one that starts reads as well"
    );

    set_read_only(&server, "off");
    eventually("writes go on", || {
        program.put_date("Zoe", "1990-01-02").status == 204
    });
}

#[test]
fn only_a_standby_left_then_reads_refused_until_its_promotion() {
    let mut primary = Server::primary();
    let standby = Server::standby_of(&primary);
    let program = Program::before(&[&primary, &standby], &[("READY_DB_GRACE", "1")]);
    assert_eq!(program.put_date("Zoe", "1990-01-01").status, 204);
    eventually("the standby has it", || {
        stored(&standby, "Zoe") == "1990-01-01"
    });

    primary.kill();

    eventually("it is known that no failover is under way", || {
        let began = Instant::now();
        let refused = program.get("/hello/Zoe");
        assert_eq!(refused.json()["type"], "/problems/read-only", "{refused:?}");
        began.elapsed() < Duration::from_secs(5)
    });
    assert_eq!(program.get("/readyz").json()["database"]["role"], "standby");

    standby.promote();
    eventually("writes go on", || {
        program.put_date("Zoe", "1990-01-02").status == 204
    });
    assert_eq!(program.get("/hello/Zoe").status, 200);
}

#[test]
fn login_rejected_then_logged_and_retried_with_backoff() {
    let server = Server::primary();
    let program = Program::before(&[&server], &[]);
    server.sql("ALTER SYSTEM SET log_connections = on");
    server.sql("SELECT pg_reload_conf()");

    server.sql(&format!("ALTER ROLE {SERVICE} PASSWORD 'another'"));
    server.sql(&format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{SERVICE}'"
    ));

    eventually("the log says why", || {
        let log = program.log();
        let warned = |line: &str| {
            line.contains("level=warn") && line.contains("password authentication failed")
        };
        log.lines().any(warned).then_some(()).ok_or(log)
    });
    assert!(program.log().contains("level=warn msg=\"primary lost\""));
    let refused = || {
        server
            .log()
            .matches("password authentication failed")
            .count()
    };
    let before = refused();
    let began = Instant::now();
    eventually("five more were refused", || refused() >= before + 5);
    assert!(
        began.elapsed() > Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );

    server.sql(&format!("ALTER ROLE {SERVICE} PASSWORD '{PASSWORD}'"));
    eventually("writes go on", || {
        program.put_date("Zoe", "1990-01-02").status == 204
    });
}
