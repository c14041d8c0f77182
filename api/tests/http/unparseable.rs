//! Bytes that are not a request, or only a part of one.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::thread;
use std::time::{Duration, Instant};

use crate::program::{Program, read_answer};

#[test]
fn bytes_not_http_then_400_and_closed() {
    let program = Program::without_database(&[]);
    let post = "POST /members HTTP/1.1\r\nHost: a\r\n";
    for bad in [
        "nonsense\r\n\r\n".to_owned(),
        "GET\r\n\r\n".to_owned(),
        "GET /livez\r\n\r\n".to_owned(),
        "GET /livez HTTP/9.9\r\n\r\n".to_owned(),
        "GET /li vez HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "G\u{e4}T /livez HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "GET /livez HTTP/1.1\r\nHost: a\r\nNo colon\r\n\r\n".to_owned(),
        "GET /livez HTTP/1.1\r\nHost : a\r\n\r\n".to_owned(),
        "GET /livez HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n".to_owned(),
        format!("{post}Content-Length: -1\r\n\r\n"),
        format!("{post}Content-Length: 1\r\nContent-Length: 2\r\n\r\n{{}}"),
        format!("{post}Content-Length: 99999999999999999999\r\n\r\n"),
        format!("{post}Transfer-Encoding: gzip\r\n\r\n"),
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}".to_owned(),
    ] {
        let answer = program.raw(bad.as_bytes());
        assert_eq!((answer.status, answer.body.as_str()), (400, ""), "{bad:?}");
        assert_eq!(answer.header("connection"), "close");
    }
    // A client of HTTP/2 could not parse a response.
    let mut preface = program.connect();
    preface
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04")
        .unwrap();
    assert_eq!(preface.read(&mut [0]).unwrap(), 0);
}

#[test]
fn head_too_long_then_error_names_part() {
    let program = Program::without_database(&[]);
    let host = "HTTP/1.1\r\nHost: a\r\n";
    for length in [9_000, 70_000, 300_000] {
        let path = "a".repeat(length);
        let answer = program.raw(format!("GET /{path} {host}Connection: close\r\n\r\n").as_bytes());
        assert_eq!(answer.status, 414, "{length}");
        assert_eq!(answer.json()["type"], "/problems/uri-too-long");

        let head = format!("GET /livez {host}Connection: close\r\nX-Long: {path}{path}\r\n\r\n");
        let answer = program.raw(head.as_bytes());
        assert_eq!(answer.status, 431, "{length}");
        assert_eq!(answer.json()["type"], "/problems/header-fields-too-large");
    }
    for count in [70, 90] {
        let many = "X-Many: 1\r\n".repeat(count);
        let head = format!("GET /livez {host}Connection: close\r\n{many}\r\n");
        let answer = program.raw(head.as_bytes());
        assert_eq!(answer.status, 431, "{count}");
    }
}

#[test]
fn second_request_malformed_then_first_answered() {
    let program = Program::without_database(&[]);

    let answer = program.raw(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\nnonsense\r\n\r\n");
    let (first, _) = answer.body.split_once("HTTP/1.1 400 Bad Request").unwrap();
    assert_eq!((answer.status, first), (200, "{\"status\":\"ok\"}"));
}

#[test]
fn write_half_closed_then_answered() {
    let program = Program::without_database(&[]);
    let say = |text: &str| {
        let mut stream = program.connect();
        stream.write_all(text.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    };

    assert_eq!(say("GET /livez HTTP/1.1\r\nHost"), "");
    assert!(say("GET /livez HTTP/1.1\r\nHost: a\r\n\r\n").starts_with("HTTP/1.1 200"));
    assert_eq!(say(""), "");
}

/// One byte a second in a head and in a body, and an empty head: all end within their timeouts.
#[test]
fn request_byte_by_byte_then_timed_out() {
    let program = Program::without_database(&[]);
    let drip = |begin: &str, drops: &str| {
        let mut stream = program.connect();
        stream.write_all(begin.as_bytes()).unwrap();
        let mut sender = stream.try_clone().unwrap();
        let drops = drops.to_owned();
        let dripping = thread::spawn(move || {
            for byte in drops.bytes().cycle() {
                thread::sleep(Duration::from_secs(1));
                if sender.write_all(&[byte]).is_err() {
                    return;
                }
            }
        });
        let began = Instant::now();
        (
            thread::spawn(move || (read_answer(&mut stream), began.elapsed())),
            dripping,
        )
    };
    let head = drip("G", "ET /livez HTTP/1.1\r\nX: ");
    let empty = drip("\r\n", "\r\n");
    let body = "PUT /hello/John HTTP/1.1\r\nHost: a\r\nContent-Length: 999\r\n\r\n{";
    let body = drip(body, " ");
    let chunk = "PUT /hello/John HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunk = drip(chunk, "1\r\n \r\n");

    for (reading, dripping) in [head, empty, body, chunk] {
        let (answer, took) = reading.join().unwrap();
        // Ten seconds and a margin: each byte must not restart the timeout.
        assert!(took < Duration::from_secs(20), "{took:?}");
        assert_eq!(answer.status, 408, "{answer:?}");
        assert_eq!(answer.header("connection"), "close");
        assert_eq!(answer.json()["type"], "/problems/request-timeout");
        assert_eq!(answer.header("x-company-name"), "My Company");
        assert_eq!(answer.json()["request_id"], answer.header("x-request-id"));
        dripping.join().unwrap();
    }
}

#[test]
fn client_never_reads_then_disconnected() {
    let program = Program::without_database(&[]);
    let mut stream = program.connect();
    let requests = "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n".repeat(100);
    stream
        .set_write_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    // Until neither side accepts more.
    while stream.write_all(requests.as_bytes()).is_ok() {}

    let mut gone = stream.try_clone().unwrap();
    gone.set_read_timeout(None).unwrap();
    crate::postgres::eventually("it is let go", || {
        // The probe of this test has a connection of its own.
        program.metric("http_connections") == Some(1.0)
    });
    let mut buffer = [0; 4096];
    while gone.read(&mut buffer).is_ok_and(|length| length > 0) {}
}
