//! What a client is told whose request never reached a route: because it could not be read, did not
//! come in time, or found no room.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use axum::http::HeaderMap;
use axum::response::Response;
use futures_util::FutureExt as _;
use http_body_util::BodyExt as _;
use jiff::fmt::rfc2822::DateTimePrinter;
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time;

use super::wire::{End, Wire};
use crate::App;
use crate::edge::{self, Arrival};
use crate::problem::{Kind, Problem};

/// How long a client is listened to after the last word, so that it hears that: a connection that is
/// closed with something unread on it is reset, and takes with it what was on its way.
const LISTEN: Duration = Duration::from_secs(1);

/// Returns what to say about a connection that has ended, where there is something to say. `rest` is
/// what was read and not understood.
pub(super) fn of(wire: &Wire, ended: &Result<(), hyper::Error>, rest: &[u8]) -> Option<Problem> {
    if wire.found_no_room() {
        return Some(edge::no_room());
    }
    match (wire.caught(), wire.end()) {
        (Some(414), _) => Some(edge::uri_too_long()),
        // A line that never ends is an address that is too long.
        (Some(431), _) if !rest.contains(&b'\n') => Some(edge::uri_too_long()),
        (Some(431), _) => Some(edge::header_fields_too_large()),
        (Some(_), _) => Some(unreadable("this is no request of HTTP/1.1")),
        (None, Some(End::SlowHead)) => Some(Problem::new(
            Kind::RequestTimeout,
            "the head of the request did not arrive in time",
        )),
        (None, Some(End::Unread | End::Idle)) => None,
        (None, Some(End::ByClient)) if rest.is_empty() => None,
        (None, Some(End::ByClient)) => Some(unreadable("the request ended within its head")),
        (None, None) => match ended {
            Err(error) if error.is_parse() => Some(unreadable("this is no request of HTTP/1.1")),
            Ok(()) | Err(_) => None,
        },
    }
}

fn unreadable(detail: &str) -> Problem {
    Problem::new(Kind::BadRequest, detail)
}

/// Tells a client before it has said anything that there is no room, and hangs up. It takes no task
/// and waits for nothing.
pub(super) fn at_the_door(app: &App, stream: &TcpStream, arrival: Arrival) {
    app.metrics.http_connections_refused.inc();
    let answer = bytes(edge::turn_away(app, arrival, edge::no_room()));
    // Whoever does not take it has gone.
    (&*SockRef::from(stream)).write_all(&answer).ok();
    hang_up(stream);
}

/// Tells a client why its connection ends.
pub(super) async fn send(app: &App, stream: &mut TcpStream, arrival: Arrival, why: Problem) {
    let answer = bytes(edge::turn_away(app, arrival, why));
    // A client that does not read even this has had its chance.
    let sent = time::timeout(LISTEN, stream.write_all(&answer)).await;
    sent.map(Result::ok).ok();
}

/// Ends a connection after a last word, once the client has had a moment to hear it.
pub(super) async fn hear_out(mut stream: TcpStream) {
    let listening = async {
        stream.shutdown().await?;
        let mut unheard = [0; 4096];
        while stream.read(&mut unheard).await? > 0 {}
        Ok::<_, std::io::Error>(())
    };
    // It is closed after this either way.
    time::timeout(LISTEN, listening).await.map(Result::ok).ok();
}

/// Ends a connection at once. What has arrived is read, so that the last word is not lost with it.
pub(super) fn hang_up(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    socket.shutdown(std::net::Shutdown::Write).ok();
    let mut unheard = [0; 4096];
    for _ in 0..16 {
        if !std::io::Read::read(&mut &*socket, &mut unheard).is_ok_and(|it| it > 0) {
            return;
        }
    }
}

/// Writes an answer as HTTP/1.1 does.
fn bytes(response: Response) -> Vec<u8> {
    let (parts, body) = response.into_parts();
    // The body of a problem is there as a whole.
    let body = body.collect().now_or_never().and_then(Result::ok);
    let body = body
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    let status = parts.status;
    let reason = status.canonical_reason().unwrap_or_default();
    let mut head = format!("HTTP/1.1 {} {reason}\r\n", status.as_u16());
    write_headers(&mut head, &parts.headers, body.len());
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(&body);
    bytes
}

fn write_headers(head: &mut String, headers: &HeaderMap, length: usize) {
    let printable = headers
        .iter()
        .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&jiff::Timestamp::now());
    let length = length.to_string();
    let ours = [
        ("content-length", Some(length.as_str())),
        ("date", date.as_deref().ok()),
    ];
    let ours = ours
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    for (name, value) in printable.chain(ours) {
        // Writing to a string does not fail.
        write!(head, "{name}: {value}\r\n").ok();
    }
    head.push_str("\r\n");
}
