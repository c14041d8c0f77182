//! Problem responses, and the headers of every response.

use std::io::Write as _;

use crate::postgres::Server;
use crate::program::{Program, read_answer};

#[test]
fn error_response_then_problem_with_instance_and_request_id() {
    let program = Program::without_database(&[]);

    let lost = program.get("/nowhere?x=1");
    assert_eq!(lost.status, 404);
    assert_eq!(lost.header("content-type"), "application/problem+json");
    let problem = lost.json();
    assert_eq!(problem["type"], "/problems/not-found");
    assert_eq!(problem["status"], 404);
    assert_eq!(problem["instance"], "/nowhere");
    assert_eq!(problem["request_id"], lost.header("x-request-id"));

    let wrong = program.request("DELETE", "/hello/John", &[], "");
    assert_eq!(wrong.status, 405);
    assert_eq!(wrong.header("allow"), "GET,HEAD,PUT");
    assert_eq!(wrong.json()["type"], "/problems/method-not-allowed");

    for path in ["/hello/", "/hello", "/hello/a/b", "/hello/a/b/"] {
        assert_eq!(program.get(path).status, 404, "{path}");
    }
}

#[test]
fn cross_site_request_then_nothing_stored() {
    let server = Server::primary();
    let program = Program::before(&[&server], &[]);
    let host = program.address.to_string();
    let ours = format!("http://{host}");
    let body = r#"{"name":"Ann","age":30,"email":"a@b","dateOfBirth":"1990-06-15"}"#;
    let status = |method: &str, path: &str, sent: &[(&str, &str)]| {
        let mut headers = vec![("Content-Type", "text/plain")];
        headers.extend_from_slice(sent);
        let lines = headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"));
        let lines: String = lines.collect();
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{lines}");
        let text = format!("{head}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}");
        program.raw(text.as_bytes()).status
    };

    for (method, path) in [
        ("POST", "/"),
        ("POST", "/members"),
        ("POST", "/users"),
        ("POST", "/beers"),
        ("POST", "/seed"),
        ("PUT", "/hello/John"),
    ] {
        for sent in [
            &[
                ("Sec-Fetch-Site", "cross-site"),
                ("Origin", "https://evil.example"),
            ][..],
            &[("Sec-Fetch-Site", "cross-site")],
            &[("Origin", "https://evil.example")],
            &[("Origin", "null")],
        ] {
            assert_eq!(status(method, path, sent), 403, "{method} {path} {sent:?}");
        }
    }
    assert_eq!(server.sql("SELECT count(*) FROM members"), "0");
    let refused = program.request("POST", "/beers", &[("Sec-Fetch-Site", "cross-site")], body);
    assert_eq!(refused.json()["type"], "/problems/cross-site");
    for sent in [
        &[][..],
        &[("Sec-Fetch-Site", "same-origin"), ("Origin", ours.as_str())],
        &[("Sec-Fetch-Site", "none")],
        &[("Origin", ours.as_str())],
    ] {
        assert_eq!(status("POST", "/beers", sent), 201, "{sent:?}");
    }
    assert_eq!(
        program
            .request("GET", "/beers", &[("Sec-Fetch-Site", "cross-site")], "")
            .status,
        200
    );
}

#[test]
fn origin_without_default_port_then_matches_host() {
    let program = Program::without_database(&[]);
    let is_refused = |host: &str, sent: &[(&str, &str)]| {
        let lines = sent
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"));
        let lines: String = lines.collect();
        let head = format!("PUT /hello/1 HTTP/1.1\r\nHost: {host}\r\n{lines}");
        let text = format!("{head}Connection: close\r\nContent-Length: 2\r\n\r\n{{}}");
        match program.raw(text.as_bytes()).status {
            403 => true,
            400 => false,
            status => panic!("{host} {sent:?} {status}"),
        }
    };

    let ours = ("Origin", "http://api.example:8080");
    for sent in [
        &[("Sec-Fetch-Site", "cross-site"), ours][..],
        &[
            ("Sec-Fetch-Site", "same-origin"),
            ("Sec-Fetch-Site", "cross-site"),
        ],
        &[("Sec-Fetch-Site", "")],
        &[ours, ("Origin", "null")],
        &[("Origin", "")],
    ] {
        assert!(is_refused("api.example:8080", sent), "{sent:?}");
    }
    let same_site = [
        ("Sec-Fetch-Site", "same-site"),
        ("Origin", "https://www.example"),
    ];
    assert!(!is_refused("api.example:8080", &same_site));
    for (host, origin, is_ours) in [
        ("api.example:8080", "https://API.example:8080", true),
        ("api.example:80", "http://api.example", true),
        ("api.example:443", "https://api.example", true),
        ("api.example:443", "http://api.example", false),
        ("api.example:8080", "http://api.example", false),
        ("api.example:8080", "http://api.example:8081", false),
        ("api.example", "http://api.example.evil", false),
    ] {
        let is_refused = is_refused(host, &[("Origin", origin)]);
        assert_eq!(is_refused, !is_ours, "{host} {origin}");
    }
}

