//! Program under test, and a small HTTP client that hides nothing.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::postgres::{DATABASE, OWNER, PASSWORD, SERVICE, Server, eventually, free_address};

pub(crate) struct Program {
    dir: TempDir,
    pub(crate) address: SocketAddr,
    process: Child,
}

/// Response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Program {
    /// Starts the program with these settings, and waits until it listens.
    pub(crate) fn start(settings: &[(&str, &str)]) -> Self {
        let mut program = Self::spawn(settings);
        program.wait_until_listening();
        program
    }

    pub(crate) fn wait_until_listening(&mut self) {
        eventually("the program listens", || {
            let ended = self.process.try_wait().unwrap();
            assert!(ended.is_none(), "it ended: {}", self.log());
            TcpStream::connect(self.address).is_ok()
        });
    }

    /// Starts it with these servers as production does, and waits until it is ready: the owner
    /// migrates the schema, and the service can only read and write rows.
    pub(crate) fn before(servers: &[&Server], settings: &[(&str, &str)]) -> Self {
        let mut migration = Self::run(&["migrate"], &borrowed(&way_to(servers, OWNER)));
        assert_eq!(migration.wait().code(), Some(0), "{}", migration.log());
        let way = way_to(servers, SERVICE);
        let mut all = borrowed(&way);
        all.push(("MIGRATE", "off"));
        all.extend_from_slice(settings);
        let program = Self::start(&all);
        eventually("the program is ready", || {
            program.get("/readyz").status == 200
        });
        program
    }

    /// Starts it with these servers as the owner of the schema, and waits until it listens.
    pub(crate) fn start_before(servers: &[&Server], settings: &[(&str, &str)]) -> Self {
        let way = way_to(servers, OWNER);
        let mut all = borrowed(&way);
        all.extend_from_slice(settings);
        Self::start(&all)
    }

    /// Starts it without a server, for requests that need none.
    pub(crate) fn without_database(settings: &[(&str, &str)]) -> Self {
        let nobody = free_address();
        let port = nobody.port().to_string();
        let mut all = vec![
            ("PGHOST", "127.0.0.1"),
            ("PGPORT", &port),
            ("REQUEST_TIMEOUT", "300ms"),
            ("DB_STARTUP_TIMEOUT", "10m"),
        ];
        all.extend_from_slice(settings);
        Self::start(&all)
    }

    /// Starts it without a server, with a limit of open files.
    pub(crate) fn under_limit(files: u32, settings: &[(&str, &str)]) -> Self {
        let limit = format!("--nofile={files}:{files}");
        let mut all = vec![("PGHOST", "127.0.0.1"), ("DB_STARTUP_TIMEOUT", "10m")];
        all.extend_from_slice(settings);
        let mut program = Self::spawn_by(&["/usr/bin/prlimit", &limit, "--"], &all);
        program.wait_until_listening();
        program
    }

    /// Starts the program without waiting.
    pub(crate) fn spawn(settings: &[(&str, &str)]) -> Self {
        Self::run(&[], settings)
    }

    /// Starts the program with these arguments, without waiting.
    pub(crate) fn run(args: &[&str], settings: &[(&str, &str)]) -> Self {
        let program = env!("CARGO_BIN_EXE_api");
        let line: Vec<&str> = [program].iter().chain(args).copied().collect();
        Self::run_line(&line, settings)
    }

    /// Starts the program through another one, named by these words.
    pub(crate) fn spawn_by(words: &[&str], settings: &[(&str, &str)]) -> Self {
        let program = env!("CARGO_BIN_EXE_api");
        let line: Vec<&str> = words.iter().copied().chain([program]).collect();
        Self::run_line(&line, settings)
    }

    fn run_line(line: &[&str], settings: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listen = settings.iter().find(|setting| setting.0 == "LISTEN");
        // A test may pass another address, several, or none.
        let given = listen.and_then(|setting| setting.1.parse().ok());
        let address = given.unwrap_or_else(free_address);
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let process = Command::new(line[0])
            .args(&line[1..])
            .env_clear()
            .env("LISTEN", address.to_string())
            .env("SHUTDOWN_DELAY", "0")
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self {
            dir,
            address,
            process,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Returns the program's memory use.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.unwrap().trim().trim_end_matches(" kB");
        kilobytes.parse::<u64>().unwrap() * 1024
    }

    /// Returns the program's log.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.process.id().try_into().unwrap()), signal).unwrap();
    }

    /// Waits until the program has ended.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the program ends", || {
            status = self.process.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.request("GET", path, &[], "")
    }

    pub(crate) fn post(&self, path: &str, body: &str) -> Answer {
        self.request("POST", path, &[("Content-Type", "application/json")], body)
    }

    pub(crate) fn put(&self, path: &str, body: &str) -> Answer {
        self.request("PUT", path, &[("Content-Type", "application/json")], body)
    }

    pub(crate) fn put_date(&self, name: &str, date: &str) -> Answer {
        let body = format!("{{\"dateOfBirth\":\"{date}\"}}");
        self.put(&format!("/hello/{name}"), &body)
    }

    /// Sends a request on a connection of its own.
    pub(crate) fn request(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let mut text = format!("{method} {target} HTTP/1.1\r\nHost: api\r\nConnection: close\r\n");
        for (name, value) in headers {
            write!(text, "{name}: {value}\r\n").unwrap();
        }
        if !body.is_empty() {
            write!(text, "Content-Length: {}\r\n", body.len()).unwrap();
        }
        text.push_str("\r\n");
        text.push_str(body);
        self.raw(text.as_bytes())
    }

    /// Sends these bytes and reads until the connection is closed.
    pub(crate) fn raw(&self, bytes: &[u8]) -> Answer {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        read_answer(&mut stream)
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_mins(2)))
            .unwrap();
        stream
    }

    /// Returns the value of a metric series.
    pub(crate) fn metric(&self, series: &str) -> Option<f64> {
        let text = self.get("/metrics").body;
        let line = text.lines().find_map(|line| line.strip_prefix(series))?;
        line.trim().parse().ok()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Returns the invalid fields, each with the violated rule.
    pub(crate) fn broken(&self) -> String {
        let problem = self.json();
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(problem["type"], "/problems/validation", "{self:?}");
        let errors = problem["errors"].as_array().unwrap().iter();
        let word = |of: &Value, name: &str| of[name].as_str().unwrap().to_owned();
        let each = errors.map(|error| word(error, "field") + ": " + &word(error, "code"));
        each.collect::<Vec<_>>().join(", ")
    }

    /// Returns the URL of the next page.
    pub(crate) fn next(&self) -> Option<&str> {
        let link = self.headers.get("link")?;
        let url = link.strip_suffix(">; rel=\"next\"");
        Some(url.and_then(|url| url.strip_prefix('<')).unwrap())
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// Returns the settings for these servers as `role`.
pub(crate) fn way_to(servers: &[&Server], role: &str) -> [(&'static str, String); 5] {
    let list = |of: &dyn Fn(&Server) -> String| {
        let each: Vec<String> = servers.iter().map(|server| of(server)).collect();
        each.join(",")
    };
    [
        ("PGHOST", list(&|server| server.address.ip().to_string())),
        ("PGPORT", list(&|server| server.address.port().to_string())),
        ("PGUSER", role.to_owned()),
        ("PGPASSWORD", PASSWORD.to_owned()),
        ("PGDATABASE", DATABASE.to_owned()),
    ]
}

pub(crate) fn borrowed<'a>(settings: &'a [(&'a str, String)]) -> Vec<(&'a str, &'a str)> {
    let each = settings.iter().map(|(name, value)| (*name, value.as_str()));
    each.collect()
}

/// Reads a response, up to the end of the connection.
pub(crate) fn read_answer(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("not an answer: {text:?}"));
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap();
    let headers = lines.map(|line| {
        let (name, value) = line.split_once(':').unwrap();
        (name.to_ascii_lowercase(), value.trim().to_owned())
    });
    let headers: BTreeMap<_, _> = headers.collect();
    let is_chunked = headers
        .get("transfer-encoding")
        .is_some_and(|encoding| encoding == "chunked");
    Answer {
        status: status.parse().unwrap(),
        body: if is_chunked {
            dechunked(body)
        } else {
            body.to_owned()
        },
        headers,
    }
}

/// Joins the chunks of a body. A truncated body is an error.
fn dechunked(mut rest: &str) -> String {
    let mut body = String::new();
    loop {
        let (length, after) = rest.split_once("\r\n").expect("broken off before a chunk");
        let length = usize::from_str_radix(length, 16).unwrap();
        let chunk = after
            .as_bytes()
            .get(..length)
            .expect("broken off within a chunk");
        body.push_str(std::str::from_utf8(chunk).expect("pages end between characters"));
        rest = after[length..]
            .strip_prefix("\r\n")
            .expect("a chunk ends with its line");
        if length == 0 {
            return body;
        }
    }
}
