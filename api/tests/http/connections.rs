//! Connection limit, and responses above it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::postgres::eventually;
use crate::program::Program;

/// Number of reserved slots.
const RESERVE: usize = 64;

fn ask(stream: &mut TcpStream, path: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
}

/// Opens this many connections that stay open. A connection opened before another was fully closed
/// is on a reserved slot, which its response shows, and is replaced.
fn hold(program: &Program, count: usize) -> Vec<TcpStream> {
    let mut held = Vec::new();
    while held.len() < count {
        let mut stream = program.connect();
        ask(&mut stream, "/livez");
        let mut answer = Vec::new();
        while !answer.ends_with(b"{\"status\":\"ok\"}") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            answer.extend_from_slice(&byte);
        }
        if !String::from_utf8(answer)
            .unwrap()
            .contains("connection: close")
        {
            held.push(stream);
        }
    }
    held
}

#[test]
fn connection_limit_reached_then_only_probes_served() {
    let program = Program::without_database(&[("MAX_CONNECTIONS", "4")]);
    let mut held = hold(&program, 4);

    for path in ["/livez", "/healthz", "/-/health", "/metrics"] {
        let answer = program.get(path);
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("connection"), "close");
    }
    let refused = program.get("/nowhere");
    assert_eq!((refused.status, refused.header("retry-after")), (503, "1"));
    assert_eq!(refused.header("connection"), "close");
    assert_eq!(refused.json()["type"], "/problems/overloaded");
    // A client that sends nothing is disconnected soon.
    let began = Instant::now();
    assert_eq!(program.connect().read(&mut [0]).unwrap(), 0);
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "{:?}",
        began.elapsed()
    );

    // A connection keeps its slot.
    ask(&mut held[0], "/nowhere");
    let mut status = [0; 12];
    held[0].read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 404");
    held.pop();
    eventually("there is room again", || {
        program.get("/nowhere").status == 404
    });
}

#[test]
fn limit_reached_then_longest_idle_evicted() {
    let program = Program::without_database(&[("MAX_CONNECTIONS", "2")]);
    let mut silent = hold(&program, 2);
    assert_eq!(program.get("/nowhere").status, 503);

    eventually("a new connection is admitted", || {
        program.get("/nowhere").status == 404
    });
    eventually("one of the silent has made way", || {
        silent.iter_mut().any(|stream| {
            stream.set_nonblocking(true).unwrap();
            stream.read(&mut [0]).is_ok_and(|length| length == 0)
        })
    });
}

#[test]
fn reserve_full_then_oldest_connection_evicted() {
    let program = Program::without_database(&[("MAX_CONNECTIONS", "1")]);
    let _first = hold(&program, 1);
    let silent: Vec<_> = (0..2 * RESERVE).map(|_| program.connect()).collect();

    for path in ["/livez", "/readyz", "/nowhere"] {
        let began = Instant::now();
        assert_ne!(program.get(path).header("x-request-id"), "");
        assert!(
            began.elapsed() < Duration::from_secs(8),
            "{:?}",
            began.elapsed()
        );
    }
    for mut stream in silent {
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    }
    assert!(program.metric("http_connections_evicted_total") > Some(0.0));
}

/// Ten thousand silent connections.
#[test]
fn many_idle_connections_then_small_memory_and_others_served() {
    let (_soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let many = usize::try_from(hard)
        .unwrap()
        .saturating_sub(100)
        .min(10_000);
    let program = Program::without_database(&[]);
    let probe = || {
        let mut stream = program.connect();
        stream
            .set_read_timeout(Some(Duration::from_mins(1)))
            .unwrap();
        ask(&mut stream, "/livez");
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.1 200");
    };

    let mut crowd = Vec::new();
    for number in 0..many {
        crowd.push(program.connect());
        if number % 500 == 0 {
            probe();
        }
    }
    assert!(program.metric("http_connections").unwrap() <= 2048.0 + 64.0 + 64.0);
    let resident = program.resident_bytes();
    assert!(resident < 128 << 20, "{resident}");
    eprintln!("{many} connections, {resident} bytes resident");
    if many > 3_000 {
        assert!(program.metric("http_connections_rejected_total") > Some(0.0));
    }

    // A silent connection is evicted for one that sends a request.
    let descriptors = fs::read_dir(format!("/proc/{}/fd", program.pid())).unwrap();
    assert!(descriptors.count() < 2_250);
    eventually("others are answered", || {
        program.request("GET", "/problems", &[], "").status == 200
    });
    probe();
}

#[test]
fn open_files_limited_then_fewer_connections_and_warning() {
    let program = Program::under_limit(300, &[("MAX_CONNECTIONS", "1000")]);
    let _crowd: Vec<_> = (0..400).map(|_| program.connect()).collect();

    assert_eq!(program.get("/livez").status, 200);
    let log = program.log();
    assert!(log.contains("connection limit lowered"), "{log}");
    assert!(!log.contains("connection not accepted"), "{log}");
}
