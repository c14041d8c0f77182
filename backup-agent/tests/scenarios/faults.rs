//! Faults of an S3 service, injected into single requests that match a rule.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{Request, Response};
use s3s::service::S3Service;
use tokio::sync::Semaphore;

/// The service, and the same service without signature verification.
#[derive(Clone)]
pub(crate) struct Services {
    pub(crate) signed: S3Service,
    pub(crate) unsigned: S3Service,
}

/// Fault of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// The response has this status and error code, and the request has no effect.
    Error(u16, &'static str),
    /// The response is a 404 that is not S3's.
    ForeignNotFound,
    /// The request has its effect, and the connection breaks instead of a response.
    LostAnswer,
    /// The request has its effect, and the response is a 200 with an error inside.
    ErrorInside200(&'static str),
    /// The connection breaks after half of the response body.
    CutBody,
    /// The response body stalls after its half, and the connection stays open.
    StalledBody,
    /// The response body arrives at about this many bytes a second.
    SlowBody(u64),
    /// The response body ends after its half as if it were complete, and no header names its
    /// length.
    ShortBody,
    /// The response is the whole object whatever range was requested, and no header names its
    /// length.
    IgnoredRange,
    /// The response begins after this time.
    Delay(Duration),
    /// The request body is read at about this many bytes a second.
    SlowUpload(u64),
    /// The response has this status and error code once the scenario has called
    /// [`Faults::release`].
    HeldError(u16, &'static str),
}

/// Number of matching requests that a fault affects.
#[derive(Clone, Debug)]
struct Rule {
    method: &'static str,
    part: String,
    left: usize,
    fault: Fault,
}

/// Faults of one service, and the requests that it received.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    rules: Arc<Mutex<Vec<Rule>>>,
    requests: Arc<Mutex<Vec<String>>>,
    released: Arc<Semaphore>,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            rules: Arc::default(),
            requests: Arc::default(),
            released: Arc::new(Semaphore::new(0)),
        }
    }
}

impl Faults {
    /// Injects `fault` into the next `times` requests with this method whose path and query contain
    /// `part`.
    pub(crate) fn add(&self, method: &'static str, part: &str, times: usize, fault: Fault) {
        self.rules.lock().unwrap().push(Rule {
            method,
            part: part.to_owned(),
            left: times,
            fault,
        });
    }

    /// Releases one held response.
    pub(crate) fn release(&self) {
        self.released.add_permits(1);
    }

    /// Removes every rule.
    pub(crate) fn clear(&self) {
        self.rules.lock().unwrap().clear();
    }

