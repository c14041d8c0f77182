//! Malformed requests from a seed: the program survives within its memory, and every response is
//! HTTP with a status below 500.

use std::env;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use crate::postgres::Server;
use crate::program::Program;

const THREADS: u64 = 4;

/// Number of requests, unless `PROPTEST_CASES` is set, and its maximum: one takes half a millisecond.
const CASES: u64 = 1600;
const MAX_CASES: u64 = 200_000;

const REQUESTS: [&str; 11] = [
    "GET /hello/John HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n",
    "PUT /hello/John HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 28\r\n\r\n{\"dateOfBirth\":\"1990-06-15\"}",
    "POST /members HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n16\r\n{\"name\":\"A\",\"age\":12}\r\n\r\n0\r\n\r\n",
    "POST /users HTTP/1.1\r\nHost: a\r\nContent-Length: 26\r\n\r\n{\"name\":\"A\",\"email\":\"a@b\"}",
    "GET /users/1?limit=3 HTTP/1.1\r\nHost: a\r\nX-Request-Id: abc\r\n\r\n",
    "GET /beers?limit=5&after=2 HTTP/1.0\r\n\r\n",
    "HEAD /livez HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\nGET /readyz HTTP/1.1\r\nHost: a\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: a\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n",
    "PUT /hello/John HTTP/1.1\r\nHost: a\r\nIdempotency-Key: 1\r\nX-Forwarded-For: 10.0.0.1, [::1]:80\r\nX-Forwarded-Proto: https\r\nOrigin: http://a\r\nSec-Fetch-Site: same-origin\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: 28\r\n\r\n{\"dateOfBirth\":\"1990-06-15\"}",
    "GET /members?limit=2&after=9223372036854775807 HTTP/1.1\r\nHost: a\r\nIf-None-Match: W/\"1\", *\r\nAccept-Encoding: gzip;q=0\r\n\r\n",
    "POST /seed HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
];

const TOKENS: [&[u8]; 18] = [
    b"\r\n",
    b"\n",
    b"\r\n\r\n",
    b"\0",
    b" ",
    b":",
    b"\xff\xfe",
    b"%00",
    b"%",
    b"Content-Length: 5\r\n",
    b"Content-Length: -1\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Host: b\r\n",
    b"Connection: upgrade\r\nUpgrade: h2c\r\n",
    b"CONNECT a:1 HTTP/1.1\r\n",
    b"GET http://a/livez HTTP/1.1\r\n",
    b"ffffffffffffffff\r\n",
    b"\xc3\x28",
];

/// Returns a request with one to six errors.
fn spoilt(random: &mut StdRng) -> Vec<u8> {
    let mut bytes = REQUESTS.choose(random).unwrap().as_bytes().to_vec();
    for _ in 0..random.random_range(1..=6) {
        let at = random.random_range(0..=bytes.len());
        let end = random.random_range(at..=bytes.len());
        match random.random_range(0..7) {
            0 => bytes.insert(at, random.random()),
            1 => drop(bytes.drain(at..end)),
            2 => bytes.truncate(at),
            3 => {
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            4 => {
                let token = TOKENS.choose(random).unwrap();
                bytes.splice(at..at, token.iter().copied());
            }
            5 => {
                let long = vec![random.random(); random.random_range(1..40_000)];
                bytes.splice(at..at, long);
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.random_range(0..8);
                }
            }
        }
    }
    bytes
}

/// Checks that the bytes are HTTP responses, each with a status that blames only the client.
fn check(mut bytes: &[u8]) -> Result<(), String> {
    while !bytes.is_empty() {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        let (head, rest) = bytes.split_at(end.ok_or("a head without an end")? + 4);
        let head = std::str::from_utf8(head).map_err(|error| error.to_string())?;
        let line = head.lines().next().unwrap_or_default();
        let version = line
            .strip_prefix("HTTP/1.1 ")
            .or(line.strip_prefix("HTTP/1.0 "));
        let status = version.and_then(|version| version.get(..3)?.parse::<u16>().ok());
        let status = status.ok_or(format!("no status: {line}"))?;
        if status >= 500 && status != 503 {
            return Err(format!("status {status}"));
        }
        bytes = rest;
        if status == 100 {
            continue;
        }
        let value = |name: &str| {
            let lines = head.lines().filter_map(|line| line.split_once(": "));
            let mut values = lines.filter(|pair| pair.0.eq_ignore_ascii_case(name));
            values.next().map(|pair| pair.1.to_owned())
        };
        // A malformed request is rejected by hyper or by the connection, without the company's
        // header.
        let is_ours = value("x-request-id").is_some() && value("x-company-name").is_some();
        let is_last = value("connection").is_some_and(|connection| connection == "close");
        let is_refused = is_last && matches!(status, 400 | 408 | 414 | 431);
        if !is_ours && !is_refused {
            return Err(format!("not one of ours: {head}"));
        }
        // A response to HEAD states a length without a body, and another may follow at once.
        let length = value("content-length").map_or(0, |length| length.parse().unwrap_or(0));
        if !rest.starts_with(b"HTTP/1.") {
            bytes = rest.get(length..).unwrap_or_default();
        }
    }
    Ok(())
}

fn exchange(mut stream: TcpStream, request: &[u8]) -> Vec<u8> {
    stream
        .set_read_timeout(Some(Duration::from_mins(2)))
        .unwrap();
    // The program may have closed the connection.
    stream.write_all(request).ok();
    stream.shutdown(Shutdown::Write).ok();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

/// `make nightly-parsers` runs it with more cases.
#[test]
fn damaged_requests_then_no_panic() {
    let cases = env::var("PROPTEST_CASES").ok();
    let cases: u64 = cases.map_or(CASES, |cases| cases.parse().unwrap());
    let given = env::var("CAUSEWAY_FUZZ_SEED").ok();
    let seed: u64 = given.map_or_else(rand::random, |seed| seed.parse().unwrap());
    eprintln!("CAUSEWAY_FUZZ_SEED={seed}");
    let server = Server::primary();
    let program = Program::before(&[&server], &[]);
    let before = program.resident_bytes();

    thread::scope(|scope| {
        for number in 0..THREADS {
            let program = &program;
            scope.spawn(move || {
                let mut random = StdRng::seed_from_u64(seed ^ number);
                for _ in 0..cases.min(MAX_CASES) / THREADS {
                    let request = spoilt(&mut random);
                    let answer = exchange(program.connect(), &request);
                    if let Err(why) = check(&answer) {
                        let request = request.escape_ascii();
                        let answer = answer.escape_ascii();
                        panic!("{why}\nasked: {request}\nanswered: {answer}");
                    }
                }
            });
        }
    });
    assert_eq!(program.get("/livez").status, 200);
    let after = program.resident_bytes();
    assert!(
        after < before + (64 << 20),
        "{before} bytes before, {after} after"
    );
    assert!(!program.log().contains("panicked"), "{}", program.log());
}
