//! Memory use under hostile clients: below the chart's limit.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::postgres::{Server, eventually};
use crate::program::{Program, read_answer};

/// `limits.memory` in `charts/api/values.yaml`.
const LIMIT_MIB: usize = 256;
const ROWS: usize = 10_000;

/// Control group with that limit, whose exceeding ends the program.
struct MemoryGroup {
    directory: PathBuf,
    peak: &'static str,
}

impl MemoryGroup {
    fn around(program: &Program) -> Option<Self> {
        let name = format!("causeway-api-{}", program.pid());
        let bytes = (LIMIT_MIB << 20).to_string();
        for (hierarchy, limit, peak) in [
            (
                "/sys/fs/cgroup/memory",
                "memory.limit_in_bytes",
                "memory.max_usage_in_bytes",
            ),
            ("/sys/fs/cgroup", "memory.max", "memory.peak"),
        ] {
            let directory = Path::new(hierarchy).join(&name);
            let made = fs::create_dir(&directory);
            if made.is_ok() && fs::write(directory.join(limit), &bytes).is_ok() {
                fs::write(directory.join("cgroup.procs"), program.pid().to_string()).unwrap();
                return Some(Self { directory, peak });
            }
        }
        eprintln!("no memory control group can be made here: the resident memory alone is checked");
        None
    }
}

/// Runs `work` on a program with this memory limit, which it must survive.
fn within_the_limit(program: &mut Program, work: impl FnOnce(&Program)) {
    let group = MemoryGroup::around(program);
    work(program);
    assert_eq!(program.get("/livez").status, 200);
    let resident = program.resident_bytes() >> 20;
    assert!(resident < LIMIT_MIB as u64, "{resident} MiB");
    if let Some(group) = group {
        let peak = fs::read_to_string(group.directory.join(group.peak));
        eprintln!("peak {peak:?}, resident at the end {resident} MiB");
        program.signal(nix::sys::signal::Signal::SIGKILL);
        program.wait();
        eventually("the group is empty", || {
            fs::remove_dir(&group.directory).is_ok()
        });
    }
}

/// Rows of the maximum length, in characters of four bytes.
fn fill_with_the_longest(server: &Server) {
    for insert in [
        "members (name, age) SELECT repeat('\u{1f600}', 255), 1",
        "users (name, email) SELECT repeat('\u{1f600}', 255), n || '@' || repeat('\u{1f600}', 300)",
        "beers (name, style) SELECT repeat('\u{1f600}', 255), repeat('\u{1f600}', 255)",
    ] {
        server.sql(&format!(
            "INSERT INTO {insert} FROM generate_series(1, {ROWS}) AS n"
        ));
    }
}

fn ask(program: &Program, path: &str) -> TcpStream {
    let mut stream = program.connect();
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

#[test]
fn many_lists_of_longest_rows_then_within_limit() {
    let server = Server::primary();
    let mut program = Program::before(&[&server], &[]);
    fill_with_the_longest(&server);

    within_the_limit(&mut program, |program| {
        let asked: Vec<_> = (0..36)
            .map(|number| ask(program, ["/members", "/users", "/beers"][number % 3]))
            .collect();
        let read = thread::scope(|scope| {
            let reading: Vec<_> = asked
                .into_iter()
                .map(|mut stream| scope.spawn(move || read_answer(&mut stream)))
                .collect();
            reading
                .into_iter()
                .map(|reader| reader.join().unwrap())
                .collect::<Vec<_>>()
        });
        let mut whole = 0;
        for answer in read {
            if answer.status == 200 {
                assert_eq!(answer.json().as_array().unwrap().len(), ROWS);
                whole += 1;
            } else {
                assert_eq!((answer.status, answer.header("retry-after")), (503, "1"));
            }
        }
        assert!(whole > 0);
    });
}

#[test]
fn unread_lists_then_within_limit_and_others_served() {
    let server = Server::primary();
    let mut program = Program::before(&[&server], &[]);
    fill_with_the_longest(&server);

    within_the_limit(&mut program, |program| {
        let paths = [
            "/members",
            "/users",
            "/beers",
            "/metrics",
            "/docs",
            "/openapi.json",
        ];
        let unread: Vec<_> = (0..600)
            .map(|number| ask(program, paths[number % 6]))
            .collect();
        eventually("each has begun or was refused", || {
            program.metric("http_requests_in_flight") == Some(0.0)
        });
        eventually("none has a connection to the database", || {
            program.metric("db_pool_connections{state=\"in_use\"}") == Some(0.0)
        });
        for _ in 0..20 {
            assert_eq!(program.put_date("John", "1990-06-15").status, 204);
            assert_eq!(program.get("/hello/John").status, 200);
            assert_eq!(program.post("/beers", "{\"name\":\"a\"}").status, 201);
        }
        let list = program.get("/members?limit=1");
        assert!(matches!(list.status, 200 | 503), "{list:?}");
        drop(unread);
        eventually("there is room again", || {
            program.get("/members").status == 200
        });
    });
}

#[test]
fn memory_full_of_unread_lists_then_evicted() {
    let server = Server::primary();
    let program = Program::before(&[&server], &[]);
    // One page, whose 128 KiB become 1.5 MiB of JSON.
    server.sql(
        "INSERT INTO members (name, age) SELECT repeat(chr(1), 255), 1 FROM generate_series(1, 510)",
    );
    let mut unread = Vec::new();
    eventually("they have the memory", || {
        unread.push(ask(&program, "/members"));
        program.get("/members").status == 503
    });

    let began = Instant::now();
    assert_eq!(program.get("/metrics").status, 200);
    eventually("they make way", || program.get("/members").status == 200);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(15), "{took:?}");
    drop(unread);
}

