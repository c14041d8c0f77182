//! Cache of the users, with a real Redis server that stops, freezes and loses data.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::postgres::{Server, eventually};
use crate::program::{Answer, Program};
use crate::redis::{Redis, authority};

/// For tests of the response and not of its time: a busy machine must not look like a failure.
const PATIENT: [(&str, &str); 2] = [("REDIS_CONNECT_TIMEOUT", "5s"), ("REDIS_TIMEOUT", "5s")];

const DEBUG: [(&str, &str); 1] = [("LOG_LEVEL", "debug")];

/// Each session begins a generation of its own, even the second one after the first has stored a
/// list.
fn both_use_the_cache(here: &Program, there: &Program) {
    for program in [here, there, here] {
        eventually("the cache is used", || source(program, "/users") == "HIT");
    }
}

fn before(server: &Server, redis: &Redis, settings: &[(&str, &str)]) -> Program {
    let port = redis.address.port().to_string();
    let mut all = vec![("REDIS_HOST", "127.0.0.1"), ("REDIS_PORT", port.as_str())];
    all.extend_from_slice(settings);
    Program::before(&[server], &all)
}

fn create(program: &Program, name: &str) -> Answer {
    let body = json!({"name": name, "email": format!("{name}@example.com")}).to_string();
    let answer = program.post("/users", &body);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer
}

/// Returns the source of a response.
fn source(program: &Program, path: &str) -> String {
    let answer = program.get(path);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.header("x-cache").to_owned()
}

fn names(program: &Program) -> Vec<String> {
    let list = program.get("/users");
    assert_eq!(list.status, 200, "{list:?}");
    let users = list.json();
    let names = users.as_array().unwrap().iter();
    names
        .map(|user| user["name"].as_str().unwrap().to_owned())
        .collect()
}

fn cache_status(program: &Program) -> String {
    let ready = program.get("/readyz");
    assert_eq!(
        ready.status, 200,
        "the cache is no reason not to be ready: {ready:?}"
    );
    ready.json()["cache"].as_str().unwrap().to_owned()
}

#[test]
fn list_above_cache_limit_then_not_cached_and_source_in_header() {
    let (server, redis) = (Server::primary(), Redis::start());
    let program = before(&server, &redis, &PATIENT);
    server.sql(
        "INSERT INTO users (name, email)
        SELECT repeat('x', 250), n || '@example.com' FROM generate_series(1, 3000) AS n",
    );

    for _ in 0..2 {
        assert_eq!(source(&program, "/users"), "MISS");
    }
    assert_eq!(source(&program, "/users/1"), "MISS");
    assert_eq!(source(&program, "/users/1"), "HIT");
    for nobody in ["3001", "0", "-1", "99999999999999999999"] {
        let answer = program.get(&format!("/users/{nobody}"));
        assert_eq!(answer.status, 404, "{nobody}");
        assert_ne!(answer.header("x-cache"), "", "{nobody}");
    }
}

#[test]
fn read_repeated_then_cache_hit() {
    let (server, redis) = (Server::primary(), Redis::start());
    let program = before(&server, &redis, &PATIENT);
    let ann = create(&program, "ann");
    let began = Instant::now();

    assert_eq!(source(&program, "/users/1"), "MISS");
    let second = program.get("/users/1");
    assert_eq!(second.header("x-cache"), "HIT");
    assert_eq!(second.body, ann.body);
    assert_eq!(source(&program, "/users"), "MISS");
    let list = program.get("/users");
    assert_eq!(list.header("x-cache"), "HIT");
    assert_eq!(list.body, format!("[{}]", ann.body));

    for key in ["user:1", "users:all"] {
        let left: u64 = redis.run(&["PTTL", key]);
        let left = Duration::from_millis(left);
        // A minute, plus or minus a tenth, of which some has passed.
        let at_most = left + began.elapsed();
        let is_right = left <= Duration::from_secs(66) && at_most >= Duration::from_secs(54);
        assert!(is_right, "{key} for {left:?} to {at_most:?}");
    }
    // A partial list is not cached, and neither is an absence.
    assert_eq!(source(&program, "/users?limit=5"), "BYPASS");
    for _ in 0..2 {
        let nobody = program.get("/users/7");
        assert_eq!((nobody.status, nobody.header("x-cache")), (404, "MISS"));
    }
    let keys: Vec<String> = redis.run(&["KEYS", "*"]);
    assert_eq!(keys.len(), 3, "{keys:?}");

    assert_eq!(cache_status(&program), "ok");
    let count =
        |result: &str| program.metric(&format!("cache_requests_total{{result=\"{result}\"}}"));
    assert_eq!(count("hit"), Some(2.0));
    assert_eq!(count("miss"), Some(4.0));
    assert_eq!(count("bypass"), Some(1.0));
    assert_eq!(program.metric("cache_breaker_open"), Some(0.0));
}

