//! HTTP server with connection limits, so that clients cannot exhaust the agent's descriptors.
//!
//! An idle connection costs memory and a descriptor, so three things are limited: the time without a complete
//! request, the connections of one address, and all connections. Above a limit, a new connection evicts the
//! longest-idle one of the address that has the most. A connection whose command has a valid signature is never
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

/// Maximum head of a request, in bytes.
const MAX_HEAD_BYTES: usize = 16 << 10;

/// Maximum number of headers of a request.
const MAX_HEADERS: usize = 64;

/// Interval between two checks for an idle connection.
const IDLE_CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// Pause after a failed accept: the process has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Limits of the connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionLimits {
    /// Maximum number of connections.
    pub(crate) connections: usize,
    /// Maximum number of connections of one address.
    pub(crate) connections_per_address: usize,
    /// Time without a complete request or response after which a connection is closed.
    pub(crate) idle_timeout: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            // Each node, operator and Prometheus server has one or two.
            connections: 128,
            connections_per_address: 16,
            // Agents poll each other every second.
            idle_timeout: Duration::from_secs(10),
        }
    }
}

/// State of a connection.
#[derive(Debug)]
struct ConnectionEntry {
    address: IpAddr,
    /// Time when the connection was accepted or its last response was ready.
    idle_since: Instant,
    /// The command signature of the current request is valid.
    protected: bool,
    close: CancellationToken,
}

type ConnectionEntries = Arc<Mutex<BTreeMap<u64, ConnectionEntry>>>;

/// Connection of a request, for its handler.
#[derive(Clone, Debug)]
pub(crate) struct HttpConnection {
    number: u64,
    entries: ConnectionEntries,
}

impl HttpConnection {
    /// Protects the connection from eviction until its response is ready, because the request is authenticated.
    pub(crate) fn protect_from_eviction(&self) {
        self.update_entry(|entry| entry.protected = true);
    }

    fn record_response(&self) {
        self.update_entry(|entry| {
            entry.protected = false;
            entry.idle_since = Instant::now();
        });
    }

    fn update_entry(&self, update: impl FnOnce(&mut ConnectionEntry)) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get_mut(&self.number) {
            update(entry);
        }
    }

    fn is_idle(&self, timeout: Duration) -> bool {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.get(&self.number);
        entry.is_none_or(|entry| !entry.protected && entry.idle_since.elapsed() >= timeout)
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

/// Removes the connection's entry when dropped.
struct EntryRemoval(HttpConnection);

/// Serves `routes` on `listener` until `stop` is cancelled.
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
    let mut warned_at: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                debug!(%error, "connection not accepted");
                time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        number += 1;
        let close = CancellationToken::new();
        let entry = ConnectionEntry {
            address: peer.ip(),
            idle_since: Instant::now(),
            protected: false,
            close: close.clone(),
        };
        let victim = {
            let mut all = entries.lock().unwrap_or_else(PoisonError::into_inner);
            let victim = match decide_admission(&all, entry.address, limits) {
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
            if warned_at.is_none_or(|warned_at| warned_at.elapsed() >= Duration::from_mins(1)) {
                warn!(address = %victim.address, peer = %peer.ip(), "connection limit reached, connection evicted");
                warned_at = Some(Instant::now());
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
                () = serve_connection(stream, routes, &connection, limits) => {}
            }
        });
    }
}

/// Decision on a new connection.
#[derive(Debug, PartialEq, Eq)]
enum Admission {
    /// The limits are not reached.
    Free,
    /// This connection is evicted.
    Evict(u64),
    /// Every connection is protected, so the new one is closed.
    None,
}

/// Decides which connection, if any, is evicted to admit one from `address`.
fn decide_admission(
    entries: &BTreeMap<u64, ConnectionEntry>,
    address: IpAddr,
    limits: ConnectionLimits,
) -> Admission {
    let mut counts = BTreeMap::<IpAddr, usize>::new();
    for entry in entries.values() {
        *counts.entry(entry.address).or_default() += 1;
    }
    let own = counts.get(&address).copied().unwrap_or(0);
    let from = if own >= limits.connections_per_address {
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
        .min_by_key(|(_, entry)| entry.idle_since);
    silent.map_or(Admission::None, |(number, _)| Admission::Evict(*number))
}

/// Serves the requests of one connection until it ends or is idle for too long.
async fn serve_connection(
    stream: TcpStream,
    routes: Router,
    connection: &HttpConnection,
    limits: ConnectionLimits,
) {
    let routes = TowerToHyperService::new(routes);
    let service = service_fn(|mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(connection.clone());
        let response = routes.call(request);
        async move {
            let response = response.await;
            connection.record_response();
            response
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle_timeout)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    let mut idle_check = time::interval(IDLE_CHECK_INTERVAL.min(limits.idle_timeout));
    loop {
        tokio::select! {
            ended = &mut serving => {
                if let Err(error) = ended {
                    debug!(%error, "connection failed");
                }
                return;
            }
            _ = idle_check.tick() => {
                if connection.is_idle(limits.idle_timeout) {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
