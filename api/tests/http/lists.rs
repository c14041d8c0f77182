//! Lists, page by page.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use socket2::SockRef;

use crate::postgres::{Server, eventually};
use crate::program::{Answer, Program};
use crate::redis::Redis;

const LISTS: [&str; 4] = ["/", "/members", "/users", "/beers"];

/// Fills each list with this many rows. Pairs of members have the same time.
fn fill(server: &Server, count: u32) {
    for (table, columns, values) in [
        (
            "members",
            "name, age, created_at",
            "'name ' || n, 1, timestamptz '2025-01-01' + n / 2 * interval '1 microsecond'",
        ),
        ("users", "name, email", "'name ' || n, n || '@example.com'"),
        ("beers", "name", "'name ' || n"),
    ] {
        server.sql(&format!(
            "INSERT INTO {table} ({columns}) SELECT {values} FROM generate_series(1, {count}) AS n"
        ));
    }
}

/// Follows the links from `url`, and returns the number of rows per page, and every name.
fn walk(program: &Program, url: &str) -> (Vec<usize>, Vec<String>) {
    let (mut sizes, mut names) = (Vec::new(), Vec::new());
    let mut next = Some(url.to_owned());
    while let Some(url) = next {
        let page = program.get(&url);
        assert_eq!(page.status, 200, "{url}: {page:?}");
        let rows = rows(&page);
        sizes.push(rows.len());
        names.extend(
            rows.iter()
                .map(|member| member["name"].as_str().unwrap().to_owned()),
        );
        next = page.next().map(str::to_owned);
    }
    (sizes, names)
}

fn rows(page: &Answer) -> Vec<Value> {
    page.json().as_array().unwrap().clone()
}

#[test]
fn links_followed_then_every_row_once_in_order() {
    let server = Server::primary();
    let program = Program::before(&[&server], &[]);
    fill(&server, 7);

    for list in LISTS {
        let whole = program.get(list);
        assert_eq!(whole.next(), None, "{list}");
        let (sizes, all) = walk(&program, list);
        assert_eq!(sizes, [7]);
        let mut sorted = all.clone();
        sorted.sort();
        assert_eq!(sorted.len(), 7);

        let (sizes, names) = walk(&program, &format!("{list}?limit=3"));
        assert_eq!(
            (sizes.as_slice(), &names),
            ([3, 3, 1].as_slice(), &all),
            "{list}"
        );
        let (sizes, names) = walk(&program, &format!("{list}?limit=1"));
        assert_eq!(
            (sizes.as_slice(), &names),
            ([1; 7].as_slice(), &all),
            "{list}"
        );
        for limit in [7, 8, 1000] {
            let page = program.get(&format!("{list}?limit={limit}"));
            assert_eq!((rows(&page).len(), page.next()), (7, None), "{list}");
        }

        let page = program.get(&format!("{list}?q=%3Ca%3E&limit=2"));
        let next = page.next().unwrap();
        let expected = format!("{list}?q=%3Ca%3E&limit=2&cursor=");
        assert!(next.starts_with(&expected), "{next}");
        let head = program.request("HEAD", &format!("{list}?limit=2"), &[], "");
        assert!(head.next().is_some(), "{head:?}");
    }
}

#[test]
fn list_truncated_then_response_states_it() {
    let server = Server::primary();
    let program = Program::before(&[&server], &[("LIST_MAX", "3")]);
    fill(&server, 7);

    for list in LISTS {
        let (sizes, names) = walk(&program, list);
        assert_eq!(
            (sizes.as_slice(), names.len()),
            ([3, 3, 1].as_slice(), 7),
            "{list}"
        );
        let page = program.get(&format!("{list}?limit=5"));
        assert_eq!(
            (rows(&page).len(), page.next().is_some()),
            (5, true),
            "{list}"
        );
    }
}

#[test]
fn rows_above_maximum_then_page_and_list_bounded() {
    let server = Server::primary();
    let program = Program::before(&[&server], &[]);
    fill(&server, 10_001);

    for list in LISTS {
        let (sizes, _names) = walk(&program, list);
        assert_eq!(sizes, [10_000, 1], "{list}");
    }
    let page = program.get("/users?limit=1000");
    assert_eq!((rows(&page).len(), page.next().is_some()), (1000, true));
}

/// Pages also end where their text is too long, without a visible effect.
#[test]
fn list_of_several_pages_then_complete_and_in_order() {
    let server = Server::primary();
    let redis = Redis::start();
    let url = format!("redis://{}", redis.address);
    let program = Program::before(&[&server], &[("REDIS_URL", &url), ("LIST_MAX", "2500")]);
    for count in [1_000, 1, 1, 1_498] {
        // Counts at which a page, a list and nothing more is full, and some between.
        let last: u32 = server.sql("SELECT count(*) FROM beers").parse().unwrap();
        let rows = format!("generate_series({}, {}) AS n", last + 1, last + count);
        for insert in [
            "members (name, age) SELECT repeat('\u{e4}', (n * 37) % 255) || n, 1",
            "users (name, email) SELECT repeat('\u{1f600}', (n * 37) % 250) || n, n || '@b'",
            "beers (name, style) SELECT n::text, repeat('x', (n * 91) % 255)",
        ] {
            server.sql(&format!("INSERT INTO {insert} FROM {rows}"));
        }
        let total = usize::try_from(last + count).unwrap();
        for list in LISTS {
            // Concurrently, since concurrent requests may share a read.
            thread::scope(|scope| {
                let asking: Vec<_> = (0..4)
                    .map(|_| scope.spawn(|| walk(&program, list)))
                    .collect();
                for reader in asking {
                    let (sizes, names) = reader.join().unwrap();
                    assert_eq!(sizes, [total], "{list}");
                    let number = |name: &String| {
                        let digits =
                            name.trim_start_matches(|letter: char| !letter.is_ascii_digit());
                        digits.parse::<usize>().unwrap()
                    };
                    let mut numbers: Vec<_> = names.iter().map(number).collect();
                    // Members of one statement have one time, and are ordered by ID.
                    if list == "/" || list == "/members" {
                        numbers.sort_unstable();
                    }
                    assert!(numbers.into_iter().eq(1..=total), "{list}");
                }
            });
        }
    }
    server.sql("INSERT INTO users (name, email) VALUES ('2501', 'last')");
    let (sizes, _names) = walk(&program, "/users");
    assert_eq!(sizes, [2_500, 1]);
    let (sizes, _names) = walk(&program, "/users?limit=700");
    assert_eq!(sizes, [700, 700, 700, 401]);
}