#[test]
fn no_redis_then_every_read_bypasses_cache() {
    let server = Server::primary();
    let program = Program::before(&[&server], &[]);
    create(&program, "ann");
    for path in ["/users", "/users/1"] {
        assert_eq!(source(&program, path), "BYPASS");
    }
    assert_eq!(cache_status(&program), "off");
}

#[test]
fn row_written_then_read_by_every_replica() {
    let (server, redis) = (Server::primary(), Redis::start());
    let here = before(&server, &redis, &PATIENT);
    let there = before(&server, &redis, &PATIENT);
    both_use_the_cache(&here, &there);
    for name in ["ann", "bob", "cid"] {
        assert!(names(&there).len() < 3);
        assert_eq!(source(&there, "/users"), "HIT");
        create(&here, name);
        assert_eq!(names(&there).last().unwrap(), name);
        assert_eq!(source(&here, "/users"), "HIT");
    }
}

#[test]
fn stale_value_cached_after_write_then_ignored() {
    let (server, redis) = (Server::primary(), Redis::start());
    let program = before(&server, &redis, &PATIENT);
    assert!(names(&program).is_empty());
    let read_by_a_slow_reader: String = redis.run(&["GET", "users:all"]);

    create(&program, "ann");
    redis.run::<()>(&["SET", "users:all", &read_by_a_slow_reader]);
    assert_eq!(names(&program), ["ann"]);
}

#[test]
fn cached_value_lost_or_corrupt_then_miss_and_then_hit() {
    let (server, redis) = (Server::primary(), Redis::start());
    let program = before(&server, &redis, &PATIENT);
    create(&program, "ann");
    let damages: [(&str, &[&[&str]]); 9] = [
        ("/users", &[&["FLUSHALL"]]),
        ("/users", &[&["DEL", "users:gen"]]),
        ("/users", &[&["SET", "users:gen", "1"]]),
        ("/users", &[&["SET", "users:gen", "many"]]),
        (
            "/users",
            &[
                &["SET", "users:gen", "9223372036854775807"],
                &["INCR", "users:none"],
            ],
        ),
        (
            "/users",
            &[&["DEL", "users:gen"], &["LPUSH", "users:gen", "1"]],
        ),
        ("/users/1", &[&["FLUSHALL"]]),
        ("/users/1", &[&["DEL", "user:1"], &["LPUSH", "user:1", "1"]]),
        ("/users/1", &[&["SET", "user:1", "{\"label\":"]]),
    ];
    for (path, damage) in damages {
        source(&program, path);
        assert_eq!(source(&program, path), "HIT", "before {damage:?}");
        for command in damage {
            redis.run::<redis::Value>(command);
        }
        assert_eq!(source(&program, path), "MISS", "{damage:?}");
        assert_eq!(source(&program, path), "HIT", "{damage:?}");
    }
    assert_eq!(cache_status(&program), "ok");

    // A writer observes the same, and earlier cached values are invalid too.
    for damage in [&["DEL", "users:gen"][..], &["SET", "users:gen", "many"]] {
        let before = names(&program);
        redis.run::<redis::Value>(damage);
        create(&program, &format!("after{}", before.len()));
        assert_eq!(names(&program).len(), before.len() + 1, "{damage:?}");
    }
}

