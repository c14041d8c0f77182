//! Acknowledged writes persist under frozen, ended and delayed processes, checked by the clients'
//! history.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::postgres::{Server, eventually};
use crate::program::Program;
use crate::tcp_proxy::TcpProxy;

/// The statement timeout is short, and the request timeout slightly longer.
const HASTY: [(&str, &str); 2] = [("DB_STATEMENT_TIMEOUT", "1s"), ("REQUEST_TIMEOUT", "4s")];

/// Few dates, so that an unchanged one is written often.
pub(crate) const DATES: [&str; 3] = ["1990-01-01", "1990-03-03", "1990-07-07"];

/// Returns the stored day of a name.
fn stored(server: &Server, name: &str) -> String {
    let day = "SELECT date_of_birth FROM hello_users WHERE username";
    server.sql(&format!("{day} = '{name}'"))
}

/// Returns the backend that has run this statement last.
pub(crate) fn backend(server: &Server, statement: &str) -> Pid {
    let last = format!(
        "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'api/%' \
         AND query ~ '^-- {statement}\\M' ORDER BY state_change DESC LIMIT 1"
    );
    let mut found = String::new();
    eventually("a backend has run it", || {
        found = server.sql(&last);
        !found.is_empty()
    });
    Pid::from_raw(found.parse().unwrap())
}

/// Resumes a backend, and waits until it has processed its input.
fn thaw(server: &Server, backend: Pid) {
    kill(backend, Signal::SIGCONT).unwrap();
    eventually("the backend is idle, or has ended", || {
        let state = format!("SELECT state FROM pg_stat_activity WHERE pid = {backend}");
        let state = server.sql(&state);
        let is_settled = state.is_empty() || (state == "idle" && !has_input(backend));
        is_settled.then_some(()).ok_or(state)
    });
}

/// Tests whether a process has unread input.
fn has_input(process: Pid) -> bool {
    let sockets: BTreeSet<String> = std::fs::read_dir(format!("/proc/{process}/fd"))
        .into_iter()
        .flatten()
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|target| {
            Some(
                target
                    .to_str()?
                    .strip_prefix("socket:[")?
                    .trim_end_matches(']')
                    .to_owned(),
            )
        })
        .collect();
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().skip(1).any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        sockets.contains(fields[9]) && !fields[4].ends_with(":00000000")
    })
}

/// Sends a write whose client does not wait for the response.
fn put_and_leave(program: &Program, name: &str, date: &str) {
    let in_flight = || program.metric("http_requests_in_flight").unwrap();
    let before = in_flight();
    let body = format!("{{\"dateOfBirth\":\"{date}\"}}");
    let length = body.len();
    let mut stream = program.connect();
    write!(
        stream,
        "PUT /hello/{name} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    eventually("the write is under way", || in_flight() > before);
}

#[test]
fn backend_thawed_then_newer_write_stays() {
    let server = Server::primary();
    let program = Program::before(&[&server], &HASTY);
    assert_eq!(program.put_date("John", DATES[0]).status, 204);
    let frozen = backend(&server, "hello_put");

    kill(frozen, Signal::SIGSTOP).unwrap();
    assert_eq!(program.put_date("John", DATES[1]).status, 204);
    assert_eq!(program.put_date("John", DATES[2]).status, 204);
    thaw(&server, frozen);

    assert_eq!(stored(&server, "John"), DATES[2]);
}

#[test]
fn client_gone_and_backend_thawed_then_newer_write_stays() {
    let server = Server::primary();
    let program = Program::before(&[&server], &HASTY);
    // The newer value is stored by another replica; or it equals the earlier one, and is only a
    // read.
    let replica = Program::before(&[&server], &HASTY);

    for (asked, date) in [(&replica, DATES[2]), (&program, DATES[0])] {
        assert_eq!(program.put_date("John", DATES[0]).status, 204);
        let frozen = backend(&server, "hello_put");
        kill(frozen, Signal::SIGSTOP).unwrap();
        put_and_leave(&program, "John", DATES[1]);
        assert_eq!(asked.put_date("John", date).status, 204);
        thaw(&server, frozen);
        assert_eq!(stored(&server, "John"), date);
    }
}

#[test]
fn packets_late_then_newer_write_stays() {
    let server = Server::primary();
    let proxy = TcpProxy::to(server.address);
    let behind = [&HASTY[..], &[("PGPORT", &proxy.port)]].concat();
    let program = Program::before(&[&server], &behind);
    let replica = Program::before(&[&server], &HASTY);

    // Another date, and the earlier one.
    for date in [DATES[2], DATES[0]] {
        assert_eq!(program.put_date("John", DATES[0]).status, 204);
        let stale = backend(&server, "hello_put");
        proxy.hold();
        assert_eq!(program.put_date("John", DATES[1]).status, 503);
        assert_eq!(replica.put_date("John", date).status, 204);
        proxy.release();
        thaw(&server, stale);
        assert_eq!(stored(&server, "John"), date);
        eventually("it is ready again", || program.get("/readyz").status == 200);
    }
}

/// Returns the end of a greeting, which is the same for every name.
fn days(greeting: &str) -> String {
    greeting.rsplit('!').next().unwrap().to_owned()
}

/// Clients that each write and read their own name, with their observations.
struct Clients<'a> {
    program: &'a Program,
    /// Greeting for each date.
    greetings: BTreeMap<&'a str, String>,
    stop: AtomicBool,
    acknowledged: AtomicU32,
}