    /// Returns the requests since the last call, as `GET /bucket/key?query`.
    pub(crate) fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut *self.requests.lock().unwrap())
    }

    fn next(&self, method: &str, target: &str) -> Option<Fault> {
        let line = format!("{method} {target}");
        self.requests.lock().unwrap().push(line);
        let mut rules = self.rules.lock().unwrap();
        let rule = rules
            .iter_mut()
            .find(|rule| rule.left > 0 && rule.method == method && target.contains(&rule.part))?;
        rule.left -= 1;
        Some(rule.fault)
    }

    /// Responds to a request like `service`, or with the fault of a matching rule.
    pub(crate) async fn answer(
        self,
        services: Services,
        request: Request<Incoming>,
    ) -> Result<Response<s3s::Body>, std::io::Error> {
        let method = request.method().to_string();
        let target = request.uri().path_and_query().unwrap().to_string();
        let fault = self.next(&method, &target);
        match fault {
            Some(Fault::Error(status, code)) => {
                // The request is read first: a client that is still sending would see a reset
                // instead.
                drop(request.into_body().collect().await);
                return Ok(error(status, code));
            }
            Some(Fault::ForeignNotFound) => {
                return Ok(Response::builder()
                    .status(404)
                    .body(s3s::Body::from("<html>no such page</html>".to_owned()))
                    .unwrap());
            }
            Some(Fault::HeldError(status, code)) => {
                drop(request.into_body().collect().await);
                self.released.acquire().await.unwrap().forget();
                return Ok(error(status, code));
            }
            Some(Fault::Delay(by)) => tokio::time::sleep(by).await,
            _ => {}
        }
        let mut request = match fault {
            Some(Fault::SlowUpload(rate)) => request.map(|body| slow(body, rate)),
            _ => request.map(s3s::Body::from),
        };
        let service = match fault {
            Some(Fault::IgnoredRange) => {
                // The removed headers were signed.
                for name in ["authorization", "range", "if-match"] {
                    request.headers_mut().remove(name);
                }
                services.unsigned
            }
            _ => services.signed,
        };
        let answer = service
            .call(request)
            .await
            .map_err(|_| std::io::Error::other("the service failed"))?;
        match fault {
            Some(Fault::LostAnswer) => Err(std::io::Error::other("the answer is lost")),
            Some(Fault::ErrorInside200(code)) => Ok(error(200, code)),
            Some(Fault::CutBody) => Ok(changed(answer, Change::Cut).await),
            Some(Fault::ShortBody) => Ok(changed(answer, Change::Short).await),
            Some(Fault::IgnoredRange) => Ok(changed(answer, Change::Chunked).await),
            Some(Fault::StalledBody) => Ok(changed(answer, Change::Stall).await),
            Some(Fault::SlowBody(rate)) => Ok(changed(answer, Change::Slow(rate)).await),
            _ => Ok(answer),
        }
    }
}

/// Reads a body at this many bytes a second.
fn slow(body: Incoming, rate: u64) -> s3s::Body {
    let frames = stream::unfold(body, move |mut body| async move {
        let frame = body.frame().await?;
        if let Some(data) = frame.as_ref().ok().and_then(Frame::data_ref) {
            let micros = u64::try_from(data.len()).unwrap() * 1_000_000 / rate;
            tokio::time::sleep(Duration::from_micros(micros)).await;
        }
        Some((frame, body))
    });
    s3s::Body::http_body_unsync(StreamBody::new(frames))
}

fn error(status: u16, code: &str) -> Response<s3s::Body> {
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>a fault</Message></Error>"
    );
    Response::builder()
        .status(status)
        .header("content-type", "application/xml")
        .body(s3s::Body::from(text))
        .unwrap()
}

#[derive(Clone, Copy)]
enum Change {
    Cut,
    Short,
    Chunked,
    Stall,
    Slow(u64),
}

const PIECES: usize = 16;

async fn changed(answer: Response<s3s::Body>, change: Change) -> Response<s3s::Body> {
    let (parts, body) = answer.into_parts();
    let whole: Bytes = body.collect().await.unwrap().to_bytes();
    let length = whole.len();
    let pieces = stream::unfold(0, move |number| {
        let whole = whole.clone();
        async move {
            match change {
                Change::Cut if number == PIECES / 2 => {
                    let cut = std::io::Error::other("the body is cut");
                    return Some((Err(cut), PIECES));
                }
                Change::Short if number == PIECES / 2 => return None,
                Change::Stall if number == PIECES / 2 => std::future::pending().await,
                Change::Slow(rate) => {
                    let millis = u64::try_from(length / PIECES).unwrap() * 1000 / rate;
                    tokio::time::sleep(Duration::from_millis(millis)).await;
                }
                Change::Cut | Change::Short | Change::Chunked | Change::Stall => {}
            }
            if number == PIECES {
                return None;
            }
            let piece = whole.slice(length * number / PIECES..length * (number + 1) / PIECES);
            Some((Ok(Frame::data(piece)), number + 1))
        }
    });
    let body = s3s::Body::http_body_unsync(StreamBody::new(pieces));
    let mut answer = Response::from_parts(parts, body);
    if matches!(change, Change::Short | Change::Chunked) {
        answer.headers_mut().remove("content-length");
    } else {
        let length = length.to_string().parse().unwrap();
        answer.headers_mut().insert("content-length", length);
    }
    answer
}