#[test]
fn redis_restarts_empty_then_cache_refilled() {
    let (server, mut redis) = (Server::primary(), Redis::start());
    let program = before(&server, &redis, &PATIENT);
    create(&program, "ann");
    source(&program, "/users/1");
    assert_eq!(source(&program, "/users/1"), "HIT");

    redis.kill();
    eventually("it is given up", || {
        assert_eq!(source(&program, "/users/1"), "BYPASS");
        program.metric("cache_breaker_open") == Some(1.0)
    });
    assert_eq!(cache_status(&program), "degraded");
    create(&program, "bob");
    assert_eq!(names(&program), ["ann", "bob"]);

    redis.start_again();
    eventually("the cache is used again", || {
        source(&program, "/users/1") == "HIT"
    });
    eventually("it is well", || cache_status(&program) == "ok");
    assert_eq!(program.metric("cache_breaker_open"), Some(0.0));
    assert_eq!(names(&program), ["ann", "bob"]);
}

#[test]
fn snapshot_older_than_write_then_not_cached() {
    let (server, mut redis) = (Server::primary(), Redis::start());
    let here = before(&server, &redis, &PATIENT);
    let there = before(&server, &redis, &PATIENT);
    both_use_the_cache(&here, &there);
    redis.run::<()>(&["SAVE"]);
    create(&here, "ann");

    // Its generation and its empty list match, although it received no invalidation.
    redis.kill();
    redis.start_again();
    let restored: String = redis.run(&["GET", "users:all"]);
    assert!(restored.ends_with("\"value\":[]}"), "{restored}");
    for program in [&there, &here] {
        eventually("the cache is used again", || {
            assert_eq!(names(program), ["ann"]);
            source(program, "/users") == "HIT"
        });
    }
}

#[test]
fn redis_frozen_then_requests_not_delayed() {
    const TIMEOUT: Duration = Duration::from_secs(1);
    let (server, redis) = (Server::primary(), Redis::start());
    // Long enough that a wait is visible.
    let timeouts = [("REDIS_CONNECT_TIMEOUT", "1s"), ("REDIS_TIMEOUT", "1s")];
    let program = before(&server, &redis, &timeouts);
    create(&program, "ann");
    eventually("the cache is used", || {
        source(&program, "/users/1") == "HIT"
    });

    redis.freeze(Signal::SIGSTOP);
    let began = Instant::now();
    for _ in 0..100 {
        assert_eq!(source(&program, "/users/1"), "BYPASS");
    }
    // The first few wait for a timeout each, and an occasional reconnect; the others do not.
    let took = began.elapsed();
    assert!(took >= TIMEOUT, "nobody found out: {took:?}");
    assert!(took < 50 * TIMEOUT, "100 requests took {took:?}");
    create(&program, "bob");
    assert_eq!(names(&program), ["ann", "bob"]);
    assert_eq!(cache_status(&program), "degraded");

    redis.freeze(Signal::SIGCONT);
    eventually("the cache is used again", || {
        source(&program, "/users/1") == "HIT"
    });
    assert_eq!(names(&program), ["ann", "bob"]);
}

#[test]
fn invalidation_failed_then_retried() {
    let (server, redis) = (Server::primary(), Redis::start());
    let here = before(&server, &redis, &[]);
    let there = before(&server, &redis, &PATIENT);
    eventually("the list is kept", || {
        assert!(names(&there).is_empty());
        source(&there, "/users") == "HIT"
    });

    redis.run::<()>(&["CLIENT", "PAUSE", "600000", "WRITE"]);
    create(&here, "ann");
    assert_eq!(names(&here), ["ann"]);
    assert_eq!(source(&here, "/users"), "BYPASS");
    assert!(
        here.log().contains("cache invalidation failed"),
        "{}",
        here.log()
    );
    redis.run::<()>(&["CLIENT", "UNPAUSE"]);
    // Before the list expires: no write has happened since.
    eventually("the other replica is told", || names(&there) == ["ann"]);
    eventually("this one uses the cache again", || {
        source(&here, "/users") == "HIT"
    });
}