impl<'a> Clients<'a> {
    fn of(program: &'a Program) -> Self {
        let greeting = |date| {
            assert_eq!(program.put_date("Example", date).status, 204);
            (date, days(&program.get("/hello/Example").body))
        };
        Self {
            program,
            greetings: DATES.map(greeting).into(),
            stop: AtomicBool::new(false),
            acknowledged: AtomicU32::new(0),
        }
    }

    fn acknowledged(&self) -> u32 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Writes one name until stopped. A read after an acknowledged write returns the written value,
    /// and an earlier rejected value never returns. Returns the values that may be stored.
    fn write(&self, name: &str) -> BTreeSet<&str> {
        let mut possible = BTreeSet::from([""]);
        for turn in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            // Every date follows every other, itself included.
            let date = DATES[(turn + turn / 3) % 3];
            match self.program.put_date(name, date).status {
                204 => {
                    possible = BTreeSet::from([date]);
                    self.acknowledged.fetch_add(1, Ordering::Relaxed);
                }
                503 => {
                    possible.insert(date);
                    continue;
                }
                status => panic!("{status} for {name}"),
            }
            let read = self.program.get(&format!("/hello/{name}"));
            assert!(
                read.status == 503 || days(&read.body) == self.greetings[date],
                "{name}: {date} was acknowledged, and then read: {read:?}"
            );
        }
        possible
    }

    /// Stores members, each with a key until it is acknowledged, and returns their names.
    fn make_members(&self, maker: u32) -> BTreeSet<String> {
        let mut made = BTreeSet::new();
        while !self.stop.load(Ordering::Relaxed) {
            let (key, name) = (uuid::Uuid::new_v4(), format!("{maker}-{}", made.len()));
            let (key, body) = (
                key.to_string(),
                format!("{{\"name\":\"{name}\",\"age\":1}}"),
            );
            let headers = [("Idempotency-Key", key.as_str())];
            let send = || self.program.request("POST", "/members", &headers, &body);
            while send().status != 200 {
                if self.stop.load(Ordering::Relaxed) {
                    return made;
                }
            }
            made.insert(name);
        }
        made
    }
}

/// Ends the load, also when a test fails.
pub(crate) struct Stop<'a>(pub(crate) &'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs clients during `faults`, and for a while after; then checks the server's rows.
fn judge_beside(program: &Program, server: &Server, faults: impl FnOnce()) {
    let clients = &Clients::of(program);
    let (possible, made) = thread::scope(|scope| {
        let stop = Stop(&clients.stop);
        let name = |letter| format!("Writer{}", char::from(letter));
        let writers = (b'a'..=b'p').map(name);
        let writers: Vec<_> = writers
            .map(|writer| scope.spawn(move || (clients.write(&writer), writer)))
            .collect();
        let makers = [0, 1, 2, 3].map(|number| scope.spawn(move || clients.make_members(number)));
        eventually("writes run", || clients.acknowledged() > 100);
        faults();
        let before = clients.acknowledged();
        eventually("writes run again", || clients.acknowledged() > before + 200);
        drop(stop);
        let possible: Vec<_> = writers
            .into_iter()
            .map(|writer| writer.join().unwrap())
            .collect();
        let made: BTreeSet<_> = makers
            .into_iter()
            .flat_map(|maker| maker.join().unwrap())
            .collect();
        (possible, made)
    });

    for (possible, name) in possible {
        let stored = stored(server, &name);
        assert!(
            possible.contains(&*stored),
            "{name}: {stored} is none of {possible:?}"
        );
    }
    let members = server.sql("SELECT name FROM members");
    let once: BTreeSet<&str> = members.lines().collect();
    assert_eq!(
        members.lines().count(),
        once.len(),
        "a member is there twice"
    );
    let lost = made.iter().find(|member| !once.contains(member.as_str()));
    assert_eq!(lost, None, "acknowledged, and not there");
}

#[test]
fn server_frozen_and_thawed_then_acknowledged_writes_stay() {
    let server = Server::primary();
    let settings = [("DB_STATEMENT_TIMEOUT", "500ms"), ("REQUEST_TIMEOUT", "1s")];
    let program = Program::before(&[&server], &settings);
    let refused = "http_requests_total{method=\"PUT\",route=\"/hello/{username}\",status=\"503\"}";
    let refused = || program.metric(refused).unwrap_or(0.0);

    judge_beside(&program, &server, || {
        for _round in 0..4 {
            let before = refused();
            server.freeze(Signal::SIGSTOP);
            eventually("writes are refused", || refused() >= before + 16.0);
            server.freeze(Signal::SIGCONT);
            eventually("it is ready", || {
                program.get("/readyz").json()["database"]["writable"] == true
            });
        }
    });
}