#[test]
fn limit_or_cursor_invalid_then_rejected() {
    let program = Program::without_database(&[]);
    for (list, status) in [
        ("/", 400),
        ("/members", 400),
        ("/beers", 400),
        ("/users", 422),
    ] {
        for limit in ["0", "-1", "1001", "abc", "", "1.5", "1%00", "%FF"] {
            let answer = program.get(&format!("{list}?limit={limit}"));
            assert_eq!(answer.status, status, "{list} {limit}: {answer:?}");
            assert_eq!(answer.broken(), "limit: out-of-range");
        }
        let of_another = URL_SAFE_NO_PAD.encode(r#"["hello",1]"#);
        for cursor in ["", "1", "%00", "'; DROP TABLE users", of_another.as_str()] {
            let answer = program.get(&format!("{list}?cursor={}", cursor.replace(' ', "+")));
            assert_eq!(answer.status, status, "{list} {cursor}: {answer:?}");
            assert_eq!(answer.broken(), "cursor: not-a-cursor");
        }
        let both = program.get(&format!("{list}?limit=0&cursor=x"));
        assert_eq!(both.broken(), "limit: out-of-range, cursor: not-a-cursor");
    }
}

#[test]
fn cursor_forged_then_valid_page() {
    let server = Server::primary();
    let program = Program::before(&[&server], &[]);
    fill(&server, 2);
    let after = |list: &str, json: &str| {
        let answer = program.get(&format!("{list}?cursor={}", URL_SAFE_NO_PAD.encode(json)));
        assert_eq!(answer.status, 200, "{json}: {answer:?}");
        rows(&answer).len()
    };

    assert_eq!(after("/users", r#"["users",-9223372036854775808]"#), 2);
    assert_eq!(after("/beers", r#"["beers",9223372036854775807]"#), 0);
    let nil = uuid::Uuid::nil();
    for (time, count) in [
        ("-009999-01-02T01:59:59Z", 2),
        ("9999-12-30T22:00:00.999999999Z", 0),
    ] {
        assert_eq!(
            after("/", &format!("[\"members\",[\"{time}\",\"{nil}\"]]")),
            count,
            "{time}"
        );
    }
}

/// Beers of many pages, more than the kernel buffers for a client that does not read: 4 MiB of the
/// sender by default, and [`KEPT`] here.
const LONG: u32 = 3_000;
/// Receive buffer of the client, in bytes.
const KEPT: usize = 64 * 1024;

fn fill_with_long(server: &Server, first: u32, last: u32) {
    server.sql(&format!(
        "INSERT INTO beers (name, style) SELECT repeat('\u{1f600}', 255), repeat('\u{1f600}', 255) \
         FROM generate_series({first}, {last})"
    ));
}

/// Requests beers, and reads only the beginning of the response.
fn begin(program: &Program, version: &str) -> TcpStream {
    let mut stream = program.connect();
    SockRef::from(&stream).set_recv_buffer_size(KEPT).unwrap();
    let request = format!("GET /beers {version}\r\nHost: a\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).unwrap();
    assert_eq!(status[8..], *b" 200");
    stream
}

/// Reads the rest, which must not look complete.
fn assert_broken_off(mut stream: TcpStream) {
    let mut rest = Vec::new();
    let end = stream.read_to_end(&mut rest);
    assert!(end.is_err(), "{} bytes, and then an end", rest.len());
}

#[test]
fn database_lost_during_list_then_connection_reset() {
    let mut server = Server::primary();
    let program = Program::before(&[&server], &[("REQUEST_TIMEOUT", "1")]);
    fill_with_long(&server, 1, LONG);
    for version in ["HTTP/1.0", "HTTP/1.1"] {
        let list = begin(&program, version);
        server.kill();
        assert_broken_off(list);
        server.start();
        eventually("lists are read again", || {
            program.get("/beers?limit=1").status == 200
        });
    }
}

#[test]
fn rows_stored_during_list_then_within_limit() {
    let server = Server::primary();
    let most = (LONG + 10).to_string();
    let program = Program::before(&[&server], &[("LIST_MAX", &most)]);
    fill_with_long(&server, 1, LONG);
    let grown = begin(&program, "HTTP/1.1");
    fill_with_long(&server, 1, 20);

    assert_broken_off(grown);
    let again = program.get("/beers");
    assert_eq!(rows(&again).len(), LONG as usize + 10);
    assert!(again.next().is_some());
}