#[test]
fn writes_continue_then_nine_of_ten_reads_are_hits() {
    const USERS: usize = 500;
    const WRITES: usize = 60;
    let (server, redis) = (Server::primary(), Redis::start());
    let program = before(&server, &redis, &PATIENT);
    server.sql(
        "INSERT INTO users (name, email)
        SELECT 'x', n || '@example.com' FROM generate_series(1, 500) AS n",
    );
    let user = |id: usize| program.get(&format!("/users/{id}"));
    for id in 1..=USERS {
        assert_eq!(user(id).status, 200);
    }

    let is_over = AtomicBool::new(false);
    let sources = thread::scope(|scope| {
        let read = || {
            let mut sources = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                let answer = user(rand::random_range(1..=USERS));
                sources.push(answer.header("x-cache").to_owned());
            }
            sources
        };
        let readers: Vec<_> = (0..12).map(|_| scope.spawn(read)).collect();
        let began = Instant::now();
        for nth in 1..=WRITES {
            create(&program, &format!("new{nth}"));
            // Twenty a second: a load without waits.
            let next = Duration::from_millis(50) * u32::try_from(nth).unwrap();
            thread::sleep(next.saturating_sub(began.elapsed()));
        }
        is_over.store(true, Ordering::Relaxed);
        let read = readers
            .into_iter()
            .flat_map(|reader| reader.join().unwrap());
        read.collect::<Vec<_>>()
    });
    let hits = sources.iter().filter(|source| *source == "HIT").count();
    assert!(sources.len() > USERS, "{} reads", sources.len());
    assert!(
        hits * 10 >= sources.len() * 9,
        "{hits} hits of {} reads",
        sources.len()
    );
}

#[test]
fn backends_terminated_then_replicas_keep_their_cache() {
    let (server, redis) = (Server::primary(), Redis::start());
    let here = before(&server, &redis, &PATIENT);
    let there = before(&server, &redis, &PATIENT);
    create(&here, "ann");
    both_use_the_cache(&here, &there);
    source(&here, "/users/1");

    let backends = "FROM pg_stat_activity WHERE usename = 'api_service'";
    server.sql(&format!(
        "CREATE TABLE ended AS SELECT pid, pg_terminate_backend(pid) {backends}"
    ));
    eventually("both connect again", || {
        let new = format!(
            "SELECT count(DISTINCT client_port) >= 2 {backends} AND pid NOT IN (SELECT pid FROM ended)"
        );
        server.sql(&new) == "t"
    });
    for program in [&here, &there] {
        assert_eq!(program.get("/beers").status, 200);
        assert_eq!(source(program, "/users"), "HIT");
        assert_eq!(source(program, "/users/1"), "HIT");
    }
}

#[test]
fn replica_started_then_cached_users_still_hits() {
    let (server, redis) = (Server::primary(), Redis::start());
    let here = before(&server, &redis, &PATIENT);
    create(&here, "ann");
    assert_eq!(source(&here, "/users/1"), "MISS");
    let there = before(&server, &redis, &PATIENT);
    create(&there, "bob");
    for program in [&here, &there] {
        assert_eq!(source(program, "/users/1"), "HIT");
    }
}

#[test]
fn primary_restarted_then_users_and_list_read_again() {
    let (mut server, redis) = (Server::primary(), Redis::start());
    let program = before(&server, &redis, &PATIENT);
    create(&program, "ann");
    for path in ["/users", "/users/1"] {
        source(&program, path);
        assert_eq!(source(&program, path), "HIT");
    }

    server.kill();
    for path in ["/users", "/users/1"] {
        assert_eq!(source(&program, path), "HIT");
    }
    server.start();
    server.sql("DELETE FROM users");
    eventually("the list is read anew", || names(&program).is_empty());
    assert_eq!(program.get("/users/1").status, 404);
    assert_eq!(source(&program, "/users"), "HIT");
}