#[test]
fn backends_frozen_and_thawed_then_acknowledged_writes_stay() {
    let server = Server::primary();
    let settings = [("DB_STATEMENT_TIMEOUT", "500ms"), ("REQUEST_TIMEOUT", "2s")];
    let program = Program::before(&[&server], &settings);

    judge_beside(&program, &server, || {
        for statement in ["hello_put", "member_create", "hello_get", "hello_put"] {
            let frozen = backend(&server, statement);
            let silent = program.metric("db_errors_total{sqlstate_class=\"timeout\"}");
            kill(frozen, Signal::SIGSTOP).unwrap();
            if statement != "hello_get" {
                eventually("a statement is given up", || {
                    program.metric("db_errors_total{sqlstate_class=\"timeout\"}") > silent
                });
            }
            thaw(&server, frozen);
        }
    });
}

#[test]
fn connections_cut_anytime_then_acknowledged_writes_stay() {
    let server = Server::primary();
    let proxy = TcpProxy::to(server.address);
    let program = Program::before(&[&server], &[("PGPORT", &proxy.port)]);

    judge_beside(&program, &server, || {
        for round in 0..30 {
            let done = backend(&server, "hello_put");
            // Once the sent bytes arrive late, and once at once.
            if round % 2 == 0 {
                proxy.hold();
            }
            proxy.cut();
            proxy.release();
            eventually("connections are open again", || {
                let others = format!(
                    "SELECT count(*) FROM pg_stat_activity WHERE pid <> {done} \
                     AND query ~ '^-- hello_put\\M'"
                );
                server.sql(&others) != "0"
            });
        }
    });
}

#[test]
fn commits_hang_then_connections_within_limit() {
    let server = Server::primary();
    let proxy = TcpProxy::to(server.address);
    let limits = [("DB_POOL_MAX", "5"), ("DB_SHARED_CONNECTIONS", "2")];
    let timeouts = [("DB_STATEMENT_TIMEOUT", "500ms"), ("REQUEST_TIMEOUT", "1s")];
    let settings = [&limits[..], &timeouts, &[("PGPORT", &proxy.port)]].concat();
    let program = Program::before(&[&server], &settings);
    let open = || {
        let open = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'api/%'";
        server.sql(open).parse::<u32>().unwrap()
    };
    let refused = "http_requests_total{method=\"PUT\",route=\"/hello/{username}\",status=\"503\"}";
    let refused = || program.metric(refused).unwrap_or(0.0);

    judge_beside(&program, &server, || {
        server.commits_wait_for("nobody");
        for round in 0..5 {
            let before = refused();
            eventually("writes are refused", || {
                let open = open();
                assert!(open <= 5 + 2 + 1, "{open} connections in round {round}");
                refused() > before + 16.0
            });
            assert_eq!(program.get("/hello/Nobody").status, 404);
            // A backend that waits for a standby does not notice that its client has disconnected.
            if round == 2 {
                proxy.cut();
            }
        }
        server.commits_wait_for("");
    });
}

#[test]
fn primary_returns_then_connections_within_limit() {
    let primary = Server::primary();
    let standby = Server::standby_of(&primary);
    let proxy = TcpProxy::to(primary.address);
    let ports = format!("{},{}", proxy.port, standby.address.port());
    let settings = [
        ("DB_POOL_MAX", "3"),
        ("DB_SHARED_CONNECTIONS", "1"),
        ("DB_CONNECT_TIMEOUT", "500ms"),
        ("DB_STATEMENT_TIMEOUT", "500ms"),
        ("REQUEST_TIMEOUT", "1s"),
        ("PGPORT", &ports),
    ];
    let program = Program::before(&[&primary, &standby], &settings);
    primary.commits_wait_for("nobody");

    for round in 0..4 {
        // Each waits for a standby, and does not notice that its client has disconnected.
        assert_eq!(program.put_date("John", DATES[round % 3]).status, 503);
        let member = format!(r#"{{"name":"Ann","age":{round}}}"#);
        assert_eq!(program.post("/members", &member).status, 503);
        let open = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'api/%'";
        let open = primary.sql(open).parse::<u32>().unwrap();
        assert!(open <= 3 + 1 + 1, "{open} connections in round {round}");

        proxy.hold();
        proxy.cut();
        eventually("only the standby answers", || {
            program.get("/readyz").json()["database"]["role"] == "standby"
        });
        proxy.release();
        eventually("the primary is back", || {
            program.get("/readyz").json()["database"]["writable"] == true
        });
    }
}
