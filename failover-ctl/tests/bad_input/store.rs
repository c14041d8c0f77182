//! A bucket over HTTP that honours conditional writes, or does not: no store at hand can be told to
//! break that promise, and the refusal of one that does is what is tested.

use std::collections::BTreeMap;
use std::io::{BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Honesty {
    KeepsConditions,
    TakesEverything,
    ReturnsNoETag,
}

type Objects = Arc<Mutex<BTreeMap<String, (u64, String)>>>;

pub(crate) struct Store {
    address: SocketAddr,
    objects: Objects,
}

impl Store {
    /// Starts a store. Its thread ends with the test's process.
    pub(crate) fn start(honesty: Honesty) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let objects = Objects::default();
        let served = Arc::clone(&objects);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let objects = Arc::clone(&served);
                thread::spawn(move || serve(&stream, &objects, honesty));
            }
        });
        Self { address, objects }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn object(&self, key: &str) -> Option<String> {
        self.objects
            .lock()
            .unwrap()
            .get(&format!("/lease/{key}"))
            .map(|object| object.1.clone())
    }

    pub(crate) fn put(&self, key: &str, body: &str) {
        let mut objects = self.objects.lock().unwrap();
        let object = objects.entry(format!("/lease/{key}")).or_default();
        *object = (object.0 + 1, body.to_owned());
    }
}

/// Answers one request after another on a connection, until it is closed.
fn serve(stream: &TcpStream, objects: &Objects, honesty: Honesty) {
    let mut reader = BufReader::new(stream);
    while let Some((method, path, headers)) = head(&mut reader) {
        let length = headers
            .get("content-length")
            .map_or(0, |text| text.parse().unwrap());
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let path = path.split('?').next();
        let path = path.expect("`split` returns at least one part").to_owned();
        let mut objects = objects.lock().unwrap();
        let found = objects.get(&path).cloned();
        let (status, etag, answer) = match (method.as_str(), found) {
            ("PUT", found) => {
                let holds = holds(&headers, found.as_ref().map(|object| object.0));
                if honesty != Honesty::TakesEverything && !holds {
                    ("412 Precondition Failed", 0, String::new())
                } else {
                    let version = found.map_or(1, |object| object.0 + 1);
                    objects.insert(path, (version, payload(&headers, body)));
                    ("200 OK", version, String::new())
                }
            }
            ("GET", Some((version, body))) => ("200 OK", version, body),
            (_, _) => (
                "404 Not Found",
                0,
                "<Error><Code>NoSuchKey</Code></Error>".to_owned(),
            ),
        };
        drop(objects);
        let etag = match honesty {
            Honesty::ReturnsNoETag => String::new(),
            Honesty::KeepsConditions | Honesty::TakesEverything => format!("etag: \"{etag}\"\r\n"),
        };
        let answer = format!(
            "HTTP/1.1 {status}\r\n{etag}content-length: {}\r\n\r\n{answer}",
            answer.len()
        );
        if (&*stream).write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn holds(headers: &BTreeMap<String, String>, version: Option<u64>) -> bool {
    let matches = |wanted: &String| version.is_some_and(|current| *wanted == format!("\"{current}\""));
    headers.get("if-match").is_none_or(matches)
        && (!headers.contains_key("if-none-match") || version.is_none())
}

/// Takes the SDK's framing off a body that it sends in signed chunks.
fn payload(headers: &BTreeMap<String, String>, body: Vec<u8>) -> String {
    let text = String::from_utf8(body).unwrap();
    if headers
        .get("content-encoding")
        .is_none_or(|encoding| !encoding.contains("aws-chunked"))
    {
        return text;
    }
    let (size, rest) = text.split_once("\r\n").unwrap();
    let size = usize::from_str_radix(size.split(';').next().unwrap(), 16).unwrap();
    rest[..size].to_owned()
}

fn head(reader: &mut impl std::io::BufRead) -> Option<(String, String, BTreeMap<String, String>)> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        lines.push(line.trim_end().to_owned());
    }
    let mut words = lines.first()?.split(' ').map(str::to_owned);
    let headers = lines.iter().skip(1).filter_map(|line| line.split_once(": "));
    let headers = headers
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    Some((words.next()?, words.next()?, headers))
}
