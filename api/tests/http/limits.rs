//! Limits on requests: per client, and in total.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Instant;

use crate::postgres::{Server, eventually};
use crate::program::{Program, read_answer};

#[test]
fn rate_limit_exceeded_then_429_with_retry_after() {
    let program = Program::without_database(&[("RATE_LIMIT_RPS", "3")]);

    // Three at once, and three more per second.
    let began = Instant::now();
    let answers: Vec<_> = (0..200).map(|_| program.get("/nowhere")).collect();
    let at_most = 3 + began.elapsed().as_millis() * 3 / 1000;
    let refused: Vec<_> = answers
        .iter()
        .filter(|answer| answer.status == 429)
        .collect();
    let allowed = (answers.len() - refused.len()) as u128;
    assert!((3..=at_most).contains(&allowed), "{allowed} of {at_most}");
    for answer in refused {
        assert_eq!(answer.header("retry-after"), "1");
        assert_eq!(answer.json()["type"], "/problems/rate-limited");
        assert_eq!(answer.header("x-company-name"), "My Company");
    }
    for path in [
        "/livez",
        "/healthz",
        "/-/health",
        "/readyz",
        "/health",
        "/metrics",
    ] {
        assert_ne!(program.get(path).status, 429, "{path}");
    }
    eventually("it may ask again", || program.get("/nowhere").status == 404);
}

#[test]
fn no_rate_limit_then_nothing_rejected() {
    let program = Program::without_database(&[("RATE_LIMIT_RPS", "0")]);

    for _ in 0..200 {
        assert_eq!(program.get("/nowhere").status, 404);
    }
}

/// Sends the head of a request, and waits until the program waits for its body.
fn announce_body(program: &Program) -> TcpStream {
    let mut stream = program.connect();
    stream
        .write_all(
            b"PUT /hello/John HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\
              Content-Length: 40\r\nExpect: 100-continue\r\n\r\n",
        )
        .unwrap();
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream
}

#[test]
fn request_limit_reached_then_only_probes_served() {
    let settings = [("MAX_INFLIGHT", "2"), ("REQUEST_TIMEOUT", "10")];
    let program = Program::without_database(&settings);
    let mut late = announce_body(&program);
    // Each waits for the database.
    let mut waiting: Vec<_> = (0..2).map(|_| program.connect()).collect();
    for stream in &mut waiting {
        let request = b"GET /hello/John HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        stream.write_all(request).unwrap();
    }
    // The scrape itself takes no place of theirs.
    eventually("both are worked on", || {
        program.metric("http_requests_in_flight") == Some(2.0)
    });

    let refused = program.get("/nowhere");
    assert_eq!((refused.status, refused.header("retry-after")), (503, "1"));
    assert_eq!(refused.json()["type"], "/problems/overloaded");
    late.write_all(&[b' '; 40]).unwrap();
    let refused = read_answer(&mut late);
    assert_eq!(refused.json()["type"], "/problems/overloaded");
    assert_eq!(program.get("/livez").status, 200);
    assert_eq!(program.get("/hello/health").status, 200);
    assert_eq!(program.put_date("health", "1990-06-15").status, 503);
    assert_eq!(program.get("/readyz").status, 503);
    assert_eq!(program.get("/readyz").json()["status"], "not-ready");

    for mut stream in waiting {
        let answer = read_answer(&mut stream);
        assert_eq!(answer.json()["type"], "/problems/database-unavailable");
    }
    eventually("there is room again", || {
        program.get("/nowhere").status == 404
    });
}

#[test]
fn slow_bodies_then_others_served() {
    let program = Program::without_database(&[("MAX_INFLIGHT", "2")]);
    let mut waiting: Vec<_> = (0..20).map(|_| announce_body(&program)).collect();

    assert_eq!(program.get("/nowhere").status, 404);
    assert_eq!(program.metric("http_requests_in_flight"), Some(0.0));
    let long = " ".repeat(40_000);
    assert_eq!(program.put("/hello/John", &long).status, 400);
    for stream in &mut waiting {
        stream.write_all(&[b' '; 40]).unwrap();
        assert_eq!(read_answer(stream).status, 400);
    }
}

#[test]
fn long_bodies_above_limit_then_rejected() {
    let program = Program::without_database(&[("MAX_INFLIGHT", "2")]);
    let head = "PUT /hello/John HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n";
    let part = format!("{head}{}", " ".repeat(50_000));
    let mut begun: Vec<_> = (0..3).map(|_| program.connect()).collect();
    for stream in &mut begun {
        stream.write_all(part.as_bytes()).unwrap();
    }
    eventually("one of the three is refused, and two are read", || {
        begun.iter().any(|stream| {
            stream.set_nonblocking(true).unwrap();
            stream.peek(&mut [0]).is_ok()
        })
    });
    let long = program.put("/hello/John", &" ".repeat(50_000));
    assert_eq!(long.json()["type"], "/problems/overloaded");
    assert_eq!(program.put("/hello/John", "{}").status, 400);
}

#[test]
fn body_unread_then_connection_closed() {
    let server = Server::primary();
    let program = Program::before(&[&server], &[]);
    let said = |line: &str, body: &str| {
        let length = body.len();
        let head = format!("{line} HTTP/1.1\r\nHost: api\r\nContent-Length: {length}");
        // `raw` reads to the end of the connection.
        program.raw(format!("{head}\r\n\r\n{body}").as_bytes())
    };

    for line in ["POST /nowhere", "DELETE /users"] {
        assert_eq!(said(line, "{}").header("connection"), "close", "{line}");
    }
    // The rest of it is never parsed as a request.
    let mut kept = program.connect();
    let seed = "POST /seed HTTP/1.1\r\nHost: api\r\nContent-Length: 18\r\n\r\nGET /info HTTP/1.1";
    let get = "GET /livez HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n";
    kept.write_all(seed.as_bytes()).unwrap();
    kept.write_all(get.as_bytes()).unwrap();
    let both = read_answer(&mut kept);
    assert_eq!(both.status, 200, "{both:?}");
    assert!(both.body.ends_with("{\"status\":\"ok\"}"), "{both:?}");
    let mut kept = program.connect();
    let put = "PUT /hello/John HTTP/1.1\r\nHost: api\r\nContent-Length: 28\r\n\r\n\
               {\"dateOfBirth\":\"1990-01-01\"}";
    let get = "GET /hello/John HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n";
    kept.write_all(put.as_bytes()).unwrap();
    kept.write_all(get.as_bytes()).unwrap();
    let both = read_answer(&mut kept);
    assert_eq!((both.status, both.header("connection")), (204, ""));
    assert!(both.body.contains("Hello, John!"), "{both:?}");
}

#[test]
fn host_missing_or_repeated_then_rejected() {
    let program = Program::without_database(&[]);
    let status = |head: &str| {
        let bytes = format!("GET /livez {head}\r\nConnection: close\r\n\r\n");
        program.raw(bytes.as_bytes()).status
    };

    assert_eq!(status("HTTP/1.1\r\nHost: a"), 200);
    assert_eq!(status("HTTP/1.0"), 200);
    assert_eq!(status("HTTP/1.1"), 400);
    assert_eq!(status("HTTP/1.1\r\nHost: a\r\nHost: b"), 400);
    for host in ["a b/c@d", "a@b", "a/b", "a?b", "a b"] {
        assert_eq!(status(&format!("HTTP/1.1\r\nHost: {host}")), 400, "{host}");
    }
    for host in ["", "my_service.local:8080", "[::1]:8080", "127.0.0.1"] {
        assert_eq!(status(&format!("HTTP/1.1\r\nHost: {host}")), 200, "{host}");
    }
}
