//! A collector of spans: takes OTLP over HTTP, and remembers what came.

use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;

pub(crate) struct Collector {
    pub(crate) endpoint: String,
    received: Arc<Mutex<Vec<Received>>>,
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) head: Vec<String>,
    pub(crate) body: Value,
}

impl Collector {
    /// Starts listening. It goes on until the test ends.
    pub(crate) fn start() -> Self {
        Self::listen("http", |stream, book| {
            book.lock().unwrap().push(take(stream));
        })
    }

    /// Starts listening with TLS, under this certificate for `localhost`.
    pub(crate) fn start_tls(certificate: &Path, key: &Path) -> Self {
        let (certificate, key) = (fs::read(certificate).unwrap(), fs::read(key).unwrap());
        let identity = native_tls::Identity::from_pkcs8(&certificate, &key).unwrap();
        let acceptor = native_tls::TlsAcceptor::new(identity).unwrap();
        Self::listen("https", move |stream, book| {
            // Whoever does not trust the certificate goes away again.
            if let Ok(stream) = acceptor.accept(stream) {
                book.lock().unwrap().push(take(stream));
            }
        })
    }

    fn listen(
        scheme: &str,
        serve: impl Fn(TcpStream, &Mutex<Vec<Received>>) + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let received = Arc::new(Mutex::new(Vec::new()));
        let book = Arc::clone(&received);
        thread::spawn(move || {
            for stream in listener.incoming() {
                serve(stream.unwrap(), &book);
            }
        });
        Self {
            endpoint: format!("{scheme}://localhost:{port}"),
            received,
        }
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// Returns the spans that came so far.
    pub(crate) fn spans(&self) -> Vec<Value> {
        let received = self.received();
        let each = received.iter().flat_map(|it| {
            let spans = &it.body["resourceSpans"][0]["scopeSpans"][0]["spans"];
            spans.as_array().unwrap().clone()
        });
        each.collect()
    }
}

/// Returns what a span, or a resource, says about itself under this key.
pub(crate) fn attribute<'a>(of: &'a Value, key: &str) -> &'a str {
    let attributes = of["attributes"].as_array().unwrap();
    let found = attributes.iter().find(|it| it["key"] == key);
    let value = found.map_or(&Value::Null, |it| &it["value"]);
    value["stringValue"]
        .as_str()
        .or(value["intValue"].as_str())
        .unwrap_or("")
}

/// Reads one request and accepts it.
fn take(stream: impl Read + Write) -> Received {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        head.push(line);
    }
    let length = |line: &String| {
        let line = line.to_ascii_lowercase();
        line.strip_prefix("content-length: ")?.parse().ok()
    };
    let mut body = vec![0; head.iter().find_map(length).unwrap_or(0)];
    reader.read_exact(&mut body).unwrap();
    let body = serde_json::from_slice(&body).unwrap();
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
    reader.get_mut().write_all(answer).unwrap();
    Received { head, body }
}
