//! Traces: continued from the caller, recorded where somebody takes them, and never in the way.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::collector::{Collector, attribute};
use crate::postgres::{Server, eventually};
use crate::program::Program;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn traceparent(flags: &str) -> String {
    format!("00-{TRACE}-{PARENT}-{flags}")
}

#[test]
fn continues_the_callers_trace_in_answers_problems_and_the_log() {
    let program = Program::without_database(&[("LOG_LEVEL", "api=debug")]);

    let given = traceparent("01");
    let answer = program.request("GET", "/nowhere", &[("traceparent", &given)], "");
    let ours = answer.header("traceparent");
    assert!(ours.starts_with(&format!("00-{TRACE}-")), "{ours}");
    assert!(ours.ends_with("-01") && !ours.contains(PARENT), "{ours}");
    assert_eq!(answer.json()["trace_id"], TRACE);
    let span = ours.split('-').nth(2).unwrap();
    let line = format!("trace_id={TRACE} span_id={span}");
    assert!(program.log().contains(&line), "{}", program.log());

    for bad in [
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
    ] {
        let answer = program.request("GET", "/nowhere", &[("traceparent", bad)], "");
        assert_eq!(answer.header("traceparent"), "", "{bad}");
        assert!(answer.json()["trace_id"].is_null(), "{bad}");
    }
    let twice = [("traceparent", given.as_str()), ("traceparent", &given)];
    let answer = program.request("GET", "/nowhere", &twice, "");
    assert_eq!(answer.header("traceparent"), "");
}

#[test]
fn a_collector_is_told_of_requests_and_their_statements() {
    let server = Server::primary();
    let collector = Collector::start();
    let program = Program::before(
        &[&server],
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=a%20b"),
            ("OTEL_SERVICE_NAME", "hello"),
        ],
    );
    let given = [
        ("traceparent", traceparent("01")),
        ("tracestate", "congo=t61".to_owned()),
    ];
    let given: Vec<_> = given
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let body = "{\"dateOfBirth\":\"1990-06-15\"}";
    assert_eq!(
        program.request("PUT", "/hello/John", &given, body).status,
        204
    );
    assert_eq!(program.request("BREW", "/pot", &given, "").status, 404);
    assert_eq!(program.get("/hello/John").status, 200);

    let of_kind = |kind: u64, name: &str| {
        let spans = collector.spans();
        spans
            .into_iter()
            .find(|it| it["kind"] == kind && it["name"] == name)
    };
    eventually("the spans have come", || {
        of_kind(2, "GET /hello/{username}").is_some()
    });
    let put = of_kind(2, "PUT /hello/{username}").unwrap();
    assert_eq!(put["traceId"], TRACE);
    assert_eq!(put["parentSpanId"], PARENT);
    assert_eq!(put["traceState"], "congo=t61");
    assert_eq!(put["flags"], 0x301);
    assert_eq!(put["status"]["code"], 0);
    for (key, value) in [
        ("http.request.method", "PUT"),
        ("http.route", "/hello/{username}"),
        ("http.response.status_code", "204"),
        ("url.path", "/hello/John"),
        ("url.scheme", "http"),
        ("client.address", "127.0.0.1"),
    ] {
        assert_eq!(attribute(&put, key), value, "{key}");
    }
    let nanos = |span: &serde_json::Value, key: &str| -> u128 {
        span[key].as_str().unwrap().parse().unwrap()
    };
    let statement = of_kind(3, "hello_put").unwrap();
    assert_eq!(statement["traceId"], TRACE);
    assert_eq!(statement["parentSpanId"], put["spanId"]);
    assert_eq!(attribute(&statement, "db.system.name"), "postgresql");
    assert!(nanos(&put, "startTimeUnixNano") <= nanos(&statement, "startTimeUnixNano"));
    assert!(nanos(&statement, "endTimeUnixNano") <= nanos(&put, "endTimeUnixNano"));
    let brew = of_kind(2, "HTTP").unwrap();
    assert_eq!(attribute(&brew, "http.request.method"), "_OTHER");
    assert_eq!(attribute(&brew, "http.request.method_original"), "BREW");
    // Without a caller's trace one begins here.
    let get = of_kind(2, "GET /hello/{username}").unwrap();
    assert!(get["parentSpanId"].is_null());
    assert_ne!(get["traceId"], TRACE);

    let received = &collector.received()[0];
    assert_eq!(received.head[0], "POST /v1/traces HTTP/1.1");
    assert!(
        received.head.contains(&"x-key: a b".to_owned()),
        "{:?}",
        received.head
    );
    let resource = &received.body["resourceSpans"][0]["resource"];
    assert_eq!(attribute(resource, "service.name"), "hello");
    eventually("they are counted", || {
        program.metric("trace_spans_total{result=\"exported\"}") >= Some(5.0)
    });
}

