//! Serves HTTP within limits: an agent that answers everybody must not be kept from its work by anybody.
//!
//! A connection costs memory and a descriptor until it has asked, so silence is what is limited: how long a
//! connection may go without a complete request, and how many one address, and all together, may have. Above
//! the limit a new connection evicts the longest-silent one of the address that has the most, so that one
//! address cannot use up all, and a new connection is always admitted. A command whose signature is right is never
//! evicted.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use causeway_runtime::shutdown::Tasks;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus::IntCounter;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{self, Instant};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// How many bytes the head of a request may have.
const HEAD_BYTES: usize = 16 << 10;

/// How many headers it may have.
const HEADERS: usize = 64;

/// How often a connection's silence is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// How long nothing is accepted after accepting has failed: there are no descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// How many connections there may be, and for how long they may be silent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionLimits {
    /// How many there may be at once.
    pub(crate) connections: usize,
    /// How many of them may be one address's.
    pub(crate) of_one_address: usize,
    /// For how long one may send no complete request, and take no complete answer.
    pub(crate) silence: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            // Every node, every operator and what scrapes have one or two each.
            connections: 128,
            of_one_address: 16,
            // Agents ask each other every second.
            silence: Duration::from_secs(10),
        }
    }
}

/// One connection.
#[derive(Debug)]
struct ConnectionEntry {
    address: IpAddr,
    /// When it was accepted, or its last answer was ready.
    since: Instant,
    /// What it asks for has been authenticated.
    protected: bool,
    close: CancellationToken,
}

type ConnectionEntries = Arc<Mutex<BTreeMap<u64, ConnectionEntry>>>;

/// A request's connection, as its handler sees it.
#[derive(Clone, Debug)]
pub(crate) struct HttpConnection {
    number: u64,
    entries: ConnectionEntries,
}

impl HttpConnection {
    /// Keeps the connection from being evicted until its answer is ready: who asks has proved who it is.
    pub(crate) fn protect(&self) {
        self.change(|entry| entry.protected = true);
    }

    fn answered(&self) {
        self.change(|entry| {
            entry.protected = false;
            entry.since = Instant::now();
        });
    }

    fn change(&self, change: impl FnOnce(&mut ConnectionEntry)) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get_mut(&self.number) {
            change(entry);
        }
    }

    fn is_over(&self, silence: Duration) -> bool {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.get(&self.number);
        entry.is_none_or(|entry| !entry.protected && entry.since.elapsed() >= silence)
    }
}

impl Drop for EntryRemoval {
    fn drop(&mut self) {
        let mut entries = self
            .0
            .entries
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        entries.remove(&self.0.number);
    }
}

/// Takes a connection off the list, however it ends.
struct EntryRemoval(HttpConnection);

/// Answers on `listener` until told to stop.
pub(crate) async fn serve(
    listener: TcpListener,
    routes: Router,
    limits: ConnectionLimits,
    evicted: IntCounter,
    tasks: Tasks,
    stop: CancellationToken,
) {
    let entries = ConnectionEntries::default();
    let mut number = 0_u64;
    let mut warned: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                debug!(%error, "connection not accepted");
                time::sleep(PAUSE).await;
                continue;
            }
        };
        number += 1;
        let close = CancellationToken::new();
        let entry = ConnectionEntry {
            address: peer.ip(),
            since: Instant::now(),
            protected: false,
            close: close.clone(),
        };
        let victim = {
            let mut all = entries.lock().unwrap_or_else(PoisonError::into_inner);
            let victim = victim(&all, entry.address, limits);
            let victim = match victim {
                Admission::Free => None,
                Admission::Evict(victim) => all.remove(&victim),
                Admission::None => continue,
            };
            all.insert(number, entry);
            victim
        };
        if let Some(victim) = victim {
            victim.close.cancel();
            evicted.inc();
            if warned.is_none_or(|warned_at| warned_at.elapsed() >= Duration::from_mins(1)) {
                warn!(address = %victim.address, peer = %peer.ip(), "connection limit reached, connection evicted");
                warned = Some(Instant::now());
            }
        }
        let connection = HttpConnection {
            number,
            entries: Arc::clone(&entries),
        };
        let routes = routes.clone();
        tasks.start("connection", |stop| async move {
            let _removal = EntryRemoval(connection.clone());
            tokio::select! {
                () = stop.cancelled() => {}
                () = close.cancelled() => {}
                () = converse(stream, routes, &connection, limits.silence) => {}
            }
        });
    }
}

/// Whether a new connection is admitted.
#[derive(Debug, PartialEq, Eq)]
enum Admission {
    Free,
    /// This one has to go.
    Evict(u64),
    /// Everybody is being served who proved who they are.
    None,
}

/// Says who has to go so that a connection from `address` can be taken in.
fn victim(
    entries: &BTreeMap<u64, ConnectionEntry>,
    address: IpAddr,
    limits: ConnectionLimits,
) -> Admission {
    let mut counts = BTreeMap::<IpAddr, usize>::new();
    for entry in entries.values() {
        *counts.entry(entry.address).or_default() += 1;
    }
    let own = counts.get(&address).copied().unwrap_or(0);
    let from = if own >= limits.of_one_address {
        address
    } else if entries.len() >= limits.connections {
        match counts.iter().max_by_key(|(_, count)| **count) {
            Some((most, _)) => *most,
            None => return Admission::None,
        }
    } else {
        return Admission::Free;
    };
    let silent = entries
        .iter()
        .filter(|(_, entry)| entry.address == from && !entry.protected)
        .min_by_key(|(_, entry)| entry.since);
    silent.map_or(Admission::None, |(number, _)| Admission::Evict(*number))
}

/// Answers one connection's requests, until it ends or has been silent for too long.
async fn converse(
    stream: TcpStream,
    routes: Router,
    connection: &HttpConnection,
    silence: Duration,
) {
    let routes = TowerToHyperService::new(routes);
    let service = service_fn(|mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(connection.clone());
        let answer = routes.call(request);
        async move {
            let answer = answer.await;
            connection.answered();
            answer
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(silence)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    let mut look = time::interval(LOOK.min(silence));
    loop {
        tokio::select! {
            ended = &mut serving => {
                if let Err(error) = ended {
                    debug!(%error, "connection failed");
                }
                return;
            }
            _ = look.tick() => {
                if connection.is_over(silence) {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