#[test]
fn json_invalid_then_error_names_cause() {
    let program = Program::without_database(&[]);
    for (body, says) in [
        (r#"{"name":"Ann","age":1e400}"#, "too large"),
        (r#"{"name":"Ann","age":-1e999}"#, "too large"),
        (r#"{"name":"\ud83d","age":1}"#, "surrogate"),
        (r#"{"name":"\ude00","age":1}"#, "surrogate"),
        (r#"{"name":"\ud83d\u0041","age":1}"#, "surrogate"),
        (&"[".repeat(200), "too deep"),
        (r#"{"name":"Ann""#, "must be JSON"),
    ] {
        let answer = program.post("/members", body);
        assert_eq!(answer.status, 400, "{body}: {answer:?}");
        let problem = answer.json();
        assert_eq!(problem["type"], "/problems/malformed-json");
        assert!(
            problem["detail"].as_str().unwrap().contains(says),
            "{body}: {problem}"
        );
    }
}

#[test]
fn part_too_long_then_error_names_it() {
    let program = Program::without_database(&[]);

    let long = "x".repeat(70_000);
    let body = format!("{{\"x\":\"{long}\",\"dateOfBirth\":\"1990-06-15\"}}");
    let answer = program.put("/hello/John", &body);
    assert_eq!(answer.status, 413, "{answer:?}");
    assert_eq!(answer.json()["type"], "/problems/payload-too-large");
    let expecting = format!("Content-Length: {}\r\nExpect: 100-continue", body.len());
    let head =
        format!("PUT /hello/John HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{expecting}\r\n\r\n");
    assert_eq!(program.raw(head.as_bytes()).status, 413);

    let answer = program.get(&format!("/hello/{}", "a".repeat(9_000)));
    assert_eq!(
        (answer.status, answer.json()["type"].as_str()),
        (414, Some("/problems/uri-too-long"))
    );

    let answer = program.request("GET", "/livez", &[("X-Long", &"x".repeat(17_000))], "");
    assert_eq!(answer.status, 431);
    assert_eq!(answer.json()["type"], "/problems/header-fields-too-large");
    let many = vec![("X-Many", "1"); 70];
    assert_eq!(program.request("GET", "/livez", &many, "").status, 431);
}

#[test]
fn body_too_long_then_rejected_before_its_end() {
    let program = Program::without_database(&[]);
    let announced = "Content-Length: 100000\r\n\r\n".to_owned();
    let half = format!("Content-Length: 100000\r\n\r\n{}", "x".repeat(50_000));
    let more = format!(
        "Transfer-Encoding: chunked\r\n\r\n11170\r\n{}",
        "x".repeat(70_000)
    );

    for rest in [announced, half, more] {
        let head = "PUT /hello/John HTTP/1.1\r\nHost: a\r\n";
        let answer = program.raw(format!("{head}{rest}").as_bytes());
        // Waiting for the body would take too long and respond 408.
        assert_eq!(answer.status, 413, "{answer:?}");
        assert_eq!(answer.header("connection"), "close");
    }
}

#[test]
fn body_not_sent_then_408_within_timeout() {
    let program = Program::without_database(&[]);
    let mut stream = program.connect();

    stream
        .write_all(b"PUT /hello/John HTTP/1.1\r\nHost: a\r\nContent-Length: 40\r\n\r\n{\"dateOf")
        .unwrap();
    let answer = read_answer(&mut stream);

    assert_eq!(answer.status, 408);
    assert_eq!(answer.json()["type"], "/problems/request-timeout");
}

#[test]
fn head_unfinished_then_timed_out_unlike_idle_connection() {
    let program = Program::without_database(&[]);
    let mut idle = program.connect();
    let mut half = program.connect();
    half.write_all(b"GET /livez HTTP/1.1\r\nHost").unwrap();

    // The end of one shows that the other has been idle for as long.
    assert_eq!(read_answer(&mut half).status, 408);
    idle.write_all(b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .unwrap();
    assert_eq!(read_answer(&mut idle).status, 200);
}

#[test]
fn problem_type_requested_then_page_served() {
    let program = Program::without_database(&[]);

    let list = program.get("/problems").json();
    let types = list.as_array().unwrap();
    assert!(types.len() > 10);
    for page in types {
        let path = page["type"].as_str().unwrap();
        assert_eq!(&program.get(path).json(), page, "{path}");
    }
    assert_eq!(program.get("/problems/none").status, 404);
}

#[test]
fn any_response_then_company_and_request_id_in_headers() {
    let program = Program::without_database(&[("COMPANY_NAME", "Bäckerei & Söhne")]);

    for path in ["/livez", "/nowhere", "/hello/j1", "/metrics"] {
        let answer = program.get(path);
        assert_eq!(
            answer.header("x-company-name"),
            "B%C3%A4ckerei & S%C3%B6hne",
            "{path}"
        );
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("x-request-id").len(), 36);
    }
    let id = |given: &str| {
        let headers = [("X-Request-Id", given)];
        let answer = program.request("GET", "/livez", &headers, "");
        answer.header("x-request-id").to_owned()
    };
    assert_eq!(id("my-request_1.2"), "my-request_1.2");
    assert_ne!(id("no spaces"), "no spaces");
    assert_ne!(id(&"a".repeat(129)), "a".repeat(129));
}

#[test]
fn no_database_then_503_within_timeout() {
    let program = Program::without_database(&[]);

    for answer in [
        program.get("/hello/John"),
        program.put_date("John", "1990-06-15"),
    ] {
        assert_eq!(
            (answer.status, answer.header("retry-after")),
            (503, "1"),
            "{answer:?}"
        );
        assert_eq!(answer.json()["type"], "/problems/database-unavailable");
    }
}
