//! Slow clients: each delays only itself.

use std::io::Write as _;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use crate::postgres::{Server, eventually};
use crate::program::Program;

const SLOW: usize = 60;

/// Sends the beginning, and then a byte every 100 ms while the program accepts them.
fn drip(program: &Program, begin: &str) -> thread::JoinHandle<()> {
    let mut stream = program.connect();
    stream.write_all(begin.as_bytes()).unwrap();
    thread::spawn(move || {
        while stream.write_all(b" ").is_ok() {
            thread::sleep(Duration::from_millis(100));
        }
    })
}

#[test]
fn slow_heads_bodies_and_readers_then_others_served() {
    let server = Server::primary();
    let settings = [("MAX_CONNECTIONS", "200"), ("DB_POOL_MAX", "4")];
    let program = Program::before(&[&server], &settings);
    server.sql(
        "INSERT INTO members (name, age) SELECT repeat('x', 255), 1 FROM generate_series(1, 10000)",
    );
    let head = "GET /livez HTTP/1.1\r\nHost: a\r\nX: a";
    let body = "PUT /hello/John HTTP/1.1\r\nHost: a\r\nContent-Length: 9999\r\n\r\n{";
    let list = "GET /members HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut dripping = Vec::new();
    let mut unread: Vec<TcpStream> = Vec::new();
    for _ in 0..SLOW {
        dripping.push(drip(&program, head));
        dripping.push(drip(&program, body));
        let mut stream = program.connect();
        stream.write_all(list.as_bytes()).unwrap();
        unread.push(stream);
    }

    for number in 0..50 {
        let name = format!("J{}", "o".repeat(number + 1));
        assert_eq!(program.put_date(&name, "1990-06-15").status, 204);
        assert_eq!(program.get(&format!("/hello/{name}")).status, 200);
        assert_eq!(program.get("/readyz").status, 200);
        assert_eq!(program.get("/members?limit=10").status, 200);
    }
    eventually("no slow reader has a connection to the database", || {
        program.metric("db_pool_connections{state=\"in_use\"}") == Some(0.0)
    });
    drop(unread);
    for client in dripping {
        client.join().unwrap();
    }
}

#[test]
fn slow_heads_above_limit_then_probes_answered() {
    let program = Program::without_database(&[("MAX_CONNECTIONS", "20")]);
    let silent: Vec<_> = (0..10).map(|_| program.connect()).collect();
    let head = "GET /livez HTTP/1.1\r\nHost: a\r\nX: a";
    let dripping: Vec<_> = (0..SLOW).map(|_| drip(&program, head)).collect();

    for path in ["/livez", "/metrics", "/-/health"] {
        assert_eq!(program.get(path).status, 200, "{path}");
    }
    eventually("others are served as well", || {
        program.get("/problems").status == 200
    });
    for client in dripping {
        client.join().unwrap();
    }
    drop(silent);
}
