//! Calls against a service that returns prepared responses.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use causeway_core::lease::{ETag, WritePrecondition};

use super::*;
use crate::aws::{AwsConnections, AwsService};

const CREDENTIALS: StaticCredentials<'_> = StaticCredentials {
    access_key: "AKIDEXAMPLE",
    secret_key: "wJalrXUtnFEMI",
};

#[tokio::test]
async fn conditional_write_then_condition_sent_and_etag_returned() {
    let stored = "HTTP/1.1 200 OK\r\netag: \"2\"\r\ncontent-length: 0\r\n\r\n";
    for (condition, header) in [
        (WritePrecondition::Missing, "if-none-match: *"),
        (matching(), "if-match: \"1\""),
    ] {
        let service = Service::start(stored.to_owned());
        let written = service.put(&condition).await;
        assert_eq!(written, Ok(ETag("\"2\"".to_owned())));
        let head = service.head();
        assert!(head.starts_with("PUT /lease/key"), "{head}");
        assert!(head.contains(header), "{head}");
    }
}

#[tokio::test]
async fn write_not_done_then_reason_told_apart() {
    use S3ErrorKind as Kind;
    for (condition, status, code, kind) in [
        (
            WritePrecondition::Missing,
            412,
            "",
            Kind::PreconditionFailed,
        ),
        (
            matching(),
            412,
            "PreconditionFailed",
            Kind::PreconditionFailed,
        ),
        (
            matching(),
            409,
            "ConditionalRequestConflict",
            Kind::ConcurrentWrite,
        ),
        // The object to match does not exist.
        (matching(), 404, "NoSuchKey", Kind::PreconditionFailed),
        (matching(), 404, "NoSuchBucket", Kind::NoSuchBucket),
        (matching(), 404, "", Kind::Rejected),
        (matching(), 403, "AccessDenied", Kind::AccessDenied),
        (matching(), 503, "SlowDown", Kind::Unavailable),
        // S3 detected the error after its response had begun.
        (matching(), 200, "InternalError", Kind::Unavailable),
        (matching(), 200, "", Kind::MissingETag),
    ] {
        let service = Service::start(response(status, code));
        let error = service.put(&condition).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{status} {code}: {error}");
        assert!(error.is_response(), "{error}");
    }
}

#[tokio::test]
async fn object_without_etag_or_end_then_not_returned() {
    use S3ErrorKind as Kind;
    let cut = "HTTP/1.1 200 OK\r\netag: \"1\"\r\ncontent-length: 9\r\n\r\nhalf";
    let unnamed = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nbody";
    for (answer, kind) in [
        (cut.to_owned(), Kind::CutOff),
        (unnamed.to_owned(), Kind::MissingETag),
        (response(404, "NoSuchKey"), Kind::NoSuchKey),
        (response(404, "NoSuchBucket"), Kind::NoSuchBucket),
        (response(404, ""), Kind::Rejected),
    ] {
        let service = Service::start(answer.clone());
        let error = service.client().await.get_whole("key").await.unwrap_err();
        assert_eq!(error.kind(), kind, "{answer}: {error}");
    }
}

#[tokio::test]
async fn listing_incomplete_then_rejected() {
    let list = |content: &str| {
        let body = format!("<ListBucketResult>{content}</ListBucketResult>");
        let length = body.len();
        format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}")
    };
    for (content, text) in [
        ("<IsTruncated>true</IsTruncated>", "no continuation token"),
        ("<Contents><Key>a</Key></Contents>", "lacks the key, length"),
    ] {
        let service = Service::start(list(content));
        let request = ListRequest {
            prefix: "",
            after: "",
            token: None,
        };
        let error = service.client().await.list_objects(request).await;
        let error = error.unwrap_err();
        assert_eq!(error.kind(), S3ErrorKind::Rejected);
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[tokio::test]
async fn call_fails_then_text_has_cause_and_no_credentials() {
    let denied = Service::start(response(403, "SignatureDoesNotMatch"));
    let garbled = Service::start("HTTP/1.1 503 Busy\r\ncontent-length: 5\r\n\r\n".to_owned());
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    for (address, kind, text) in [
        (
            denied.address,
            S3ErrorKind::AccessDenied,
            "SignatureDoesNotMatch: see the manual",
        ),
        (
            garbled.address,
            S3ErrorKind::CutOff,
            "the response was cut off: ",
        ),
        (
            silent.local_addr().unwrap(),
            S3ErrorKind::TimedOut,
            "no response in time: ",
        ),
        (closed, S3ErrorKind::Unreachable, "Connection refused"),
    ] {
        let client = client(address, Duration::from_millis(300)).await;
        let error = client.get_whole("key").await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(text), "{error}");
        let shown = format!("{error} {error:?}").to_lowercase();
        for secret in ["authorization", "akid", "wjalr"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}

fn matching() -> WritePrecondition {
    WritePrecondition::Match(ETag("\"1\"".to_owned()))
}

/// Returns a response with this error code, or without a body.
fn response(status: u16, code: &str) -> String {
    let body = match code {
        "" => String::new(),
        code => {
            format!("<Error><Code>{code}</Code><Message>see the manual</Message></Error>")
        }
    };
    let length = body.len();
    format!("HTTP/1.1 {status} Status\r\ncontent-length: {length}\r\n\r\n{body}")
}

async fn client(address: SocketAddr, timeout: Duration) -> S3Client {
    let service = AwsService {
        region: "eu-west-1".to_owned(),
        endpoint: Some(format!("http://{address}")),
        ca_certificate: None,
    };
    let usage = S3Usage::Records { timeout };
    let client = S3Client::new("lease", &service, &AwsConnections::default(), usage).await;
    client.with_credentials(CREDENTIALS)
}

/// Service with one response.
struct Service {
    address: SocketAddr,
    heads: Receiver<String>,
}

impl Service {
    /// Starts the service. Its thread ends after the response.
    fn start(answer: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, heads) = mpsc::channel();
        thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            sender.send(read_request(&stream)).ok();
            (&stream).write_all(answer.as_bytes()).unwrap();
        });
        Self { address, heads }
    }

    async fn client(&self) -> S3Client {
        client(self.address, Duration::from_secs(20)).await
    }

    async fn put(&self, condition: &WritePrecondition) -> Result<ETag, S3Error> {
        let client = self.client().await;
        client.put("key", "body".into(), condition).await
    }

    /// Returns the headers of the request.
    fn head(&self) -> String {
        self.heads.recv().unwrap()
    }
}

fn read_request(stream: &TcpStream) -> String {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "{head}");
    }
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let length = length.map_or(0, |length| length.parse().unwrap());
    reader.read_exact(&mut vec![0; length]).unwrap();
    head
}