#[test]
fn the_caller_decides_what_is_recorded() {
    let collector = Collector::start();
    let mut program =
        Program::without_database(&[("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint.as_str())]);
    let paths = [("/livez", "00"), ("/healthz", "01")];
    for (path, flags) in paths {
        let given = traceparent(flags);
        let answer = program.request("GET", path, &[("traceparent", &given)], "");
        assert!(answer.header("traceparent").ends_with(flags));
    }

    // What is left is sent before the end.
    program.signal(Signal::SIGTERM);
    assert_eq!(program.wait().code(), Some(0));
    let spans = collector.spans();
    let ours: Vec<_> = spans.iter().filter(|it| it["traceId"] == TRACE).collect();
    assert_eq!(ours.len(), 1, "{spans:?}");
    assert_eq!(attribute(ours[0], "url.path"), "/healthz");
}

#[test]
fn a_collector_is_told_nothing_until_it_has_proved_who_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = certificate_in(dir.path());
    let collector = Collector::start_tls(&certificate, &key);
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint.as_str());

    let wary = Program::without_database(&[endpoint]);
    assert_eq!(wary.get("/livez").status, 200);
    eventually("it is refused", || {
        wary.metric("trace_spans_total{result=\"failed\"}") >= Some(1.0)
    });
    assert!(wary.log().contains("TLS failed"), "{}", wary.log());
    assert!(collector.spans().is_empty());

    let trust = ("SSL_CERT_FILE", certificate.to_str().unwrap());
    let trusting = Program::without_database(&[endpoint, trust]);
    assert_eq!(trusting.get("/livez").status, 200);
    eventually("the span has come", || !collector.spans().is_empty());
}

/// Makes a certificate for `localhost` that signs itself, and its key.
fn certificate_in(dir: &Path) -> (PathBuf, PathBuf) {
    let (certificate, key) = (dir.join("certificate.pem"), dir.join("key.pem"));
    let made = Command::new("openssl")
        .args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
        ])
        .args([
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
        ])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    (certificate, key)
}

#[test]
fn a_collector_that_is_away_or_silent_is_not_waited_for() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    for endpoint in [
        endpoint.as_str(),
        "http://127.0.0.1:1",
        "http://nowhere.invalid:4318",
    ] {
        let mut program = Program::without_database(&[("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)]);
        let began = Instant::now();
        // More than may wait: what is too much is let go.
        let mut stream = program.connect();
        for _ in 0..30 {
            pipelined(&mut stream, 100);
        }
        eprintln!("measured: 3000 requests in {:?}", began.elapsed());

        program.signal(Signal::SIGTERM);
        let began = Instant::now();
        assert_eq!(program.wait().code(), Some(0));
        // The last spans are offered for 0.8 s and connections are closed for 1 s; the rest is room.
        // What is offered at any other time has 5 s.
        assert!(
            began.elapsed() < Duration::from_millis(4500),
            "{:?}",
            began.elapsed()
        );
    }
}

/// Asks `count` times at once, and reads as many answers.
fn pipelined(stream: &mut std::net::TcpStream, count: usize) {
    use std::io::{Read as _, Write as _};
    let one = "GET /livez HTTP/1.1\r\nHost: a\r\n\r\n";
    stream.write_all(one.repeat(count).as_bytes()).unwrap();
    let (mut answered, mut buffer) = (0, [0; 4096]);
    while answered < count {
        let length = stream.read(&mut buffer).unwrap();
        assert_ne!(length, 0);
        // No header has a brace, and each body ends with one.
        answered += buffer[..length].split(|it| *it == b'}').count() - 1;
    }
}