#[test]
fn failover_loses_a_user_then_not_served_from_cache() {
    let (mut old, redis) = (Server::primary(), Redis::start());
    let mut new = Server::standby_of(&old);
    let port = redis.address.port().to_string();
    let settings = [("REDIS_HOST", "127.0.0.1"), ("REDIS_PORT", port.as_str())];
    let settings = [&settings[..], &PATIENT].concat();
    let here = Program::before(&[&old, &new], &settings);
    let there = Program::before(&[&old, &new], &settings);
    create(&here, "ann");
    eventually("the standby has the first", || {
        new.sql("SELECT count(*) FROM users") == "1"
    });
    new.stop();
    create(&here, "bob");
    both_use_the_cache(&here, &there);
    source(&here, "/users/2");
    assert_eq!(source(&there, "/users/2"), "HIT");

    old.kill();
    new.start();
    new.promote();
    for program in [&here, &there] {
        eventually("the new primary is used", || {
            program.get("/users/2").status == 404
        });
        assert_eq!(names(program), ["ann"]);
    }
    create(&there, "cid");
    for program in [&here, &there] {
        assert_eq!(names(program), ["ann", "cid"]);
        assert_eq!(program.get("/users/2").status, 404);
    }
    assert_eq!(source(&there, "/users"), "HIT");
}

#[test]
fn redis_rejects_login_then_cache_bypassed() {
    let (server, redis) = (Server::primary(), Redis::guarded("battery"));
    let port = redis.address.port();
    let right = format!("redis://api:battery@127.0.0.1:{port}");
    let wrong = format!("redis://api:hunter2@127.0.0.1:{port}");
    let login = [("REDIS_USER", "api"), ("REDIS_PASSWORD", "battery")];

    for settings in [&[("REDIS_URL", right.as_str())][..], &login] {
        let program = before(&server, &redis, &[settings, &PATIENT].concat());
        eventually("the cache is used", || source(&program, "/users") == "HIT");
        assert!(!program.log().contains("battery"), "{}", program.log());
    }
    for settings in [&[("REDIS_URL", wrong.as_str())][..], &[]] {
        let program = before(&server, &redis, &[settings, &PATIENT, &DEBUG].concat());
        does_without(&program, "cache request failed");
        assert!(!program.log().contains("hunter2"), "{}", program.log());
    }
}

#[test]
fn redis_sessions_unusable_then_few_opened() {
    let (server, redis) = (Server::primary(), Redis::guarded("battery"));
    let login = [("REDIS_USER", "api"), ("REDIS_PASSWORD", "battery")];
    let program = before(&server, &redis, &[&login[..], &PATIENT].concat());
    eventually("the cache is used", || source(&program, "/users") == "HIT");

    let connections = || -> u32 {
        let stats: String = redis.run(&["INFO", "stats"]);
        let count = stats
            .lines()
            .find_map(|line| line.strip_prefix("total_connections_received:"));
        count.unwrap().parse().unwrap()
    };
    redis.run::<()>(&["ACL", "SETUSER", "api", "-mget"]);
    let (before, since) = (connections(), Instant::now());
    for _ in 0..100 {
        assert_eq!(source(&program, "/users"), "BYPASS");
    }
    let sessions = connections() - before;
    let quarters = u32::try_from(since.elapsed().as_millis() / 250).unwrap();
    assert!(
        sessions <= quarters + 3,
        "{sessions} in {quarters} quarters of a second"
    );

    redis.run::<()>(&["ACL", "SETUSER", "api", "+mget"]);
    eventually("the cache is used", || source(&program, "/users") == "HIT");
}

/// Asserts that a program runs without its cache, and reports the reason.
fn does_without(program: &Program, why: &str) {
    assert_eq!(source(program, "/users"), "BYPASS");
    eventually("it says why", || program.log().contains(why));
    assert_eq!(source(program, "/users"), "BYPASS");
    assert_eq!(cache_status(program), "degraded");
}

#[test]
fn redis_certificate_unverified_then_not_used() {
    let server = Server::primary();
    let (redis, its_authority) = Redis::with_tls();
    let elsewhere = tempfile::tempdir().unwrap();
    let another = authority(elsewhere.path());
    let port = redis.tls_address.unwrap().port();
    let url = format!("rediss://localhost:{port}");
    let by_another_name = format!("rediss://127.0.0.1:{port}");
    let [its_authority, another] = [&its_authority, &another].map(|path| path.to_str().unwrap());

    let start = |settings: &[(&str, &str)]| {
        Program::before(&[&server], &[settings, &PATIENT, &DEBUG].concat())
    };
    let url = ("REDIS_URL", url.as_str());
    let program = start(&[url, ("REDIS_TLS_CA_FILE", its_authority)]);
    eventually("the cache is used", || source(&program, "/users") == "HIT");

    for settings in [
        &[url, ("REDIS_TLS_CA_FILE", another)][..],
        &[url],
        &[
            ("REDIS_URL", &by_another_name),
            ("REDIS_TLS_CA_FILE", its_authority),
        ],
    ] {
        does_without(&start(settings), "certificate verify failed");
    }
}