/// JSON takes thirty times its text in memory, and requests wait while the database is away.
#[test]
fn many_bodies_of_many_values_then_within_limit() {
    let settings = [("REQUEST_TIMEOUT", "8s"), ("MAX_CONNECTIONS", "600")];
    let mut program = Program::without_database(&settings);
    let zeros = "0,".repeat(32_000);
    let body = format!("{{\"name\":\"Ann\",\"age\":30,\"email\":\"a@b\",\"x\":[{zeros}0]}}");
    let paths = ["/members", "/users", "/beers"];

    within_the_limit(&mut program, |program| {
        let asked: Vec<_> = (0..500)
            .map(|number| {
                let (path, length) = (paths[number % 3], body.len());
                let mut stream = program.connect();
                let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}");
                stream
                    .write_all(format!("{head}\r\n\r\n{body}").as_bytes())
                    .unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
                stream
            })
            .collect();
        for mut stream in asked {
            let answer = read_answer(&mut stream);
            assert_eq!(answer.status, 503, "{answer:?}");
        }
    });
}

/// Opens connections, and sends the same on each.
fn connections(program: &Program, count: usize, text: &str) -> Vec<TcpStream> {
    let connected = |_| {
        let mut stream = program.connect();
        stream.write_all(text.as_bytes()).unwrap();
        stream
    };
    (0..count).map(connected).collect()
}

/// Unfinished heads of the maximum length, on every connection.
#[test]
fn many_unfinished_heads_then_within_limit() {
    let mut program = Program::without_database(&[]);
    let head = format!(
        "GET /livez HTTP/1.1\r\nHost: a\r\nX: {}",
        "x".repeat(24_000)
    );

    within_the_limit(&mut program, |program| {
        let unfinished = connections(program, 2_000, &head);
        assert_eq!(program.get("/livez").status, 200);
        // Each is rejected after its ten seconds.
        for mut stream in unfinished {
            let mut status = [0; 12];
            if stream.read_exact(&mut status).is_ok() {
                assert_eq!(&status, b"HTTP/1.1 408");
            }
        }
    });
}

/// Idle connections that received a large response.
#[test]
fn many_idle_connections_with_full_buffers_then_within_limit() {
    let mut program = Program::without_database(&[]);
    let head = "GET /livez HTTP/1.1\r\nHost: a\r\nX: ";
    let requests = format!("{head}{}\r\n\r\n", "x".repeat(7_000)).repeat(30);

    within_the_limit(&mut program, |program| {
        let idle = connections(program, 1_900, &requests);
        eventually("all are answered", || {
            let answered = "http_requests_total{method=\"GET\",route=\"/livez\",status=\"200\"}";
            program.metric(answered) >= Some(1_900.0 * 30.0)
        });
        drop(idle);
    });
}
