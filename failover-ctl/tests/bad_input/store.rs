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
    ReturnsEmptyETag,
    KeepsNoVersions,
    /// It was versioned when an object was first written.
    SuspendedVersions,
}

/// Fail point of a writer between two of its writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteFault {
    /// The store rejects the write.
    Rejected,
    /// The store executes the write, and the response reports a failure.
    ResponseLost,
}

/// Fault of the writes to one key, after a number of them has succeeded.
#[derive(Clone, Debug)]
struct PlannedFault {
    key: String,
    after: usize,
    /// Number of writes that fail.
    times: usize,
    fault: WriteFault,
    is_met: bool,
}

type Objects = Arc<Mutex<BTreeMap<String, (u64, String)>>>;
type Faults = Arc<Mutex<Option<PlannedFault>>>;

pub(crate) struct Store {
    address: SocketAddr,
    objects: Objects,
    faults: Faults,
}

impl Store {
    /// Starts a store. Its thread ends with the test's process.
    pub(crate) fn start(honesty: Honesty) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let objects = Objects::default();
        let served = Arc::clone(&objects);
        let faults = Faults::default();
        let planned = Arc::clone(&faults);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let objects = Arc::clone(&served);
                let faults = Arc::clone(&planned);
                thread::spawn(move || serve(&stream, &objects, &faults, honesty));
            }
        });
        Self {
            address,
            objects,
            faults,
        }
    }

    /// Fails `times` writes to `key` after `after` successful ones.
    pub(crate) fn fail_writes(&self, key: &str, after: usize, times: usize, fault: WriteFault) {
        *self.faults.lock().unwrap() = Some(PlannedFault {
            key: format!("/lease/{key}"),
            after,
            times,
            fault,
            is_met: false,
        });
    }

    /// Removes the fault, and returns whether a write met it.
    pub(crate) fn heal(&self) -> bool {
        let fault = self.faults.lock().unwrap().take();
        fault.is_some_and(|fault| fault.is_met)
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

    /// Deletes an object.
    pub(crate) fn remove(&self, key: &str) {
        self.objects
            .lock()
            .unwrap()
            .remove(&format!("/lease/{key}"));
    }

    pub(crate) fn put(&self, key: &str, body: &str) {
        let mut objects = self.objects.lock().unwrap();
        let object = objects.entry(format!("/lease/{key}")).or_default();
        *object = (object.0 + 1, body.to_owned());
    }
}

/// Answers one request after another on a connection, until it is closed.
fn serve(stream: &TcpStream, objects: &Objects, faults: &Faults, honesty: Honesty) {
    let mut reader = BufReader::new(stream);
    while let Some((method, path, headers)) = head(&mut reader) {
        let length = headers
            .get("content-length")
            .map_or(0, |text| text.parse().unwrap());
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let path = path.split('?').next();
        let path = path.expect("`split` returns at least one part").to_owned();
        let fault = (method == "PUT")
            .then(|| next_fault(faults, &path))
            .flatten();
        let mut objects = objects.lock().unwrap();
        let found = objects.get(&path).cloned();
        let (status, etag, answer) = match (method.as_str(), found) {
            ("PUT", _) if fault == Some(WriteFault::Rejected) => (FAILURE, 0, String::new()),
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
        let status = if fault.is_some() { FAILURE } else { status };
        let version = match honesty {
            Honesty::KeepsNoVersions => String::new(),
            Honesty::SuspendedVersions if etag > 1 => "x-amz-version-id: null\r\n".to_owned(),
            Honesty::KeepsConditions
            | Honesty::TakesEverything
            | Honesty::ReturnsNoETag
            | Honesty::ReturnsEmptyETag
            | Honesty::SuspendedVersions => {
                format!("x-amz-version-id: 3HL4kqtJlcpXroDTDmJ{etag}\r\n")
            }
        };
        let etag = match honesty {
            Honesty::ReturnsNoETag => String::new(),
            Honesty::ReturnsEmptyETag => "etag: \r\n".to_owned(),
            Honesty::KeepsConditions
            | Honesty::TakesEverything
            | Honesty::KeepsNoVersions
            | Honesty::SuspendedVersions => {
                format!("etag: \"{etag}\"\r\n")
            }
        };
        let date = jiff::Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT");
        let answer = format!(
            "HTTP/1.1 {status}\r\n{etag}{version}date: {date}\r\ncontent-length: {}\r\n\r\n{answer}",
            answer.len()
        );
        if (&*stream).write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// Status of a failed write.
const FAILURE: &str = "503 Service Unavailable";

/// Returns the fault of the next write to `path`, if there is one.
fn next_fault(faults: &Faults, path: &str) -> Option<WriteFault> {
    let mut faults = faults.lock().unwrap();
    let planned = faults.as_mut().filter(|planned| planned.key == path)?;
    if planned.after > 0 {
        planned.after -= 1;
        return None;
    }
    planned.times = planned.times.checked_sub(1)?;
    planned.is_met = true;
    Some(planned.fault)
}

fn holds(headers: &BTreeMap<String, String>, version: Option<u64>) -> bool {
    let matches =
        |wanted: &String| version.is_some_and(|current| *wanted == format!("\"{current}\""));
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
    let headers = lines
        .iter()
        .skip(1)
        .filter_map(|line| line.split_once(": "));
    let headers = headers
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    Some((words.next()?, words.next()?, headers))
}