#[test]
fn redis_ca_certificate_invalid_then_program_exits() {
    let settings = [
        ("REDIS_URL", "rediss://localhost"),
        ("REDIS_TLS_CA_FILE", "/dev/null"),
    ];
    let mut program = Program::spawn(&settings);
    assert_eq!(program.wait().code(), Some(1));
    assert!(
        program.log().contains("could not prepare the cache"),
        "{}",
        program.log()
    );
}

#[test]
fn concurrent_misses_then_one_database_query() {
    let (server, redis) = (Server::primary(), Redis::start());
    let settings = [&PATIENT[..], &crate::postgres::PATIENT].concat();
    let program = before(&server, &redis, &settings);
    create(&program, "ann");

    thread::scope(|scope| {
        let locked = Locked::table("users", &server, scope);
        let readers: Vec<_> = (0..50)
            .map(|_| scope.spawn(|| program.get("/users/1")))
            .collect();
        // One more is the metric's own request.
        eventually("all of them wait", || {
            program.metric("http_requests_in_flight") == Some(50.0)
        });
        locked.release();
        for reader in readers {
            let answer = reader.join().unwrap();
            assert_eq!((answer.status, answer.header("x-cache")), (200, "MISS"));
        }
    });
    // A read is retried when it has waited too long for the lock.
    let count = |series: &str| program.metric(series).unwrap_or(0.0);
    let reads = count("db_query_duration_seconds_count{stmt=\"user_get\"}");
    let repeated = count("db_retries_total{reason=\"passing\"}");
    assert!(
        reads <= 1.0 + repeated,
        "{reads} reads, {repeated} repeated"
    );
}

#[test]
fn table_locked_then_other_and_cached_lists_served() {
    let (server, redis) = (Server::primary(), Redis::start());
    let settings = [&PATIENT[..], &crate::postgres::PATIENT].concat();
    let program = before(&server, &redis, &settings);
    create(&program, "ann");
    for (table, path, other, from) in [
        ("users", "/users", "/beers", ""),
        ("members", "/members", "/users", "HIT"),
    ] {
        thread::scope(|scope| {
            let locked = Locked::table(table, &server, scope);
            // More than the concurrent page builds.
            let readers: Vec<_> = (0..20)
                .map(|_| scope.spawn(|| program.get(path).status))
                .collect();
            let wait = || program.metric("http_requests_in_flight") == Some(20.0);
            eventually("all of them wait", wait);
            assert_eq!(source(&program, other), from, "{other}");
            assert!(wait(), "{path} was answered");
            locked.release();
            for reader in readers {
                assert_eq!(reader.join().unwrap(), 200);
            }
        });
    }
}

/// Table locked against readers.
struct Locked<'a>(&'a Server);

impl<'a> Locked<'a> {
    fn table<'scope>(
        table: &'a str,
        server: &'a Server,
        scope: &'scope thread::Scope<'scope, '_>,
    ) -> Self
    where
        'a: 'scope,
    {
        scope.spawn(move || {
            let lock = format!("BEGIN; LOCK TABLE {table}; SELECT pg_sleep(600)");
            server.try_sql(&lock).unwrap_err();
        });
        eventually("the table is locked", || {
            let locks = "SELECT count(*) FROM pg_locks WHERE granted AND \
                         mode = 'AccessExclusiveLock' AND relation = ";
            server.sql(&format!("{locks}'{table}'::regclass")) == "1"
        });
        Self(server)
    }

    fn release(self) {
        let holders = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                       WHERE query LIKE '%pg_sleep(600)' AND pid <> pg_backend_pid()";
        assert_eq!(self.0.sql(holders), "t");
    }
}
